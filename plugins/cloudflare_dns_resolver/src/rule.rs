//! Which names are looked up, and what follows from the answers.

use crate::message::DnsAnswer;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a failed lookup is cached (RFC 9520 §3.2).
const FAILURE_LIFE: Duration = Duration::from_secs(5);

/// The resolution of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Its addresses.
    Addresses(Arc<[IpAddr]>),
    /// Filtering resolvers answer 0.0.0.0 for names that they block. Connecting to it would connect to this machine.
    Blocked,
    /// No address: there is none, or the lookup failed.
    Nothing,
}

/// Limits on how long an answer is cached.
#[derive(Clone, Copy)]
pub(crate) struct TtlLimits {
    /// The minimum.
    pub(crate) min: Duration,
    /// The maximum.
    pub(crate) max: Duration,
}

impl TtlLimits {
    fn of(self, ttl: u32) -> Duration {
        Duration::from_secs(ttl.into()).min(self.max).max(self.min)
    }
}

/// Combines the answers for each family, and determines how long to cache the result. `None` is a failed lookup.
pub(crate) fn resolution(answers: &[Option<DnsAnswer>], life: TtlLimits) -> (Resolution, Duration) {
    let (mut addresses, mut ttl) = (Vec::new(), u32::MAX);
    let (mut has_failed, mut denied_ttl) = (false, u32::MAX);
    for answer in answers {
        match answer {
            Some(DnsAnswer::Addresses(found, found_ttl)) => {
                addresses.extend_from_slice(found);
                ttl = ttl.min(*found_ttl);
            }
            Some(DnsAnswer::Nothing(ttl)) => denied_ttl = denied_ttl.min(ttl.unwrap_or(0)),
            None => has_failed = true,
        }
    }
    if addresses.is_empty() {
        let life = match has_failed {
            true => FAILURE_LIFE,
            false => life.of(denied_ttl),
        };
        return (Resolution::Nothing, life);
    }
    addresses.retain(|ip| !ip.is_unspecified());
    let resolution = match addresses.is_empty() {
        true => Resolution::Blocked,
        false => Resolution::Addresses(addresses.into()),
    };
    (resolution, life.of(ttl))
}

/// Names that are not sent to the resolver.
pub(crate) struct LocalNames {
    domains: Vec<String>,
}

impl LocalNames {
    /// The names in these domains, and names without a dot.
    pub(crate) fn new(domains: &[String]) -> Self {
        let normal = |domain: &String| domain.trim_matches('.').to_ascii_lowercase();
        Self {
            domains: domains.iter().map(normal).collect(),
        }
    }

    /// Whether `name` is local; it must be in lower case and without a final dot.
    pub(crate) fn contains(&self, name: &str) -> bool {
        let is_in = |domain: &String| {
            let rest = name.strip_suffix(domain.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        !name.contains('.') || self.domains.iter().any(is_in)
    }
}

#[cfg(test)]
mod tests {
    use super::{FAILURE_LIFE, LocalNames, Resolution, TtlLimits, resolution};
    use crate::message::DnsAnswer;
    use std::net::IpAddr;
    use std::time::Duration;

    const LIFE: TtlLimits = TtlLimits {
        min: Duration::from_secs(10),
        max: Duration::from_secs(100),
    };

    fn found(texts: &[&str], ttl: u32) -> Option<DnsAnswer> {
        Some(DnsAnswer::Addresses(ips(texts), ttl))
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_share_the_shortest_lifetime() {
        let (one, two) = (found(&["192.0.2.1"], 60), found(&["::1"], 50));
        let addresses = Resolution::Addresses(ips(&["192.0.2.1", "::1"]).into());
        let seconds = Duration::from_secs;
        assert_eq!(
            resolution(&[one.clone(), two], LIFE),
            (addresses, seconds(50))
        );
        let only = Resolution::Addresses(ips(&["192.0.2.1"]).into());
        for other in [Some(DnsAnswer::Nothing(Some(20))), None] {
            let both = [one.clone(), other];
            assert_eq!(resolution(&both, LIFE), (only.clone(), seconds(60)));
        }
    }

    #[test]
    fn lifetimes_stay_within_their_limits() {
        for (ttl, expected) in [(0, 10), (11, 11), (u32::MAX, 100)] {
            let (_, life) = resolution(&[found(&["192.0.2.1"], ttl)], LIFE);
            assert_eq!(life.as_secs(), expected);
        }
    }

    #[test]
    fn negative_answers_keep_their_lifetime_and_failures_a_short_one() {
        let denied = |ttl| Some(DnsAnswer::Nothing(ttl));
        for (answers, expected) in [
            (
                [denied(Some(60)), denied(Some(30))],
                Duration::from_secs(30),
            ),
            ([denied(Some(60)), denied(None)], LIFE.min),
            ([denied(Some(60)), None], FAILURE_LIFE),
            ([None, None], FAILURE_LIFE),
        ] {
            assert_eq!(resolution(&answers, LIFE), (Resolution::Nothing, expected));
        }
    }

    #[test]
    fn an_unspecified_address_is_a_block() {
        let blocked = [found(&["0.0.0.0"], 60), found(&["::"], 60)];
        assert_eq!(resolution(&blocked, LIFE).0, Resolution::Blocked);
        let partly = [found(&["0.0.0.0", "192.0.2.1"], 60)];
        let rest = Resolution::Addresses(ips(&["192.0.2.1"]).into());
        assert_eq!(resolution(&partly, LIFE).0, rest);
    }

    #[test]
    fn local_names_are_those_of_local_domains_and_single_words() {
        let local = LocalNames::new(&["local".to_owned(), ".Corp.Example.".to_owned()]);
        for (name, expected) in [
            ("intranet", true),
            ("printer.local", true),
            ("corp.example", true),
            ("a.b.corp.example", true),
            ("xcorp.example", false),
            ("a.localx", false),
            ("a.example", false),
        ] {
            assert_eq!(local.contains(name), expected, "{name}");
        }
    }
}
