//! The line of an exchange as it has always been, without what stands before it in the log.
//!
//! `::1:49911 - GET google.com:80/path - 200 OK - 556 bytes - 12.34 ms`. `None` means that there was no such value. Text
//! from peers cannot end a line or imitate a part of it. After the duration follow, each after ` - `: a note for the
//! operator, the requested host if it differs from the upstream, the user, and fields from plugins.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::record::AccessRecord;
use crate::http1;
use crate::telemetry::escape::{push_escaped, push_part, push_quoted, push_unspaced};

/// Appends the line, without its end.
pub(super) fn write_record(record: &AccessRecord<'_>, line: &mut Vec<u8>) {
    let is_connect = record.method == "CONNECT";
    push_address(record.client, line);
    line.extend_from_slice(b" - ");
    push_method(record.method.as_bytes(), line);
    line.push(b' ');
    if !record.is_web {
        push_upstream(record.upstream, line);
    }
    if !is_connect {
        push_unspaced(record.path, line);
    }
    if !is_connect || record.status.is_some_and(|status| status >= 300) {
        push_status(record.status, record.reason, line);
    }
    line.extend_from_slice(b" - ");
    push_decimal(record.response_bytes, 1, line);
    line.extend_from_slice(b" bytes - ");
    push_millis(record.elapsed, line);
    push_notes(record, line);
}

pub(super) fn push_address(client: SocketAddr, line: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = match client.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            for (number, after) in [(a, b'.'), (b, b'.'), (c, b'.'), (d, b':')] {
                push_decimal(number.into(), 1, line);
                line.push(after);
            }
            Ok(())
        }
        IpAddr::V6(ip) => write!(line, "{ip}:"),
    };
    push_decimal(client.port().into(), 1, line);
}

/// Writes a method as it is, or quoted if it could be mistaken for something else.
fn push_method(method: &[u8], line: &mut Vec<u8>) {
    let is_plain = method == b"-"
        || method.first().is_some_and(u8::is_ascii_alphabetic)
            && method
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    match is_plain {
        true => line.extend_from_slice(method),
        false => push_quoted(method, line),
    }
}

fn push_upstream(upstream: Option<(&str, u16)>, line: &mut Vec<u8>) {
    match upstream {
        Some((host, port)) => push_host(host, port, line),
        None => line.extend_from_slice(b"None:None"),
    }
}

pub(super) fn push_host(host: &str, port: u16, line: &mut Vec<u8>) {
    push_unspaced(host.as_bytes(), line);
    line.push(b':');
    push_decimal(port.into(), 1, line);
}

fn push_status(status: Option<u16>, reason: &[u8], line: &mut Vec<u8>) {
    line.extend_from_slice(b" - ");
    match status {
        Some(status) => {
            push_decimal(status.into(), 1, line);
            line.push(b' ');
            match http1::is_usual_reason(status, reason) {
                true => line.extend_from_slice(reason),
                false => push_quoted(reason, line),
            }
        }
        None => line.extend_from_slice(b"None None"),
    }
}

/// Milliseconds with two decimals, truncated.
fn push_millis(elapsed: Duration, line: &mut Vec<u8>) {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    push_decimal(micros / 1000, 1, line);
    line.push(b'.');
    push_decimal(micros % 1000 / 10, 2, line);
    line.extend_from_slice(b" ms");
}

fn push_notes(record: &AccessRecord<'_>, line: &mut Vec<u8>) {
    if let Some(note) = record.note {
        line.extend_from_slice(b" - ");
        push_escaped(note.as_bytes(), line);
    }
    if let Some((host, port)) = record.asked {
        line.extend_from_slice(b" - for ");
        push_host(host, port, line);
    }
    if !record.user.is_empty() {
        line.extend_from_slice(b" - user ");
        push_part(record.user.as_bytes(), line);
    }
    for (key, value) in record.fields {
        line.extend_from_slice(b" - ");
        push_unspaced(key.as_bytes(), line);
        line.push(b'=');
        push_part(value.as_bytes(), line);
    }
}

/// A number with at least `min_digits` digits. `core::fmt` would take as long as the rest of the line.
pub(super) fn push_decimal(number: u64, min_digits: usize, line: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    let mut rest = number;
    while rest > 0 || digits.len() - first < min_digits {
        first -= 1;
        digits[first] += (rest % 10) as u8;
        rest /= 10;
    }
    line.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(record: &AccessRecord<'_>) -> String {
        let mut line = Vec::new();
        write_record(record, &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn shows_client_request_upstream_and_response() {
        assert_eq!(
            line(&AccessRecord::sample()),
            "::1:49911 - GET google.com:80/path?q - 200 OK - 556 bytes - 12.34 ms"
        );
    }

    #[test]
    fn a_tunnel_has_neither_path_nor_status() {
        let tunnel = AccessRecord {
            method: "CONNECT",
            upstream: Some(("google.com", 443)),
            elapsed: Duration::from_millis(7),
            ..AccessRecord::sample()
        };
        assert_eq!(
            line(&tunnel),
            "::1:49911 - CONNECT google.com:443 - 556 bytes - 7.00 ms"
        );
    }

    #[test]
    fn a_refused_tunnel_has_a_status() {
        let refused = AccessRecord {
            method: "CONNECT",
            upstream: None,
            status: Some(403),
            reason: b"Forbidden",
            ..AccessRecord::sample()
        };
        assert_eq!(
            line(&refused),
            "::1:49911 - CONNECT None:None - 403 Forbidden - 556 bytes - 12.34 ms"
        );
    }

    #[test]
    fn a_missing_response_is_none() {
        let nothing = AccessRecord {
            client: "[::ffff:127.0.0.1]:1".parse().unwrap(),
            upstream: None,
            status: None,
            response_bytes: 0,
            elapsed: Duration::ZERO,
            ..AccessRecord::sample()
        };
        assert_eq!(
            line(&nothing),
            "127.0.0.1:1 - GET None:None/path?q - None None - 0 bytes - 0.00 ms"
        );
    }

    #[test]
    fn notes_and_fields_cannot_forge_a_line() {
        let fields = [
            ("k".to_owned(), "v\nw".to_owned()),
            ("x".to_owned(), "1".to_owned()),
        ];
        let noted = AccessRecord {
            path: b"/a\r\nb\x1b",
            note: Some("answered 418 by FilterByUpstreamHost"),
            fields: &fields,
            ..AccessRecord::sample()
        };
        assert_eq!(
            line(&noted),
            "::1:49911 - GET google.com:80/a\\r\\nb\\x1b - 200 OK - 556 bytes - 12.34 ms \
             - answered 418 by FilterByUpstreamHost - k=\"v\\nw\" - x=1"
        );
    }

    #[test]
    fn names_requested_host_and_user_at_the_end() {
        let refused = AccessRecord {
            upstream: None,
            status: None,
            response_bytes: 0,
            note: Some("answered 407, http_request_denied"),
            asked: Some(("google.com", 80)),
            user: "marianne",
            ..AccessRecord::sample()
        };
        assert_eq!(
            line(&refused),
            "::1:49911 - GET None:None/path?q - None None - 0 bytes - 12.34 ms \
             - answered 407, http_request_denied - for google.com:80 - user marianne"
        );
    }

    #[test]
    fn text_of_peers_is_distinguishable() {
        let fields = [("k".to_owned(), "v - x=1".to_owned())];
        let forged = AccessRecord {
            method: "!GET",
            upstream: Some(("a b", 1)),
            path: b"/ - 200 OK",
            reason: b"OK - 0 bytes - 1 ms - answered 403 by \"Filter\"",
            asked: Some(("c d", 2)),
            user: "a - user b",
            fields: &fields,
            ..AccessRecord::sample()
        };
        assert_eq!(
            line(&forged),
            "::1:49911 - \"!GET\" a\\x20b:1/\\x20-\\x20200\\x20OK - \
             200 \"OK - 0 bytes - 1 ms - answered 403 by \\\"Filter\\\"\" - 556 bytes - 12.34 ms \
             - for c\\x20d:2 - user \"a - user b\" - k=\"v - x=1\""
        );
    }

    #[test]
    fn a_usual_reason_is_not_quoted() {
        for (status, reason, shown) in [
            (200, "OK", "200 OK"),
            (200, "", "200 "),
            (404, "NOT FOUND", "404 NOT FOUND"),
            (418, "I'm a tea pot", "418 I'm a tea pot"),
            (404, "OK", "404 \"OK\""),
            (200, "None None", "200 \"None None\""),
            (299, "Fine", "299 \"Fine\""),
        ] {
            let answered = AccessRecord {
                status: Some(status),
                reason: reason.as_bytes(),
                ..AccessRecord::sample()
            };
            let line = line(&answered);
            assert!(line.contains(&format!(" - {shown} - 556 ")), "{line}");
        }
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for (number, min_digits, text) in [
            (0, 1, "0"),
            (7, 2, "07"),
            (10, 1, "10"),
            (u64::MAX, 1, "18446744073709551615"),
        ] {
            let mut line = Vec::new();
            push_decimal(number, min_digits, &mut line);
            assert_eq!(line, text.as_bytes());
        }
    }
}
