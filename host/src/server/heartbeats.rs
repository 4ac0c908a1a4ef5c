//! Whether all workers make progress, for the watchdog of a service manager.
//!
//! A worker answers from a task of its runtime, so one that is stuck, in a plugin or anywhere else, does not answer.
//! Without such a watchdog, nobody asks.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{self, Interval, MissedTickBehavior};

use crate::worker::Heartbeat;

/// Asks the workers at regular intervals.
pub(super) struct Heartbeats {
    period: Duration,
    /// Made on the runtime that waits for it.
    interval: Option<Interval>,
    asked: watch::Sender<u64>,
    answers: mpsc::UnboundedReceiver<(usize, u64)>,
    /// The last question that each worker has answered.
    answered: Vec<u64>,
}

impl Heartbeats {
    /// `limit` is how long the watchdog waits; it is asked twice as often. Also returns what each worker needs.
    pub(super) fn new(workers: usize, limit: Duration) -> (Self, Heartbeat) {
        let (asked, questions) = watch::channel(0);
        let (answer, answers) = mpsc::unbounded_channel();
        let heartbeats = Self {
            period: limit / 2,
            interval: None,
            asked,
            answers,
            answered: vec![0; workers],
        };
        (heartbeats, Heartbeat { questions, answer })
    }

    /// Waits for the next moment to ask; returns the workers that have not answered the question before. Cancel safe.
    pub(super) async fn next(&mut self) -> Vec<usize> {
        let interval = self.interval.get_or_insert_with(|| {
            let mut interval = time::interval(self.period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        interval.tick().await;
        while let Ok((worker, number)) = self.answers.try_recv() {
            if let Some(answered) = self.answered.get_mut(worker) {
                *answered = number;
            }
        }
        let last = *self.asked.borrow();
        let stuck = self.answered.iter().enumerate();
        let stuck = stuck.filter(|(_, answered)| **answered < last);
        let stuck = stuck.map(|(worker, _)| worker).collect();
        self.asked.send_modify(|number| *number += 1);
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_answer_is_stuck() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut heartbeats, worker) = Heartbeats::new(2, Duration::from_millis(2));
            assert!(heartbeats.next().await.is_empty(), "nobody was asked");
            let answer = |number| {
                let asked = *worker.questions.borrow();
                worker.answer.send((number, asked)).unwrap();
            };
            answer(0);
            answer(1);
            assert!(heartbeats.next().await.is_empty());
            answer(1);
            assert_eq!(heartbeats.next().await, [0]);
            answer(0);
            answer(1);
            assert!(
                heartbeats.next().await.is_empty(),
                "it makes progress again"
            );
        });
    }
}
