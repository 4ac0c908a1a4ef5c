//! The thread that reads, signs and writes certificates.
//!
//! There is one for all workers. It takes blocking work off them, and its random number generator is seeded only once:
//! that costs more than a hundred signatures, and each thread of a pool would pay for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use crate::telemetry::limit_repeats_of_this_thread;

/// A handle of the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Signer {
    jobs: mpsc::Sender<SigningJob>,
}

type SigningJob = Box<dyn FnOnce() + Send>;

impl Signer {
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, next) = mpsc::channel::<SigningJob>();
        let work = move || {
            limit_repeats_of_this_thread();
            for job in next {
                // The waiting task notices because its channel is dropped.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        };
        thread::Builder::new()
            .name("certificates".to_owned())
            .spawn(work)?;
        Ok(Self { jobs })
    }

    /// Runs `work` after earlier jobs. `None`: it panicked. If the caller is cancelled, the work is still done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            // The caller may have been cancelled.
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
    fn a_panicking_job_does_not_end_the_thread() {
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
