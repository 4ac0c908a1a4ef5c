//! Hosts that have asked for HTTP/1.1 in place of HTTP/2, with which TLS had agreed on it (RFC 9113 §7).
//!
//! Kept for a while, so that not every request is refused once before it is served: the reason (a certificate of the
//! client, a program that cannot do better) belongs to the host and seldom goes away. Asked for every request to an
//! upstream that may speak HTTP/2, and nearly always empty; asking allocates nothing.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use hashbrown::{Equivalent, HashMap};

/// How long a host gets no HTTP/2 once it has refused it.
const LIFETIME: Duration = Duration::from_secs(600);

/// Hosts remembered at once; past it they are all forgotten, and refuse once more.
const MAX_HOSTS: usize = 1024;

/// The hosts that one worker has learnt about.
#[derive(Debug, Default)]
pub(crate) struct Http1Hosts {
    until: RefCell<HashMap<(Box<str>, u16), Instant>>,
}

impl Http1Hosts {
    pub(crate) fn remember(&self, host: &str, port: u16) {
        self.remember_until(host, port, Instant::now() + LIFETIME);
    }

    pub(crate) fn knows(&self, host: &str, port: u16) -> bool {
        let until = self.until.borrow();
        // Most workers have never met one.
        !until.is_empty()
            && until
                .get(&HostRef { host, port })
                .is_some_and(|end| *end > Instant::now())
    }

    fn remember_until(&self, host: &str, port: u16, end: Instant) {
        let mut until = self.until.borrow_mut();
        if until.len() >= MAX_HOSTS {
            until.clear();
        }
        until.insert((host.into(), port), end);
    }
}

#[derive(Hash)]
struct HostRef<'a> {
    host: &'a str,
    port: u16,
}

impl Equivalent<(Box<str>, u16)> for HostRef<'_> {
    fn equivalent(&self, key: &(Box<str>, u16)) -> bool {
        self.host == &*key.0 && self.port == key.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_for_its_port_until_its_time_is_over() {
        let hosts = Http1Hosts::default();
        assert!(!hosts.knows("a", 443));
        hosts.remember("a", 443);
        assert!(hosts.knows("a", 443));
        assert!(!hosts.knows("a", 444) && !hosts.knows("b", 443));
        hosts.remember_until("a", 443, Instant::now());
        assert!(!hosts.knows("a", 443));
    }

    #[test]
    fn the_number_of_hosts_is_bounded() {
        let hosts = Http1Hosts::default();
        for number in 0..=MAX_HOSTS {
            hosts.remember(&number.to_string(), 443);
            assert!(hosts.knows(&number.to_string(), 443));
        }
        assert_eq!(hosts.until.borrow().len(), 1);
    }
}
