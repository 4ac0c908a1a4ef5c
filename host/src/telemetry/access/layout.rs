//! The layout of access log lines, ready for use: what is the same in all lines is text already.

use std::time::SystemTime;

use super::line::write_record;
use super::record::{AccessNeeds, AccessRecord};
use super::template::{write_json, write_squid, write_template};
use crate::config::{
    AccessField, AccessFormat, AccessPart, FieldWidth, LogField, LogFormat, LogPart,
};
use crate::telemetry::clock::Clock;
use crate::telemetry::json;
use crate::telemetry::line::{Entry, Layout, LineLevel};

/// A part of a line.
#[derive(Debug)]
pub(super) enum LinePart {
    /// The same in every line.
    Text(Vec<u8>),
    /// The time, as the log has it.
    Time,
    /// The line of the exchange.
    Message,
    /// The same as a string of JSON.
    JsonMessage,
    /// The time as RFC 3339 has it.
    Rfc3339,
    /// Another field of the log that changes.
    Field(LogField, FieldWidth),
}

/// How access log lines are laid out.
#[derive(Debug)]
pub(super) enum AccessLayout {
    /// As those of the log, with the exchange as their message.
    Log(Vec<LinePart>),
    Template(Vec<AccessPart>),
    Json,
    Squid,
}

/// What stands in the log for the access log.
const ENTRY: Entry<'_> = Entry {
    level: LineLevel::INFO,
    path: "proxy_host::telemetry::access_log",
    file: file!(),
    line: line!() as u64,
    message: "",
    fields: "",
};

impl AccessLayout {
    /// The layout of a format; `log` is that of the log.
    pub(super) fn new(format: &AccessFormat, log: &Layout) -> Self {
        match format {
            AccessFormat::Default => Self::Log(join(match &log.format {
                LogFormat::Text(parts) => parts.iter().map(|part| text_part(part, log)).collect(),
                LogFormat::Json => json_parts(),
            })),
            AccessFormat::Template(parts) => Self::Template(parts.clone()),
            AccessFormat::Json => Self::Json,
            AccessFormat::Squid => Self::Squid,
        }
    }

    /// What the lines show that has to be known at the end of an exchange.
    pub(super) fn needs(&self) -> AccessNeeds {
        match self {
            Self::Log(_) => AccessNeeds::default(),
            Self::Template(parts) => {
                parts
                    .iter()
                    .fold(AccessNeeds::default(), |needs, part| match part {
                        AccessPart::Literal(_) => needs,
                        AccessPart::Field(field, _) => needs.and(needs_of(field)),
                    })
            }
            Self::Json => AccessNeeds {
                details: true,
                ids: true,
                timeline: true,
                tls: true,
                upstream_address: true,
                content_type: true,
            },
            Self::Squid => AccessNeeds {
                details: true,
                upstream_address: true,
                content_type: true,
                ..AccessNeeds::default()
            },
        }
    }

    /// Appends a line with its end. `scratch` is a buffer.
    pub(super) fn write(
        &self,
        record: &AccessRecord<'_>,
        clock: &mut Clock,
        line: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) {
        clock.set(SystemTime::now());
        match self {
            Self::Log(parts) => write_log_line(parts, record, clock, line, scratch),
            Self::Template(parts) => write_template(parts, record, clock, line, scratch),
            Self::Json => write_json(record, clock, line, scratch),
            Self::Squid => write_squid(record, clock, line, scratch),
        }
        line.push(b'\n');
    }
}

fn write_log_line(
    parts: &[LinePart],
    record: &AccessRecord<'_>,
    clock: &mut Clock,
    line: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) {
    for part in parts {
        match part {
            LinePart::Text(text) => line.extend_from_slice(text),
            LinePart::Time => line.extend_from_slice(clock.text().as_bytes()),
            LinePart::Message => write_record(record, line),
            LinePart::JsonMessage => {
                scratch.clear();
                write_record(record, scratch);
                json::push_bytes(scratch, line);
            }
            LinePart::Rfc3339 => clock.push_rfc3339(line),
            LinePart::Field(field, width) => push_field(record, *field, *width, clock, line),
        }
    }
}

/// What a field shows that has to be known at the end of an exchange.
fn needs_of(field: &AccessField) -> AccessNeeds {
    let mut needs = AccessNeeds {
        details: true,
        ..AccessNeeds::default()
    };
    match field {
        AccessField::RequestId => needs.ids = true,
        AccessField::TlsVersion
        | AccessField::TlsCipher
        | AccessField::TlsProtocol
        | AccessField::TlsServerName => needs.tls = true,
        AccessField::UpstreamAddress => needs.upstream_address = true,
        AccessField::ContentType => needs.content_type = true,
        AccessField::UpstreamReused
        | AccessField::HeadMs
        | AccessField::PluginsMs
        | AccessField::ResolveMs
        | AccessField::ConnectMs
        | AccessField::TlsMs
        | AccessField::WaitMs
        | AccessField::FirstByteMs => needs.timeline = true,
        _ => {}
    }
    needs
}

fn text_part(part: &LogPart, layout: &Layout) -> LinePart {
    let (field, width) = match part {
        LogPart::Literal(text) => return LinePart::Text(text.clone().into_bytes()),
        LogPart::Field(field, width) => (*field, *width),
    };
    let is_plain = width == FieldWidth::default();
    match field {
        LogField::Message if is_plain => LinePart::Message,
        LogField::Asctime if is_plain => LinePart::Time,
        LogField::Message
        | LogField::Asctime
        | LogField::Created
        | LogField::Msecs
        | LogField::RelativeCreated
        | LogField::Thread
        | LogField::ThreadName => LinePart::Field(field, width),
        _ => {
            let mut text = String::new();
            // Writing to a String cannot fail.
            let _ = ENTRY.write_part(part, layout, &mut Clock::local(), &mut text);
            LinePart::Text(text.into_bytes())
        }
    }
}

fn json_parts() -> Vec<LinePart> {
    let mut parts = Vec::new();
    let mut text = Vec::new();
    ENTRY.push_json_head(&mut text, |before| {
        parts.push(LinePart::Text(std::mem::take(before)));
        parts.push(LinePart::Rfc3339);
    });
    parts.push(LinePart::Text(text));
    parts.push(LinePart::JsonMessage);
    parts.push(LinePart::Text(b"}".to_vec()));
    parts
}

/// Joins texts that follow one another.
fn join(parts: Vec<LinePart>) -> Vec<LinePart> {
    let mut joined: Vec<LinePart> = Vec::with_capacity(parts.len());
    for part in parts {
        match (joined.last_mut(), part) {
            (Some(LinePart::Text(before)), LinePart::Text(text)) => before.extend(text),
            (_, part) => joined.push(part),
        }
    }
    joined
}

/// Appends a field of the log that few layouts have; it may allocate.
fn push_field(
    record: &AccessRecord<'_>,
    field: LogField,
    width: FieldWidth,
    clock: &mut Clock,
    line: &mut Vec<u8>,
) {
    let mut message = Vec::new();
    if field == LogField::Message {
        write_record(record, &mut message);
    }
    let message = String::from_utf8_lossy(&message);
    let entry = Entry {
        message: &message,
        ..ENTRY
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = entry.write_field(field, width, clock, &mut text);
    line.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AccessRecord<'static> {
        AccessRecord {
            path: b"/\"quoted\"",
            ..AccessRecord::sample()
        }
    }

    fn line(format: &str) -> String {
        let layout = Layout {
            format: format.parse().unwrap(),
            is_coloured: false,
        };
        let mut line = Vec::new();
        let layout = AccessLayout::new(&AccessFormat::Default, &layout);
        layout.write(&record(), &mut Clock::local(), &mut line, &mut Vec::new());
        String::from_utf8(line).unwrap()
    }

    const MESSAGE: &str =
        "::1:49911 - GET google.com:80/\"quoted\" - 200 OK - 556 bytes - 12.34 ms";

    #[test]
    fn a_line_has_the_layout_of_the_log() {
        let whole = line("default");
        let (time, rest) = whole.split_at(23);
        assert_eq!(time.as_bytes()[19], b',');
        let (pid, at) = (std::process::id(), ENTRY.line);
        assert_eq!(
            rest,
            format!(" - INFO - pid:{pid} - access_log:{at} - {MESSAGE}\n")
        );
        assert_eq!(
            line("%(levelname).1s %(name)s %(message)s"),
            format!("I proxy_host::telemetry::access_log {MESSAGE}\n")
        );
        assert_eq!(line("%(message).9s|"), "::1:49911|\n");
    }

    #[test]
    fn a_line_is_an_object_if_those_of_the_log_are() {
        let object: serde_json::Value = serde_json::from_str(&line("json")).unwrap();
        assert_eq!(object["message"], MESSAGE);
        assert_eq!(
            (&object["level"], &object["module"]),
            (&"INFO".into(), &"access_log".into())
        );
    }

    #[test]
    fn what_is_the_same_in_all_lines_is_one_text() {
        let layout = AccessLayout::new(&AccessFormat::Default, &Layout::default());
        let AccessLayout::Log(parts) = layout else {
            panic!("{layout:?}")
        };
        assert!(
            matches!(
                parts[..],
                [LinePart::Time, LinePart::Text(_), LinePart::Message]
            ),
            "{parts:?}"
        );
    }
}
