//! Hosts that negotiated HTTP/2 but require HTTP/1.1 (RFC 9113 §7).
//!
//! Remembered for a while, so that not every request is refused once before it is served: the reason (client
//! certificates, old software) applies to the whole host and rarely changes. Queried for every request to an upstream
//! that may speak HTTP/2, and nearly always empty; a query allocates nothing.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::{Equivalent, HashMap};

use super::route::Route;

/// How long HTTP/2 is not offered to a host that has refused it.
const LIFETIME: Duration = Duration::from_secs(600);

/// The number of hosts that are remembered. Beyond that all are forgotten, and each may refuse once more.
const MAX_HOSTS: usize = 1024;

/// The hosts that a worker has learned.
#[derive(Debug, Default)]
pub(crate) struct Http1Hosts {
    until: RefCell<HashMap<HostKey, Instant>>,
}

impl Http1Hosts {
    pub(crate) fn remember(&self, route: &Route<'_>) {
        self.remember_until(route, Instant::now() + LIFETIME);
    }

    pub(crate) fn knows(&self, route: &Route<'_>) -> bool {
        let until = self.until.borrow();
        // Nearly always empty.
        !until.is_empty()
            && until
                .get(&HostKeyRef::of(route))
                .is_some_and(|end| *end > Instant::now())
    }

    fn remember_until(&self, route: &Route<'_>, end: Instant) {
        let mut until = self.until.borrow_mut();
        if until.len() >= MAX_HOSTS {
            until.clear();
        }
        let HostKeyRef {
            host,
            front,
            claimed_at,
            port,
        } = HostKeyRef::of(route);
        let key = HostKey {
            host: host.into(),
            front: front.map(Into::into),
            claimed_at,
            port,
        };
        until.insert(key, end);
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct HostKey {
    host: Box<str>,
    front: Option<Box<str>>,
    /// What was learned from an address that a client claims to be the host does not apply to the host itself.
    claimed_at: Option<IpAddr>,
    port: u16,
}

#[derive(Hash)]
struct HostKeyRef<'a> {
    host: &'a str,
    front: Option<&'a str>,
    claimed_at: Option<IpAddr>,
    port: u16,
}

impl<'a> HostKeyRef<'a> {
    fn of(route: &Route<'a>) -> Self {
        Self {
            host: route.host,
            front: route.front,
            claimed_at: route.claimed_at(),
            port: route.port,
        }
    }
}

impl Equivalent<HostKey> for HostKeyRef<'_> {
    fn equivalent(&self, key: &HostKey) -> bool {
        self.host == &*key.host
            && self.front == key.front.as_deref()
            && self.claimed_at == key.claimed_at
            && self.port == key.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_remembered_with_its_port_for_its_lifetime() {
        let hosts = Http1Hosts::default();
        let route = Route::direct("a", 443);
        assert!(!hosts.knows(&route));
        hosts.remember(&route);
        assert!(hosts.knows(&route));
        assert!(!hosts.knows(&Route::direct("a", 444)));
        assert!(!hosts.knows(&Route::direct("b", 443)));
        hosts.remember_until(&route, Instant::now());
        assert!(!hosts.knows(&route));
    }

    #[test]
    fn a_claimed_address_teaches_nothing_about_the_host() {
        let hosts = Http1Hosts::default();
        let addresses = [IpAddr::from([192, 0, 2, 1])];
        let claimed = Route {
            addresses: &addresses,
            is_claimed: true,
            ..Route::direct("a", 443)
        };
        hosts.remember(&claimed);
        assert!(hosts.knows(&claimed));
        assert!(!hosts.knows(&Route::direct("a", 443)));
    }

    #[test]
    fn the_number_of_hosts_is_limited() {
        let hosts = Http1Hosts::default();
        for number in 0..=MAX_HOSTS {
            let name = number.to_string();
            let route = Route::direct(&name, 443);
            hosts.remember(&route);
            assert!(hosts.knows(&route));
        }
        assert_eq!(hosts.until.borrow().len(), 1);
    }
}
