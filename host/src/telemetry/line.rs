//! The layout of a line of the log.
//!
//! `<time> - <LEVEL> - pid:<id> - <module>:<line> - <message> key=value ...`, unless `log_format` says otherwise. An event
//! on behalf of a plugin gives its location in the fields `log.target` and `log.line`. A value that is not a single word is
//! quoted, so that text from peers cannot imitate a field or the message. There are no spans: the fields of an event
//! identify its exchange, which costs nothing while the level is disabled.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::path::Path;
use std::process;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::clock::Clock;
use super::escape::{Escaped, Quoted, is_word};
use super::json;
use crate::config::{FieldWidth, LogField, LogFormat, LogPart};

thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::new(Clock::local());
}

/// How lines are laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: LogFormat,
    /// Levels have colours: the log goes to a terminal.
    pub(super) is_coloured: bool,
}

impl Layout {
    fn is_json(&self) -> bool {
        self.format == LogFormat::Json
    }
}

/// The layout that is in force. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedLayout(Arc<RwLock<Arc<Layout>>>);

impl SharedLayout {
    pub(super) fn new(layout: Layout) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(layout))))
    }

    pub(super) fn get(&self) -> Arc<Layout> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, layout: Layout) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(layout);
    }
}

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineLevel {
    pub(super) word: &'static str,
    /// As Python numbers it.
    number: u32,
    /// The code of its colour on a terminal.
    colour: u8,
}

impl LineLevel {
    pub(super) const WARNING: Self = Self::new("WARNING", 30, 33);
    pub(super) const INFO: Self = Self::new("INFO", 20, 32);

    const fn new(word: &'static str, number: u32, colour: u8) -> Self {
        Self {
            word,
            number,
            colour,
        }
    }

    pub(super) fn of(level: &Level) -> Self {
        match *level {
            Level::ERROR => Self::new("ERROR", 40, 31),
            Level::WARN => Self::WARNING,
            Level::INFO => Self::INFO,
            Level::DEBUG => Self::new("DEBUG", 10, 34),
            Level::TRACE => Self::new("TRACE", 5, 35),
        }
    }
}

/// A line before it is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) level: LineLevel,
    /// The module, such as `proxy_host::server`.
    pub(super) path: &'a str,
    /// The source file; empty if it is unknown.
    pub(super) file: &'a str,
    /// The line in the source file; 0 if it is unknown.
    pub(super) line: u64,
    pub(super) message: &'a str,
    /// What follows the message, already in the form of the layout.
    pub(super) fields: &'a str,
}

impl<'a> Entry<'a> {
    /// A line that the log writes itself.
    pub(super) fn own(line: u32, level: LineLevel, message: &'a str) -> Self {
        Self {
            level,
            path: "proxy_host::telemetry::log",
            file: file!(),
            line: line.into(),
            message,
            fields: "",
        }
    }

    /// The last part of the module's path.
    fn module(&self) -> &'a str {
        self.path.rsplit("::").next().unwrap_or(self.path)
    }

    /// Writes the line as it is laid out, with its end.
    pub(super) fn write(&self, layout: &Layout, out: &mut impl Write) -> fmt::Result {
        CLOCK.with_borrow_mut(|clock| {
            clock.set(SystemTime::now());
            match &layout.format {
                LogFormat::Json => self.write_json(clock, out)?,
                LogFormat::Text(parts) => {
                    for part in parts {
                        self.write_part(part, layout, clock, out)?;
                    }
                }
            }
            out.write_char('\n')
        })
    }

    /// Writes one part of a layout.
    pub(super) fn write_part(
        &self,
        part: &LogPart,
        layout: &Layout,
        clock: &mut Clock,
        out: &mut impl Write,
    ) -> fmt::Result {
        match part {
            LogPart::Literal(text) => out.write_str(text),
            LogPart::Field(LogField::Message, width) if *width == FieldWidth::default() => {
                Escaped(out).write_str(self.message)?;
                out.write_str(self.fields)
            }
            LogPart::Field(LogField::LevelName, width) if layout.is_coloured => {
                write!(out, "\x1b[{}m", self.level.colour)?;
                self.write_field(LogField::LevelName, *width, clock, out)?;
                out.write_str("\x1b[0m")
            }
            LogPart::Field(field, width) => self.write_field(*field, *width, clock, out),
        }
    }

    /// Writes a field in its width.
    pub(super) fn write_field(
        &self,
        field: LogField,
        width: FieldWidth,
        clock: &mut Clock,
        out: &mut impl Write,
    ) -> fmt::Result {
        match field {
            LogField::Asctime => write_text(clock.text(), width, out),
            LogField::LevelName => write_text(self.level.word, width, out),
            LogField::FuncName | LogField::Module => write_text(self.module(), width, out),
            LogField::Name => write_text(self.path, width, out),
            LogField::PathName => write_text(self.file, width, out),
            LogField::Filename => {
                let name = Path::new(self.file).file_name();
                write_text(
                    name.and_then(|name| name.to_str()).unwrap_or("-"),
                    width,
                    out,
                )
            }
            LogField::ProcessName => write_text("proxy", width, out),
            LogField::ThreadName => write_text(thread::current().name().unwrap_or("-"), width, out),
            LogField::Message => {
                let mut message = String::new();
                Escaped(&mut message).write_str(self.message)?;
                message.push_str(self.fields);
                write_text(&message, width, out)
            }
            LogField::LevelNumber => write_whole(self.level.number.into(), width, out),
            LogField::LineNumber => write_whole(self.line, width, out),
            LogField::Process => write_whole(process::id().into(), width, out),
            LogField::Thread => write_whole(thread_number(), width, out),
            LogField::Msecs => {
                let millis = clock.since_1970().subsec_micros();
                write_number(f64::from(millis) / 1000.0, width, out)
            }
            LogField::Created => write_number(clock.since_1970().as_secs_f64(), width, out),
            LogField::RelativeCreated => {
                let since = clock.since_1970().saturating_sub(begun_at());
                write_number(since.as_secs_f64() * 1000.0, width, out)
            }
        }
    }

    fn write_json(&self, clock: &Clock, out: &mut impl Write) -> fmt::Result {
        let mut line = Vec::with_capacity(256);
        self.push_json_head(&mut line, |line| clock.push_rfc3339(line));
        json::push_string(self.message, &mut line);
        out.write_str(&String::from_utf8_lossy(&line))?;
        out.write_str(self.fields)?;
        out.write_char('}')
    }

    /// Appends what stands before the message of an object.
    pub(super) fn push_json_head(&self, line: &mut Vec<u8>, push_time: impl FnOnce(&mut Vec<u8>)) {
        line.extend_from_slice(b"{\"time\":\"");
        push_time(line);
        line.extend_from_slice(b"\",\"level\":\"");
        line.extend_from_slice(self.level.word.as_bytes());
        line.extend_from_slice(b"\",\"process\":");
        line.extend_from_slice(process::id().to_string().as_bytes());
        line.extend_from_slice(b",\"module\":");
        json::push_string(self.module(), line);
        line.extend_from_slice(b",\"line\":");
        line.extend_from_slice(self.line.to_string().as_bytes());
        line.extend_from_slice(b",\"message\":");
    }
}

/// The keys that every object has.
const JSON_KEYS: [&str; 6] = ["time", "level", "process", "module", "line", "message"];

/// When the log was started, since 1970.
pub(super) fn begun_at() -> Duration {
    static BEGUN_AT: OnceLock<Duration> = OnceLock::new();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    *BEGUN_AT.get_or_init(|| now().unwrap_or_default())
}

/// The number in the id of this thread.
fn thread_number() -> u64 {
    let id = format!("{:?}", thread::current().id());
    let digits = id.trim_matches(|letter: char| !letter.is_ascii_digit());
    digits.parse().unwrap_or(0)
}

fn write_text(text: &str, width: FieldWidth, out: &mut impl Write) -> fmt::Result {
    let text = match width.precision {
        Some(most) => match text.char_indices().nth(most.into()) {
            Some((end, _)) => &text[..end],
            None => text,
        },
        None => text,
    };
    let min = usize::from(width.min);
    match width.is_left {
        true => write!(Escaped(out), "{text:<min$}"),
        false => write!(Escaped(out), "{text:>min$}"),
    }
}

fn write_whole(number: u64, width: FieldWidth, out: &mut impl Write) -> fmt::Result {
    let min = usize::from(width.min);
    match (width.is_decimal, width.is_left, width.is_zero_filled) {
        (true, ..) => write_number(number as f64, width, out),
        (false, true, _) => write!(out, "{number:<min$}"),
        (false, false, true) => write!(out, "{number:0>min$}"),
        (false, false, false) => write!(out, "{number:>min$}"),
    }
}

fn write_number(number: f64, width: FieldWidth, out: &mut impl Write) -> fmt::Result {
    let min = usize::from(width.min);
    let digits = match (width.is_decimal, width.precision) {
        (true, precision) => usize::from(precision.unwrap_or(6)),
        (false, _) => 0,
    };
    let number = if width.is_decimal {
        number
    } else {
        number.trunc()
    };
    match (width.is_left, width.is_zero_filled) {
        (true, _) => write!(out, "{number:<min$.digits$}"),
        (false, true) => write!(out, "{number:0>min$.digits$}"),
        (false, false) => write!(out, "{number:>min$.digits$}"),
    }
}

/// Lays out the lines of events.
pub(super) struct LineFormat(pub(super) SharedLayout);

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
        let layout = self.0.get();
        let mut said = EventText::new(layout.is_json());
        event.record(&mut said);
        said.entry(event.metadata()).write(&layout, &mut writer)
    }
}

/// The text of an event, ready to be written.
struct EventText {
    is_json: bool,
    message: String,
    /// ` key=value` for each field, or `,"key":value` in JSON.
    fields: String,
    target: Option<String>,
    line: Option<u64>,
    /// A buffer for a value until it is known whether it needs quotes.
    value: String,
}

impl EventText {
    fn new(is_json: bool) -> Self {
        Self {
            is_json,
            message: String::new(),
            fields: String::new(),
            target: None,
            line: None,
            value: String::new(),
        }
    }

    fn entry<'a>(&'a self, metadata: &'a Metadata<'_>) -> Entry<'a> {
        let own_path = metadata.module_path().unwrap_or(metadata.target());
        let own_line = metadata
            .line()
            .filter(|_| self.target.is_none())
            .map(u64::from);
        let own_file = metadata.file().filter(|_| self.target.is_none());
        Entry {
            level: LineLevel::of(metadata.level()),
            path: self.target.as_deref().unwrap_or(own_path),
            file: own_file.unwrap_or_default(),
            line: self.line.or(own_line).unwrap_or(0),
            message: &self.message,
            fields: &self.fields,
        }
    }

    /// Appends a field, or sets the message.
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail; a Display that fails loses only its own text.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            "log.target" => self.target.get_or_insert_default().write_fmt(value),
            name if self.is_json => {
                self.value.clear();
                let _ = self.value.write_fmt(value);
                self.put_json(name);
                Ok(())
            }
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

    /// Appends the buffered value as a string.
    fn put_json(&mut self, name: &str) {
        let mut field = Vec::new();
        json::push_string(&self.value, &mut field);
        self.put_json_key(name);
        self.fields.push_str(&String::from_utf8_lossy(&field));
    }

    fn put_json_key(&mut self, name: &str) {
        let prefix = match JSON_KEYS.contains(&name) {
            true => "field.",
            false => "",
        };
        // Names of fields are identifiers of Rust. Writing to a String cannot fail.
        let _ = write!(self.fields, ",\"{prefix}{name}\":");
    }

    /// Appends a number or a truth value.
    fn put_plain(&mut self, field: &Field, value: &dyn fmt::Display) {
        match self.is_json {
            true => {
                self.put_json_key(field.name());
                // Writing to a String cannot fail.
                let _ = write!(self.fields, "{value}");
            }
            false => self.put(field, format_args!("{value}")),
        }
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
            _ => self.put_plain(field, &value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put_plain(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put_plain(field, &value);
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
        lines_of(LogFormat::default(), speak)
    }

    fn lines_of(format: LogFormat, speak: impl FnOnce()) -> String {
        let layout = Layout {
            format,
            is_coloured: false,
        };
        let lines = Lines::default();
        let shared = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(LineFormat(SharedLayout::new(layout)))
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

    #[test]
    fn a_layout_of_python_says_where_each_value_stands() {
        let format = "[%(levelname)-8s|%(levelname).1s|%(levelno)s] %(name)s %(filename)s %(process)08d %(threadName)s %(message)s!";
        let text = lines_of(format.parse().unwrap(), || {
            tracing::warn!(host = "a b", "gave up");
        });
        let pid = process::id();
        let thread = thread::current().name().unwrap_or("-").to_owned();
        assert_eq!(
            text,
            format!(
                "[WARNING |W|30] {} line.rs {pid:08} {thread} gave up host=\"a b\"!\n",
                module_path!()
            )
        );
    }

    #[test]
    fn numbers_have_their_width_and_digits() {
        let format = "%(msecs)03d %(created).3f %(relativeCreated)d %(lineno)5d %(message).4s";
        let text = lines_of(format.parse().unwrap(), || tracing::info!("a message"));
        let at = line!() - 1;
        let parts: Vec<&str> = text.split_whitespace().collect();
        assert!(
            parts[0].len() == 3 && parts[0].parse::<u16>().is_ok(),
            "{text}"
        );
        assert!(
            parts[1]
                .split_once('.')
                .is_some_and(|(_, millis)| millis.len() == 3),
            "{text}"
        );
        assert!(parts[2].parse::<u64>().is_ok(), "{text}");
        assert!(text.ends_with(&format!(" {at:5} a me\n")), "{text}");
    }

    #[test]
    fn json_has_a_key_for_each_field_and_is_valid() {
        let text = lines_of(LogFormat::Json, || {
            tracing::info!(
                attempts = 3,
                is_last = true,
                line = "mine",
                client.address = "a \"b\"\u{202e}",
                "first\n\"second\""
            );
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["module"]),
            (&"INFO".into(), &"tests".into())
        );
        assert_eq!(line["message"], "first\n\"second\"");
        assert_eq!(
            (&line["attempts"], &line["is_last"]),
            (&3.into(), &true.into())
        );
        assert_eq!(line["client.address"], "a \"b\"\u{202e}");
        assert_eq!(line["field.line"], "mine");
        assert!(
            line["line"].is_u64() && line["process"] == process::id(),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn levels_have_colours_on_a_terminal() {
        let layout = Layout {
            is_coloured: true,
            ..Layout::default()
        };
        let mut text = String::new();
        let entry = Entry::own(7, LineLevel::WARNING, "hot");
        entry.write(&layout, &mut text).unwrap();
        assert!(
            text.contains(" - \x1b[33mWARNING\x1b[0m - pid:"),
            "{text:?}"
        );
        assert!(text.ends_with(" - log:7 - hot\n"), "{text:?}");
    }
}
