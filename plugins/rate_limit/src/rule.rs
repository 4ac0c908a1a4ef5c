//! The rate limit.
//!
//! A token bucket for each key: it contains `burst` tokens, a request takes one, and they are refilled evenly over the
//! window. Instead of tokens, it stores the time at which the bucket will be full again, so that nothing has to be
//! refilled (the generic cell rate algorithm). A denied request takes nothing: a client that waits as told is served.

use crate::key::BucketKey;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::time::Duration;

/// The buckets. Times are durations since a point in the past, which the caller chooses.
pub(crate) struct Buckets {
    /// The time in which one token is refilled.
    interval: Duration,
    /// The time in which an empty bucket is refilled.
    refill: Duration,
    /// When each bucket will be full; the least recently used one is removed first.
    full_at: LruCache<BucketKey, Duration>,
}

/// A request above the limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// The time until the next one is served.
    pub(crate) retry_after: Duration,
}

impl Buckets {
    /// Buckets of `burst` tokens for at most `max_keys` keys, into which `requests` tokens are refilled in each
    /// `window`.
    pub(crate) fn new(requests: u32, window: Duration, burst: u32, max_keys: NonZeroUsize) -> Self {
        let interval = window / requests.max(1);
        Self {
            interval,
            refill: interval * burst,
            full_at: LruCache::new(max_keys),
        }
    }

    /// Takes a token for `key`.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn take(&mut self, key: BucketKey, now: Duration) -> Result<(), Exceeded> {
        let full_at = self.full_at.get_or_insert_mut(key, || now);
        let next = now.max(*full_at) + self.interval;
        match next.checked_sub(now + self.refill) {
            None | Some(Duration::ZERO) => {
                *full_at = next;
                Ok(())
            }
            Some(retry_after) => Err(Exceeded { retry_after }),
        }
    }
}

impl Exceeded {
    /// The value of Retry-After (RFC 9110 §10.2.3): whole seconds, rounded up.
    pub(crate) fn seconds(&self) -> u64 {
        let part = u64::from(self.retry_after.subsec_nanos() > 0);
        (self.retry_after.as_secs() + part).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Buckets, Exceeded};
    use crate::key::BucketKey;
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroUsize;
    use std::time::Duration;

    const WINDOW: Duration = Duration::from_secs(10);

    fn buckets(requests: u32, burst: u32, max_keys: usize) -> Buckets {
        Buckets::new(
            requests,
            WINDOW,
            burst,
            NonZeroUsize::new(max_keys).unwrap(),
        )
    }

    fn key(last: u8) -> BucketKey {
        BucketKey::Client(Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))))
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn exceeded(milliseconds: u64) -> Result<(), Exceeded> {
        let retry_after = ms(milliseconds);
        Err(Exceeded { retry_after })
    }

    #[test]
    fn serves_a_burst_and_then_the_rate() {
        let mut buckets = buckets(5, 3, 8);
        for (now, expected) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, exceeded(2000)),
            (1500, exceeded(500)),
            (2000, Ok(())),
            (2000, exceeded(2000)),
            (3999, exceeded(1)),
            (4000, Ok(())),
        ] {
            assert_eq!(buckets.take(key(1), ms(now)), expected, "at {now} ms");
        }
    }

    #[test]
    fn an_idle_period_fills_the_bucket_at_most() {
        let mut buckets = buckets(10, 2, 8);
        for now in [0, 0, 60_000, 60_000] {
            assert_eq!(buckets.take(key(1), ms(now)), Ok(()));
        }
        assert_eq!(buckets.take(key(1), ms(60_000)), exceeded(1000));
    }

    #[test]
    fn keys_do_not_share_their_tokens() {
        let mut buckets = buckets(1, 1, 8);
        assert_eq!(buckets.take(key(1), ms(0)), Ok(()));
        assert_eq!(buckets.take(key(2), ms(0)), Ok(()));
        assert_eq!(buckets.take(key(1), ms(0)), exceeded(10_000));
    }

    #[test]
    fn removes_the_key_that_was_idle_for_longest() {
        let mut buckets = buckets(1, 1, 2);
        assert!(buckets.take(key(1), ms(0)).is_ok());
        assert!(buckets.take(key(2), ms(1)).is_ok());
        assert!(buckets.take(key(1), ms(2)).is_err());
        assert!(buckets.take(key(3), ms(3)).is_ok());
        assert!(buckets.take(key(1), ms(4)).is_err(), "1 was used after 2");
        assert!(buckets.take(key(2), ms(5)).is_ok(), "2 was forgotten");
        assert_eq!(buckets.full_at.len(), 2);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_frees_nothing() {
        let mut buckets = buckets(1, 1, 8);
        assert_eq!(buckets.take(key(1), ms(5000)), Ok(()));
        assert_eq!(buckets.take(key(1), ms(4000)), exceeded(11_000));
    }

    #[test]
    fn extreme_settings_work() {
        let window = Duration::from_secs(86_400);
        let one = NonZeroUsize::MIN;
        let mut slow = Buckets::new(1, window, 1_000_000, one);
        let mut fast = Buckets::new(1_000_000, Duration::from_secs(1), 1, one);
        for buckets in [&mut slow, &mut fast] {
            assert_eq!(buckets.take(key(1), ms(0)), Ok(()));
        }
        let wait = fast.take(key(1), ms(0)).err().unwrap();
        assert_eq!((wait.retry_after.as_nanos(), wait.seconds()), (1000, 1));
    }

    #[test]
    fn rounds_seconds_up() {
        for (milliseconds, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
            let retry_after = ms(milliseconds);
            assert_eq!(Exceeded { retry_after }.seconds(), seconds);
        }
    }
}
