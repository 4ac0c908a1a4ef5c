//! Writes lines of the crates `log` and `tracing` to the proxy's log (features of the same names).
//!
//! Installed when the library is loaded, without any code by the author. The level is that of the proxy, so that a line
//! that is not written costs these crates only a comparison. A logger or subscriber that the author has installed
//! earlier is kept.

use super::{Level, put};
use crate::host;
use crate::log_origin::LogOrigin;
use std::fmt;

/// The most verbose level that the proxy writes.
#[expect(unsafe_code, reason = "asks the host")]
fn level() -> Option<Level> {
    let host = host::table()?;
    [
        Level::Trace,
        Level::Debug,
        Level::Info,
        Level::Warn,
        Level::Error,
    ]
    .into_iter()
    // SAFETY: may be called at any time after `init`.
    .find(|&level| unsafe { host.log_enabled()(level as u32) } != 0)
}

/// Makes both crates write to the proxy's log.
pub(crate) fn install() {
    let Some(level) = level() else {
        return;
    };
    #[cfg(feature = "log")]
    lines_of_log::install(level);
    #[cfg(feature = "tracing")]
    lines_of_tracing::install(level);
}

/// Writes a line, with the name of the plugin.
fn write(
    level: Level,
    target: &str,
    place: (Option<&str>, Option<u32>),
    message: fmt::Arguments<'_>,
) {
    let name = LogOrigin::current().name();
    let (file, line) = (place.0.unwrap_or_default(), place.1.unwrap_or_default());
    put(
        level,
        target,
        file,
        line,
        &format!("{message} plugin={name}"),
    );
}

#[cfg(feature = "log")]
mod lines_of_log {
    use super::write;
    use crate::Level;
    use log::{LevelFilter, Log, Metadata, Record};

    struct ToProxy;

    pub(super) fn install(level: Level) {
        if log::set_logger(&ToProxy).is_ok() {
            log::set_max_level(match level {
                Level::Error => LevelFilter::Error,
                Level::Warn => LevelFilter::Warn,
                Level::Info => LevelFilter::Info,
                Level::Debug => LevelFilter::Debug,
                Level::Trace => LevelFilter::Trace,
            });
        }
    }

    impl Log for ToProxy {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= log::max_level()
        }

        fn log(&self, record: &Record<'_>) {
            if !self.enabled(record.metadata()) {
                return;
            }
            let level = match record.level() {
                log::Level::Error => Level::Error,
                log::Level::Warn => Level::Warn,
                log::Level::Info => Level::Info,
                log::Level::Debug => Level::Debug,
                log::Level::Trace => Level::Trace,
            };
            let place = (record.file(), record.line());
            write(level, record.target(), place, *record.args());
        }

        fn flush(&self) {}
    }
}

#[cfg(feature = "tracing")]
mod lines_of_tracing {
    use super::write;
    use crate::Level;
    use std::fmt::{self, Write};
    use tracing_core::field::{Field, Visit};
    use tracing_core::span::{Attributes, Current, Id, Record};
    use tracing_core::{Dispatch, Event, LevelFilter, Metadata, Subscriber, dispatcher};

    struct ToProxy(LevelFilter);

    pub(super) fn install(level: Level) {
        let level = match level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        };
        // Fails if the author has set another one.
        let _ = dispatcher::set_global_default(Dispatch::new(ToProxy(level)));
    }

    impl Subscriber for ToProxy {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.is_event() && *metadata.level() <= self.0
        }

        fn max_level_hint(&self) -> Option<LevelFilter> {
            Some(self.0)
        }

        fn event(&self, event: &Event<'_>) {
            let metadata = event.metadata();
            let level = match *metadata.level() {
                tracing_core::Level::ERROR => Level::Error,
                tracing_core::Level::WARN => Level::Warn,
                tracing_core::Level::INFO => Level::Info,
                tracing_core::Level::DEBUG => Level::Debug,
                tracing_core::Level::TRACE => Level::Trace,
            };
            let mut said = EventText::default();
            event.record(&mut said);
            let place = (metadata.file(), metadata.line());
            let EventText { message, fields } = &said;
            write(
                level,
                metadata.target(),
                place,
                format_args!("{message}{fields}"),
            );
        }

        // Spans are never enabled.
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
        fn current_span(&self) -> Current {
            Current::none()
        }
    }

    /// The text of an event: its message, and ` key=value` for each other field. A value that is not a single word is
    /// quoted, as in the proxy's own lines, so that text from peers cannot imitate a field.
    #[derive(Default)]
    struct EventText {
        message: String,
        fields: String,
    }

    impl EventText {
        fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
            // Writing to a String cannot fail; a Debug that fails loses only its own text.
            let _ = match field.name() {
                "message" => self.message.write_fmt(value),
                name => {
                    let mut text = String::new();
                    let _ = text.write_fmt(value);
                    match is_word(&text) {
                        true => write!(self.fields, " {name}={text}"),
                        false => write!(self.fields, " {name}={text:?}"),
                    }
                }
            };
        }
    }

    fn is_word(text: &str) -> bool {
        let may_stand = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
        !text.is_empty() && text.chars().all(may_stand)
    }

    impl Visit for EventText {
        fn record_str(&mut self, field: &Field, value: &str) {
            self.put(field, format_args!("{value}"));
        }

        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.put(field, format_args!("{value:?}"));
        }
    }
}
