//! The access log: one line per exchange.
//!
//! `<time> - INFO - pid:7077 - access_log:71 - ::1:49911 - GET google.com:80/path - 200 OK - 556 bytes - 12.34 ms`.
//! Lines gather in the worker's batch without a lock, a system call or an allocation; the worker hands the
//! batch over, and `None` stands for what never came to be. Nothing of a peer's can end or forge a line.

use std::cell::RefCell;
use std::io::Write as _;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::process;
use std::time::{Duration, SystemTime};

use super::LogSink;
use super::clock::Clock;
use super::escape::push_escaped;

/// What one exchange came to.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// The client's side of its connection.
    pub client: SocketAddr,
    /// The request's method.
    pub method: &'a str,
    /// It was for the web server: there is no upstream to be named.
    pub is_web: bool,
    /// Host and port the request was sent to, or the tunnel led to; `None` if no upstream was reached.
    pub upstream: Option<(&'a str, u16)>,
    /// Path and query; not shown for CONNECT.
    pub path: &'a [u8],
    /// The final response's status; `None` if the client got none. Shown for CONNECT only if it was refused.
    pub status: Option<u16>,
    /// The final response's reason phrase.
    pub reason: &'a [u8],
    /// Bytes of the response: head and body as sent, or what the tunnel brought to the client.
    pub response_bytes: u64,
    /// From the first byte of the request to the end of the exchange.
    pub elapsed: Duration,
    /// What an operator should know about it, such as `answered 418 by FilterByUpstreamHost`.
    pub note: Option<&'a str>,
    /// What plugins add.
    pub fields: &'a [(String, String)],
}

/// A worker's access log. What is still in the batch when it is dropped is sent to the sink.
#[derive(Debug)]
pub struct AccessLog {
    sink: LogSink,
    batch: RefCell<Vec<u8>>,
    clock: RefCell<Clock>,
    /// What follows the time in every line.
    prefix: String,
}

/// What a batch holds before it should be handed over, in bytes; the room of a new batch.
const BATCH_LEN: usize = 32 * 1024;

impl AccessLog {
    /// A log whose batches go to `sink`.
    pub fn new(sink: LogSink) -> Self {
        let prefix = format!(
            " - INFO - pid:{} - access_log:{} - ",
            process::id(),
            line!()
        );
        AccessLog {
            sink,
            batch: RefCell::default(),
            clock: RefCell::new(Clock::local()),
            prefix,
        }
    }

    /// Whether access lines are wanted; if not, there is no need to make a record.
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

    /// Whether the batch is so large that it should be handed over at once.
    pub fn is_batch_full(&self) -> bool {
        self.batch.borrow().len() >= BATCH_LEN
    }

    /// The lines gathered since the last call; `None` if there are none.
    pub fn take_batch(&self) -> Option<Vec<u8>> {
        let batch = mem::take(&mut *self.batch.borrow_mut());
        (!batch.is_empty()).then_some(batch)
    }

    /// Hands the batch over to the sink.
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
    push_escaped(record.method.as_bytes(), line);
    line.push(b' ');
    if !record.is_web {
        push_upstream(record.upstream, line);
    }
    if !is_connect {
        push_escaped(record.path, line);
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

fn push_upstream(upstream: Option<(&str, u16)>, line: &mut Vec<u8>) {
    match upstream {
        Some((host, port)) => {
            push_escaped(host.as_bytes(), line);
            line.push(b':');
            push_decimal(port.into(), 1, line);
        }
        None => line.extend_from_slice(b"None:None"),
    }
}

fn push_status(status: Option<u16>, reason: &[u8], line: &mut Vec<u8>) {
    line.extend_from_slice(b" - ");
    match status {
        Some(status) => {
            push_decimal(status.into(), 1, line);
            line.push(b' ');
            push_escaped(reason, line);
        }
        None => line.extend_from_slice(b"None None"),
    }
}

/// Milliseconds with two decimals, the rest cut off.
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
    for (key, value) in record.fields {
        line.extend_from_slice(b" - ");
        push_escaped(key.as_bytes(), line);
        line.push(b'=');
        push_escaped(value.as_bytes(), line);
    }
}

/// A number with at least `min_digits` digits. Formatting through `core::fmt` takes as long as all the
/// rest of a line.
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
            fields: &[],
        }
    }

    #[test]
    fn shows_who_asked_what_where_and_what_came() {
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
    fn what_never_came_is_none() {
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
    fn notes_and_fields_follow_and_nothing_forges_a_line() {
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
             - answered 418 by FilterByUpstreamHost - k=v\\nw - x=1"
        );
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
    fn does_nothing_when_access_lines_are_not_wanted() {
        let log = AccessLog::new(LogSink::discard());
        assert!(!log.is_enabled());
        log.record(&record());
        assert_eq!(log.take_batch(), None);
    }
}
