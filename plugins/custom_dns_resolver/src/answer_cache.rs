//! A cache for answers of the system resolver.
//!
//! The answer for a name stays the same while it is cached, so that idle connections fit the next exchange.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of cached names; beyond it, the oldest is removed.
const MAX_NAMES: usize = 4096;

/// Answers of the system resolver, by name.
pub(crate) struct AnswerCache {
    /// How long an answer is cached; zero: not at all.
    lasts: Duration,
    names: Mutex<HashMap<String, CachedAnswer>>,
}

struct CachedAnswer {
    addresses: Vec<IpAddr>,
    since: Instant,
}

impl AnswerCache {
    pub(crate) fn new(lasts: Duration) -> Self {
        Self {
            lasts,
            names: Mutex::default(),
        }
    }

    /// The cached answer for `name`, if it has not expired.
    pub(crate) fn addresses(&self, name: &str, now: Instant) -> Option<Vec<IpAddr>> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = names.get(name)?;
        let age = now.saturating_duration_since(answer.since);
        (age < self.lasts).then(|| answer.addresses.clone())
    }

    /// Caches the answer for `name`.
    pub(crate) fn store(&self, name: String, addresses: Vec<IpAddr>, now: Instant) {
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
        names.insert(name, CachedAnswer { addresses, since });
    }
}

#[cfg(test)]
mod tests {
    use super::{AnswerCache, MAX_NAMES};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn an_answer_is_cached_for_its_time() {
        let answer_cache = AnswerCache::new(Duration::from_secs(60));
        let start = Instant::now();
        answer_cache.store("a".to_owned(), vec![HERE], start);
        let after = |seconds| answer_cache.addresses("a", start + Duration::from_secs(seconds));
        assert_eq!(after(59), Some(vec![HERE]));
        assert_eq!(after(60), None);
        assert_eq!(answer_cache.addresses("b", start), None);
    }

    #[test]
    fn without_a_lifetime_nothing_is_cached() {
        let answer_cache = AnswerCache::new(Duration::ZERO);
        answer_cache.store("a".to_owned(), vec![HERE], Instant::now());
        assert_eq!(answer_cache.addresses("a", Instant::now()), None);
    }

    #[test]
    fn the_oldest_is_removed() {
        let answer_cache = AnswerCache::new(Duration::from_secs(60_000));
        let start = Instant::now();
        let at = |number: usize| start + Duration::from_secs(number as u64);
        for number in 0..=MAX_NAMES {
            answer_cache.store(number.to_string(), vec![HERE], at(number));
        }
        let now = at(MAX_NAMES);
        assert_eq!(answer_cache.addresses("0", now), None);
        assert!(answer_cache.addresses("1", now).is_some());
        assert!(
            answer_cache
                .addresses(&MAX_NAMES.to_string(), now)
                .is_some()
        );
    }
}
