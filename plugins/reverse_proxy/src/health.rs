//! Whether an upstream is up, from what became of requests to it.
//!
//! All of it is atomic: requests on several threads ask and tell at once, and none waits. Two that tell at once may count
//! one failure too few; the next one makes up for it. Times are milliseconds since one point, which is the caller's to
//! choose.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What is known of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Failures in a row.
    fails: AtomicU32,
    failed_at: AtomicU64,
    /// 0 if it is up.
    down_until: AtomicU64,
}

/// When an upstream counts as down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Failures until it is down; 0 for never.
    pub(crate) max_fails: u32,
    /// How long it is down, in milliseconds.
    pub(crate) fail_timeout: u64,
}

/// What may be sent to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Everything.
    Up,
    /// One request, whose [`claim`](Health::claim) is first: it was down for as long as it had to be.
    Due,
    /// Nothing.
    Down,
}

impl Health {
    pub(crate) fn state(&self, now: u64) -> State {
        match self.down_until.load(Relaxed) {
            0 => State::Up,
            until if now >= until => State::Due,
            _ => State::Down,
        }
    }

    /// When it failed last; 0 if never.
    pub(crate) fn failed_at(&self) -> u64 {
        self.failed_at.load(Relaxed)
    }

    /// Takes the one request that a due upstream gets; whether nobody else was faster. If nothing is told of that
    /// request, another one may be tried when as much time again has passed.
    pub(crate) fn claim(&self, now: u64, limits: Limits) -> bool {
        let until = self.down_until.load(Relaxed);
        let is_due = until != 0 && now >= until;
        let next = until_after(now, limits);
        is_due
            && self
                .down_until
                .compare_exchange(until, next, Relaxed, Relaxed)
                .is_ok()
    }

    /// Gives a [`claim`](Self::claim) back: whoever asks next may make it.
    pub(crate) fn forgo(&self, now: u64) {
        self.down_until.store(now.max(1), Relaxed);
    }

    /// Takes it for up, until the next failure. For a request of which nothing will be told while it succeeds.
    pub(crate) fn trust(&self, limits: Limits) {
        self.fails
            .store(limits.max_fails.saturating_sub(1), Relaxed);
        self.down_until.store(0, Relaxed);
    }

    /// Notes that it could not be reached; whether that takes it down.
    pub(crate) fn note_failure(&self, now: u64, limits: Limits) -> bool {
        self.failed_at.store(now, Relaxed);
        let fails = self.fails.fetch_add(1, Relaxed).saturating_add(1);
        if limits.max_fails == 0 || fails < limits.max_fails {
            return false;
        }
        self.down_until.swap(until_after(now, limits), Relaxed) == 0
    }

    /// Notes that it has answered; whether it was down before.
    pub(crate) fn note_success(&self) -> bool {
        // Nearly always; the line of memory then stays shared between the threads. Not by the failures alone: a failure
        // that was counted before an earlier success may have taken it down behind that.
        if self.fails.load(Relaxed) == 0 && self.down_until.load(Relaxed) == 0 {
            return false;
        }
        self.fails.store(0, Relaxed);
        self.down_until.swap(0, Relaxed) != 0
    }
}

fn until_after(now: u64, limits: Limits) -> u64 {
    now.saturating_add(limits.fail_timeout).max(1)
}

#[cfg(test)]
mod tests {
    use super::{Health, Limits, Relaxed, State};

    const LIMITS: Limits = Limits {
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
    fn is_down_after_so_many_failures_in_a_row() {
        let health = Health::default();
        assert!(!health.note_failure(1, LIMITS));
        assert!(!health.note_success(), "was not down");
        assert!(!health.note_failure(2, LIMITS));
        assert_eq!(health.state(2), State::Up);
        assert!(health.note_failure(5, LIMITS));
        assert!(!health.note_failure(6, LIMITS), "is down already");
        assert_eq!((health.state(7), health.failed_at()), (State::Down, 6));
    }

    #[test]
    fn one_request_tries_it_after_its_time() {
        let health = down();
        assert_eq!(health.state(999), State::Down);
        assert!(!health.claim(999, LIMITS));
        assert_eq!(health.state(1000), State::Due);
        assert!(health.claim(1000, LIMITS));
        assert!(!health.claim(1000, LIMITS), "somebody was faster");
        assert_eq!(health.state(1000), State::Down);
        assert_eq!(health.state(2000), State::Due, "nothing was told of it");
    }

    #[test]
    fn the_try_takes_it_up_or_keeps_it_down() {
        let health = down();
        assert!(health.claim(1000, LIMITS));
        assert!(!health.note_failure(1500, LIMITS), "was down");
        assert_eq!(
            (health.state(2499), health.state(2500)),
            (State::Down, State::Due)
        );
        assert!(health.claim(2500, LIMITS));
        assert!(health.note_success());
        assert_eq!(health.state(2500), State::Up);
        assert!(!health.note_failure(2501, LIMITS), "counts anew");
    }

    #[test]
    fn a_success_between_the_steps_of_a_failure_does_not_keep_it_down() {
        let health = down();
        // Another thread has told a success after the failure was counted and before it counted for something.
        health.fails.store(0, Relaxed);
        assert!(health.claim(1000, LIMITS));
        assert!(health.note_success());
        assert_eq!(health.state(1000), State::Up);
    }

    #[test]
    fn who_is_trusted_is_up_until_the_next_failure() {
        let health = down();
        health.trust(LIMITS);
        assert_eq!(health.state(1), State::Up);
        assert!(health.note_failure(2, LIMITS));
        assert_eq!(health.state(3), State::Down);
    }

    #[test]
    fn is_never_down_when_failures_do_not_count() {
        let limits = Limits {
            max_fails: 0,
            ..LIMITS
        };
        let health = Health::default();
        for now in 0..9 {
            assert!(!health.note_failure(now, limits));
            assert_eq!(health.state(now), State::Up);
        }
    }
}
