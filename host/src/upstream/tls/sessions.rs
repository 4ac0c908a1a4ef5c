//! Stores TLS sessions to resume, for all workers.
//!
//! Partitioned by host, so that workers that connect to different hosts do not wait for each other. Limited: if a part
//! is full, its oldest host is removed.

use std::hash::{DefaultHasher, Hash, Hasher};

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;

const PARTS: usize = 16;

/// 2,048 hosts in all.
const HOSTS_PER_PART: usize = 128;

/// rustls keeps up to so many tickets for each host, and counts the size of a store in tickets.
const TICKETS_PER_HOST: usize = 8;

#[derive(Debug)]
pub(super) struct Sessions([ClientSessionMemoryCache; PARTS]);

impl Default for Sessions {
    fn default() -> Self {
        Self(std::array::from_fn(|_| {
            ClientSessionMemoryCache::new(HOSTS_PER_PART * TICKETS_PER_HOST)
        }))
    }
}

impl Sessions {
    fn part(&self, host: &ServerName<'_>) -> &ClientSessionMemoryCache {
        // Not keyed: names that are chosen to share a part can only fill that part.
        let mut hasher = DefaultHasher::new();
        host.hash(&mut hasher);
        &self.0[hasher.finish() as usize % PARTS]
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, host: ServerName<'static>, group: NamedGroup) {
        self.part(&host).set_kx_hint(host, group);
    }

    fn kx_hint(&self, host: &ServerName<'_>) -> Option<NamedGroup> {
        self.part(host).kx_hint(host)
    }

    fn set_tls12_session(&self, host: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.part(&host).set_tls12_session(host, session);
    }

    fn tls12_session(&self, host: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.part(host).tls12_session(host)
    }

    fn remove_tls12_session(&self, host: &ServerName<'static>) {
        self.part(host).remove_tls12_session(host);
    }

    fn insert_tls13_ticket(&self, host: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.part(&host).insert_tls13_ticket(host, ticket);
    }

    fn take_tls13_ticket(&self, host: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.part(host).take_tls13_ticket(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_kept_up_to_the_limit_and_the_newest_always() {
        let sessions = Sessions::default();
        let name = |number: usize| ServerName::try_from(format!("host-{number}.test")).unwrap();
        let many = 4 * PARTS * HOSTS_PER_PART;
        for number in 0..many {
            sessions.set_kx_hint(name(number), NamedGroup::X25519);
            assert_eq!(sessions.kx_hint(&name(number)), Some(NamedGroup::X25519));
        }
        let kept = (0..many).filter(|number| sessions.kx_hint(&name(*number)).is_some());
        assert_eq!(kept.count(), PARTS * HOSTS_PER_PART);
    }
}
