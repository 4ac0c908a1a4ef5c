//! Lines of one kind are bounded, so that no peer can fill the log.
//!
//! A kind is the place in the code that a line comes from. Each may write a few lines at once and then one a second;
//! what is left out is counted, and told once a second: `… (and 8123 more like this)`. This holds for warnings, errors
//! and INFO lines of the threads that serve peers, see [`bound_repeats_of_this_thread`]. Access lines, lines that
//! plugins write, and everything below INFO are left alone.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::{self, Debug, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::escape::Escaped;
use super::line::{level_word, write_prefix};

/// Lines of one kind of ours that may follow each other at once; past it one a second.
const OURS_AT_ONCE: u32 = 10;
/// The same for libraries, which write such lines for single frames of a peer.
const OTHERS_AT_ONCE: u32 = 1;
/// How often one further line is written, and what was left out is told.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    static IS_BOUNDED: Cell<bool> = const { Cell::new(false) };
}

/// From now on, lines of this thread are bounded: what it does is up to peers.
pub(crate) fn bound_repeats_of_this_thread() {
    IS_BOUNDED.set(true);
}

/// How often each kind of line was written. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Repeats(Arc<Shared>);

#[derive(Default)]
struct Shared {
    kinds: Mutex<HashMap<Identifier, Kind>>,
    /// Some kind may write nothing more at present, so that there may be something to tell.
    is_counting: AtomicBool,
}

struct Kind {
    metadata: &'static Metadata<'static>,
    message: String,
    /// Lines that may still be written, as of `refilled_at`.
    left: u32,
    refilled_at: Instant,
    left_out: u64,
}

impl Kind {
    fn at_once(metadata: &Metadata<'_>) -> u32 {
        match metadata.target().starts_with("proxy") {
            true => OURS_AT_ONCE,
            false => OTHERS_AT_ONCE,
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled_at);
        let more = u32::try_from(passed.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self
                .left
                .saturating_add(more)
                .min(Self::at_once(self.metadata));
            self.refilled_at = now;
        }
    }
}

impl Repeats {
    /// Whether there may be something to tell after the next [`INTERVAL`].
    pub(super) fn is_counting(&self) -> bool {
        self.0.is_counting.load(Ordering::Acquire)
    }

    /// One line for each kind of which something was left out since the last call.
    pub(super) fn take_report(&self) -> String {
        self.take_report_at(Instant::now())
    }

    fn take_report_at(&self, now: Instant) -> String {
        let mut lines = String::new();
        let mut kinds = self.kinds();
        let mut is_counting = false;
        for kind in kinds.values_mut() {
            let left_out = std::mem::take(&mut kind.left_out);
            if left_out > 0 {
                // Writing to a String cannot fail.
                let _ = write_report(&mut lines, kind, left_out);
            }
            kind.refill(now);
            is_counting |= kind.left == 0;
        }
        self.0.is_counting.store(is_counting, Ordering::Release);
        lines
    }

    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        let mut kinds = self.kinds();
        let kind = kinds.entry(metadata.callsite()).or_insert_with(|| Kind {
            metadata,
            message: String::new(),
            left: Kind::at_once(metadata),
            refilled_at: now,
            left_out: 0,
        });
        kind.refill(now);
        let Some(left) = kind.left.checked_sub(1) else {
            kind.left_out += 1;
            return false;
        };
        kind.left = left;
        if left == 0 {
            kind.message.clear();
            event.record(&mut Message(&mut kind.message));
            self.0.is_counting.store(true, Ordering::Release);
        }
        true
    }

    /// What is behind the lock is whole whenever it is let go.
    fn kinds(&self) -> MutexGuard<'_, HashMap<Identifier, Kind>> {
        self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeats").finish_non_exhaustive()
    }
}

/// Whether lines of this kind are bounded: none that peers cannot cause, and none of plugins, whose place is a field.
fn is_bounded(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO
        && IS_BOUNDED.get()
        && metadata.fields().field("log.target").is_none()
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        !is_bounded(event.metadata()) || self.admits(event, Instant::now())
    }
}

fn write_report(lines: &mut String, kind: &Kind, left_out: u64) -> fmt::Result {
    let metadata = kind.metadata;
    let path = metadata.module_path().unwrap_or(metadata.target());
    let module = path.rsplit("::").next().unwrap_or(path);
    write_prefix(lines, level_word(metadata.level()))?;
    writeln!(
        lines,
        "{module}:{} - {} (and {left_out} more like this)",
        metadata.line().unwrap_or(0),
        kind.message
    )
}

/// The message of an event, without its fields.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(Escaped(self.0), "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    /// Counts the events that come through.
    #[derive(Clone, Default)]
    struct Count(Arc<std::sync::atomic::AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines are written of what `speak` says on a thread that serves peers, and what is told of the rest.
    fn lines(speak: impl FnOnce() + Send) -> (usize, String) {
        let (repeats, count) = (Repeats::default(), Count::default());
        let subscriber = tracing_subscriber::registry()
            .with(repeats.clone())
            .with(count.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                bound_repeats_of_this_thread();
                tracing::subscriber::with_default(subscriber, speak);
            });
        });
        let now = Instant::now() + INTERVAL;
        (count.0.load(Ordering::Relaxed), repeats.take_report_at(now))
    }

    #[test]
    fn a_kind_writes_a_few_lines_and_the_rest_is_counted() {
        let (written, told) = lines(|| {
            for client in 0..1000 {
                tracing::warn!(client, "TLS failed");
            }
            tracing::warn!("another kind");
        });
        assert_eq!(written, OURS_AT_ONCE as usize + 1);
        assert!(
            told.ends_with(" - TLS failed (and 990 more like this)\n"),
            "{told}"
        );
        assert!(told.contains(" - WARNING - pid:"), "{told}");
        assert_eq!(told.lines().count(), 1);
    }

    #[test]
    fn a_library_writes_one_line() {
        let (written, told) = lines(|| {
            for _ in 0..5 {
                tracing::warn!(target: "h2::proto::ping_pong", "recv PING ack");
            }
        });
        assert_eq!(written, 1);
        assert!(told.contains("(and 4 more like this)"), "{told}");
    }

    #[test]
    fn plugins_and_details_are_not_bounded() {
        let (written, told) = lines(|| {
            for _ in 0..100 {
                tracing::warn!(log.target = "shortlink", "a plugin's line");
                tracing::debug!("a detail");
            }
        });
        assert_eq!((written, told.as_str()), (200, ""));
    }

    #[test]
    fn a_quiet_kind_may_write_again() {
        let repeats = Repeats::default();
        let subscriber = tracing_subscriber::registry().with(repeats.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                bound_repeats_of_this_thread();
                tracing::subscriber::with_default(subscriber, || {
                    (0..20).for_each(|_| tracing::warn!("again"));
                });
            });
        });
        assert!(repeats.is_counting());
        let now = Instant::now();
        assert_ne!(repeats.take_report_at(now), "");
        assert!(repeats.is_counting(), "nothing may be written yet");
        assert_eq!(repeats.take_report_at(now + 2 * INTERVAL), "");
        assert!(!repeats.is_counting());
    }
}
