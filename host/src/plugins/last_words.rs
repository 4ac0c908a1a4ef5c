//! The last log line when a plugin terminates the process.
//!
//! A stack overflow, a second panic while one is unwinding, an abort, a memory fault: nothing contains them, but the
//! reason should be in the log. A signal handler reads the mark of the thread that dies, and writes one line to
//! standard error and to the log: plugin, hook, cause, and the panics under way with their places. Then everything goes
//! on as it would without: Rust's own message about the overflow, a core dump, the exit status of the signal. Deaths
//! outside of plugins, which includes threads that plugins start themselves, are left alone.
//!
//! Code in a handler allocates nothing, takes no lock, and calls what POSIX allows.
#![expect(
    unsafe_code,
    reason = "signal handlers, and what they share with their thread"
)]

use std::cell::UnsafeCell;
use std::panic::AssertUnwindSafe;

use abi_stable::std_types::RStr;

use super::marks::{self, Moment};

/// The panics that are kept of a call: the first and the last ones.
const MAX_PANICS: usize = 3;
/// What is kept of the message and place of each, in bytes.
const PANIC_LEN: usize = 512;

thread_local! {
    // Without a destructor, so that reading it is plain memory access, in a signal handler as well.
    static PANICS: UnsafeCell<Panics> = const { UnsafeCell::new(Panics::NONE) };
}

/// The panics of one call, as texts of fixed size.
struct Panics {
    of: Option<Moment>,
    texts: [PanicText; MAX_PANICS],
    count: usize,
}

#[derive(Clone, Copy)]
struct PanicText {
    text: [u8; PANIC_LEN],
    len: usize,
}

impl Panics {
    const NONE: Self = Self {
        of: None,
        texts: [PanicText {
            text: [0; PANIC_LEN],
            len: 0,
        }; MAX_PANICS],
        count: 0,
    };

    fn add(&mut self, of: Moment, message: &str, place: &str) {
        if self.of != Some(of) {
            self.of = Some(of);
            self.count = 0;
        }
        let index = self.count.min(MAX_PANICS - 1);
        self.count = index + 1;
        let kept = &mut self.texts[index];
        kept.len = 0;
        for part in [message, " (at ", place, ")"] {
            let part = &part.as_bytes()[..part.len().min(PANIC_LEN - kept.len)];
            kept.text[kept.len..kept.len + part.len()].copy_from_slice(part);
            kept.len += part.len();
        }
    }

    /// Those of this call.
    fn of(&self, of: Moment) -> impl Iterator<Item = &[u8]> {
        let count = if self.of == Some(of) { self.count } else { 0 };
        self.texts[..count]
            .iter()
            .map(|kept| &kept.text[..kept.len])
    }
}

/// Keeps what a plugin panics with on this thread, for the case that it is the end.
pub(super) unsafe extern "C" fn note_panic(message: RStr<'_>, place: RStr<'_>) {
    let noted = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let moment = marks::moment();
        // SAFETY: this thread's own, and a handler that reads it meanwhile does not return here.
        PANICS.with(|panics| unsafe {
            (*panics.get()).add(moment, message.as_str(), place.as_str());
        });
    }));
    // What is lost is a part of a line.
    drop(noted);
}

#[cfg(unix)]
mod handlers;

#[cfg(unix)]
pub(crate) use handlers::{install, see_stack};

/// There are no signals.
#[cfg(not(unix))]
pub(crate) fn install() {}

/// There are no signals.
#[cfg(not(unix))]
pub(crate) fn see_stack() {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::callee::{Call, PluginId};
    use plugin_api::abi::hook::Hook;

    fn texts(panics: &Panics, of: Moment) -> Vec<String> {
        let texts = panics.of(of);
        texts
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    #[test]
    fn the_first_and_the_last_panics_of_a_call_are_kept() {
        let call = Call::new(PluginId::of("libdies.so", "Dies"), Hook::Authenticate);
        let (one, next) = (
            Moment::for_test(Some(call), 1),
            Moment::for_test(Some(call), 2),
        );
        let mut panics = Panics::NONE;
        for message in ["a", "b", "c", "d"] {
            panics.add(one, message, "x.rs:1");
        }
        let kept = ["a (at x.rs:1)", "b (at x.rs:1)", "d (at x.rs:1)"];
        assert_eq!(texts(&panics, one), kept);
        assert_eq!(texts(&panics, next), [""; 0]);
        panics.add(next, &"long ".repeat(1000), "y.rs:2");
        assert_eq!(texts(&panics, next)[0].len(), PANIC_LEN);
    }
}
