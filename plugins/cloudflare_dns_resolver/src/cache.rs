//! A bounded cache of values by name, each with a lifetime.
//!
//! If it is full, the entry that would expire first is removed. The caller provides the time.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Values by name, each with its expiry.
pub(crate) struct Cache<T> {
    capacity: usize,
    entries: Mutex<CacheEntry<T>>,
}

struct CacheEntry<T> {
    by_name: HashMap<Arc<str>, (Instant, T)>,
    /// The same names, in the order of their expiry.
    by_end: BTreeSet<(Instant, Arc<str>)>,
}

impl<T: Clone> Cache<T> {
    /// An empty cache for up to `capacity` names.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Mutex::new(CacheEntry {
                by_name: HashMap::new(),
                by_end: BTreeSet::new(),
            }),
        }
    }

    /// The value of `name`, if it has not expired at `now`.
    pub(crate) fn find(&self, name: &str, now: Instant) -> Option<T> {
        let entries = self.lock();
        let (end, value) = entries.by_name.get(name)?;
        (now < *end).then(|| value.clone())
    }

    /// Stores `value` for `name`, for `life` from `now` on.
    pub(crate) fn keep(&self, name: &Arc<str>, value: T, now: Instant, life: Duration) {
        let Some(end) = now.checked_add(life) else {
            return;
        };
        if life.is_zero() || self.capacity == 0 {
            return;
        }
        let mut entries = self.lock();
        entries.forget(name);
        if entries.by_name.len() >= self.capacity {
            entries.forget_first();
        }
        entries.by_end.insert((end, Arc::clone(name)));
        entries.by_name.insert(Arc::clone(name), (end, value));
    }

    fn lock(&self) -> MutexGuard<'_, CacheEntry<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> CacheEntry<T> {
    fn forget(&mut self, name: &Arc<str>) {
        if let Some((end, _)) = self.by_name.remove(name) {
            self.by_end.remove(&(end, Arc::clone(name)));
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, name)) = self.by_end.pop_first() {
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const SECOND: Duration = Duration::from_secs(1);

    fn keep(cache: &Cache<u8>, name: &str, value: u8, now: Instant, seconds: u32) {
        cache.keep(&Arc::from(name), value, now, SECOND * seconds);
    }

    #[test]
    fn a_value_lives_until_its_end() {
        let (cache, now) = (Cache::new(9), Instant::now());
        keep(&cache, "a", 1, now, 2);
        assert_eq!(cache.find("a", now + SECOND), Some(1));
        assert_eq!(cache.find("a", now + SECOND * 2), None);
        assert_eq!(cache.find("b", now), None);
        keep(&cache, "a", 2, now + SECOND * 2, 2);
        assert_eq!(cache.find("a", now + SECOND * 3), Some(2));
    }

    #[test]
    fn the_entry_that_expires_first_is_removed() {
        let (cache, now) = (Cache::new(2), Instant::now());
        keep(&cache, "a", 1, now, 30);
        keep(&cache, "b", 2, now, 20);
        keep(&cache, "b", 3, now, 25);
        keep(&cache, "c", 4, now, 10);
        assert_eq!(cache.find("a", now), Some(1));
        assert_eq!(cache.find("b", now), None);
        assert_eq!(cache.find("c", now), Some(4));
        let entries = cache.lock();
        assert_eq!((entries.by_name.len(), entries.by_end.len()), (2, 2));
    }

    #[test]
    fn nothing_is_cached_without_capacity_or_lifetime() {
        let now = Instant::now();
        let (none, some) = (Cache::new(0), Cache::new(1));
        keep(&none, "a", 1, now, 9);
        keep(&some, "a", 1, now, 0);
        some.keep(&Arc::from("b"), 1, now, Duration::MAX);
        assert_eq!((none.find("a", now), some.find("a", now)), (None, None));
        assert_eq!(some.find("b", now), None);
    }
}
