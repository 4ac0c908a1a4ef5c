//! Limits how long a task runs before other tasks of its worker.
//!
//! A turn is as long as the budget of the task: tokio gives 128 units to each poll and takes one for every read or
//! write of a socket. This does not limit the work between two reads: one read may return thousands of tiny frames or
//! chunks. Code that handles such *steps* uses up the same budget here. A task whose turn has ended is polled again
//! after the other tasks and the sockets. No clock is read.

use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// Steps that cost one unit. A step takes up to a microsecond, so a turn takes up to a millisecond.
const STEPS_PER_UNIT: u32 = 8;

/// Steps that a loop may make before it pays.
const STEPS_AT_ONCE: u32 = 64;

/// Steps that have been made but not paid for.
#[derive(Debug, Default)]
pub(crate) struct Steps(u32);

impl Steps {
    /// Adds steps.
    pub(crate) fn add(&mut self, steps: u32) {
        self.0 = self.0.saturating_add(steps);
    }

    /// Adds the steps for reading messages from this many bytes, however small the messages are.
    pub(crate) fn add_bytes(&mut self, len: usize) {
        self.add(
            u32::try_from(len / 128)
                .unwrap_or(u32::MAX)
                .saturating_add(1),
        );
    }

    /// Whether a loop should pay now.
    pub(crate) fn is_due(&self) -> bool {
        self.0 >= STEPS_AT_ONCE
    }

    /// Ready once all steps are paid for; `Pending` ends the turn, and the task is woken for the next one.
    pub(crate) fn poll_pay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.0 >= STEPS_PER_UNIT {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.0 -= STEPS_PER_UNIT;
        }
        Poll::Ready(())
    }

    /// As [`poll_pay`](Self::poll_pay).
    pub(crate) async fn pay(&mut self) {
        std::future::poll_fn(|cx| self.poll_pay(cx)).await;
    }
}

/// Ends this task's turn: the caller returns `Pending`, and is polled again after the other tasks. A task that wakes
/// itself instead is polled dozens of times before any socket is.
pub(crate) fn end(cx: &mut Context<'_>) {
    let polled = pin!(tokio::task::yield_now()).poll(cx);
    debug_assert!(polled.is_pending());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn a_task_with_many_steps_has_several_turns() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build_local(Default::default())
            .expect("a runtime");
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        runtime.block_on(async move {
            let many_steps = tokio::task::spawn_local(async {
                let mut steps = Steps::default();
                steps.add(10 * 128 * STEPS_PER_UNIT);
                steps.pay().await;
            });
            while !many_steps.is_finished() {
                counted.set(counted.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        assert!(turns.get() >= 10, "{}", turns.get());
    }

    #[test]
    fn few_steps_are_paid_at_once() {
        let mut steps = Steps::default();
        steps.add(STEPS_PER_UNIT - 1);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(steps.poll_pay(&mut cx).is_ready());
        assert!(!steps.is_due());
        steps.add_bytes(128 * STEPS_AT_ONCE as usize);
        assert!(steps.is_due());
    }
}
