//! Keeps panics inside the library in which they happen.
//!
//! Every library has its own standard library, so the proxy cannot catch a plugin's panic; one that reached the
//! boundary would end the process. [`guarded`] converts it to text. Only the panic hook knows the place of a panic;
//! [`watch`] installs it once per library: it records the place of panics within [`guarded`], and logs those of threads
//! that the plugin started itself.

use crate::host;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`; returns message and place of a panic.
///
/// Values that `body` changed by reference may be inconsistent afterwards. Callers drop them or end the exchange.
#[inline]
pub(crate) fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(outer);
    result.map_err(describe)
}

/// From now on, this library's panics are recorded instead of printed.
pub(crate) fn watch() {
    std::panic::set_hook(Box::new(note));
}

fn note(info: &PanicHookInfo<'_>) {
    let place = info
        .location()
        .map(|at| format!("{}:{}", at.file(), at.line()))
        .unwrap_or_default();
    if GUARDED.get() {
        let message = text(info.payload()).unwrap_or("a value that is not text");
        report_to_host(message, &place);
        // Missing only while the thread ends; then nothing reads it either.
        let _ = PLACE.try_with(|noted| noted.replace(place));
    } else {
        let message = text(info.payload()).unwrap_or("a value that is not text");
        crate::error!("a thread of the plugin panicked: {message} (at {place})");
    }
}

/// A second panic during unwinding ends the process, and then only the host can report both.
fn report_to_host(message: &str, place: &str) {
    let Some(note_panic) = host::table().and_then(|host| host.note_panic()) else {
        return;
    };
    #[expect(unsafe_code, reason = "calls the host's function")]
    // SAFETY: may be called on any thread; the texts are copied.
    unsafe {
        note_panic(message.into(), place.into());
    }
}

#[cold]
fn describe(payload: Box<dyn Any + Send>) -> String {
    let message = text(&*payload)
        .unwrap_or("panicked with a value that is not text")
        .to_owned();
    // The payload may be of the author's type and panic when dropped; then the rest is leaked.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    let place = PLACE.try_with(RefCell::take).unwrap_or_default();
    if place.is_empty() {
        message
    } else {
        format!("{message} (at {place})")
    }
}

fn text(payload: &(dyn Any + Send)) -> Option<&str> {
    let literal = payload.downcast_ref::<&'static str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::guarded;

    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("again");
        }
    }

    #[test]
    fn returns_the_message_of_a_panic() {
        let formatted = guarded(|| panic!("boom {}", 7)).map(|()| "no panic");
        assert!(formatted.unwrap_err().starts_with("boom 7"));
    }

    #[test]
    fn survives_a_payload_that_panics_when_dropped() {
        let result = guarded(|| std::panic::panic_any(PanicsWhenDropped)).map(|()| "no panic");
        assert!(result.unwrap_err().starts_with("panicked with a value"));
    }
}
