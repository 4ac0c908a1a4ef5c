//! Polls a pending hook on the test's own thread, which sleeps until the hook's waker wakes it.
#![expect(unsafe_code, reason = "plays the host's part of the boundary")]

use crate::abi::{FilterTableRef, RawWaker, WakerTable, WakerTableRef, code};
use abi_stable::prefix_type::WithMetadata;
use core::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

/// Polls until the answer is another one than PENDING.
pub(super) fn poll_to_end(table: FilterTableRef, state: *mut c_void) -> u32 {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let lent = RawWaker {
        data: ptr::from_ref(&waker).cast(),
        table: Wakers::REF,
    };
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

/// `std::task::Waker` behind the table: `data` is the address of one.
struct Wakers;

impl Wakers {
    abi_stable::staticref!(const TABLE: WithMetadata<WakerTable> = WithMetadata::new(WakerTable {
        clone,
        wake_by_ref,
        drop: drop_owned,
    }));
    const REF: WakerTableRef = WakerTableRef(Self::TABLE.as_prefix());
}

// SAFETY, for all three: `data` is the address of a waker, in `drop_owned` of one that `clone` boxed.
unsafe extern "C" fn clone(data: *const c_void) -> *const c_void {
    let waker = unsafe { &*data.cast::<Waker>() };
    Box::into_raw(Box::new(waker.clone())).cast_const().cast()
}

unsafe extern "C" fn wake_by_ref(data: *const c_void) {
    unsafe { &*data.cast::<Waker>() }.wake_by_ref();
}

unsafe extern "C" fn drop_owned(data: *const c_void) {
    drop(unsafe { Box::from_raw(data.cast_mut().cast::<Waker>()) });
}
