//! The layout of a log line, as Python's `logging` writes it: `--log-format`.
//!
//! `%(levelname)-8s` is a field with its width; text between fields is written as it is. Everything is checked here, at
//! the start, so that writing a line cannot fail. `telemetry` writes the lines.

use std::str::FromStr;

use super::suggestion::closest;

/// How a line of the log is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text with fields.
    Text(Vec<LogPart>),
    /// One JSON object in each line.
    Json,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPart {
    /// Text that every line has.
    Literal(String),
    /// A value of the line.
    Field(LogField, FieldWidth),
}

/// A value that every line of the log has, named as in Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogField {
    /// Local time, as `2019-09-27 12:44:02,212`.
    Asctime,
    /// Seconds since 1970.
    Created,
    /// The name of the source file, without its directory.
    Filename,
    /// The part of the program: the name of its module, which is what this log has in place of a function.
    FuncName,
    /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
    LevelName,
    /// The level as a number: 10, 20, 30, 40 or 50.
    LevelNumber,
    /// The line in the source file.
    LineNumber,
    /// The message with its fields.
    Message,
    /// The same as [`FuncName`](Self::FuncName).
    Module,
    /// The milliseconds of the time.
    Msecs,
    /// The full path of the module.
    Name,
    /// The path of the source file.
    PathName,
    /// The id of the process.
    Process,
    /// `proxy`.
    ProcessName,
    /// Milliseconds since the log was started.
    RelativeCreated,
    /// The number of the thread.
    Thread,
    /// The name of the thread.
    ThreadName,
}

/// How wide a field is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldWidth {
    /// Fills up behind the value instead of before it.
    pub is_left: bool,
    /// Fills up with zeros instead of spaces.
    pub is_zero_filled: bool,
    /// The least number of characters.
    pub min: u8,
    /// The greatest number of characters of a text, or the digits after the point of a number with decimals.
    pub precision: Option<u8>,
    /// Written as a number with decimals.
    pub is_decimal: bool,
}

/// Why a text is no layout of a log line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFormatError {
    /// It names no field.
    #[error(
        "is not a log format; write `default`, `json`, or a text with fields such as %(message)s"
    )]
    NoField,
    /// Messages would be lost.
    #[error("has no %(message)s, so lines would have no message")]
    NoMessage,
    /// A field that does not exist.
    #[error("`%({name})` is not a field{}", remedy(.meant))]
    UnknownField {
        /// As written.
        name: String,
        /// The field that may have been meant.
        meant: Option<&'static str>,
    },
    /// A `%` that begins neither `%(name)s` nor `%%`.
    #[error("`{0}`: write %(name)s for a field, and %% for a percent sign")]
    NotAField(String),
    /// Width, precision or type are not possible.
    #[error("`{0}`: a field ends with s, or with d or f if it is a number; widths are at most 255")]
    NotAConversion(String),
}

const FIELDS: [(&str, LogField); 17] = [
    ("asctime", LogField::Asctime),
    ("created", LogField::Created),
    ("filename", LogField::Filename),
    ("funcName", LogField::FuncName),
    ("levelname", LogField::LevelName),
    ("levelno", LogField::LevelNumber),
    ("lineno", LogField::LineNumber),
    ("message", LogField::Message),
    ("module", LogField::Module),
    ("msecs", LogField::Msecs),
    ("name", LogField::Name),
    ("pathname", LogField::PathName),
    ("process", LogField::Process),
    ("processName", LogField::ProcessName),
    ("relativeCreated", LogField::RelativeCreated),
    ("thread", LogField::Thread),
    ("threadName", LogField::ThreadName),
];

fn names() -> Vec<&'static str> {
    FIELDS.iter().map(|(name, _)| *name).collect()
}

fn remedy(meant: &Option<&'static str>) -> String {
    match meant {
        Some(name) => format!("; did you mean %({name})s?"),
        None => format!("; the fields are {}", names().join(", ")),
    }
}

impl LogField {
    fn is_number(self) -> bool {
        matches!(
            self,
            Self::Created
                | Self::LevelNumber
                | Self::LineNumber
                | Self::Msecs
                | Self::Process
                | Self::RelativeCreated
                | Self::Thread
        )
    }
}

/// `%(asctime)s - %(levelname)s - pid:%(process)d - %(funcName)s:%(lineno)d - %(message)s`
impl Default for LogFormat {
    fn default() -> Self {
        let field = |field| LogPart::Field(field, FieldWidth::default());
        let literal = |text: &str| LogPart::Literal(text.to_owned());
        LogFormat::Text(vec![
            field(LogField::Asctime),
            literal(" - "),
            field(LogField::LevelName),
            literal(" - pid:"),
            field(LogField::Process),
            literal(" - "),
            field(LogField::FuncName),
            literal(":"),
            field(LogField::LineNumber),
            literal(" - "),
            field(LogField::Message),
        ])
    }
}

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, LogFormatError> {
        match text {
            "default" => return Ok(Self::default()),
            "json" => return Ok(Self::Json),
            _ => {}
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            push_literal(&rest[..at], &mut parts);
            let (part, len) = field(&rest[at..])?;
            match part {
                LogPart::Literal(text) => push_literal(&text, &mut parts),
                field => parts.push(field),
            }
            rest = &rest[at + len..];
        }
        push_literal(rest, &mut parts);
        let is = |wanted: fn(LogField) -> bool| {
            let is_wanted =
                |part: &LogPart| matches!(part, LogPart::Field(field, _) if wanted(*field));
            parts.iter().any(is_wanted)
        };
        match (is(|_| true), is(|field| field == LogField::Message)) {
            (false, _) => Err(LogFormatError::NoField),
            (true, false) => Err(LogFormatError::NoMessage),
            (true, true) => Ok(Self::Text(parts)),
        }
    }
}

/// Appends text. A line end would make two lines of one.
fn push_literal(text: &str, parts: &mut Vec<LogPart>) {
    let text = text.replace(['\r', '\n'], " ");
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(LogPart::Literal(before)) => before.push_str(&text),
        _ => parts.push(LogPart::Literal(text)),
    }
}

/// The field at the beginning of the text, which is a `%`, and its length.
fn field(text: &str) -> Result<(LogPart, usize), LogFormatError> {
    if text.starts_with("%%") {
        return Ok((LogPart::Literal("%".to_owned()), 2));
    }
    let excerpt = || text.chars().take(20).collect::<String>();
    let not_a_field = || LogFormatError::NotAField(excerpt());
    let named = text.strip_prefix("%(").ok_or_else(not_a_field)?;
    let (name, rest) = named.split_once(')').ok_or_else(not_a_field)?;
    let known = FIELDS.iter().find(|(known, _)| *known == name);
    let (_, field) = known.ok_or_else(|| LogFormatError::UnknownField {
        name: name.to_owned(),
        meant: closest(name, &names()),
    })?;
    let no_conversion = || LogFormatError::NotAConversion(excerpt());
    let (width, len) = width(rest, *field).ok_or_else(no_conversion)?;
    let len = "%()".len() + name.len() + len;
    Ok((LogPart::Field(*field, width), len))
}

/// Flags, width, precision and type at the beginning of the text, and their length.
fn width(text: &str, field: LogField) -> Option<(FieldWidth, usize)> {
    let flags = text.bytes().take_while(|byte| b"-0".contains(byte)).count();
    let (flags, rest) = text.split_at(flags);
    let (min, rest) = number(rest)?;
    let (precision, rest) = match rest.strip_prefix('.') {
        Some(rest) => number(rest).map(|(digits, rest)| (Some(digits.unwrap_or(0)), rest))?,
        None => (None, rest),
    };
    let is_decimal = match (rest.bytes().next()?, field.is_number()) {
        (b's', _) => false,
        (b'd' | b'i', true) => false,
        (b'f', true) => true,
        _ => return None,
    };
    let width = FieldWidth {
        is_left: flags.contains('-'),
        is_zero_filled: flags.contains('0') && !flags.contains('-'),
        min: min.unwrap_or(0),
        precision,
        is_decimal,
    };
    Some((width, text.len() - rest.len() + 1))
}

/// The number at the beginning of the text, if there is one, and what follows. `None`: it is too large.
fn number(text: &str) -> Option<(Option<u8>, &str)> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(len);
    match digits.is_empty() {
        true => Some((None, rest)),
        false => Some((Some(digits.parse().ok()?), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_can_be_written_as_text() {
        let text =
            "%(asctime)s - %(levelname)s - pid:%(process)d - %(funcName)s:%(lineno)d - %(message)s";
        assert_eq!(text.parse(), Ok(LogFormat::default()));
        assert_eq!("default".parse(), Ok(LogFormat::default()));
    }

    #[test]
    fn a_layout_of_python_is_understood() {
        let parsed =
            "%(asctime)s [%(levelname)-.1s] %(msecs)03d%% %(created).3f %(message)s".parse();
        let width = FieldWidth::default();
        let wanted = vec![
            LogPart::Field(LogField::Asctime, width),
            LogPart::Literal(" [".to_owned()),
            LogPart::Field(
                LogField::LevelName,
                FieldWidth {
                    is_left: true,
                    precision: Some(1),
                    ..width
                },
            ),
            LogPart::Literal("] ".to_owned()),
            LogPart::Field(
                LogField::Msecs,
                FieldWidth {
                    is_zero_filled: true,
                    min: 3,
                    ..width
                },
            ),
            LogPart::Literal("% ".to_owned()),
            LogPart::Field(
                LogField::Created,
                FieldWidth {
                    precision: Some(3),
                    is_decimal: true,
                    ..width
                },
            ),
            LogPart::Literal(" ".to_owned()),
            LogPart::Field(LogField::Message, width),
        ];
        assert_eq!(parsed, Ok(LogFormat::Text(wanted)));
    }

    #[test]
    fn what_is_no_layout_is_refused_with_a_remedy() {
        let refused = |text: &str| text.parse::<LogFormat>().unwrap_err().to_string();
        for (text, reason) in [
            (
                "jsn",
                "is not a log format; write `default`, `json`, or a text with fields such as %(message)s",
            ),
            (
                "%(levelname)s",
                "has no %(message)s, so lines would have no message",
            ),
            (
                "%(levlname)s %(message)s",
                "`%(levlname)` is not a field; did you mean %(levelname)s?",
            ),
            (
                "%(x",
                "`%(x`: write %(name)s for a field, and %% for a percent sign",
            ),
            (
                "100% %(message)s",
                "`% %(message)s`: write %(name)s for a field, and %% for a percent sign",
            ),
            (
                "%(message)d",
                "`%(message)d`: a field ends with s, or with d or f if it is a number; widths are at most 255",
            ),
            (
                "%(message)999s",
                "`%(message)999s`: a field ends with s, or with d or f if it is a number; widths are at most 255",
            ),
            (
                "%(message)",
                "`%(message)`: a field ends with s, or with d or f if it is a number; widths are at most 255",
            ),
        ] {
            assert_eq!(refused(text), reason, "{text}");
        }
        assert!(
            refused("%(zzzzz)s").starts_with("`%(zzzzz)` is not a field; the fields are asctime, ")
        );
    }

    #[test]
    fn a_line_end_in_the_layout_does_not_make_two_lines() {
        let Ok(LogFormat::Text(parts)) = "a\r\nb %(message)s".parse() else {
            panic!("it is a layout")
        };
        assert_eq!(parts[0], LogPart::Literal("a  b ".to_owned()));
    }
}
