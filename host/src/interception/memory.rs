//! Learned facts about hosts, remembered for a limited time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of hosts; the entry that would expire first is replaced.
const MAX_HOSTS: usize = 4096;

/// Hosts and ports with the time until which the fact is remembered. Shared by all workers; read for every tunnel. It
/// is nearly always empty, and then costs one load.
#[derive(Debug)]
pub(crate) struct HostMemory {
    lifetime: Duration,
    is_used: AtomicBool,
    until: Mutex<HashMap<(String, u16), Instant>>,
}

impl HostMemory {
    /// A lifetime of zero remembers nothing.
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            is_used: AtomicBool::new(false),
            until: Mutex::default(),
        }
    }

    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    pub(crate) fn remember(&self, host: &str, port: u16) {
        if self.lifetime.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MAX_HOSTS {
            until.retain(|_, end| *end > now);
        }
        if until.len() >= MAX_HOSTS
            && let Some(first) = until.iter().min_by_key(|(_, end)| **end)
        {
            let first = first.0.clone();
            until.remove(&first);
        }
        until.insert((host.to_owned(), port), now + self.lifetime);
        self.is_used.store(true, Ordering::Release);
    }

    /// Whether anything has ever been remembered.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }

    pub(crate) fn knows(&self, host: &str, port: u16) -> bool {
        if !self.is_used() {
            return false;
        }
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), port);
        match until.get(&key) {
            Some(end) if *end > Instant::now() => true,
            Some(_) => {
                until.remove(&key);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_remembered_with_its_port_until_it_expires() {
        let memory = HostMemory::new(Duration::from_secs(600));
        assert!(!memory.knows("a", 443));
        memory.remember("a", 443);
        assert!(memory.knows("a", 443));
        assert!(!memory.knows("a", 444) && !memory.knows("b", 443));
        let short = HostMemory::new(Duration::from_nanos(1));
        short.remember("a", 443);
        assert!(!short.knows("a", 443));
        let none = HostMemory::new(Duration::ZERO);
        none.remember("a", 443);
        assert!(!none.knows("a", 443));
    }

    #[test]
    fn the_number_of_hosts_is_limited() {
        let memory = HostMemory::new(Duration::from_secs(600));
        for number in 0..MAX_HOSTS + 10 {
            memory.remember(&number.to_string(), 1);
        }
        assert_eq!(memory.until.lock().unwrap().len(), MAX_HOSTS);
        assert!(memory.knows(&(MAX_HOSTS + 9).to_string(), 1));
        assert!(!memory.knows("0", 1));
    }
}
