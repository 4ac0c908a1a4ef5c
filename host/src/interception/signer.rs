//! The thread on which certificates are read, signed and written.
//!
//! One for all workers: it does what would hold them up, and its generator of random numbers is seeded once, which
//! costs more than a hundred signatures and would be paid by each of a pool's threads.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use crate::telemetry::bound_repeats_of_this_thread;

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Signer {
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Signer {
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, next) = mpsc::channel::<Job>();
        let work = move || {
            bound_repeats_of_this_thread();
            for job in next {
                // Who waits for it learns by the answer that never comes.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        };
        thread::Builder::new()
            .name("certificates".to_owned())
            .spawn(work)?;
        Ok(Self { jobs })
    }

    /// Has `work` done, after what was asked for before. `None`: it panicked. Work that nobody waits for any more is done
    /// all the same.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody may wait any more.
            let _ = answer.send(work());
        });
        self.jobs.send(job).ok()?;
        answered.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_panics_is_not_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let signer = Signer::start().unwrap();
        runtime.block_on(async {
            let nothing: Option<u32> = signer.run(|| panic!("on purpose")).await;
            assert_eq!(nothing, None);
            assert_eq!(signer.run(|| 7).await, Some(7));
        });
    }
}
