//! Finds calls into plugins that do not return, by checking the marks of all threads many times a second.
//!
//! A hook that blocks or loops keeps its worker, with all connections that the worker has, and cannot be stopped from
//! outside. So the log names it meanwhile, once a minute for each plugin and hook, and again when it has returned; and
//! the caller gets the numbers of the stuck workers, so that new connections go to others. The marks have no time: the
//! watchdog's own clock says since when it has seen a call. The thread runs only if there are plugins.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::callee::Call;
use super::marks::{self, Moment, Role, ThreadState};

/// How often a plugin and hook that do not return are named.
const REPEAT: Duration = Duration::from_secs(60);
/// Bounds of the time between two checks.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
const LONGEST_TICK: Duration = Duration::from_millis(100);

/// How long calls may take before they are named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// On a worker.
    pub(crate) worker: Duration,
    /// On a thread that may block.
    pub(crate) background: Duration,
}

/// Starts checking, until the process ends. `relieve` is called after each check, with the numbers of the workers that
/// are stuck.
pub(crate) fn start(
    patience: Patience,
    workers: usize,
    mut relieve: impl FnMut(&[usize]) + Send + 'static,
) -> io::Result<Watchdog> {
    let watchdog = Watchdog(Arc::new(Mutex::new(patience)));
    let shared = Arc::clone(&watchdog.0);
    let thread = thread::Builder::new().name("watchdog".to_owned());
    thread.spawn(move || {
        let mut watched = Watched::new(patience);
        let (mut seen, mut found, mut stuck) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            watched.patience = *shared.lock().unwrap_or_else(PoisonError::into_inner);
            let tick = watched.patience.worker / 4;
            thread::sleep(tick.clamp(SHORTEST_TICK, LONGEST_TICK));
            marks::read_threads(&mut seen);
            watched.compare(Instant::now(), &seen, &mut found, &mut stuck);
            for finding in found.drain(..) {
                report(&finding, workers);
            }
            relieve(&stuck);
        }
    })?;
    Ok(watchdog)
}

/// The thread that checks.
#[derive(Debug)]
pub(crate) struct Watchdog(Arc<Mutex<Patience>>);

impl Watchdog {
    /// Calls may take so long from the next check on.
    pub(crate) fn set_patience(&self, patience: Patience) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = patience;
    }
}

/// Something to report.
#[derive(Clone, Copy, Debug)]
struct Finding {
    thread: u64,
    under_way: UnderWay,
    after: Duration,
    has_returned: bool,
}

fn report(finding: &Finding, workers: usize) {
    let UnderWay {
        call,
        role,
        moment,
        since,
        ..
    } = finding.under_way;
    let ms = u64::try_from(finding.after.as_millis()).unwrap_or(u64::MAX);
    if !finding.has_returned {
        report_late(call, role, ms, workers);
        marks::report_at_return(finding.thread, moment, since);
    } else if !marks::has_reported_return(finding.thread, moment) {
        marks::report_return(call, role, ms);
    }
}

fn report_late(call: Call, role: Role, ms: u64, workers: usize) {
    let (plugin, hook) = (call.plugin().name(), call.place().name());
    match role {
        Role::Worker(worker) if workers > 1 => tracing::warn!(
            plugin,
            hook,
            worker,
            ms,
            "a plugin call blocks its worker; new connections go to other workers"
        ),
        Role::Worker(worker) => tracing::warn!(
            plugin,
            hook,
            worker,
            ms,
            "a plugin call blocks the only worker; no client is served until it returns"
        ),
        Role::Background => tracing::warn!(
            plugin,
            hook,
            ms,
            "a blocking task of a plugin occupies its thread for too long"
        ),
    }
}

/// What is known of the calls under way.
struct Watched {
    patience: Patience,
    /// By the thread's number.
    threads: HashMap<u64, UnderWay>,
    /// When a call that did not return was last reported.
    reported: HashMap<Call, Instant>,
}

/// A call, and since when it has been seen.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    role: Role,
    moment: Moment,
    call: Call,
    since: Instant,
    is_reported: bool,
}

impl Watched {
    fn new(patience: Patience) -> Self {
        Self {
            patience,
            threads: HashMap::new(),
            reported: HashMap::new(),
        }
    }

    /// Compares threads with the last check: what is to be reported goes into `found`, the stuck workers into `stuck`.
    fn compare(
        &mut self,
        now: Instant,
        seen: &[ThreadState],
        found: &mut Vec<Finding>,
        stuck: &mut Vec<usize>,
    ) {
        stuck.clear();
        let before = std::mem::take(&mut self.threads);
        for (&thread, under_way) in &before {
            let is_in =
                |seen: &ThreadState| seen.thread == thread && seen.moment == under_way.moment;
            if under_way.is_reported && !seen.iter().any(is_in) {
                found.push(under_way.finding(thread, now, true));
            }
        }
        for seen in seen {
            let Some(call) = seen.moment.call() else {
                continue;
            };
            let known = before.get(&seen.thread);
            let mut under_way = match known.filter(|known| known.moment == seen.moment) {
                Some(known) => *known,
                None => UnderWay {
                    role: seen.role,
                    moment: seen.moment,
                    call,
                    since: now,
                    is_reported: false,
                },
            };
            if self.is_late(&under_way, now) {
                if let Role::Worker(worker) = under_way.role {
                    stuck.push(worker);
                }
                if !under_way.is_reported && self.may_report(call, now) {
                    under_way.is_reported = true;
                    found.push(under_way.finding(seen.thread, now, false));
                }
            }
            self.threads.insert(seen.thread, under_way);
        }
    }

    fn is_late(&self, under_way: &UnderWay, now: Instant) -> bool {
        let patience = match under_way.role {
            Role::Worker(_) => self.patience.worker,
            Role::Background => self.patience.background,
        };
        now.saturating_duration_since(under_way.since) >= patience
    }

    /// Whether it is time to name this call, which counts as done.
    fn may_report(&mut self, call: Call, now: Instant) -> bool {
        let last = self.reported.get(&call);
        let may = last.is_none_or(|last| now.saturating_duration_since(*last) >= REPEAT);
        if may {
            self.reported.insert(call, now);
        }
        may
    }
}

impl UnderWay {
    fn finding(&self, thread: u64, now: Instant, has_returned: bool) -> Finding {
        Finding {
            thread,
            under_way: *self,
            after: now.saturating_duration_since(self.since),
            has_returned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::callee::PluginId;
    use plugin_api::abi::hook::Hook;

    const PATIENCE: Patience = Patience {
        worker: Duration::from_millis(100),
        background: Duration::from_secs(5),
    };

    /// A watchdog whose time the test sets.
    struct Run {
        watched: Watched,
        begin: Instant,
        found: Vec<Finding>,
        stuck: Vec<usize>,
    }

    impl Run {
        fn new() -> Self {
            Self {
                watched: Watched::new(PATIENCE),
                begin: Instant::now(),
                found: Vec::new(),
                stuck: Vec::new(),
            }
        }

        /// What a check after so many milliseconds reports, as milliseconds and whether the call has returned.
        fn check(&mut self, at: u64, seen: &[ThreadState]) -> Vec<(u128, bool)> {
            let now = self.begin + Duration::from_millis(at);
            self.watched
                .compare(now, seen, &mut self.found, &mut self.stuck);
            let found = self.found.drain(..);
            found
                .map(|finding| (finding.after.as_millis(), finding.has_returned))
                .collect()
        }
    }

    fn call(name: &str) -> Call {
        Call::new(
            PluginId::of("libwatched.so", name),
            Hook::HandleClientRequest,
        )
    }

    fn seen(role: Role, call: Option<Call>, count: u32) -> ThreadState {
        ThreadState {
            thread: match role {
                Role::Worker(number) => number as u64,
                Role::Background => 100,
            },
            role,
            moment: Moment::for_test(call, count),
        }
    }

    #[test]
    fn a_call_that_does_not_return_is_reported_and_so_is_its_end() {
        let worker = Role::Worker(1);
        let mut run = Run::new();
        assert_eq!(run.check(0, &[seen(worker, Some(call("A")), 7)]), []);
        assert_eq!(run.check(99, &[seen(worker, Some(call("A")), 7)]), []);
        assert!(run.stuck.is_empty(), "{:?}", run.stuck);
        assert_eq!(
            run.check(100, &[seen(worker, Some(call("A")), 7)]),
            [(100, false)]
        );
        assert_eq!(run.stuck, [1]);
        assert_eq!(run.check(500, &[seen(worker, Some(call("A")), 7)]), []);
        assert_eq!(run.stuck, [1]);
        assert_eq!(run.check(700, &[seen(worker, None, 8)]), [(700, true)]);
        assert!(run.stuck.is_empty(), "{:?}", run.stuck);
        assert_eq!(run.check(800, &[seen(worker, None, 8)]), []);
    }

    #[test]
    fn many_short_calls_are_no_long_one() {
        let mut run = Run::new();
        for count in 0..100 {
            let at = u64::from(count) * 20;
            assert_eq!(
                run.check(at, &[seen(Role::Worker(0), Some(call("B")), count)]),
                []
            );
            assert!(run.stuck.is_empty(), "{:?}", run.stuck);
        }
    }

    #[test]
    fn a_pair_is_reported_once_a_minute_and_every_worker_counts_as_stuck() {
        let (one, other) = (Role::Worker(0), Role::Worker(1));
        let both = |count| [one, other].map(|role| seen(role, Some(call("C")), count));
        let mut run = Run::new();
        run.check(0, &both(1));
        assert_eq!(run.check(200, &both(1)), [(200, false)]);
        assert_eq!(run.stuck, [0, 1]);
        // The end of the one that was reported.
        assert_eq!(run.check(300, &both(2)).len(), 1);
        assert_eq!(run.check(30_000, &both(2)), []);
        assert_eq!(run.stuck, [0, 1]);
        assert_eq!(run.check(60_200, &both(2)).len(), 1);
        // Another plugin is another pair.
        run.check(60_300, &[seen(one, Some(call("D")), 3)]);
        assert_eq!(
            run.check(60_400, &[seen(one, Some(call("D")), 3)]),
            [(100, false)]
        );
    }

    #[test]
    fn a_thread_that_may_block_has_more_time_and_is_no_worker() {
        let mut run = Run::new();
        let job = [seen(Role::Background, Some(call("E")), 1)];
        run.check(0, &job);
        assert_eq!(run.check(4999, &job), []);
        assert_eq!(run.check(5000, &job), [(5000, false)]);
        assert!(run.stuck.is_empty(), "{:?}", run.stuck);
        // A thread that has ended has returned.
        assert_eq!(run.check(6000, &[]), [(6000, true)]);
    }
}
