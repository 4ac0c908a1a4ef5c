//! How a worker takes connections that others have accepted: workers that have more, and the watchdog for a worker that is
//! stuck in a plugin.

use std::rc::Rc;

use tokio::sync::watch;

use super::{ShutdownStage, Worker};
use crate::balance::Counted;
use crate::generation::Current;
use crate::handover::Handover;
use crate::listener::{Accepted, ListenerId};

impl Worker {
    /// Serves connections of stuck workers, and those that other workers give to this one.
    pub(super) async fn take_over(
        self: Rc<Self>,
        handover: &Handover,
        number: usize,
        mut stage: watch::Receiver<ShutdownStage>,
    ) {
        loop {
            let (accepted, counted) = tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage > ShutdownStage::Serving) => return,
                accepted = handover.next(number) => accepted,
            };
            self.take(accepted, counted);
            // One at a time, so that other workers get some.
            tokio::task::yield_now().await;
        }
    }

    /// Serves the connections that wait for this worker; none are added any more.
    pub(super) fn take_remaining(&self) {
        let Some((handover, _)) = &self.others else {
            return;
        };
        while let Some((accepted, counted)) = handover.take(self.number) {
            self.take(accepted, counted);
        }
    }

    /// From now on, only workers that use this generation give connections to this one, as they have the same listeners.
    /// Serves what was given before.
    pub(super) fn take_given(&self, generation: u64) {
        let Some((handover, _)) = &self.others else {
            return;
        };
        for (accepted, counted) in handover.switch(self.number, generation) {
            self.take(accepted, Some(counted));
        }
    }

    /// Serves a connection that another worker has accepted, or the watchdog.
    fn take(&self, accepted: Accepted, counted: Option<Counted>) {
        // None if the listener was removed meanwhile.
        if let Some(current) = self.current_of(accepted.listener) {
            self.adopt(accepted, &current, counted);
        }
    }

    /// The current generation of a listener's connections; `None` if the listener was removed.
    fn current_of(&self, listener: ListenerId) -> Option<Rc<Current>> {
        let listeners = self.listeners.borrow();
        let mut open = listeners.iter();
        let found = open.find(|open| open.id == listener)?;
        Some(Rc::clone(&found.current))
    }
}
