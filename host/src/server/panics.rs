//! Logs panics of the proxy itself, with their location.
//!
//! A panic ends the task that panicked: one connection, one HTTP/2 stream, a reload; `restart` handles panics of
//! workers. Plugin libraries report panics of plugins themselves. The log line is written before the previous panic
//! hook runs, which writes to standard error, with a backtrace if `RUST_BACKTRACE` is set.

use std::any::Any;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use crate::plugins::marks;

/// Logs panics from now on.
pub(super) fn report() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            log(info);
            before(info);
        }));
    });
}

#[cold]
fn log(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    let place = place.as_deref().unwrap_or("unknown");
    let message = message(info.payload());
    match marks::moment().call() {
        None => tracing::error!(place, "the proxy panicked: {message}"),
        Some(call) => {
            let (plugin, hook) = (call.plugin().name(), call.place().name());
            tracing::error!(
                place,
                plugin,
                hook,
                "the proxy panicked in a call from a plugin: {message}"
            );
        }
    }
}

/// The panic's message.
pub(super) fn message(payload: &(dyn Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&'static str>().copied();
    let message = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    message.unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::panic::catch_unwind;
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    struct Lines;

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            LINES.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_has_one_line_with_its_place() {
        report();
        report();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(|| Lines);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let number = 7;
            assert!(catch_unwind(|| panic!("boom {number}")).is_err());
        });
        let lines = String::from_utf8(LINES.lock().unwrap().clone()).unwrap();
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains("the proxy panicked: boom 7"), "{lines}");
        assert!(lines.contains("src/server/panics.rs:"), "{lines}");
    }
}
