//! The phases of an exchange's time.

use plugin_api::{Summary, Timeline};
use std::time::Duration;

/// Consecutive phases, which together are the whole time. A phase that did not happen took none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spans {
    /// Reading the request head, plugins before connecting, and waiting for a connection.
    pub(crate) blocked: Duration,
    /// Resolving the name; none if this exchange did not resolve it.
    pub(crate) dns: Option<Duration>,
    /// Connecting, including TLS; none on a reused connection.
    pub(crate) connect: Option<Duration>,
    /// The part of `connect` for TLS.
    pub(crate) ssl: Option<Duration>,
    /// Sending the request.
    pub(crate) send: Duration,
    /// Waiting for the first byte of the response.
    pub(crate) wait: Duration,
    /// Receiving the response.
    pub(crate) receive: Duration,
}

impl Spans {
    pub(crate) fn of(summary: Summary<'_>) -> Self {
        match summary.timeline() {
            Some(timeline) => Self::between(Moments::of(timeline), summary.duration()),
            None => Self {
                wait: summary.duration(),
                ..Self::default()
            },
        }
    }

    /// The sum; `ssl` is a part of `connect`.
    pub(crate) fn total(&self) -> Duration {
        let optional = [self.dns, self.connect].into_iter().flatten();
        let others = [self.blocked, self.send, self.wait, self.receive];
        optional.chain(others).sum()
    }

    fn between(moments: Moments, end: Duration) -> Self {
        let mut clock = PhaseClock {
            now: Duration::ZERO,
            end,
        };
        let begun = moments.dial_begun.or(moments.decided);
        // A plugin that resolves the name does so earlier.
        let resolved = moments.resolved.filter(|at| Some(*at) > begun);
        let connected = moments.secured.or(moments.connected);
        let blocked = clock.advance(begun).unwrap_or_default();
        let dns = clock.advance(resolved);
        let before_tls = moments.connected.map_or(clock.now, |at| at.max(clock.now));
        let connect = clock.advance(connected);
        Self {
            blocked,
            dns,
            connect,
            ssl: moments
                .secured
                .map(|_| clock.now.saturating_sub(before_tls)),
            send: clock.advance(moments.sent).unwrap_or_default(),
            wait: match moments.answer_begun {
                Some(_) => clock.advance(moments.answer_begun).unwrap_or_default(),
                None => clock.advance(Some(end)).unwrap_or_default(),
            },
            receive: clock.advance(Some(end)).unwrap_or_default(),
        }
    }
}

/// The boundaries of the phases.
#[derive(Default, Clone, Copy)]
struct Moments {
    decided: Option<Duration>,
    dial_begun: Option<Duration>,
    resolved: Option<Duration>,
    connected: Option<Duration>,
    secured: Option<Duration>,
    sent: Option<Duration>,
    answer_begun: Option<Duration>,
}

impl Moments {
    fn of(timeline: Timeline<'_>) -> Self {
        Self {
            decided: timeline.decided(),
            dial_begun: timeline.dial_begun(),
            resolved: timeline.resolved(),
            connected: timeline.connected(),
            secured: timeline.secured(),
            sent: timeline.sent(),
            answer_begun: timeline.answer_begun(),
        }
    }
}

/// Only moves forward.
struct PhaseClock {
    now: Duration,
    end: Duration,
}

impl PhaseClock {
    /// Moves on to `to`, and returns the duration.
    fn advance(&mut self, to: Option<Duration>) -> Option<Duration> {
        let to = to?.clamp(self.now, self.end.max(self.now));
        Some(to - std::mem::replace(&mut self.now, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    fn spans(moments: Moments) -> Spans {
        Spans::between(moments, Duration::from_millis(100))
    }

    #[test]
    fn a_new_connection_has_all_spans() {
        let spans = spans(Moments {
            decided: at(1),
            dial_begun: at(3),
            resolved: at(10),
            connected: at(30),
            secured: at(60),
            sent: at(61),
            answer_begun: at(90),
        });
        assert_eq!(Some(spans.blocked), at(3));
        assert_eq!(
            [spans.dns, spans.connect, spans.ssl],
            [at(7), at(50), at(30)]
        );
        let rest = [spans.send, spans.wait, spans.receive];
        assert_eq!(rest.map(Some), [at(1), at(29), at(10)]);
    }

    #[test]
    fn a_kept_connection_has_no_connecting() {
        let spans = spans(Moments {
            decided: at(5),
            sent: at(6),
            answer_begun: at(40),
            ..Moments::default()
        });
        assert_eq!([spans.dns, spans.connect, spans.ssl], [None; 3]);
        let rest = [spans.blocked, spans.send, spans.wait, spans.receive];
        assert_eq!(rest.map(Some), [at(5), at(1), at(34), at(60)]);
    }

    #[test]
    fn an_answer_before_the_end_of_the_request_makes_no_span_negative() {
        let spans = spans(Moments {
            decided: at(1),
            sent: at(80),
            answer_begun: at(20),
            ..Moments::default()
        });
        let all = [spans.blocked, spans.send, spans.wait, spans.receive];
        assert_eq!(all.map(Some), [at(1), at(79), at(0), at(20)]);
    }

    #[test]
    fn without_a_response_the_rest_is_wait() {
        assert_eq!(Some(spans(Moments::default()).wait), at(100));
    }
}
