//! Limits stream resets by clients (CVE-2023-44487 and similar attacks).
//!
//! A stream that is opened and reset costs its sender nothing, and the proxy a request. Cancelling requests is usual,
//! doing little else is not. `h2` counts only resets that arrive before a stream was accepted, and its own; here, every
//! stream that the client caused to fail is counted.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// If a client causes more resets than this within [`WINDOW`], it is disconnected.
const MAX_RESETS: u32 = 1_000;
/// More than this are allowed only if at least one finished stream comes with every [`FINISHED_SHARE`] resets.
const MAX_UNFINISHED_RESETS: u32 = 200;
const FINISHED_SHARE: u32 = 10;
/// How long a reset is remembered.
const WINDOW: Duration = Duration::from_secs(BUCKETS as u64);
const BUCKETS: usize = 10;

/// The streams of one client connection.
#[derive(Debug)]
pub(super) struct StreamCounts {
    live: Cell<u32>,
    /// One bucket per second. The clock is read for resets only, so a finished stream counts in the second of the last
    /// reset.
    buckets: [Cell<Bucket>; BUCKETS],
    now: Cell<u64>,
    started_at: Instant,
    is_abusive: Cell<bool>,
    has_stopped: Cell<bool>,
    /// Notifies lingering streams that the connection is about to end.
    stopping: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    resets: u32,
    finished: u32,
}

impl StreamCounts {
    pub(super) fn new() -> Self {
        Self {
            live: Cell::new(0),
            buckets: Default::default(),
            now: Cell::new(0),
            started_at: Instant::now(),
            is_abusive: Cell::new(false),
            has_stopped: Cell::new(false),
            stopping: Notify::new(),
        }
    }

    /// The connection accepts no more streams, and those that linger end now.
    pub(super) fn stop_lingering(&self) {
        self.has_stopped.set(true);
        self.stopping.notify_waiters();
    }

    /// Ends when [`stop_lingering`](Self::stop_lingering) is called.
    pub(super) async fn lingering_stopped(&self) {
        if !self.has_stopped.get() {
            self.stopping.notified().await;
        }
    }

    /// Streams whose channels exist, including reset ones until their exchanges end.
    pub(super) fn live(&self) -> u32 {
        self.live.get()
    }

    pub(super) fn opened(&self) {
        self.live.set(self.live.get() + 1);
    }

    /// A channel that was [`opened`](Self::opened) has been dropped.
    pub(super) fn closed(&self, is_reset: bool) {
        self.live.set(self.live.get().saturating_sub(1));
        if is_reset {
            self.count_reset();
        } else {
            self.edit(|bucket| bucket.finished = bucket.finished.saturating_add(1));
        }
    }

    /// A stream failed because of the client: it was reset, malformed, or one too many.
    pub(super) fn count_reset(&self) {
        self.count_reset_at(self.started_at.elapsed());
    }

    /// Whether the client does little but reset streams.
    pub(super) fn is_abusive(&self) -> bool {
        self.is_abusive.get()
    }

    fn count_reset_at(&self, elapsed: Duration) {
        self.advance(elapsed.as_secs());
        self.edit(|bucket| bucket.resets = bucket.resets.saturating_add(1));
        let (mut resets, mut finished) = (0_u32, 0_u32);
        for bucket in &self.buckets {
            resets = resets.saturating_add(bucket.get().resets);
            finished = finished.saturating_add(bucket.get().finished);
        }
        let is_abusive = resets > MAX_RESETS
            || (resets > MAX_UNFINISHED_RESETS && finished < resets / FINISHED_SHARE);
        self.is_abusive.set(self.is_abusive.get() || is_abusive);
    }

    fn advance(&self, second: u64) {
        let passed = second.saturating_sub(self.now.get()).min(WINDOW.as_secs());
        for back in 0..passed {
            self.bucket(second - back).take();
        }
        self.now.set(second.max(self.now.get()));
    }

    fn edit(&self, edit: impl FnOnce(&mut Bucket)) {
        let bucket = self.bucket(self.now.get());
        let mut changed = bucket.get();
        edit(&mut changed);
        bucket.set(changed);
    }

    fn bucket(&self, second: u64) -> &Cell<Bucket> {
        &self.buckets[(second % BUCKETS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(counts: &StreamCounts, times: u32, second: u64) {
        for _ in 0..times {
            counts.opened();
            counts.live.set(counts.live() - 1);
            counts.count_reset_at(Duration::from_secs(second));
        }
    }

    fn finish(counts: &StreamCounts, times: u32) {
        for _ in 0..times {
            counts.opened();
            counts.closed(false);
        }
    }

    #[test]
    fn a_client_that_only_resets_is_abusive() {
        let counts = StreamCounts::new();
        reset(&counts, MAX_UNFINISHED_RESETS, 0);
        assert!(!counts.is_abusive());
        reset(&counts, 1, 0);
        assert!(counts.is_abusive());
    }

    #[test]
    fn a_client_that_also_finishes_may_reset_more() {
        let counts = StreamCounts::new();
        finish(&counts, 200);
        reset(&counts, MAX_RESETS, 9);
        assert!(!counts.is_abusive());
        reset(&counts, 1, 9);
        assert!(counts.is_abusive());
    }

    #[test]
    fn resets_are_forgotten() {
        let counts = StreamCounts::new();
        for second in [0, 10, 20, 1_000_000] {
            reset(&counts, MAX_UNFINISHED_RESETS, second);
            assert!(!counts.is_abusive(), "{second}");
        }
        reset(&counts, 1, 1_000_009);
        assert!(counts.is_abusive());
    }

    #[test]
    fn live_streams_are_counted() {
        let counts = StreamCounts::new();
        counts.opened();
        counts.opened();
        counts.closed(true);
        assert_eq!(counts.live(), 1);
    }
}
