//! Which names are asked for, and what is made of the answers.

use crate::message::Answer;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// For how long a name is not asked for again after a lookup has failed (RFC 9520 §3.2).
const FAILURE_LIFE: Duration = Duration::from_secs(5);

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Where it leads.
    Addresses(Arc<[IpAddr]>),
    /// Filtering resolvers say 0.0.0.0 and mean that it shall lead nowhere. To connect there would be to connect to
    /// this machine.
    Blocked,
    /// No address, whether there is none or nobody told.
    Nothing,
}

/// Bounds on how long an answer is kept.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    /// At least.
    pub(crate) min: Duration,
    /// At most.
    pub(crate) max: Duration,
}

impl Life {
    fn of(self, ttl: u32) -> Duration {
        Duration::from_secs(ttl.into()).min(self.max).max(self.min)
    }
}

/// What the answers for each family come to, and for how long. A failed lookup is none.
pub(crate) fn verdict(answers: &[Option<Answer>], life: Life) -> (Verdict, Duration) {
    let (mut addresses, mut ttl) = (Vec::new(), u32::MAX);
    let (mut has_failed, mut denied_ttl) = (false, u32::MAX);
    for answer in answers {
        match answer {
            Some(Answer::Addresses(found, found_ttl)) => {
                addresses.extend_from_slice(found);
                ttl = ttl.min(*found_ttl);
            }
            Some(Answer::Nothing(ttl)) => denied_ttl = denied_ttl.min(ttl.unwrap_or(0)),
            None => has_failed = true,
        }
    }
    if addresses.is_empty() {
        let life = match has_failed {
            true => FAILURE_LIFE,
            false => life.of(denied_ttl),
        };
        return (Verdict::Nothing, life);
    }
    addresses.retain(|ip| !ip.is_unspecified());
    let verdict = match addresses.is_empty() {
        true => Verdict::Blocked,
        false => Verdict::Addresses(addresses.into()),
    };
    (verdict, life.of(ttl))
}

/// Names that are nobody else's business.
pub(crate) struct LocalNames {
    domains: Vec<String>,
}

impl LocalNames {
    /// Those in these domains, and those without a dot.
    pub(crate) fn new(domains: &[String]) -> Self {
        let normal = |domain: &String| domain.trim_matches('.').to_ascii_lowercase();
        Self {
            domains: domains.iter().map(normal).collect(),
        }
    }

    /// Whether `name` is one of them; it is in lower case and has no dot at the end.
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
    use super::{FAILURE_LIFE, Life, LocalNames, Verdict, verdict};
    use crate::message::Answer;
    use std::net::IpAddr;
    use std::time::Duration;

    const LIFE: Life = Life {
        min: Duration::from_secs(10),
        max: Duration::from_secs(100),
    };

    fn found(texts: &[&str], ttl: u32) -> Option<Answer> {
        Some(Answer::Addresses(ips(texts), ttl))
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_of_both_families_count_as_long_as_both_do() {
        let (one, two) = (found(&["192.0.2.1"], 60), found(&["::1"], 50));
        let addresses = Verdict::Addresses(ips(&["192.0.2.1", "::1"]).into());
        let seconds = Duration::from_secs;
        assert_eq!(verdict(&[one.clone(), two], LIFE), (addresses, seconds(50)));
        let only = Verdict::Addresses(ips(&["192.0.2.1"]).into());
        for other in [Some(Answer::Nothing(Some(20))), None] {
            let both = [one.clone(), other];
            assert_eq!(verdict(&both, LIFE), (only.clone(), seconds(60)));
        }
    }

    #[test]
    fn lives_stay_within_their_bounds() {
        for (ttl, expected) in [(0, 10), (11, 11), (u32::MAX, 100)] {
            let (_, life) = verdict(&[found(&["192.0.2.1"], ttl)], LIFE);
            assert_eq!(life.as_secs(), expected);
        }
    }

    #[test]
    fn a_denial_is_kept_as_it_says_and_a_failure_shortly() {
        let denied = |ttl| Some(Answer::Nothing(ttl));
        for (answers, expected) in [
            (
                [denied(Some(60)), denied(Some(30))],
                Duration::from_secs(30),
            ),
            ([denied(Some(60)), denied(None)], LIFE.min),
            ([denied(Some(60)), None], FAILURE_LIFE),
            ([None, None], FAILURE_LIFE),
        ] {
            assert_eq!(verdict(&answers, LIFE), (Verdict::Nothing, expected));
        }
    }

    #[test]
    fn an_address_that_is_none_is_a_block() {
        let blocked = [found(&["0.0.0.0"], 60), found(&["::"], 60)];
        assert_eq!(verdict(&blocked, LIFE).0, Verdict::Blocked);
        let partly = [found(&["0.0.0.0", "192.0.2.1"], 60)];
        let rest = Verdict::Addresses(ips(&["192.0.2.1"]).into());
        assert_eq!(verdict(&partly, LIFE).0, rest);
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
