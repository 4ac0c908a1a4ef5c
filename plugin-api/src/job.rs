//! Timers and blocking tasks that the host runs for a plugin while its hook waits.
//!
//! A job belongs to the worker on whose thread it was started. Without a worker (on a thread of the plugin, or in unit
//! tests), a separate thread does the same.
#![expect(unsafe_code, reason = "calls the host's functions")]

use crate::abi::{HostTableRef, Work, code};
use crate::guard::guarded;
use crate::log_origin::LogOrigin;
use crate::{Error, host, waker};
use core::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// A job of the host, aborted when dropped. Stays on its thread.
pub(crate) struct Job {
    pub(crate) host: HostTableRef,
    pub(crate) handle: *mut c_void,
}

impl Job {
    /// The job that `begin` has started; `None` without a worker.
    pub(crate) fn begin(begin: impl FnOnce(HostTableRef) -> *mut c_void) -> Option<Self> {
        let host = host::table()?;
        let handle = begin(host);
        // Created only with a handle, because dropping it releases the handle.
        (!handle.is_null()).then(|| Self { host, handle })
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        // SAFETY: the handle is valid until it is released; the waker lives through the call.
        match unsafe { self.host.poll_job()(self.handle, &waker::lend(cx.waker())) } {
            code::PENDING => Poll::Pending,
            result => Poll::Ready(result == code::PROCEED),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // SAFETY: released once.
        unsafe { self.host.release_job()(self.handle) }
    }
}

/// Waits for `duration`, using the timers of the proxy.
///
/// ```
/// # use plugin_api::prelude::*;
/// # use std::time::Duration;
/// # #[derive(Deserialize)] struct Delay { milliseconds: u64 }
/// #[filter]
/// impl Filter for Delay {
///     async fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
///         plugin_api::sleep(Duration::from_millis(self.milliseconds)).await;
///         proceed()
///     }
/// }
/// # let filter: Delay = plugin_api::testing::configured("milliseconds = 1").unwrap();
/// # assert!(plugin_api::testing::get("http://a/").run(&filter).outcome().is_ok());
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // SAFETY: may be called on any thread.
    match Job::begin(|host| unsafe { host.sleep()(milliseconds) }) {
        Some(job) => Sleep(Timer::Job(job)),
        None => Sleep(Timer::Thread(on_a_thread(move || thread::sleep(duration)))),
    }
}

/// Runs `work` on a thread that may block, one of 16 that the proxy has for each plugin, and waits for its result. If
/// the future is dropped, the work still runs to its end. Further work waits in a queue; if 65,536 tasks are waiting,
/// it is discarded with an error in the log. Its future then never becomes ready, so an async hook ends at its time
/// limit.
///
/// # Errors
/// The message of its panic.
pub fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> RunBlocking<T> {
    let done = Arc::new(Completion::default());
    let for_work = Arc::clone(&done);
    let origin = LogOrigin::current();
    let parcel: Box<dyn FnOnce() + Send> =
        Box::new(move || origin.during_call(|| for_work.set(guarded(work))));
    let data = Box::into_raw(Box::new(Parcel(parcel))).cast::<c_void>();
    let work = Work { data, run };
    // SAFETY: `run` takes the parcel, once.
    let job = Job::begin(|host| unsafe { host.run_blocking()(&work) });
    if job.is_none() {
        let data = data as usize;
        // SAFETY: nothing else has taken the parcel.
        thread::spawn(move || unsafe { run(data as *mut c_void) });
    }
    RunBlocking { done, _job: job }
}

struct Parcel(Box<dyn FnOnce() + Send>);

unsafe extern "C" fn run(data: *mut c_void) {
    // SAFETY: made by `run_blocking`, taken once.
    let Parcel(work) = *unsafe { Box::from_raw(data.cast::<Parcel>()) };
    // The work itself is guarded; what remains are the destructors of its captures.
    if let Err(panic) = guarded(work) {
        crate::error!("a blocking task panicked while cleaning up: {panic}");
    }
}

fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Arc<Completion<T>> {
    let done = Arc::new(Completion::default());
    let for_thread = Arc::clone(&done);
    thread::spawn(move || for_thread.set(guarded(work)));
    done
}

/// A result that arrives from another thread.
struct Completion<T>(Mutex<Handoff<T>>);

struct Handoff<T> {
    result: Option<Result<T, String>>,
    waker: Option<Waker>,
}

impl<T> Default for Completion<T> {
    fn default() -> Self {
        Self(Mutex::new(Handoff {
            result: None,
            waker: None,
        }))
    }
}

impl<T> Completion<T> {
    fn set(&self, result: Result<T, String>) {
        let mut handoff = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handoff.result = Some(result);
        let waker = handoff.waker.take();
        drop(handoff);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, String>> {
        let mut handoff = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match handoff.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                handoff.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A wait, from [`sleep`]. Cancel safe.
#[must_use = "a future does nothing unless awaited"]
pub struct Sleep(Timer);

enum Timer {
    Job(Job),
    Thread(Arc<Completion<()>>),
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Timer::Job(job) => job.poll(cx).map(|_| ()),
            Timer::Thread(done) => done.poll(cx).map(|_| ()),
        }
    }
}

/// A running blocking task, from [`run_blocking`].
#[must_use = "a future does nothing unless awaited"]
pub struct RunBlocking<T> {
    done: Arc<Completion<T>>,
    _job: Option<Job>,
}

impl<T> Future for RunBlocking<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.done.poll(cx);
        polled.map(|result| result.map_err(|panic| Error::new(format!("panicked: {panic}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::{run_blocking, sleep};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::{self, Thread};
    use std::time::Duration;

    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => thread::park(),
            }
        }
    }

    #[test]
    fn blocking_work_returns_its_result_or_its_panic() {
        assert_eq!(block_on(run_blocking(|| 7)).ok(), Some(7));
        let failed = block_on(run_blocking(|| -> u32 { panic!("boom") }));
        assert!(failed.is_err_and(|error| error.message().starts_with("panicked: boom")));
    }

    #[test]
    fn a_sleep_ends_without_a_proxy() {
        block_on(sleep(Duration::from_millis(1)));
    }
}
