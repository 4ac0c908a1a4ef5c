//! Wakers across the boundary, in both directions.
//!
//! Lent for one poll a waker costs nothing; only a future that keeps it pays for a clone, which is made and dropped
//! by the side that the waker belongs to.
#![expect(unsafe_code, reason = "a waker is a pointer and a table of functions")]

use crate::abi::{self, WakerTable, WakerTableRef};
use abi_stable::prefix_type::WithMetadata;
use core::ffi::c_void;
use std::mem::ManuallyDrop;
use std::task::{RawWaker, RawWakerVTable, Waker};

static LENT: RawWakerVTable = RawWakerVTable::new(clone, wake_by_ref, wake_by_ref, keep);
static OWNED: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_owned);

/// `waker` in the form that crosses the boundary; valid for as long as it is borrowed.
pub fn lend(waker: &Waker) -> abi::RawWaker {
    abi::RawWaker {
        data: std::ptr::from_ref(waker).cast(),
        table: StdWaker::REF,
    }
}

/// A `std::task::Waker` behind the table: `data` is the address of one.
struct StdWaker;

impl StdWaker {
    abi_stable::staticref!(const TABLE: WithMetadata<WakerTable> = WithMetadata::new(WakerTable {
        clone: clone_std,
        wake_by_ref: wake_std,
        drop: drop_std,
    }));
    const REF: WakerTableRef = WakerTableRef(Self::TABLE.as_prefix());
}

// SAFETY, for all three: `data` is the address of a waker, in `drop_std` of one that `clone_std` boxed.
unsafe extern "C" fn clone_std(data: *const c_void) -> *const c_void {
    let waker = unsafe { &*data.cast::<Waker>() };
    Box::into_raw(Box::new(waker.clone())).cast_const().cast()
}

unsafe extern "C" fn wake_std(data: *const c_void) {
    unsafe { &*data.cast::<Waker>() }.wake_by_ref();
}

unsafe extern "C" fn drop_std(data: *const c_void) {
    drop(unsafe { Box::from_raw(data.cast_mut().cast::<Waker>()) });
}

/// A waker for as long as `waker` is lent: a poll at most.
pub fn lent(waker: &abi::RawWaker) -> ManuallyDrop<Waker> {
    let data = std::ptr::from_ref(waker).cast();
    // SAFETY: `LENT` takes the address of an `abi::RawWaker` and never frees it. The caller keeps the result
    // within the poll, during which `waker` lives.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(data, &LENT)) })
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY, here and below: `data` is the address of a living `abi::RawWaker`.
    let waker = unsafe { &*data.cast::<abi::RawWaker>() };
    let owned = abi::RawWaker {
        data: unsafe { waker.table.clone()(waker.data) },
        table: waker.table,
    };
    RawWaker::new(Box::into_raw(Box::new(owned)).cast_const().cast(), &OWNED)
}

unsafe fn wake(data: *const ()) {
    unsafe {
        wake_by_ref(data);
        drop_owned(data);
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    let waker = unsafe { &*data.cast::<abi::RawWaker>() };
    unsafe { waker.table.wake_by_ref()(waker.data) }
}

unsafe fn keep(_: *const ()) {}

unsafe fn drop_owned(data: *const ()) {
    // SAFETY: `OWNED` is only used with what `clone` boxed, and dropped once.
    let waker = unsafe { Box::from_raw(data.cast_mut().cast::<abi::RawWaker>()) };
    unsafe { waker.table.drop()(waker.data) }
}
