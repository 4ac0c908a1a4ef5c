//! Whether an upstream is up, according to the results of requests to it.
//!
//! Everything is atomic: requests on several threads read and write it concurrently without waiting. Two concurrent
//! failures may count as one, which the next failure makes up for. Times are in milliseconds since a point that the
//! caller chooses.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The state of an upstream.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// The number of consecutive failures.
    fails: AtomicU32,
    failed_at: AtomicU64,
    /// 0 if it is up.
    down_until: AtomicU64,
}

/// When an upstream is down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HealthLimits {
    /// The number of failures after which it is down; 0 for never.
    pub(crate) max_fails: u32,
    /// How long it is down, in milliseconds.
    pub(crate) fail_timeout: u64,
}

/// What may be sent to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    /// All requests.
    Up,
    /// One request, that of the first [`claim`](Health::claim): it has been down for long enough.
    Due,
    /// None.
    Down,
}

impl Health {
    pub(crate) fn state(&self, now: u64) -> Availability {
        match self.down_until.load(Relaxed) {
            0 => Availability::Up,
            until if now >= until => Availability::Due,
            _ => Availability::Down,
        }
    }

    /// The time of its last failure; 0 if there was none.
    pub(crate) fn failed_at(&self) -> u64 {
        self.failed_at.load(Relaxed)
    }

    /// Claims the single request for a due upstream; returns whether this call was the first. If that request reports
    /// nothing, another one may be sent after the same time.
    pub(crate) fn claim(&self, now: u64, limits: HealthLimits) -> bool {
        let until = self.down_until.load(Relaxed);
        let is_due = until != 0 && now >= until;
        let next = until_after(now, limits);
        is_due
            && self
                .down_until
                .compare_exchange(until, next, Relaxed, Relaxed)
                .is_ok()
    }

    /// Gives a [`claim`](Self::claim) back, so that the next request may make it.
    pub(crate) fn forgo(&self, now: u64) {
        self.down_until.store(now.max(1), Relaxed);
    }

    /// Marks it as up until the next failure. For a request that reports nothing while it succeeds.
    pub(crate) fn trust(&self, limits: HealthLimits) {
        self.fails
            .store(limits.max_fails.saturating_sub(1), Relaxed);
        self.down_until.store(0, Relaxed);
    }

    /// Records that it was unreachable; returns whether it is down because of it.
    pub(crate) fn note_failure(&self, now: u64, limits: HealthLimits) -> bool {
        self.failed_at.store(now, Relaxed);
        let fails = self.fails.fetch_add(1, Relaxed).saturating_add(1);
        if limits.max_fails == 0 || fails < limits.max_fails {
            return false;
        }
        self.down_until.swap(until_after(now, limits), Relaxed) == 0
    }

    /// Records a response; returns whether it was down before.
    pub(crate) fn note_success(&self) -> bool {
        // The usual case, in which the cache line stays shared between the threads. The number of failures alone is not
        // enough: a failure counted before an earlier success may have taken it down after that.
        if self.fails.load(Relaxed) == 0 && self.down_until.load(Relaxed) == 0 {
            return false;
        }
        self.fails.store(0, Relaxed);
        self.down_until.swap(0, Relaxed) != 0
    }
}

fn until_after(now: u64, limits: HealthLimits) -> u64 {
    now.saturating_add(limits.fail_timeout).max(1)
}

#[cfg(test)]
mod tests {
    use super::{Availability, Health, HealthLimits, Relaxed};

    const LIMITS: HealthLimits = HealthLimits {
        max_fails: 2,
        fail_timeout: 1000,
    };

    /// Down at 0, until 1000.
    fn down() -> Health {
        let health = Health::default();
        assert!(!health.note_failure(0, LIMITS));
        assert!(health.note_failure(0, LIMITS), "goes down now");
        health
    }

    #[test]
    fn is_down_after_consecutive_failures() {
        let health = Health::default();
        assert!(!health.note_failure(1, LIMITS));
        assert!(!health.note_success(), "was not down");
        assert!(!health.note_failure(2, LIMITS));
        assert_eq!(health.state(2), Availability::Up);
        assert!(health.note_failure(5, LIMITS));
        assert!(!health.note_failure(6, LIMITS), "is down already");
        assert_eq!(
            (health.state(7), health.failed_at()),
            (Availability::Down, 6)
        );
    }

    #[test]
    fn one_request_tests_it_after_its_time() {
        let health = down();
        assert_eq!(health.state(999), Availability::Down);
        assert!(!health.claim(999, LIMITS));
        assert_eq!(health.state(1000), Availability::Due);
        assert!(health.claim(1000, LIMITS));
        assert!(!health.claim(1000, LIMITS), "somebody was faster");
        assert_eq!(health.state(1000), Availability::Down);
        assert_eq!(
            health.state(2000),
            Availability::Due,
            "nothing was told of it"
        );
    }

    #[test]
    fn the_test_marks_it_up_or_down() {
        let health = down();
        assert!(health.claim(1000, LIMITS));
        assert!(!health.note_failure(1500, LIMITS), "was down");
        assert_eq!(
            (health.state(2499), health.state(2500)),
            (Availability::Down, Availability::Due)
        );
        assert!(health.claim(2500, LIMITS));
        assert!(health.note_success());
        assert_eq!(health.state(2500), Availability::Up);
        assert!(!health.note_failure(2501, LIMITS), "counts anew");
    }

    #[test]
    fn a_success_between_the_steps_of_a_failure_does_not_keep_it_down() {
        let health = down();
        // Another thread has recorded a success after the failure was counted and before it took effect.
        health.fails.store(0, Relaxed);
        assert!(health.claim(1000, LIMITS));
        assert!(health.note_success());
        assert_eq!(health.state(1000), Availability::Up);
    }

    #[test]
    fn a_trusted_upstream_is_up_until_the_next_failure() {
        let health = down();
        health.trust(LIMITS);
        assert_eq!(health.state(1), Availability::Up);
        assert!(health.note_failure(2, LIMITS));
        assert_eq!(health.state(3), Availability::Down);
    }

    #[test]
    fn zero_max_fails_never_takes_it_down() {
        let limits = HealthLimits {
            max_fails: 0,
            ..LIMITS
        };
        let health = Health::default();
        for now in 0..9 {
            assert!(!health.note_failure(now, limits));
            assert_eq!(health.state(now), Availability::Up);
        }
    }
}
