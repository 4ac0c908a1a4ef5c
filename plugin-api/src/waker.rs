//! The host's waker as a `std::task::Waker`.
//!
//! Lent for one poll it costs nothing; only a future that keeps it pays for a clone, which is the host's to make
//! and to drop.
#![expect(unsafe_code, reason = "a waker is a pointer and a table of functions")]

use crate::abi;
use std::mem::ManuallyDrop;
use std::task::{RawWaker, RawWakerVTable, Waker};

static LENT: RawWakerVTable = RawWakerVTable::new(clone, wake_by_ref, wake_by_ref, keep);
static OWNED: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_owned);

/// A waker for as long as `waker` is lent.
pub(crate) fn lent(waker: &abi::RawWaker) -> ManuallyDrop<Waker> {
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
