//! The access log: one line per exchange.
//!
//! `<time> - INFO - pid:7077 - access_log:71 - ::1:49911 - GET google.com:80/path - 200 OK - 556 bytes - 12.34 ms`.
//! Lines are added to a batch of the worker without a lock, a system call or an allocation. The worker passes the batch
//! on, and so does every diagnostic of the same thread, so that lines stay in chronological order. `None` means that
//! there was no such value. Text from peers cannot end a line or imitate a part of it. After the duration follow, each
//! after ` - `: a note for the operator, the requested host if it differs from the upstream, the user, and fields from
//! plugins.

use std::cell::RefCell;
use std::io::Write as _;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::process;
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime};

use super::LogSink;
use super::clock::Clock;
use super::escape::{push_escaped, push_part, push_quoted, push_unspaced};
use crate::http1;

/// The values of an access log line.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// The client's address.
    pub client: SocketAddr,
    /// The request's method.
    pub method: &'a str,
    /// Whether the web server handled it, so that there is no upstream.
    pub is_web: bool,
    /// Host and port of the upstream or the tunnel; `None` if no upstream was reached.
    pub upstream: Option<(&'a str, u16)>,
    /// Path and query; not shown for CONNECT.
    pub path: &'a [u8],
    /// The status of the final response; `None` if the client got none. For CONNECT, shown only if it was refused.
    pub status: Option<u16>,
    /// The final response's reason phrase.
    pub reason: &'a [u8],
    /// Bytes of the response: head and body as sent, or the bytes that the tunnel relayed to the client.
    pub response_bytes: u64,
    /// From the first byte of the request to the end of the exchange.
    pub elapsed: Duration,
    /// A note for the operator, such as `answered 418 by FilterByUpstreamHost`. Contains no text from peers.
    pub note: Option<&'a str>,
    /// The requested host and port, if the client named a host that differs from `upstream`.
    pub asked: Option<(&'a str, u16)>,
    /// The authenticated user; empty without authentication.
    pub user: &'a str,
    /// Fields from plugins.
    pub fields: &'a [(String, String)],
}

/// The access log of a worker. Dropping it sends the rest of the batch to the sink.
#[derive(Debug)]
pub struct AccessLog {
    sink: LogSink,
    batch: Rc<RefCell<Vec<u8>>>,
    clock: RefCell<Clock>,
    /// The part after the time, the same in every line.
    prefix: String,
}

thread_local! {
    /// The batch of the worker on this thread.
    static BATCH: RefCell<Weak<RefCell<Vec<u8>>>> = const { RefCell::new(Weak::new()) };
}

/// The lines of this thread's batch, followed by `line`: a diagnostic must not precede earlier lines.
pub(super) fn behind_batch(line: &[u8]) -> Vec<u8> {
    // The batch may already be gone if the thread is ending.
    let batch = BATCH.try_with(|batch| batch.borrow().upgrade());
    let mut lines = match batch.ok().flatten() {
        Some(batch) => batch
            .try_borrow_mut()
            .map_or_else(|_| Vec::new(), |mut batch| mem::take(&mut *batch)),
        None => Vec::new(),
    };
    lines.extend_from_slice(line);
    lines
}

/// The size from which a batch should be passed on, and the capacity of a new one, in bytes.
const BATCH_LEN: usize = 32 * 1024;

impl AccessLog {
    /// A log that sends batches to `sink`. There is at most one per thread.
    pub fn new(sink: LogSink) -> Self {
        let prefix = format!(
            " - INFO - pid:{} - access_log:{} - ",
            process::id(),
            line!()
        );
        let batch = Rc::default();
        BATCH.set(Rc::downgrade(&batch));
        AccessLog {
            sink,
            batch,
            clock: RefCell::new(Clock::local()),
            prefix,
        }
    }

    /// Whether access lines are enabled; if not, callers need not create records.
    pub fn is_enabled(&self) -> bool {
        self.sink.enabled_info()
    }

    /// Adds the line of an exchange to the batch.
    pub fn record(&self, record: &AccessRecord<'_>) {
        if !self.is_enabled() {
            return;
        }
        let mut batch = self.batch.borrow_mut();
        if batch.capacity() == 0 {
            batch.reserve(BATCH_LEN + 1024);
        }
        batch.extend_from_slice(self.clock.borrow_mut().stamp(SystemTime::now()).as_bytes());
        batch.extend_from_slice(self.prefix.as_bytes());
        write_record(record, &mut batch);
        batch.push(b'\n');
    }

    /// Whether the batch should be passed on now.
    pub fn is_batch_full(&self) -> bool {
        self.batch.borrow().len() >= BATCH_LEN
    }

    /// Takes the lines since the last call; `None` if there are none.
    pub fn take_batch(&self) -> Option<Vec<u8>> {
        let batch = mem::take(&mut *self.batch.borrow_mut());
        (!batch.is_empty()).then_some(batch)
    }

    /// Passes the batch to the sink.
    pub fn flush(&self) {
        if let Some(batch) = self.take_batch() {
            self.sink.send(batch);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

fn write_record(record: &AccessRecord<'_>, line: &mut Vec<u8>) {
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

fn push_address(client: SocketAddr, line: &mut Vec<u8>) {
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

fn push_host(host: &str, port: u16, line: &mut Vec<u8>) {
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
fn push_decimal(number: u64, min_digits: usize, line: &mut Vec<u8>) {
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

    fn record() -> AccessRecord<'static> {
        AccessRecord {
            client: "[::1]:49911".parse().unwrap(),
            method: "GET",
            is_web: false,
            upstream: Some(("google.com", 80)),
            path: b"/path?q",
            status: Some(200),
            reason: b"OK",
            response_bytes: 556,
            elapsed: Duration::from_micros(12_345),
            note: None,
            asked: None,
            user: "",
            fields: &[],
        }
    }

    #[test]
    fn shows_client_request_upstream_and_response() {
        assert_eq!(
            line(&record()),
            "::1:49911 - GET google.com:80/path?q - 200 OK - 556 bytes - 12.34 ms"
        );
    }

    #[test]
    fn a_tunnel_has_neither_path_nor_status() {
        let tunnel = AccessRecord {
            method: "CONNECT",
            upstream: Some(("google.com", 443)),
            elapsed: Duration::from_millis(7),
            ..record()
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
            ..record()
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
            ..record()
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
            ..record()
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
            ..record()
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
            ..record()
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
                ..record()
            };
            let line = line(&answered);
            assert!(line.contains(&format!(" - {shown} - 556 ")), "{line}");
        }
    }

    #[test]
    fn a_diagnostic_flushes_earlier_lines() {
        let log = AccessLog::new(LogSink::discard());
        log.batch.borrow_mut().extend_from_slice(b"first\n");
        assert_eq!(behind_batch(b"second\n"), b"first\nsecond\n");
        assert_eq!(log.take_batch(), None);
        drop(log);
        assert_eq!(behind_batch(b"third\n"), b"third\n");
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

    #[test]
    fn does_nothing_if_access_lines_are_disabled() {
        let log = AccessLog::new(LogSink::discard());
        assert!(!log.is_enabled());
        log.record(&record());
        assert_eq!(log.take_batch(), None);
    }
}
