//! Wakers across the boundary, in both directions.
//!
//! Lending a waker for one poll has no cost; only a future that keeps it pays for a clone, which is made and dropped by
//! the side that the waker belongs to. A waker may be of the author's making and panic: its owner reports that, and the
//! panic does not cross. Instead of a waker that cannot be cloned, the host keeps the one that polls the task.
#![expect(unsafe_code, reason = "a waker is a pointer and a table of functions")]

use crate::abi::{self, WakerTable, WakerTableRef};
use crate::guard::guarded;
use abi_stable::prefix_type::WithMetadata;
use core::ffi::c_void;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

static LENT: RawWakerVTable = RawWakerVTable::new(clone, wake_by_ref, wake_by_ref, keep);
static OWNED: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_owned);

thread_local! {
    /// The waker of the task that is being polled on this thread; null without one.
    static POLLED_WITH: Cell<*const abi::RawWaker> = const { Cell::new(ptr::null()) };
}

/// Converts `waker` to the form that crosses the boundary; valid for as long as it is borrowed.
pub fn lend(waker: &Waker) -> abi::RawWaker {
    abi::RawWaker {
        data: ptr::from_ref(waker).cast(),
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
    let cloned = guarded(|| {
        let waker = unsafe { &*data.cast::<Waker>() }.clone();
        Box::into_raw(Box::new(waker)).cast_const().cast()
    });
    cloned.unwrap_or_else(|panic| {
        report("clone", &panic);
        stand_in()
    })
}

unsafe extern "C" fn wake_std(data: *const c_void) {
    if let Err(panic) = guarded(|| unsafe { &*data.cast::<Waker>() }.wake_by_ref()) {
        report("wake", &panic);
    }
}

unsafe extern "C" fn drop_std(data: *const c_void) {
    let waker = data.cast_mut().cast::<Waker>();
    if let Err(panic) = guarded(|| drop(unsafe { Box::from_raw(waker) })) {
        report("drop", &panic);
    }
}

#[cold]
fn report(what: &str, panic: &str) {
    crate::error!("a waker panicked in its {what}: {panic}");
}

/// An owned waker of the task that is being polled on this thread; null without one.
#[cold]
fn stand_in() -> *const c_void {
    let polled_with = POLLED_WITH.try_with(Cell::get).unwrap_or(ptr::null());
    // SAFETY: `poll_with` takes back what it has put there before that ends.
    match unsafe { polled_with.as_ref() } {
        Some(raw) => {
            let waker: Waker = (*unsafe { lent(raw) }).clone();
            Box::into_raw(Box::new(waker)).cast_const().cast()
        }
        None => ptr::null(),
    }
}

/// Polls a task with the waker that is lent for it.
pub(crate) fn poll_with<T>(raw: &abi::RawWaker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
    struct Restored(*const abi::RawWaker);
    impl Drop for Restored {
        fn drop(&mut self) {
            // Missing only while the thread ends.
            let _ = POLLED_WITH.try_with(|with| with.set(self.0));
        }
    }
    let outer = POLLED_WITH.try_with(|with| with.replace(raw));
    let _restored = Restored(outer.unwrap_or(ptr::null()));
    // SAFETY: nothing of the context outlives this call, except clones.
    let waker = unsafe { lent(raw) };
    poll(&mut Context::from_waker(&waker))
}

/// Whether this is the waker of the running task, rather than one of a combinator.
pub(crate) fn is_lent(waker: &Waker) -> bool {
    ptr::eq(waker.vtable(), &LENT)
}

/// A waker that wakes nothing.
pub(crate) fn nobody() -> abi::RawWaker {
    abi::RawWaker {
        data: ptr::null(),
        table: StdWaker::REF,
    }
}

/// A waker for as long as `waker` is lent: one poll at most.
///
/// # Safety
/// `waker` is valid for the functions of its table, and lives for as long as the result is used. Clones of the result
/// are independent.
pub unsafe fn lent(waker: &abi::RawWaker) -> ManuallyDrop<Waker> {
    let data = ptr::from_ref(waker).cast();
    // SAFETY: `LENT` takes the address of an `abi::RawWaker` and never frees it; the caller promises the rest.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(data, &LENT)) })
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY, here and below: `data` is the address of a living `abi::RawWaker`.
    let waker = unsafe { &*data.cast::<abi::RawWaker>() };
    let owned = abi::RawWaker {
        data: unsafe { waker.table.clone()(waker.data) },
        table: waker.table,
    };
    if owned.data.is_null() {
        // Its owner could not clone it and has reported that.
        let noop = Waker::noop();
        return RawWaker::new(noop.data(), noop.vtable());
    }
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

#[cfg(test)]
mod tests {
    use super::{lend, lent, poll_with};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{RawWaker, RawWakerVTable, Wake, Waker};

    /// Counts its wakes, and panics in them and when it is dropped.
    #[derive(Default)]
    struct Loud(AtomicUsize);

    impl Wake for Loud {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("in wake");
        }
    }

    struct Brittle(Arc<Loud>);

    impl Wake for Brittle {
        fn wake(self: Arc<Self>) {
            self.0.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Drop for Brittle {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }

    /// A waker that cannot be cloned.
    fn unclonable() -> Waker {
        static TABLE: RawWakerVTable =
            RawWakerVTable::new(|_| panic!("in clone"), |_| {}, |_| {}, |_| {});
        // SAFETY: the functions do not look at the data.
        unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) }
    }

    fn across(waker: &Waker) -> Waker {
        let raw = lend(waker);
        // SAFETY: the clone is independent.
        (*unsafe { lent(&raw) }).clone()
    }

    #[test]
    fn a_panic_in_wake_stays_on_its_side() {
        let loud = Arc::new(Loud::default());
        let theirs = across(&Waker::from(Arc::clone(&loud)));
        theirs.wake_by_ref();
        theirs.wake();
        assert_eq!(loud.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_panic_in_the_drop_of_a_waker_stays_on_its_side() {
        let loud = Arc::new(Loud::default());
        let own = Waker::from(Arc::new(Brittle(Arc::clone(&loud))));
        let theirs = across(&own);
        own.wake();
        // The last one: it is dropped across the boundary.
        theirs.wake();
        assert_eq!(loud.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn an_unclonable_waker_is_replaced_by_that_of_the_task() {
        struct Counts(AtomicUsize);
        impl Wake for Counts {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let task = Arc::new(Counts(AtomicUsize::new(0)));
        let polled_with = Waker::from(Arc::clone(&task));
        let clone = poll_with(&lend(&polled_with), |_| across(&unclonable()));
        let another = clone.clone();
        clone.wake();
        another.wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 2);
        // Nothing is polled here: it wakes nothing, but can be used.
        across(&unclonable()).wake();
    }
}
