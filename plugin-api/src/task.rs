//! Tasks that continue after their hook has returned.
#![expect(unsafe_code, reason = "hands a future to the host by pointer")]

use crate::abi::{self, RawWaker, code};
use crate::guard::guarded;
use crate::log_origin::LogOrigin;
use crate::{Error, host, waker};
use core::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// A future, and the plugin that spawned it.
struct Spawned {
    origin: LogOrigin,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// Runs `future` on this worker, concurrently with its exchange and after its end. Dropped when the proxy shuts down.
///
/// # Errors
/// This thread is not a worker: a thread of the plugin, [`Filter::new`](crate::Filter::new), or a unit test.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Result<(), Error> {
    let spawned = Spawned {
        origin: LogOrigin::current(),
        future: Box::pin(future),
    };
    let data = Box::into_raw(Box::new(spawned));
    let task = abi::Task {
        data: data.cast(),
        poll,
        drop: end,
    };
    // SAFETY: the functions fit the data.
    let is_taken = host::table().is_some_and(|host| unsafe { host.spawn()(&task) } != 0);
    if is_taken {
        return Ok(());
    }
    // SAFETY: the host has not taken it.
    drop(unsafe { Box::from_raw(data) });
    Err(Error::new(
        "tasks can be spawned only in hooks: this thread is not a worker",
    ))
}

// SAFETY, for both: `data` is a spawned future; the host calls them one after the other, `end` last.
unsafe extern "C" fn poll(data: *mut c_void, raw: &RawWaker) -> u32 {
    let Spawned { origin, future } = unsafe { &mut *data.cast::<Spawned>() };
    let poll = || {
        #[cfg(feature = "tokio")]
        let _entered = crate::runtime::enter();
        waker::poll_with(raw, |cx| future.as_mut().poll(cx))
    };
    let polled = guarded(|| origin.during_call(poll));
    match polled {
        Ok(Poll::Pending) => code::PENDING,
        Ok(Poll::Ready(())) => code::PROCEED,
        Err(panic) => {
            crate::error!("a spawned task panicked: {panic}");
            code::PANIC
        }
    }
}

unsafe extern "C" fn end(data: *mut c_void) {
    let ended = guarded(|| {
        let spawned = unsafe { Box::from_raw(data.cast::<Spawned>()) };
        spawned.origin.during_call(|| drop(spawned));
    });
    if let Err(panic) = ended {
        crate::error!("a spawned task panicked while being dropped: {panic}");
    }
}
