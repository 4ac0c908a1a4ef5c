//! The values of an exchange, one for each field that a format may name.
//!
//! Values are written as bytes into a buffer that is used again for each; the caller escapes them as its format requires.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process;
use std::sync::OnceLock;
use std::time::Duration;

use plugin_api::abi::TimelineView;

use super::line::push_decimal;
use super::record::{AccessDetails, AccessRecord};
use crate::config::AccessField;
use crate::telemetry::clock::Clock;

/// What kind of value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// There is none.
    Absent,
    /// Text that a peer or a plugin may have chosen.
    Text,
    /// Text of the proxy itself, which needs no escapes.
    Plain,
    /// A number, or `true` or `false`.
    Literal,
}

use ValueKind::{Absent, Literal, Plain, Text};

/// Replaces `out` by the value of a field.
pub(super) fn write_value(
    field: &AccessField,
    record: &AccessRecord<'_>,
    clock: &Clock,
    out: &mut Vec<u8>,
) -> ValueKind {
    out.clear();
    match field {
        AccessField::Time => text(clock.text().as_bytes(), Plain, out),
        AccessField::TimeLocal => {
            clock.push_common(out);
            Plain
        }
        AccessField::TimeIso8601 => {
            clock.push_rfc3339(out);
            Plain
        }
        AccessField::TimeEpoch => {
            push_thousandths(clock.since_1970().as_millis(), out);
            Literal
        }
        AccessField::Pid => number(process::id().into(), out),
        AccessField::Client => address(record.client, out),
        AccessField::ClientIp => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{}", record.client.ip().to_canonical());
            Plain
        }
        AccessField::ClientPort => number(record.client.port().into(), out),
        AccessField::User => text(record.user.as_bytes(), Text, out),
        AccessField::Method => text(present(record.method.as_bytes()), Text, out),
        AccessField::Path => text(path(record), Text, out),
        AccessField::Upstream => match record.upstream.filter(|_| !record.is_web) {
            Some((host, port)) => {
                push_authority(host, port, out);
                Text
            }
            None => Absent,
        },
        AccessField::DurationMs => duration(record.elapsed, out),
        AccessField::Note => text(record.note.unwrap_or_default().as_bytes(), Text, out),
        AccessField::PluginFields => plugin_fields(record, out),
        AccessField::PluginField(name) => plugin_field(name, record, out),
        AccessField::Cache => plugin_field("cache", record, out),
        field => match record.details {
            Some(details) => write_detail(field, record, details, out),
            None => Absent,
        },
    }
}

fn write_detail(
    field: &AccessField,
    record: &AccessRecord<'_>,
    details: &AccessDetails<'_>,
    out: &mut Vec<u8>,
) -> ValueKind {
    let tls = details.tls.as_ref();
    match field {
        AccessField::RequestId => request_id(details.exchange_id, out),
        AccessField::ConnectionId => positive(details.connection_id, out),
        AccessField::Request => request(record, details, out),
        AccessField::Url => url(record, details, out),
        AccessField::Scheme => text(details.scheme.as_bytes(), Plain, out),
        AccessField::Host => text(details.host.as_bytes(), Text, out),
        AccessField::Port => positive(details.port.into(), out),
        AccessField::Version => text(details.version.as_bytes(), Plain, out),
        AccessField::RequestHeader(name) => request_header(name, details, out),
        AccessField::Status => positive(details.status.into(), out),
        AccessField::BytesSent => number(details.bytes_sent, out),
        AccessField::BytesReceived => number(details.bytes_received, out),
        AccessField::ContentType => text(details.content_type, Text, out),
        AccessField::UpstreamAddress => match details.upstream_address {
            Some(upstream) => address(upstream, out),
            None => Absent,
        },
        AccessField::UpstreamReused => match details.has_upstream {
            true if details.timeline.is_reused != 0 => text(b"true", Literal, out),
            true => text(b"false", Literal, out),
            false => Absent,
        },
        AccessField::AnsweredBy => text(details.answered_by.as_bytes(), Plain, out),
        AccessField::Verdicts => match details.verdict {
            Some((plugin, verdict)) => {
                out.extend_from_slice(plugin.as_bytes());
                out.push(b':');
                text(verdict.as_bytes(), Text, out)
            }
            None => Absent,
        },
        AccessField::Intercepted => text(details.intercepted.as_bytes(), Text, out),
        AccessField::Error => text(details.error.as_bytes(), Plain, out),
        AccessField::TlsVersion => text(tls.map_or("", |tls| tls.version).as_bytes(), Plain, out),
        AccessField::TlsCipher => text(tls.map_or("", |tls| tls.cipher).as_bytes(), Plain, out),
        AccessField::TlsProtocol => text(tls.map_or("", |tls| tls.protocol).as_bytes(), Text, out),
        AccessField::TlsServerName => {
            text(tls.map_or("", |tls| tls.server_name).as_bytes(), Text, out)
        }
        field => moment(field, &details.timeline, out),
    }
}

/// A span of the exchange, in milliseconds.
fn moment(field: &AccessField, moments: &TimelineView, out: &mut Vec<u8>) -> ValueKind {
    // A reused connection was dialled for another exchange.
    let resolved = match moments.resolved {
        TimelineView::NEVER => moments.dial_begun,
        resolved => resolved,
    };
    let (from, to) = match field {
        AccessField::HeadMs => (0, moments.head_read),
        AccessField::PluginsMs => (moments.head_read, moments.decided),
        AccessField::ResolveMs => (moments.dial_begun, moments.resolved),
        AccessField::ConnectMs => (resolved, moments.connected),
        AccessField::TlsMs => (moments.connected, moments.secured),
        AccessField::WaitMs => (moments.sent, moments.answer_begun),
        AccessField::FirstByteMs => (0, moments.answer_begun),
        _ => return Absent,
    };
    match [from, to].contains(&TimelineView::NEVER) {
        true => Absent,
        // A plugin may have resolved the name before, and a response may overtake its request.
        false => duration(Duration::from_micros(to.saturating_sub(from)), out),
    }
}

fn text(text: &[u8], kind: ValueKind, out: &mut Vec<u8>) -> ValueKind {
    out.extend_from_slice(text);
    match out.is_empty() {
        true => Absent,
        false => kind,
    }
}

fn number(number: u64, out: &mut Vec<u8>) -> ValueKind {
    push_decimal(number, 1, out);
    Literal
}

/// A number that is unknown if it is 0.
fn positive(value: u64, out: &mut Vec<u8>) -> ValueKind {
    match value {
        0 => Absent,
        value => number(value, out),
    }
}

/// Milliseconds with three decimals.
fn duration(duration: Duration, out: &mut Vec<u8>) -> ValueKind {
    push_thousandths(duration.as_micros(), out);
    Literal
}

fn push_thousandths(thousandths: u128, out: &mut Vec<u8>) {
    let thousandths = u64::try_from(thousandths).unwrap_or(u64::MAX);
    push_decimal(thousandths / 1000, 1, out);
    out.push(b'.');
    push_decimal(thousandths % 1000, 3, out);
}

fn address(address: SocketAddr, out: &mut Vec<u8>) -> ValueKind {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{address}");
    Plain
}

/// Nothing for what the default format shows as `-`.
fn present(text: &[u8]) -> &[u8] {
    match text {
        b"-" => b"",
        text => text,
    }
}

fn path<'a>(record: &AccessRecord<'a>) -> &'a [u8] {
    match record.method {
        "CONNECT" => b"",
        _ => present(record.path),
    }
}

fn push_authority(host: &str, port: u16, out: &mut Vec<u8>) {
    match host.contains(':') {
        // Writing to a Vec cannot fail.
        true => drop(write!(out, "[{host}]:{port}")),
        false => drop(write!(out, "{host}:{port}")),
    }
}

/// A number of this process, and the number of the exchange in it.
fn request_id(exchange: u64, out: &mut Vec<u8>) -> ValueKind {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    if exchange == 0 {
        return Absent;
    }
    let process = PROCESS.get_or_init(|| {
        let mut bytes = [0; 8];
        // Without randomness the ids of one process still differ.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        u64::from_be_bytes(bytes)
    });
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{process:016x}-{exchange}");
    Plain
}

/// The requested host and port, if they are known.
fn authority<'a>(record: &AccessRecord<'a>, details: &AccessDetails<'a>) -> Option<(&'a str, u16)> {
    match details.host {
        "" => record.asked,
        host => Some((host, details.port)),
    }
}

pub(super) fn url(
    record: &AccessRecord<'_>,
    details: &AccessDetails<'_>,
    out: &mut Vec<u8>,
) -> ValueKind {
    let is_connect = record.method == "CONNECT";
    if let Some((host, port)) = authority(record, details) {
        if !is_connect {
            let scheme = if details.scheme.is_empty() {
                "http"
            } else {
                details.scheme
            };
            out.extend_from_slice(scheme.as_bytes());
            out.extend_from_slice(b"://");
        }
        let default = if details.scheme == "https" { 443 } else { 80 };
        match is_connect || port != default {
            true => push_authority(host, port, out),
            false if host.contains(':') => drop(write!(out, "[{host}]")),
            false => out.extend_from_slice(host.as_bytes()),
        }
    }
    text(path(record), Text, out)
}

fn request(record: &AccessRecord<'_>, details: &AccessDetails<'_>, out: &mut Vec<u8>) -> ValueKind {
    out.extend_from_slice(present(record.method.as_bytes()));
    if out.is_empty() {
        return Absent;
    }
    out.push(b' ');
    let before = out.len();
    url(record, details, out);
    if out.len() == before {
        out.push(b'-');
    }
    if !details.version.is_empty() {
        out.push(b' ');
        out.extend_from_slice(details.version.as_bytes());
    }
    Text
}

/// The values of all fields of this name.
fn request_header(name: &str, details: &AccessDetails<'_>, out: &mut Vec<u8>) -> ValueKind {
    let values = details
        .request_fields
        .iter()
        .flat_map(|fields| fields.named(name));
    for value in values {
        if !out.is_empty() {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(value);
    }
    text(b"", Text, out)
}

fn plugin_field(name: &str, record: &AccessRecord<'_>, out: &mut Vec<u8>) -> ValueKind {
    let field = record.fields.iter().rfind(|(key, _)| key == name);
    text(field.map_or("", |(_, value)| value).as_bytes(), Text, out)
}

fn plugin_fields(record: &AccessRecord<'_>, out: &mut Vec<u8>) -> ValueKind {
    for (key, value) in record.fields {
        if !out.is_empty() {
            out.push(b' ');
        }
        for text in [key.as_str(), "=", value.as_str()] {
            out.extend_from_slice(text.as_bytes());
        }
    }
    text(b"", Text, out)
}
