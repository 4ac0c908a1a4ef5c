//! Limits repeated lines, so that no peer can flood the log.
//!
//! The limit applies to each source location. Each may write a burst of a few lines and then one a second; suppressed
//! lines are counted, and reported once a second: `… (and 8123 more like this)`. Plugins log single messages on
//! purpose, so each source location in a plugin may write [`Rate::PLUGINS`]. This applies to warnings, errors and INFO
//! lines of the threads that serve peers, see [`bound_repeats_of_this_thread`]. Access log lines and levels below INFO
//! are not limited.

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

/// How many lines of one kind are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    /// Lines that may follow each other at once.
    at_once: u32,
    /// Lines a second, past that.
    per_second: u32,
}

impl Rate {
    const OURS: Self = Self {
        at_once: 10,
        per_second: 1,
    };
    /// Libraries write such lines for single frames of a peer.
    const LIBRARIES: Self = Self {
        at_once: 1,
        per_second: 1,
    };
    const PLUGINS: Self = Self {
        at_once: 1000,
        per_second: 100,
    };

    fn of(metadata: &Metadata<'_>) -> Self {
        if is_of_plugin(metadata) {
            Self::PLUGINS
        } else if metadata.target().starts_with("proxy") {
            Self::OURS
        } else {
            Self::LIBRARIES
        }
    }
}

/// The most places in plugins that are told apart; the lines of further ones count together.
const MAX_KINDS: usize = 4096;
/// How often what was left out is reported.
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
    kinds: Mutex<HashMap<KindId, Kind>>,
    /// Some kind may write nothing more at present, so that there may be something to tell.
    is_counting: AtomicBool,
}

/// What tells one kind from another: the place in our code, and that in a plugin, whose lines all pass one of ours.
#[derive(Clone, PartialEq, Eq, Hash)]
struct KindId(Identifier, Option<PluginPlace>);

/// Where a line was written in a plugin.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct PluginPlace {
    target: String,
    line: u64,
}

struct Kind {
    metadata: &'static Metadata<'static>,
    rate: Rate,
    message: String,
    /// Lines that may still be written, as of `refilled_at`.
    left: u32,
    refilled_at: Instant,
    left_out: u64,
}

impl Kind {
    fn new(metadata: &'static Metadata<'static>, now: Instant) -> Self {
        let rate = Rate::of(metadata);
        Self {
            metadata,
            rate,
            message: String::new(),
            left: rate.at_once,
            refilled_at: now,
            left_out: 0,
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled_at);
        let seconds = u32::try_from(passed.as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            let more = seconds.saturating_mul(self.rate.per_second);
            self.left = self.left.saturating_add(more).min(self.rate.at_once);
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
        for (KindId(_, place), kind) in kinds.iter_mut() {
            let left_out = std::mem::take(&mut kind.left_out);
            if left_out > 0 {
                // Writing to a String cannot fail.
                let _ = write_report(&mut lines, kind, place.as_ref(), left_out);
            }
            kind.refill(now);
            is_counting |= kind.left == 0;
        }
        self.0.is_counting.store(is_counting, Ordering::Release);
        lines
    }

    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        let mut place = is_of_plugin(metadata).then(PluginPlace::default);
        if let Some(place) = &mut place {
            event.record(place);
        }
        let mut kinds = self.kinds();
        let mut id = KindId(metadata.callsite(), place);
        if id.1.is_some() && kinds.len() >= MAX_KINDS && !kinds.contains_key(&id) {
            id.1 = Some(PluginPlace::default());
        }
        let kind = kinds.entry(id).or_insert_with(|| Kind::new(metadata, now));
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
    fn kinds(&self) -> MutexGuard<'_, HashMap<KindId, Kind>> {
        self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeats").finish_non_exhaustive()
    }
}

/// Whether lines of this kind are bounded: none that peers cannot cause.
fn is_bounded(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && IS_BOUNDED.get()
}

/// Whether the place of such a line is in a plugin, and given by its fields.
fn is_of_plugin(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field("log.target").is_some()
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        !is_bounded(event.metadata()) || self.admits(event, Instant::now())
    }
}

fn write_report(
    lines: &mut String,
    kind: &Kind,
    place: Option<&PluginPlace>,
    left_out: u64,
) -> fmt::Result {
    let metadata = kind.metadata;
    let (path, line) = match place {
        Some(place) => (place.target.as_str(), place.line),
        None => {
            let path = metadata.module_path().unwrap_or(metadata.target());
            (path, metadata.line().unwrap_or(0).into())
        }
    };
    let module = path.rsplit("::").next().unwrap_or(path);
    write_prefix(lines, level_word(metadata.level()))?;
    write!(Escaped(lines), "{module}:{line} - ")?;
    writeln!(lines, "{} (and {left_out} more like this)", kind.message)
}

impl Visit for PluginPlace {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            value.clone_into(&mut self.target);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.line = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
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
        assert_eq!(written, Rate::OURS.at_once as usize + 1);
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
    fn details_are_not_bounded() {
        let (written, told) = lines(|| {
            for _ in 0..100 {
                tracing::debug!("a detail");
            }
        });
        assert_eq!((written, told.as_str()), (100, ""));
    }

    #[test]
    fn each_place_in_a_plugin_writes_many_lines_and_not_all() {
        let at_once = Rate::PLUGINS.at_once;
        let write = |line: u32, times: u32| {
            for _ in 0..times {
                let (target, message) = ("some::chat", "a message");
                tracing::info!(log.target = target, log.line = line, "{message}");
            }
        };
        let (written, told) = lines(|| {
            write(7, at_once + 30);
            write(8, at_once);
        });
        assert_eq!(written, 2 * at_once as usize);
        assert!(
            told.ends_with(" - chat:7 - a message (and 30 more like this)\n"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1);
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
