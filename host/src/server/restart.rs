//! A worker that panics is run again, and its client connections are lost; the other workers go on.
//!
//! A worker that panics again and again is not: its failure ends the proxy, since a supervisor sees that.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::panics;
use crate::worker::Run;
use crate::worker_context::Cut;

/// The most restarts of one worker within [`WINDOW`]; the next panic within it ends the proxy.
const MAX_RESTARTS: usize = 5;

/// How long a restart counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Runs the worker of that number, again after each panic, until it has drained. `now` is asked after a panic.
///
/// # Errors
/// The worker cannot run, or has panicked too often.
pub(super) fn run_again(
    number: usize,
    mut run: impl FnMut() -> io::Result<Run>,
    now: impl Fn() -> Instant,
) -> io::Result<Cut> {
    let mut restarts = VecDeque::with_capacity(MAX_RESTARTS);
    loop {
        // A panic that `run` does not return is from before there were connections.
        let ended = catch_unwind(AssertUnwindSafe(&mut run))
            .unwrap_or_else(|panic| Ok(Run::Panicked(panic, Cut::default())));
        let (panic, cut) = match ended? {
            Run::Drained(cut) => return Ok(cut),
            Run::Panicked(panic, cut) => (panic, cut),
        };
        let may_restart = may_restart(&mut restarts, now());
        tracing::error!(
            worker = number,
            panic = panics::message(&*panic),
            connections = cut.connections,
            exchanges = cut.exchanges,
            "a worker panicked, its client connections are lost: {}",
            if may_restart {
                "restarting it"
            } else {
                "it panics too often"
            }
        );
        if !may_restart {
            return Err(io::Error::other(format!(
                "worker {number} panicked {} times within {} s",
                MAX_RESTARTS + 1,
                WINDOW.as_secs()
            )));
        }
    }
}

/// Whether one more restart is permitted at that moment; it counts then.
fn may_restart(restarts: &mut VecDeque<Instant>, now: Instant) -> bool {
    restarts.retain(|at| now.saturating_duration_since(*at) < WINDOW);
    let may = restarts.len() < MAX_RESTARTS;
    if may {
        restarts.push_back(now);
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const CUT: Cut = Cut {
        exchanges: 1,
        connections: 2,
    };

    /// How a worker ends that panics so many times, one panic each `interval`, and how often it was run.
    fn panics(times: usize, interval: Duration) -> (io::Result<Cut>, usize) {
        let (runs, clock) = (Cell::new(0), Cell::new(Instant::now()));
        let run = || {
            runs.set(runs.get() + 1);
            clock.set(clock.get() + interval);
            match runs.get() {
                run if run > times => Ok(Run::Drained(CUT)),
                run if run % 2 == 0 => panic!("before it serves"),
                _ => Ok(Run::Panicked(Box::new("boom"), CUT)),
            }
        };
        let ended = run_again(3, run, || clock.get());
        (ended, runs.get())
    }

    #[test]
    fn a_worker_that_panics_is_run_again() {
        let (ended, runs) = panics(5, Duration::from_millis(1));
        assert_eq!((ended.ok(), runs), (Some(CUT), 6));
    }

    #[test]
    fn a_worker_that_panics_too_often_is_given_up() {
        let (ended, runs) = panics(100, Duration::from_secs(11));
        let error = ended.unwrap_err().to_string();
        assert_eq!(error, "worker 3 panicked 6 times within 60 s");
        assert_eq!(runs, 6);
    }

    #[test]
    fn restarts_count_for_a_minute() {
        let (ended, runs) = panics(100, Duration::from_secs(12));
        assert_eq!((ended.ok(), runs), (Some(CUT), 101));
    }

    #[test]
    fn a_worker_that_cannot_run_is_not_run_again() {
        let ended = run_again(0, || Err(io::Error::other("no")), Instant::now);
        assert_eq!(ended.unwrap_err().to_string(), "no");
    }
}
