//! Limits repeated lines, so that no peer can flood the log.
//!
//! The limit applies to each source location. Each may write a burst of a few lines and then one a second; suppressed
//! lines are counted, and reported once a second: `… (and 8123 more like this)`. Plugins log single messages on
//! purpose, so each source location in a plugin may write [`Rate::PLUGINS`]. This applies to warnings, errors and INFO
//! lines of the threads that serve peers, see [`limit_repeats_of_this_thread`]. Access log lines and levels below INFO
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

use super::line::{Entry, Layout, LineLevel};

/// The rate at which the lines of a location are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    /// The size of a burst.
    at_once: u32,
    /// Lines per second after a burst.
    per_second: u32,
}

impl Rate {
    const OURS: Self = Self {
        at_once: 10,
        per_second: 1,
    };
    /// Libraries may log a line for every frame of a peer.
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

/// The maximum number of locations in plugins that are counted separately; further ones share a limit.
const MAX_LOCATIONS: usize = 4096;
/// How often suppressed lines are reported.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    static IS_BOUNDED: Cell<bool> = const { Cell::new(false) };
}

/// From now on, lines of this thread are limited, because peers can cause them.
pub(crate) fn limit_repeats_of_this_thread() {
    IS_BOUNDED.set(true);
}

/// The rate limit of each location. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Repeats(Arc<SharedRates>);

#[derive(Default)]
struct SharedRates {
    locations: Mutex<HashMap<Location, RateState>>,
    /// Some location may have reached its limit, so that there may be something to report.
    is_counting: AtomicBool,
}

/// Identifies a location: in the host, and in a plugin, because lines of all plugins come from the same location in the
/// host.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Location(Identifier, Option<PluginLocation>);

/// The location of a line in a plugin.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct PluginLocation {
    target: String,
    line: u64,
}

struct RateState {
    metadata: &'static Metadata<'static>,
    rate: Rate,
    message: String,
    /// The number of lines that may still be written, as of `refilled_at`.
    left: u32,
    refilled_at: Instant,
    left_out: u64,
}

impl RateState {
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
    /// Whether there may be something to report after the next [`INTERVAL`].
    pub(super) fn is_counting(&self) -> bool {
        self.0.is_counting.load(Ordering::Acquire)
    }

    /// One line for each location with suppressed lines since the last call.
    pub(super) fn take_report(&self, layout: &Layout) -> String {
        self.take_report_at(Instant::now(), layout)
    }

    fn take_report_at(&self, now: Instant, layout: &Layout) -> String {
        let mut lines = String::new();
        let mut locations = self.locations();
        let mut is_counting = false;
        for (Location(_, place), location) in locations.iter_mut() {
            let left_out = std::mem::take(&mut location.left_out);
            if left_out > 0 {
                // Writing to a String cannot fail.
                let _ = write_report(&mut lines, location, place.as_ref(), left_out, layout);
            }
            location.refill(now);
            is_counting |= location.left == 0;
        }
        self.0.is_counting.store(is_counting, Ordering::Release);
        lines
    }

    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        let mut place = is_of_plugin(metadata).then(PluginLocation::default);
        if let Some(place) = &mut place {
            event.record(place);
        }
        let mut locations = self.locations();
        let mut id = Location(metadata.callsite(), place);
        if id.1.is_some() && locations.len() >= MAX_LOCATIONS && !locations.contains_key(&id) {
            id.1 = Some(PluginLocation::default());
        }
        let location = locations
            .entry(id)
            .or_insert_with(|| RateState::new(metadata, now));
        location.refill(now);
        let Some(left) = location.left.checked_sub(1) else {
            location.left_out += 1;
            return false;
        };
        location.left = left;
        if left == 0 {
            location.message.clear();
            event.record(&mut MessageText(&mut location.message));
            self.0.is_counting.store(true, Ordering::Release);
        }
        true
    }

    /// The data is consistent whenever the lock is released.
    fn locations(&self) -> MutexGuard<'_, HashMap<Location, RateState>> {
        self.0
            .locations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeats").finish_non_exhaustive()
    }
}

/// Whether the location is limited, which is so if peers can cause its lines.
fn is_bounded(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && IS_BOUNDED.get()
}

/// Whether the fields of the line give a location in a plugin.
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
    location: &RateState,
    place: Option<&PluginLocation>,
    left_out: u64,
    layout: &Layout,
) -> fmt::Result {
    let metadata = location.metadata;
    let own_path = metadata.module_path().unwrap_or(metadata.target());
    let own_line = u64::from(metadata.line().unwrap_or(0));
    let entry = Entry {
        level: LineLevel::of(metadata.level()),
        path: place.map_or(own_path, |place| &place.target),
        file: metadata
            .file()
            .filter(|_| place.is_none())
            .unwrap_or_default(),
        line: place.map_or(own_line, |place| place.line),
        message: &format!("{} (and {left_out} more like this)", location.message),
        fields: "",
    };
    entry.write(layout, lines)
}

impl Visit for PluginLocation {
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

/// Collects the message of an event, without its fields.
struct MessageText<'a>(&'a mut String);

impl Visit for MessageText<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    /// Counts the events that pass.
    #[derive(Clone, Default)]
    struct EventCounter(Arc<std::sync::atomic::AtomicUsize>);

    impl<S: Subscriber> Layer<S> for EventCounter {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of lines written when `speak` runs on a thread that serves peers, and the report about the rest.
    fn lines(speak: impl FnOnce() + Send) -> (usize, String) {
        let (repeats, count) = (Repeats::default(), EventCounter::default());
        let subscriber = tracing_subscriber::registry()
            .with(repeats.clone())
            .with(count.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                limit_repeats_of_this_thread();
                tracing::subscriber::with_default(subscriber, speak);
            });
        });
        let now = Instant::now() + INTERVAL;
        (
            count.0.load(Ordering::Relaxed),
            repeats.take_report_at(now, &Layout::default()),
        )
    }

    #[test]
    fn a_place_writes_a_few_lines_and_the_rest_is_counted() {
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
    fn debug_lines_are_not_limited() {
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
    fn a_quiet_place_may_write_again() {
        let repeats = Repeats::default();
        let subscriber = tracing_subscriber::registry().with(repeats.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                limit_repeats_of_this_thread();
                tracing::subscriber::with_default(subscriber, || {
                    (0..20).for_each(|_| tracing::warn!("again"));
                });
            });
        });
        assert!(repeats.is_counting());
        let now = Instant::now();
        assert_ne!(repeats.take_report_at(now, &Layout::default()), "");
        assert!(repeats.is_counting(), "nothing may be written yet");
        assert_eq!(
            repeats.take_report_at(now + 2 * INTERVAL, &Layout::default()),
            ""
        );
        assert!(!repeats.is_counting());
    }
}
