//! What the host offers to a library: logging, timers, HTTP requests, threads and tasks; and its waker for pending
//! futures.

use super::FieldSlot;
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// The host's services for a library. Callable from any thread, at any time after `init`.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostTableRef)))]
pub struct HostTable {
    /// `(level)`: 1 if a line of that [`level`](super::level) would be written, else 0.
    pub log_enabled: unsafe extern "C" fn(u32) -> u32,
    /// `(level, target, message, file, line)`: writes a log line.
    pub log: unsafe extern "C" fn(u32, RStr<'_>, RStr<'_>, RStr<'_>, u32),
    /// `(milliseconds)`: a job that ends after that time; null without a worker.
    pub sleep: unsafe extern "C" fn(u64) -> *mut c_void,
    /// `(request)`: a job that sends an HTTP request, which is copied during the call; null without a worker.
    pub call_out: unsafe extern "C" fn(&CallOut) -> *mut c_void,
    /// `(work)`: a job that runs it once, on a thread that may block; null without a worker, and then it never runs.
    pub run_blocking: unsafe extern "C" fn(&Work) -> *mut c_void,
    /// `(job, waker)`: PENDING, PROCEED once it has ended, or ERROR.
    pub poll_job: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(job, answer)`: the result of a call-out that has ended; valid until the job is released.
    pub call_out_answer: unsafe extern "C" fn(*mut c_void, &mut CallOutAnswer),
    /// `(job)`: releases it, finished or not.
    pub release_job: unsafe extern "C" fn(*mut c_void),
    /// `(task)`: polls it on this worker until it ends; 0 without a worker, and then the caller keeps it.
    #[sabi(last_prefix_field)]
    pub spawn: unsafe extern "C" fn(&Task) -> u32,
    /// `(message, place)`: a panic has begun on this thread; both are copied. The host reports it if the process ends
    /// because of it.
    pub note_panic: unsafe extern "C" fn(RStr<'_>, RStr<'_>),
    // New services go here, below the last one of the released version.
}

/// An HTTP request that a plugin sends with the proxy's client.
#[repr(C)]
#[derive(StableAbi)]
pub struct CallOut {
    /// The method.
    pub method: RStr<'static>,
    /// An absolute http or https URL.
    pub url: RStr<'static>,
    /// The first of `field_count` field lines.
    pub fields: *const FieldSlot,
    /// The number of field lines.
    pub field_count: usize,
    /// The content.
    pub body: RSlice<'static, u8>,
    /// The time limit for the whole call, in milliseconds.
    pub timeout: u64,
    /// The maximum content of the response, in bytes; above it, the call fails.
    pub max_body: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The result of a call-out.
#[repr(C)]
#[derive(StableAbi)]
pub struct CallOutAnswer {
    /// The status code; 0 without a response.
    pub status: u32,
    /// Why there is no response.
    pub error: RStr<'static>,
    /// The first of `field_count` field lines.
    pub fields: *const FieldSlot,
    /// The number of field lines.
    pub field_count: usize,
    /// The content.
    pub body: RSlice<'static, u8>,
}

/// A function of the plugin that may block.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Work {
    /// First argument of `run`.
    pub data: *mut c_void,
    /// `(data)`: runs the work; called once, even if the job was released.
    pub run: unsafe extern "C" fn(*mut c_void),
}

/// A future of the plugin that the host polls.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Task {
    /// First argument of both functions.
    pub data: *mut c_void,
    /// `(data, waker)`: PENDING, or anything else once it has ended.
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(data)`: drops it, finished or not; called once.
    pub drop: unsafe extern "C" fn(*mut c_void),
}

/// The host's waker, lent for one `poll`.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RawWaker {
    /// First argument of every function of the table.
    pub data: *const c_void,
    /// The functions of the waker.
    pub table: WakerTableRef,
}

/// The functions of a [`RawWaker`], callable from any thread.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = WakerTableRef)))]
pub struct WakerTable {
    /// An owned waker that outlives the `poll`; released with `drop`.
    pub clone: unsafe extern "C" fn(*const c_void) -> *const c_void,
    /// Requests another poll of the exchange.
    pub wake_by_ref: unsafe extern "C" fn(*const c_void),
    /// Releases an owned waker; never called on a lent one.
    #[sabi(last_prefix_field)]
    pub drop: unsafe extern "C" fn(*const c_void),
}
