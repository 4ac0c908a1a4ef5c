//! Restarts a worker that panics. Its client connections are lost; other workers are not affected.
//!
//! If a worker panics too often, the proxy ends with an error, so that a supervisor notices.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::panics;
use crate::worker::WorkerEnd;
use crate::worker_context::Tally;

/// The maximum number of restarts of one worker within [`WINDOW`]; the next panic ends the proxy.
const MAX_RESTARTS: usize = 5;

/// How long a restart counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Runs a worker until it has drained, and restarts it after each panic. `now` is called after a panic.
///
/// # Errors
/// The worker cannot run, or has panicked too often.
pub(super) fn run_again(
    number: usize,
    mut run: impl FnMut() -> io::Result<WorkerEnd>,
    now: impl Fn() -> Instant,
) -> io::Result<Tally> {
    let mut restarts = VecDeque::with_capacity(MAX_RESTARTS);
    loop {
        // A panic that `run` does not return happened before there were connections.
        let ended = catch_unwind(AssertUnwindSafe(&mut run))
            .unwrap_or_else(|panic| Ok(WorkerEnd::Panicked(panic, Tally::default())));
        let (panic, tally) = match ended? {
            WorkerEnd::Drained(tally) => return Ok(tally),
            WorkerEnd::Panicked(panic, tally) => (panic, tally),
        };
        let may_restart = may_restart(&mut restarts, now());
        tracing::error!(
            worker = number,
            panic = panics::message(&*panic),
            connections = tally.connections,
            exchanges = tally.cut_off.total(),
            "a worker panicked and lost its client connections: {}",
            if may_restart {
                "restarting it"
            } else {
                "shutting down, because it panics too often"
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

/// Whether another restart is allowed at `now`; if so, it is counted.
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

    fn tally() -> Tally {
        Tally {
            connections: 2,
            ..Tally::default()
        }
    }

    /// Runs a worker that panics `times` times, once per `interval`; returns its end and the number of runs.
    fn panics(times: usize, interval: Duration) -> (io::Result<Tally>, usize) {
        let (runs, clock) = (Cell::new(0), Cell::new(Instant::now()));
        let run = || {
            runs.set(runs.get() + 1);
            clock.set(clock.get() + interval);
            match runs.get() {
                run if run > times => Ok(WorkerEnd::Drained(tally())),
                run if run % 2 == 0 => panic!("before it serves"),
                _ => Ok(WorkerEnd::Panicked(Box::new("boom"), tally())),
            }
        };
        let ended = run_again(3, run, || clock.get());
        (ended, runs.get())
    }

    #[test]
    fn a_worker_that_panics_is_restarted() {
        let (ended, runs) = panics(5, Duration::from_millis(1));
        assert_eq!((ended.ok(), runs), (Some(tally()), 6));
    }

    #[test]
    fn a_worker_that_panics_too_often_is_not_restarted() {
        let (ended, runs) = panics(100, Duration::from_secs(11));
        let error = ended.unwrap_err().to_string();
        assert_eq!(error, "worker 3 panicked 6 times within 60 s");
        assert_eq!(runs, 6);
    }

    #[test]
    fn restarts_count_for_a_minute() {
        let (ended, runs) = panics(100, Duration::from_secs(12));
        assert_eq!((ended.ok(), runs), (Some(tally()), 101));
    }

    #[test]
    fn a_worker_that_cannot_run_is_not_restarted() {
        let ended = run_again(0, || Err(io::Error::other("no")), Instant::now);
        assert_eq!(ended.unwrap_err().to_string(), "no");
    }
}
