//! How a worker drains: it closes its listeners and waits for its connections to end.

use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::{ShutdownStage, Worker};
use crate::in_flight::{KindCounts, OpenExchange};
use crate::worker_context::AbortReason;

/// The number of long exchanges that a draining worker names.
pub(crate) const MAX_NAMED: usize = 10;

/// How often a draining worker looks whether everything has ended.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// The number of such steps between two reports.
const STEPS_PER_REPORT: u32 = 25;

/// What a draining worker has in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DrainReport {
    /// The number of the worker.
    pub(crate) worker: usize,
    pub(crate) in_flight: KindCounts,
    /// In its first report, the oldest exchanges that end only if a peer ends them, at most [`MAX_NAMED`].
    pub(crate) oldest: Option<Vec<OpenExchange>>,
}

impl Worker {
    /// Waits for the order to drain, and then for the connections to end, or for the order to abort them.
    pub(super) async fn drained(
        &self,
        mut stage: watch::Receiver<ShutdownStage>,
        reports: UnboundedSender<DrainReport>,
    ) {
        // An error means that the server has ended, which is an order too.
        let _ = stage
            .wait_for(|stage| *stage > ShutdownStage::Serving)
            .await;
        self.take_remaining();
        self.close_listeners();
        let oldest = self.context.in_flight.oldest(MAX_NAMED);
        self.report_in_flight(&reports, Some(oldest));
        self.context.drain();
        self.learned.pool().clear();
        let mut later = stage.clone();
        let closing_idle = async {
            let _ = later
                .wait_for(|stage| *stage >= ShutdownStage::Draining)
                .await;
            self.context.close_idle();
            pending().await
        };
        let ended = async {
            let mut steps = 0;
            while self.context.connections() > 0 {
                // What remains after some time, such as tunnels, is not woken in vain all the time.
                if steps < STEPS_PER_REPORT || steps % STEPS_PER_REPORT == 0 {
                    self.context.deadlines.wake_all();
                }
                tokio::time::sleep(DRAIN_STEP).await;
                steps += 1;
                if steps % STEPS_PER_REPORT == 0 {
                    self.report_in_flight(&reports, None);
                }
            }
            self.report_in_flight(&reports, None);
        };
        let has_stopped = tokio::select! {
            biased;
            stopped = stage.wait_for(|stage| *stage >= ShutdownStage::Aborting) => stopped.is_ok(),
            () = closing_idle => false,
            () = ended => false,
        };
        if has_stopped {
            self.context.abort(AbortReason::Shutdown);
        }
    }

    fn report_in_flight(
        &self,
        reports: &UnboundedSender<DrainReport>,
        oldest: Option<Vec<OpenExchange>>,
    ) {
        // The server may have ended.
        let _ = reports.send(DrainReport {
            worker: self.number,
            in_flight: self.context.in_flight.open(),
            oldest,
        });
    }
}
