//! What the host does for a library as a whole: log lines, timers, requests, threads and tasks; and its waker for what
//! waits.

use super::FieldSlot;
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// What the host offers to a library as a whole. Callable from any thread, at any time after `init`.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostTableRef)))]
pub struct HostTable {
    /// `(level)`: 1 if a line of that [`level`](super::level) would be written, else 0.
    pub log_enabled: unsafe extern "C" fn(u32) -> u32,
    /// `(level, target, message, file, line)`: one line of log.
    pub log: unsafe extern "C" fn(u32, RStr<'_>, RStr<'_>, RStr<'_>, u32),
    /// `(milliseconds)`: a job that is over after that time; null where there is no worker.
    pub sleep: unsafe extern "C" fn(u64) -> *mut c_void,
    /// `(request)`: a job that makes an HTTP request, copied during the call; null where there is no worker.
    pub call_out: unsafe extern "C" fn(&CallOut) -> *mut c_void,
    /// `(work)`: a job that runs it once, on a thread that may block; null where there is no worker, and then it
    /// never runs.
    pub run_blocking: unsafe extern "C" fn(&Work) -> *mut c_void,
    /// `(job, waker)`: PENDING, PROCEED when it is over, or ERROR.
    pub poll_job: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(job, answer)`: what a call-out that is over came to; valid until the job is released.
    pub call_out_answer: unsafe extern "C" fn(*mut c_void, &mut CallOutAnswer),
    /// `(job)`: gives it up, over or not.
    pub release_job: unsafe extern "C" fn(*mut c_void),
    /// `(task)`: polls it on this worker until it is over; 0 where there is no worker, and then it stays the caller's.
    #[sabi(last_prefix_field)]
    pub spawn: unsafe extern "C" fn(&Task) -> u32,
    /// `(message, place)`: a panic has begun on this thread; both are copied. The host tells of it if it turns out to
    /// be the end of the process.
    pub note_panic: unsafe extern "C" fn(RStr<'_>, RStr<'_>),
    // New services go here, below the last one of the released version.
}

/// An HTTP request that a plugin makes through the proxy's own client.
#[repr(C)]
#[derive(StableAbi)]
pub struct CallOut {
    /// The method.
    pub method: RStr<'static>,
    /// An absolute http or https URL.
    pub url: RStr<'static>,
    /// The first of `field_count` field lines.
    pub fields: *const FieldSlot,
    /// How many field lines there are.
    pub field_count: usize,
    /// The content.
    pub body: RSlice<'static, u8>,
    /// The most that the whole may take, in milliseconds.
    pub timeout: u64,
    /// The most content that is taken, in bytes; beyond it the call fails.
    pub max_body: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// What a call-out came to.
#[repr(C)]
#[derive(StableAbi)]
pub struct CallOutAnswer {
    /// The status code; 0 when there is no answer.
    pub status: u32,
    /// Why there is none.
    pub error: RStr<'static>,
    /// The first of `field_count` field lines.
    pub fields: *const FieldSlot,
    /// How many field lines there are.
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
    /// `(data)`: does the work; called once, even if the job was released.
    pub run: unsafe extern "C" fn(*mut c_void),
}

/// A future of the plugin that the host polls.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Task {
    /// First argument of both functions.
    pub data: *mut c_void,
    /// `(data, waker)`: PENDING, or anything else when it is over.
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(data)`: ends it, over or not; called once.
    pub drop: unsafe extern "C" fn(*mut c_void),
}

/// The host's waker, lent for one `poll`.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RawWaker {
    /// First argument of every function of the table.
    pub data: *const c_void,
    /// How to keep and use it.
    pub table: WakerTableRef,
}

/// What can be done with a [`RawWaker`], from any thread.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = WakerTableRef)))]
pub struct WakerTable {
    /// An owned waker that outlives the `poll`; given back with `drop`.
    pub clone: unsafe extern "C" fn(*const c_void) -> *const c_void,
    /// Have the exchange polled again soon.
    pub wake_by_ref: unsafe extern "C" fn(*const c_void),
    /// Gives an owned waker back; never called on a lent one.
    #[sabi(last_prefix_field)]
    pub drop: unsafe extern "C" fn(*const c_void),
}
