//! The drain: workers finish what is in flight, within a limit; the rest is cut off, each exchange with its access line.
//!
//! Tunnels, WebSockets and event streams have no end of their own, so the log names the oldest of them at the start.
//! Workers report what they have in flight; while the drain lasts, the log shows how much is left, and at its end what
//! finished and what was cut off. A worker that is stuck in a plugin reports nothing.

use std::io;
use std::time::Duration;

use tokio::sync::{mpsc::UnboundedReceiver, watch};
use tokio::time::{self, Instant};

use super::notify::Notifier;
use super::requests::Requests;
use crate::in_flight::{KindCounts, OpenExchange};
use crate::worker::{DrainReport, MAX_NAMED, ShutdownStage};
use crate::worker_context::Tally;

/// How long workers may take to abort the remaining exchanges.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(1);

/// How long to wait until all workers have reported. One that is stuck in a plugin does not.
const REPORT_LIMIT: Duration = Duration::from_millis(200);

/// How often the log shows what is left; four times in a short drain.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The result of draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    Complete,
    /// Remaining exchanges were aborted.
    Aborted,
    /// A worker has not ended.
    Stuck,
}

/// Why the drain is over before everything has ended.
enum CutShort {
    SecondRequest(&'static str),
    Timeout,
}

/// Workers that drain.
pub(super) struct Drain<'a> {
    /// Receives the end of each worker.
    endings: &'a mut UnboundedReceiver<io::Result<Tally>>,
    reports: &'a mut UnboundedReceiver<DrainReport>,
    /// The number of workers that have not ended.
    running: &'a mut usize,
    /// What each worker has in flight, by its number.
    in_flight: Vec<KindCounts>,
    tally: Tally,
    notifier: &'a Notifier,
}

impl<'a> Drain<'a> {
    pub(super) fn new(
        workers: usize,
        running: &'a mut usize,
        endings: &'a mut UnboundedReceiver<io::Result<Tally>>,
        reports: &'a mut UnboundedReceiver<DrainReport>,
        notifier: &'a Notifier,
    ) -> Self {
        Self {
            endings,
            reports,
            running,
            in_flight: vec![KindCounts::default(); workers],
            tally: Tally::default(),
            notifier,
        }
    }

    /// Waits until everything has ended, for at most `limit`, then tells the workers to cut off the rest. They have been
    /// told to drain.
    pub(super) async fn run(
        mut self,
        limit: Duration,
        requests: &mut Requests,
        stage: &watch::Sender<ShutdownStage>,
    ) -> Drained {
        let began_at = Instant::now();
        let cut_short = tokio::select! {
            () = self.all_ended(limit) => None,
            name = end_at_once(requests, stage) => Some(CutShort::SecondRequest(name)),
            () = time::sleep(limit) => Some(CutShort::Timeout),
        };
        let Some(reason) = cut_short else {
            self.report_end(began_at.elapsed());
            return Drained::Complete;
        };
        match reason {
            CutShort::SecondRequest(name) => {
                tracing::warn!("second {name}: aborting open exchanges");
            }
            CutShort::Timeout if limit.is_zero() => {}
            CutShort::Timeout => {
                let left = self.left();
                tracing::warn!("drain_timeout ({limit:?}) is over: aborting {left}");
            }
        }
        stage.send_replace(ShutdownStage::Aborting);
        let is_stopped = time::timeout(STOP_LIMIT, self.ended()).await.is_ok();
        self.report_end(began_at.elapsed());
        if is_stopped {
            return Drained::Aborted;
        }
        tracing::warn!(
            "{} workers did not stop within {STOP_LIMIT:?}: their open exchanges are not logged",
            self.running
        );
        Drained::Stuck
    }

    /// Waits for all workers to end, and reports the progress. Cancel safe.
    async fn all_ended(&mut self, limit: Duration) {
        let ends_at = Instant::now() + limit;
        if limit.is_zero() {
            return self.ended().await;
        }
        let oldest = self.first_reports().await;
        let left = self.left();
        if left.total() > 0 {
            tracing::info!("Draining for at most {limit:?}: {left}");
            self.show(left);
            name(&oldest, left);
        }
        let interval = (limit / 4).clamp(MIN_PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        let mut progress = time::interval_at(Instant::now() + interval, interval);
        loop {
            tokio::select! {
                biased;
                () = self.ended() => return,
                _ = progress.tick() => {
                    let rest = ends_at.saturating_duration_since(Instant::now()).as_secs_f32();
                    let left = self.left();
                    tracing::info!("Draining for at most {rest:.1} s more: {left} left");
                    self.show(left);
                }
            }
        }
    }

    /// Waits for the first report of each worker, and returns the oldest of the long exchanges. Cancel safe.
    async fn first_reports(&mut self) -> Vec<OpenExchange> {
        let mut oldest = Vec::new();
        let mut missing = *self.running;
        let collected = async {
            while missing > 0
                && let Some(report) = self.reports.recv().await
            {
                missing -= usize::from(report.oldest.is_some());
                oldest.extend(self.note(report).unwrap_or_default());
            }
        };
        // Of a stuck worker, the report may be missing.
        let _ = time::timeout(REPORT_LIMIT, collected).await;
        oldest.sort_by_key(|exchange: &OpenExchange| std::cmp::Reverse(exchange.age));
        oldest.truncate(MAX_NAMED);
        oldest
    }

    /// Waits for all workers to end; notes what they report meanwhile. Cancel safe.
    async fn ended(&mut self) {
        while *self.running > 0 {
            tokio::select! {
                Some(report) = self.reports.recv() => drop(self.note(report)),
                Some(ending) = self.endings.recv() => {
                    *self.running -= 1;
                    self.tally += ending.unwrap_or_default();
                }
                else => return,
            }
        }
    }

    fn note(&mut self, report: DrainReport) -> Option<Vec<OpenExchange>> {
        if let Some(in_flight) = self.in_flight.get_mut(report.worker) {
            *in_flight = report.in_flight;
        }
        report.oldest
    }

    /// What all workers have in flight, as far as they have reported it.
    fn left(&self) -> KindCounts {
        let mut left = KindCounts::default();
        self.in_flight.iter().for_each(|counts| left += *counts);
        left
    }

    fn show(&self, left: KindCounts) {
        self.notifier.status(&format!("Draining: {left} left"));
    }

    fn report_end(&self, elapsed: Duration) {
        let Tally {
            finished,
            cut_off,
            connections,
        } = self.tally;
        let seconds = elapsed.as_secs_f32();
        if cut_off.total() > 0 {
            tracing::warn!(
                "Drained in {seconds:.1} s: {finished} finished; {cut_off} cut off, {connections} client connections closed"
            );
        } else if finished.total() > 0 {
            tracing::info!("Drained in {seconds:.1} s: {finished} finished");
        } else {
            tracing::info!("Drained in {seconds:.1} s: nothing was in flight");
        }
    }
}

/// Waits for the request to abort what is open, and returns its name. The drain of a replaced process was not requested
/// from this process, so the first request only makes it close its idle connections. Cancel safe.
async fn end_at_once(
    requests: &mut Requests,
    stage: &watch::Sender<ShutdownStage>,
) -> &'static str {
    loop {
        let name = requests.next_end().await;
        let is_first = stage.send_if_modified(|stage| {
            let is_first = *stage == ShutdownStage::Retiring;
            if is_first {
                *stage = ShutdownStage::Draining;
            }
            is_first
        });
        if !is_first {
            return name;
        }
        tracing::info!("{name}: closing idle connections; a second one aborts open exchanges");
    }
}

/// Names exchanges that have no end of their own. `left`: everything in flight.
fn name(oldest: &[OpenExchange], left: KindCounts) {
    for exchange in oldest {
        tracing::info!("Still open: {exchange}");
    }
    let unnamed = left.long().saturating_sub(oldest.len());
    if unnamed > 0 {
        tracing::info!("Still open: {unnamed} more tunnels, WebSockets and event streams");
    }
}
