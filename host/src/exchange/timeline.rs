//! The moments of an exchange.
//!
//! The time of the first byte is always recorded, and that of the end if it is reported. The moments between are for
//! plugins and subscribers that observe the end; without them, no clock is read.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use plugin_api::abi::TimelineView;

use crate::upstream::DialTimings;

/// A moment of an exchange, in the usual order. The answer may begin before the request has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The request's head is here.
    HeadRead,
    /// Plugins have let the request pass, with its content if one needs it whole.
    Decided,
    /// A new connection to the upstream, or to its parent proxy, was begun.
    DialBegun,
    /// The name was resolved, by a plugin or for the new connection.
    Resolved,
    /// The new connection was established.
    Connected,
    /// The TLS handshake on the new connection was complete.
    Secured,
    /// The request was sent whole.
    Sent,
    /// The first byte of the final answer is here.
    AnswerBegun,
}

const MOMENTS: usize = Moment::AnswerBegun as usize + 1;

/// The moments of one exchange; a clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    began_at: Instant,
    /// None if nothing reads it.
    noted: Option<Rc<Noted>>,
}

/// The recorded moments, in microseconds since the first byte.
#[derive(Debug)]
struct Noted {
    moments: [Cell<u64>; MOMENTS],
    is_reused: Cell<bool>,
}

impl Timeline {
    /// `began_at` is when the request's first byte arrived, or its turn came behind another request.
    pub(super) fn new(began_at: Instant, is_read: bool) -> Self {
        let noted = || {
            Rc::new(Noted {
                moments: std::array::from_fn(|_| Cell::new(TimelineView::NEVER)),
                is_reused: Cell::new(false),
            })
        };
        Self {
            began_at,
            noted: is_read.then(noted),
        }
    }

    /// When the exchange began.
    pub(super) fn began_at(&self) -> Instant {
        self.began_at
    }

    /// How long the exchange has lasted.
    pub(super) fn elapsed(&self) -> Duration {
        self.began_at.elapsed()
    }

    /// Records that the moment is now. After a retry, the last time counts.
    pub(super) fn note(&self, moment: Moment) {
        if self.noted.is_some() {
            self.note_at(moment, Some(Instant::now()));
        }
    }

    /// An attempt to connect begins; the moments of an earlier one are discarded.
    pub(super) fn begin_reaching(&self) {
        if let Some(noted) = &self.noted {
            for moment in &noted.moments[Moment::DialBegun as usize..] {
                moment.set(TimelineView::NEVER);
            }
            noted.is_reused.set(false);
        }
    }

    /// A connection was obtained: a new one, with its timings; a reused one; or a stream of one that another exchange has
    /// just made.
    pub(super) fn note_connection(&self, timings: Option<&DialTimings>, is_reused: bool) {
        let Some(noted) = &self.noted else {
            return;
        };
        noted.is_reused.set(is_reused);
        if let Some(timings) = timings {
            self.note_at(Moment::DialBegun, Some(timings.begun_at));
            self.note_at(Moment::Resolved, timings.resolved_at);
            self.note_at(Moment::Connected, Some(timings.connected_at));
            self.note_at(Moment::Secured, timings.secured_at);
        }
    }

    fn note_at(&self, moment: Moment, at: Option<Instant>) {
        if let (Some(noted), Some(at)) = (&self.noted, at) {
            let since = at.saturating_duration_since(self.began_at).as_micros();
            let micros = u64::try_from(since).unwrap_or(TimelineView::NEVER);
            noted.moments[moment as usize].set(micros);
        }
    }

    /// The view for plugins.
    pub(super) fn view(&self) -> TimelineView {
        let Some(noted) = &self.noted else {
            return TimelineView::EMPTY;
        };
        let at = |moment: Moment| noted.moments[moment as usize].get();
        TimelineView {
            head_read: at(Moment::HeadRead),
            decided: at(Moment::Decided),
            dial_begun: at(Moment::DialBegun),
            resolved: at(Moment::Resolved),
            connected: at(Moment::Connected),
            secured: at(Moment::Secured),
            sent: at(Moment::Sent),
            answer_begun: at(Moment::AnswerBegun),
            is_reused: noted.is_reused.get().into(),
            ..TimelineView::EMPTY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: u64 = TimelineView::NEVER;

    fn begun(millis: u64, is_read: bool) -> Timeline {
        Timeline::new(Instant::now() - Duration::from_millis(millis), is_read)
    }

    #[test]
    fn an_exchange_lasts_from_its_first_byte() {
        assert!(begun(5000, false).elapsed() >= Duration::from_millis(5000));
    }

    #[test]
    fn nothing_is_noted_that_nobody_reads() {
        let timeline = begun(1000, false);
        timeline.note(Moment::HeadRead);
        assert_eq!(timeline.view().head_read, NEVER);
    }

    #[test]
    fn moments_count_from_the_first_byte() {
        let timeline = begun(1000, true);
        timeline.note(Moment::HeadRead);
        let view = timeline.view();
        assert!(view.head_read >= 1_000_000 && view.head_read != NEVER);
        assert_eq!([view.decided, view.sent, view.answer_begun], [NEVER; 3]);
    }

    #[test]
    fn a_new_connection_brings_its_timings_and_a_second_try_forgets_them() {
        let timeline = begun(1000, true);
        let at = |millis| timeline.began_at + Duration::from_millis(millis);
        timeline.note(Moment::Decided);
        let timings = DialTimings {
            begun_at: at(10),
            resolved_at: None,
            connected_at: at(30),
            secured_at: Some(at(50)),
        };
        timeline.note_connection(Some(&timings), false);
        let view = timeline.view();
        assert_eq!([view.dial_begun, view.resolved], [10_000, NEVER]);
        assert_eq!([view.connected, view.secured], [30_000, 50_000]);
        timeline.begin_reaching();
        timeline.note_connection(None, true);
        let view = timeline.view();
        assert_eq!([view.dial_begun, view.secured], [NEVER; 2]);
        assert_eq!(view.is_reused, 1);
        assert_ne!(view.decided, NEVER);
    }
}
