//! The format of a diagnostic line.
//!
//! `<time> - <LEVEL> - pid:<id> - <module>:<line> - <message> key=value ...`. An event on behalf of a plugin gives its
//! location in the fields `log.target` and `log.line`. A value that is not a single word is quoted, so that text from
//! peers cannot imitate a field or the message. There are no spans: the fields of an event identify its exchange, which
//! costs nothing while the level is disabled.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::process;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::clock::Clock;
use super::escape::{Escaped, Quoted, is_word};

thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::new(Clock::local());
}

/// The layout of a diagnostic line.
pub(super) struct LineFormat;

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = EventText::default();
        event.record(&mut said);
        write_prefix(&mut writer, level_word(event.metadata().level()))?;
        said.write_place(&mut writer, event.metadata())?;
        writeln!(writer, " - {}{}", said.message, said.fields)
    }
}

/// Everything before the place: time, level, process.
pub(super) fn write_prefix(out: &mut impl Write, level: &str) -> fmt::Result {
    CLOCK.with_borrow_mut(|clock| {
        write!(
            out,
            "{} - {level} - pid:{} - ",
            clock.stamp(SystemTime::now()),
            process::id()
        )
    })
}

pub(super) fn level_word(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// The text of an event, ready to be written.
#[derive(Default)]
struct EventText {
    message: String,
    /// ` key=value` for each field.
    fields: String,
    target: Option<String>,
    line: Option<u64>,
    /// A buffer for a value until it is known whether it needs quotes.
    value: String,
}

impl EventText {
    fn write_place(&self, out: &mut impl Write, metadata: &Metadata<'_>) -> fmt::Result {
        let path = match &self.target {
            Some(target) => target,
            None => metadata.module_path().unwrap_or(metadata.target()),
        };
        let module = path.rsplit("::").next().unwrap_or(path);
        let own_line = metadata
            .line()
            .filter(|_| self.target.is_none())
            .map(u64::from);
        write!(out, "{module}:{}", self.line.or(own_line).unwrap_or(0))
    }

    /// Appends a field, or sets the message.
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail; a Display that fails loses only its own text.
        let _ = match field.name() {
            "message" => Escaped(&mut self.message).write_fmt(value),
            "log.target" => Escaped(self.target.get_or_insert_default()).write_fmt(value),
            name => self.put_value(name, value),
        };
    }

    fn put_value(&mut self, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        self.value.clear();
        // The text before the failure of a Display is kept.
        let _ = self.value.write_fmt(value);
        if is_word(&self.value) {
            return write!(self.fields, " {name}={}", self.value);
        }
        write!(self.fields, " {name}=\"")?;
        Quoted(&mut self.fields).write_str(&self.value)?;
        self.fields.push('"');
        Ok(())
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "log.line" => self.line = Some(value),
            _ => self.put(field, format_args!("{value}")),
        }
    }

    /// An error is logged with all its sources.
    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut told = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors already end with the text of their source.
            if !told.ends_with(&text) {
                told.push_str(": ");
                told.push_str(&text);
            }
            cause = error.source();
        }
        self.put(field, format_args!("{told}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    /// The lines that `speak` logs, without parts that change between runs.
    fn lines(speak: impl FnOnce()) -> String {
        let lines = Lines::default();
        let shared = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(LineFormat)
            .with_writer(move || shared.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), speak);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_time_level_process_place_message_and_fields() {
        let text = lines(|| tracing::warn!(attempts = 3, host = "a.example", "gave up"));
        let at = line!() - 1;
        let (time, rest) = text.split_at(23);
        assert_eq!((&time[4..5], &time[10..11], &time[19..20]), ("-", " ", ","));
        let pid = process::id();
        assert_eq!(
            rest,
            format!(" - WARNING - pid:{pid} - tests:{at} - gave up attempts=3 host=a.example\n")
        );
    }

    #[test]
    fn an_event_for_a_plugin_names_the_plugins_place() {
        let text = lines(|| {
            tracing::info!(
                log.target = "shortlink::rule",
                log.line = 12u32,
                plugin = "ShortLink",
                "hello"
            );
        });
        assert!(
            text.ends_with(" - rule:12 - hello plugin=ShortLink\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_in_a_message_ends_the_line() {
        let text = lines(|| tracing::info!(reason = %"no\nERROR", "first\r\nsecond"));
        assert!(
            text.ends_with(" - first\\r\\nsecond reason=\"no\\nERROR\"\n"),
            "{text}"
        );
    }

    #[test]
    fn values_cannot_forge_fields() {
        let text = lines(|| tracing::warn!(host = "a status=200", method = "a\"b", "failed"));
        assert!(
            text.ends_with(" - failed host=\"a status=200\" method=\"a\\\"b\"\n"),
            "{text}"
        );
    }

    #[test]
    fn an_error_is_logged_with_its_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot reach a.example")]
        struct Unreachable(#[source] io::Error);
        let error = Unreachable(io::Error::other("refused"));
        let text = lines(|| tracing::error!(error = &error as &dyn Error, "exchange failed"));
        assert!(
            text.ends_with("exchange failed error=\"cannot reach a.example: refused\"\n"),
            "{text}"
        );
    }
}
