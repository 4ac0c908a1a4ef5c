//! Polls a pending hook on the test's own thread, which sleeps until the hook's waker wakes it.
#![expect(unsafe_code, reason = "plays the host's part of the boundary")]

use crate::abi::{FilterTableRef, code};
use crate::waker;
use core::ffi::c_void;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

/// Polls until the result is not PENDING.
pub(super) fn poll_to_end(table: FilterTableRef, state: *mut c_void) -> u32 {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let lent = waker::lend(&waker);
    loop {
        // SAFETY: a hook is pending in `state`, and `lent` lives through the call.
        match unsafe { table.poll()(state, &lent) } {
            code::PENDING => thread::park(),
            answer => return answer,
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
