//! Services of the worker for plugins on its thread: timers, HTTP requests, blocking tasks, spawned tasks.
//!
//! A job is a future of the host behind a pointer; the plugin polls it with a waker of its own. On a thread that is no
//! worker no job begins. None of these functions lets a panic cross into the plugin.
#![expect(
    unsafe_code,
    reason = "functions that plugins call across the binary boundary"
)]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use abi_stable::std_types::{RSlice, RStr};
use plugin_api::abi::{CallOut, CallOutAnswer, FieldSlot, RawWaker, code};
use plugin_api::abi::{Task, Work};
use plugin_api::waker;

use super::blocking;
use super::callee::Callee;
use super::guard::guarded;
use super::instance::{BlockingWork, SpawnedTask};
use super::marks;
use crate::call_out::{self, CallRequest, CallResponse, Caller};

/// Something that a plugin waits for.
struct Job {
    /// None when it is over.
    future: Option<Pin<Box<dyn Future<Output = JobResult>>>>,
    result: Option<JobResult>,
    /// Of the response, which is lent to the plugin.
    slots: Vec<FieldSlot>,
}

/// What a job comes to.
enum JobResult {
    Done,
    Response(Result<CallResponse, String>),
}

fn begin(future: impl Future<Output = JobResult> + 'static) -> *mut c_void {
    let job = Job {
        future: Some(Box::pin(future)),
        result: None,
        slots: Vec::new(),
    };
    Box::into_raw(Box::new(job)).cast()
}

pub(super) unsafe extern "C" fn sleep(milliseconds: u64) -> *mut c_void {
    guarded(std::ptr::null_mut(), || {
        if Caller::current().is_none() {
            return std::ptr::null_mut();
        }
        let sleep = tokio::time::sleep(Duration::from_millis(milliseconds));
        begin(async move {
            sleep.await;
            JobResult::Done
        })
    })
}

pub(super) unsafe extern "C" fn call_out(call: &CallOut) -> *mut c_void {
    guarded(std::ptr::null_mut(), || {
        let Some(caller) = Caller::current() else {
            return std::ptr::null_mut();
        };
        // SAFETY: the plugin lends its slots for the time of this call.
        let slots = match call.field_count {
            0 => &[],
            count => unsafe { std::slice::from_raw_parts(call.fields, count) },
        };
        let line = |slot: &FieldSlot| (slot.name.to_string(), slot.value.to_vec());
        let request = CallRequest {
            method: call.method.to_string(),
            url: call.url.to_string(),
            fields: slots.iter().map(line).collect(),
            body: call.body.to_vec(),
            timeout: Duration::from_millis(call.timeout),
            max_body: call.max_body,
        };
        begin(async move { JobResult::Response(call_out::send(&caller, request).await) })
    })
}

pub(super) unsafe extern "C" fn run_blocking(work: &Work) -> *mut c_void {
    guarded(std::ptr::null_mut(), || {
        if Caller::current().is_none() {
            return std::ptr::null_mut();
        }
        // From here on the work is the host's, whatever happens: null would make the plugin run it a second time.
        let callee = marks::running();
        // SAFETY: the function fits the data, and the work is the host's.
        let work = unsafe { BlockingWork::new(*work, callee) };
        let running = catch_unwind(AssertUnwindSafe(|| {
            blocking::run(callee.plugin(), Box::new(move || work.run()))
        }));
        begin(async move {
            // The work itself tells the plugin if it has failed.
            if let Ok(running) = running {
                let _ = running.await;
            }
            JobResult::Done
        })
    })
}

pub(super) unsafe extern "C" fn poll_job(job: *mut c_void, waker: &RawWaker) -> u32 {
    guarded(code::ERROR, || {
        // SAFETY: made by `begin`, not yet released, and used by one thread.
        let job = unsafe { &mut *job.cast::<Job>() };
        let Some(future) = &mut job.future else {
            return code::PROCEED;
        };
        // SAFETY: lent for this call.
        let waker = unsafe { waker::lent(waker) };
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => code::PENDING,
            Poll::Ready(result) => {
                job.future = None;
                job.result = Some(result);
                code::PROCEED
            }
        }
    })
}

pub(super) unsafe extern "C" fn call_out_answer(job: *mut c_void, to: &mut CallOutAnswer) {
    guarded((), || {
        // SAFETY: as in `poll_job`.
        let job = unsafe { &mut *job.cast::<Job>() };
        match &job.result {
            Some(JobResult::Response(Ok(answer))) => {
                let slot = |(name, value): &(String, Vec<u8>)| FieldSlot {
                    name: text(name),
                    value: bytes(value),
                };
                job.slots = answer.fields.iter().map(slot).collect();
                to.status = u32::from(answer.status);
                to.fields = job.slots.as_ptr();
                to.field_count = job.slots.len();
                to.body = bytes(&answer.body);
            }
            Some(JobResult::Response(Err(reason))) => to.error = text(reason),
            _ => {}
        }
    });
}

pub(super) unsafe extern "C" fn release_job(job: *mut c_void) {
    // Earlier versions of the API release the null of a refused job.
    if job.is_null() {
        return;
    }
    // SAFETY: made by `begin`, released once.
    guarded((), || drop(unsafe { Box::from_raw(job.cast::<Job>()) }));
}

pub(super) unsafe extern "C" fn spawn(task: &Task) -> u32 {
    if guarded(true, || Caller::current().is_none()) {
        return 0;
    }
    // From here on the task is the host's, and dropped here if it cannot be spawned.
    let callee = guarded(Callee::NONE, marks::running);
    // SAFETY: the functions fit the data, and the task is the host's.
    let task = Spawned(unsafe { SpawnedTask::new(*task, callee) });
    guarded((), || drop(tokio::task::spawn_local(task)));
    1
}

/// A plugin's task, ended when dropped.
struct Spawned(SpawnedTask);

impl Future for Spawned {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.poll(&waker::lend(cx.waker())) {
            code::PENDING => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

fn text(text: &str) -> RStr<'static> {
    // SAFETY: only the lifetime changes: valid until the job is released, as the boundary says.
    unsafe { RStr::from_raw_parts(text.as_ptr(), text.len()) }
}

fn bytes(content: &[u8]) -> RSlice<'static, u8> {
    // SAFETY: as in `text`.
    unsafe { RSlice::from_raw_parts(content.as_ptr(), content.len()) }
}

#[cfg(test)]
mod tests {
    use super::{release_job, sleep};

    #[test]
    fn a_wait_that_was_refused_may_be_released() {
        // SAFETY: no worker runs on this thread, so there is no job.
        unsafe {
            let job = sleep(1);
            assert!(job.is_null());
            release_job(job);
        }
    }
}
