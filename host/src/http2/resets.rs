//! Limits stream resets by clients (CVE-2023-44487 and similar attacks).
//!
//! A stream that is opened and reset costs its sender nothing and the proxy a request. Clients that cancel are usual,
//! clients that do little else are not. `h2` counts only resets that come before a stream was accepted, and those that
//! it makes itself; here every stream counts that ended by the client's doing.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Resets within [`WINDOW`] past which a client is sent away.
const MOST: u32 = 1_000;
/// Resets within [`WINDOW`] past which it is, unless at least one stream in [`FINISHED_SHARE`] was finished meanwhile.
const MOST_UNFINISHED: u32 = 200;
const FINISHED_SHARE: u32 = 10;
/// How long a reset is remembered.
const WINDOW: Duration = Duration::from_secs(BUCKETS as u64);
const BUCKETS: usize = 10;

/// The streams of one client connection.
#[derive(Debug)]
pub(super) struct StreamCounts {
    live: Cell<u32>,
    /// One bucket a second. The clock is read for resets only, so that a finished stream counts for the second of the
    /// reset before it.
    buckets: [Cell<Bucket>; BUCKETS],
    now: Cell<u64>,
    started_at: Instant,
    is_abusive: Cell<bool>,
    has_stopped: Cell<bool>,
    /// Tells those who wait for answered clients to stop sending that the connection is about to end.
    leaving: Notify,
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
            leaving: Notify::new(),
        }
    }

    /// The connection takes no more streams: nobody waits any longer for clients that were answered early.
    pub(super) fn stop_lingering(&self) {
        self.has_stopped.set(true);
        self.leaving.notify_waiters();
    }

    /// Ends when the connection takes no more streams.
    pub(super) async fn lingering_stopped(&self) {
        if !self.has_stopped.get() {
            self.leaving.notified().await;
        }
    }

    /// Streams whose channels exist, reset ones included until their exchange has noticed.
    pub(super) fn live(&self) -> u32 {
        self.live.get()
    }

    pub(super) fn opened(&self) {
        self.live.set(self.live.get() + 1);
    }

    /// A channel is gone that was [`opened`](Self::opened).
    pub(super) fn closed(&self, is_reset: bool) {
        self.live.set(self.live.get().saturating_sub(1));
        if is_reset {
            self.count_reset();
        } else {
            self.edit(|bucket| bucket.finished = bucket.finished.saturating_add(1));
        }
    }

    /// A stream ended by the client's doing: reset, malformed, or more than it may have.
    pub(super) fn count_reset(&self) {
        self.count_reset_at(self.started_at.elapsed());
    }

    /// Whether this client does little else than reset streams.
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
        let is_abusive =
            resets > MOST || (resets > MOST_UNFINISHED && finished < resets / FINISHED_SHARE);
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
        reset(&counts, MOST_UNFINISHED, 0);
        assert!(!counts.is_abusive());
        reset(&counts, 1, 0);
        assert!(counts.is_abusive());
    }

    #[test]
    fn a_client_that_also_finishes_may_reset_more() {
        let counts = StreamCounts::new();
        finish(&counts, 200);
        reset(&counts, MOST, 9);
        assert!(!counts.is_abusive());
        reset(&counts, 1, 9);
        assert!(counts.is_abusive());
    }

    #[test]
    fn resets_are_forgotten() {
        let counts = StreamCounts::new();
        for second in [0, 10, 20, 1_000_000] {
            reset(&counts, MOST_UNFINISHED, second);
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
