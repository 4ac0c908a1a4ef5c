//! What the system has said lately, so that it is not asked for every exchange.
//!
//! The answer of a name stays the same while it is known, so that kept connections fit the next exchange.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names that are remembered; beyond it what is oldest is forgotten.
const MAX_NAMES: usize = 4096;

/// Answers of the system, by name.
pub(crate) struct Known {
    /// How long an answer holds; zero: not at all.
    lasts: Duration,
    names: Mutex<HashMap<String, Answer>>,
}

struct Answer {
    addresses: Vec<IpAddr>,
    since: Instant,
}

impl Known {
    pub(crate) fn new(lasts: Duration) -> Self {
        Self {
            lasts,
            names: Mutex::default(),
        }
    }

    /// What the system has said of `name`, if that still holds.
    pub(crate) fn addresses(&self, name: &str, now: Instant) -> Option<Vec<IpAddr>> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = names.get(name)?;
        let age = now.saturating_duration_since(answer.since);
        (age < self.lasts).then(|| answer.addresses.clone())
    }

    /// Remembers what the system says of `name`.
    pub(crate) fn note(&self, name: String, addresses: Vec<IpAddr>, now: Instant) {
        if self.lasts.is_zero() {
            return;
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_NAMES && !names.contains_key(&name) {
            let lasts = self.lasts;
            names.retain(|_, answer| now.saturating_duration_since(answer.since) < lasts);
            let oldest = names
                .iter()
                .min_by_key(|(_, answer)| answer.since)
                .map(|(name, _)| name.clone());
            if let Some(oldest) = oldest.filter(|_| names.len() >= MAX_NAMES) {
                names.remove(&oldest);
            }
        }
        let since = now;
        names.insert(name, Answer { addresses, since });
    }
}

#[cfg(test)]
mod tests {
    use super::{Known, MAX_NAMES};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn an_answer_holds_for_its_time() {
        let known = Known::new(Duration::from_secs(60));
        let start = Instant::now();
        known.note("a".to_owned(), vec![HERE], start);
        let after = |seconds| known.addresses("a", start + Duration::from_secs(seconds));
        assert_eq!(after(59), Some(vec![HERE]));
        assert_eq!(after(60), None);
        assert_eq!(known.addresses("b", start), None);
    }

    #[test]
    fn without_a_time_nothing_is_remembered() {
        let known = Known::new(Duration::ZERO);
        known.note("a".to_owned(), vec![HERE], Instant::now());
        assert_eq!(known.addresses("a", Instant::now()), None);
    }

    #[test]
    fn the_oldest_gives_way() {
        let known = Known::new(Duration::from_secs(60_000));
        let start = Instant::now();
        let at = |number: usize| start + Duration::from_secs(number as u64);
        for number in 0..=MAX_NAMES {
            known.note(number.to_string(), vec![HERE], at(number));
        }
        let now = at(MAX_NAMES);
        assert_eq!(known.addresses("0", now), None);
        assert!(known.addresses("1", now).is_some());
        assert!(known.addresses(&MAX_NAMES.to_string(), now).is_some());
    }
}
