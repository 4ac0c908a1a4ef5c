//! Lines by a template, as JSON, and as squid writes them.

use super::line::push_decimal;
use super::record::{AccessDetails, AccessRecord};
use super::value::{ValueKind, url, write_value};
use crate::config::{AccessField, AccessPart, Escape};
use crate::telemetry::clock::Clock;
use crate::telemetry::json;

/// Appends a line by a template, without its end.
pub(super) fn write_template(
    parts: &[AccessPart],
    record: &AccessRecord<'_>,
    clock: &Clock,
    line: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) {
    for part in parts {
        match part {
            AccessPart::Literal(text) => line.extend_from_slice(text.as_bytes()),
            AccessPart::Field(field, escape) => match write_value(field, record, clock, scratch) {
                ValueKind::Absent => line.push(b'-'),
                ValueKind::Plain | ValueKind::Literal => line.extend_from_slice(scratch),
                ValueKind::Text => push_escaped(scratch, *escape, line),
            },
        }
    }
}

/// Appends text from a peer as a part of a line. A value cannot pass for a missing one, nor end before its end.
fn push_escaped(text: &[u8], escape: Escape, line: &mut Vec<u8>) {
    let is_dash = text == b"-";
    let may_stand = |byte: u8| match byte {
        b'"' | b'\\' => false,
        b' ' => escape.is_quoted && escape.end != Some(b' '),
        b'!'..=b'~' => escape.end != Some(byte) && !is_dash,
        _ => false,
    };
    for &byte in text {
        match may_stand(byte) {
            true => line.push(byte),
            false => push_hex(b"\\x", byte, line),
        }
    }
}

fn push_hex(before: &[u8], byte: u8, line: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    line.extend_from_slice(before);
    line.push(DIGITS[usize::from(byte >> 4)]);
    line.push(DIGITS[usize::from(byte & 0xf)]);
}

/// The keys of a JSON line: all fields, except for other forms of the same value.
const JSON_FIELDS: &[(&str, AccessField)] = &[
    ("time", AccessField::TimeIso8601),
    ("request_id", AccessField::RequestId),
    ("connection_id", AccessField::ConnectionId),
    ("client_ip", AccessField::ClientIp),
    ("client_port", AccessField::ClientPort),
    ("user", AccessField::User),
    ("method", AccessField::Method),
    ("url", AccessField::Url),
    ("version", AccessField::Version),
    ("status", AccessField::Status),
    ("bytes_sent", AccessField::BytesSent),
    ("bytes_received", AccessField::BytesReceived),
    ("content_type", AccessField::ContentType),
    ("upstream", AccessField::Upstream),
    ("upstream_address", AccessField::UpstreamAddress),
    ("upstream_reused", AccessField::UpstreamReused),
    ("duration_ms", AccessField::DurationMs),
    ("head_ms", AccessField::HeadMs),
    ("plugins_ms", AccessField::PluginsMs),
    ("resolve_ms", AccessField::ResolveMs),
    ("connect_ms", AccessField::ConnectMs),
    ("tls_ms", AccessField::TlsMs),
    ("wait_ms", AccessField::WaitMs),
    ("first_byte_ms", AccessField::FirstByteMs),
    ("answered_by", AccessField::AnsweredBy),
    ("verdicts", AccessField::Verdicts),
    ("cache", AccessField::Cache),
    ("intercepted", AccessField::Intercepted),
    ("error", AccessField::Error),
    ("note", AccessField::Note),
    ("tls_version", AccessField::TlsVersion),
    ("tls_cipher", AccessField::TlsCipher),
    ("tls_protocol", AccessField::TlsProtocol),
    ("tls_server_name", AccessField::TlsServerName),
];

/// Appends a JSON object, without a line end. Every object has every key; what is missing is null.
pub(super) fn write_json(
    record: &AccessRecord<'_>,
    clock: &Clock,
    line: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) {
    for (number, (key, field)) in JSON_FIELDS.iter().enumerate() {
        line.extend_from_slice(match number {
            0 => b"{\"",
            // For readers of a log in which all lines are JSON.
            1 => b",\"level\":\"INFO\",\"module\":\"access_log\",\"",
            _ => b",\"",
        });
        line.extend_from_slice(key.as_bytes());
        line.extend_from_slice(b"\":");
        match write_value(field, record, clock, scratch) {
            ValueKind::Absent => line.extend_from_slice(b"null"),
            ValueKind::Literal => line.extend_from_slice(scratch),
            ValueKind::Text | ValueKind::Plain => json::push_bytes(scratch, line),
        }
    }
    line.extend_from_slice(b",\"plugin_fields\":{");
    for (number, (key, value)) in record.fields.iter().enumerate() {
        if number > 0 {
            line.push(b',');
        }
        json::push_string(key, line);
        line.push(b':');
        json::push_string(value, line);
    }
    line.extend_from_slice(b"}}");
}

/// Appends a line in squid's native format, without its end:
/// `time elapsed client result/status bytes method URL user hierarchy/peer type`.
pub(super) fn write_squid(
    record: &AccessRecord<'_>,
    clock: &Clock,
    line: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) {
    let none = AccessDetails::default();
    let details = record.details.unwrap_or(&none);
    let push = |field: &AccessField, line: &mut Vec<u8>, scratch: &mut Vec<u8>| match write_value(
        field, record, clock, scratch,
    ) {
        ValueKind::Absent => line.push(b'-'),
        _ => push_percent(scratch, line),
    };
    push(&AccessField::TimeEpoch, line, scratch);
    line.push(b' ');
    scratch.clear();
    let millis = u64::try_from(record.elapsed.as_millis()).unwrap_or(u64::MAX);
    push_decimal(millis, 1, scratch);
    line.extend(std::iter::repeat_n(
        b' ',
        6_usize.saturating_sub(scratch.len()),
    ));
    line.extend_from_slice(scratch);
    line.push(b' ');
    push(&AccessField::ClientIp, line, scratch);
    line.push(b' ');
    for text in squid_result(record, details) {
        line.extend_from_slice(text.as_bytes());
    }
    line.push(b'/');
    push_decimal(details.status.into(), 3, line);
    line.push(b' ');
    push_decimal(details.bytes_sent, 1, line);
    line.push(b' ');
    push(&AccessField::Method, line, scratch);
    line.push(b' ');
    scratch.clear();
    match url(record, details, scratch) {
        ValueKind::Absent => line.push(b'-'),
        _ => push_percent(scratch, line),
    }
    line.push(b' ');
    push(&AccessField::User, line, scratch);
    match details.upstream_address {
        Some(upstream) => {
            line.extend_from_slice(b" HIER_DIRECT/");
            let ip = upstream.ip().to_canonical().to_string();
            line.extend_from_slice(ip.as_bytes());
        }
        None => line.extend_from_slice(b" HIER_NONE/-"),
    }
    line.push(b' ');
    push(&AccessField::ContentType, line, scratch);
}

/// squid's word for how the request was answered.
fn squid_result(record: &AccessRecord<'_>, details: &AccessDetails<'_>) -> [&'static str; 2] {
    let is_hit = record
        .fields
        .iter()
        .any(|(key, value)| key == "cache" && value == "hit");
    let is_own =
        matches!(details.answered_by, "proxy" | "plugin") || details.answered_by.is_empty();
    let result = match (details.answered_by, details.status) {
        _ if is_hit => "TCP_HIT",
        _ if record.method == "CONNECT" && details.status == 200 => "TCP_TUNNEL",
        (_, 401 | 403 | 407) if is_own => "TCP_DENIED",
        ("plugin", 400..) => "TCP_DENIED",
        ("proxy", _) if !details.has_upstream && details.status < 500 => "NONE",
        _ => "TCP_MISS",
    };
    let is_aborted = matches!(details.error, "client_disconnected" | "client_timeout");
    [result, if is_aborted { "_ABORTED" } else { "" }]
}

/// Appends text from a peer; what could end a field is percent-encoded.
fn push_percent(text: &[u8], line: &mut Vec<u8>) {
    if text == b"-" {
        return push_hex(b"%", b'-', line);
    }
    for &byte in text {
        match byte {
            b'"' | b'\\' => push_hex(b"%", byte, line),
            b'!'..=b'~' => line.push(byte),
            _ => push_hex(b"%", byte, line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AccessFormat;
    use crate::telemetry::access::layout::AccessLayout;
    use crate::telemetry::line::Layout;

    fn details() -> AccessDetails<'static> {
        AccessDetails {
            exchange_id: 7,
            connection_id: 3,
            scheme: "http",
            host: "example.com",
            port: 80,
            version: "HTTP/1.1",
            status: 200,
            bytes_sent: 600,
            bytes_received: 90,
            content_type: b"text/html",
            upstream_address: Some("192.0.2.1:80".parse().unwrap()),
            has_upstream: true,
            answered_by: "upstream",
            ..AccessDetails::default()
        }
    }

    fn record<'a>(details: &'a AccessDetails<'a>) -> AccessRecord<'a> {
        AccessRecord {
            upstream: Some(("example.com", 80)),
            details: Some(details),
            ..AccessRecord::sample()
        }
    }

    fn line(format: &str, record: &AccessRecord<'_>) -> String {
        let format: AccessFormat = format.parse().unwrap();
        let layout = AccessLayout::new(&format, &Layout::default());
        let mut line = Vec::new();
        layout.write(record, &mut Clock::local(), &mut line, &mut Vec::new());
        String::from_utf8(line).unwrap()
    }

    /// The text behind the time, which changes.
    fn behind<'a>(end: &str, line: &'a str) -> &'a str {
        line.split_once(end).map_or("", |(_, rest)| rest)
    }

    #[test]
    fn combined_is_what_web_servers_write() {
        let details = details();
        let mut record = record(&details);
        record.user = "marianne";
        let line = line("combined", &record);
        assert!(line.starts_with("::1 - marianne ["), "{line}");
        assert_eq!(
            behind("] ", &line),
            "\"GET http://example.com/path?q HTTP/1.1\" 200 600 \"-\" \"-\"\n"
        );
    }

    #[test]
    fn squid_is_what_squid_writes() {
        let details = details();
        let mut record = record(&details);
        record.path = b"/a b\"c\n";
        record.user = "a b";
        let line = line("squid", &record);
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(
            time.parse::<f64>().is_ok() && time.split_once('.').unwrap().1.len() == 3,
            "{line}"
        );
        assert_eq!(
            rest,
            "    12 ::1 TCP_MISS/200 600 GET http://example.com/a%20b%22c%0A a%20b HIER_DIRECT/192.0.2.1 text/html\n"
        );
    }

    #[test]
    fn squid_has_a_word_for_each_outcome() {
        let own = |answered_by, status| AccessDetails {
            answered_by,
            status,
            upstream_address: None,
            has_upstream: false,
            ..details()
        };
        for (details, method, shown) in [
            (own("proxy", 407), "GET", "TCP_DENIED/407"),
            (own("plugin", 418), "GET", "TCP_DENIED/418"),
            (own("proxy", 400), "GET", "NONE/400"),
            (own("proxy", 502), "GET", "TCP_MISS/502"),
            (details(), "CONNECT", "TCP_TUNNEL/200"),
            (
                AccessDetails {
                    error: "client_disconnected",
                    status: 0,
                    ..details()
                },
                "GET",
                "TCP_MISS_ABORTED/000",
            ),
        ] {
            let record = AccessRecord {
                method,
                ..record(&details)
            };
            let line = line("squid", &record);
            assert!(line.contains(&format!(" {shown} ")), "{shown}: {line}");
        }
        let details = details();
        let fields = [("cache".to_owned(), "hit".to_owned())];
        let record = AccessRecord {
            fields: &fields,
            ..record(&details)
        };
        assert!(line("squid", &record).contains(" TCP_HIT/200 "));
    }

    #[test]
    fn json_is_valid_and_has_every_key() {
        let mut details = details();
        details.timeline.head_read = 1500;
        details.timeline.sent = 2000;
        details.timeline.answer_begun = 9000;
        let fields = [("k\"".to_owned(), "v\n".to_owned())];
        let mut record = record(&details);
        record.path = b"/\xff\"\\\n\x1b";
        record.fields = &fields;
        let line = line("json", &record);
        assert_eq!(line.lines().count(), 1, "{line}");
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["url"], "http://example.com/\u{fffd}\"\\\n\u{1b}");
        assert_eq!(object["plugin_fields"]["k\""], "v\n");
        assert_eq!(
            (&object["status"], &object["bytes_sent"]),
            (&200.into(), &600.into())
        );
        assert_eq!(object["duration_ms"].as_f64(), Some(12.345));
        assert_eq!(object["wait_ms"].as_f64(), Some(7.0));
        assert_eq!(object["upstream_reused"], false);
        let id = object["request_id"].as_str().unwrap();
        assert!(id.len() == 18 && id.ends_with("-7"), "{id}");
        for (key, _) in JSON_FIELDS {
            assert!(object.get(key).is_some(), "{key}");
        }
        assert!(
            object["connect_ms"].is_null() && object["user"].is_null(),
            "{line}"
        );
    }

    #[test]
    fn a_value_can_neither_end_its_field_nor_the_line() {
        let details = details();
        let mut record = record(&details);
        record.path = b"/a|b \"c\\\n";
        record.user = "-";
        assert_eq!(
            line("{path}|{user}|\"{path}\"|{status}", &record),
            "/a\\x7Cb\\x20\\x22c\\x5C\\x0A|\\x2D|\"/a|b \\x22c\\x5C\\x0A\"|200\n"
        );
        assert_eq!(line("{tls_version} {error} {http_x}", &record), "- - -\n");
    }

    #[test]
    fn every_field_has_a_value_or_a_dash() {
        let none = AccessDetails::default();
        let record = AccessRecord {
            details: None,
            ..record(&none)
        };
        for (name, _) in AccessField::ALL {
            let line = line(&format!("[{{{name}}}]"), &record);
            assert!(line.len() > "[]\n".len(), "{name}");
        }
    }
}
