//! The contents of a start line and a field section: [`RequestHead`] and [`ResponseHead`] (RFC 9112 §3–5, RFC 9110
//! §7.1).
//!
//! A head owns the received bytes and has spans into them; edits are appended. Both of its buffers come from the caller
//! and are returned to it, also on refusal, so that a connection needs no allocation per exchange. A request head that
//! exists has a valid target and, in HTTP/1.1, one valid Host.

mod request;
mod response;

pub use request::RequestHead;
pub use response::ResponseHead;

use crate::fields::FieldLine;
use crate::parse::HeadError;

/// The supported versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2, whose messages are read here as HTTP/1.1 text. The text cannot express it; the caller sets it with
    /// `set_version`.
    Http2,
}

impl Version {
    /// The number alone, as in Via.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2.0",
        }
    }
}

/// A head that was refused, with its buffers.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong.
    pub error: HeadError,
    /// The text as given.
    pub text: Vec<u8>,
    /// The allocation for the lines.
    pub lines: Vec<FieldLine>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::parse::{HeadKind, HeadLimits, HeadScanner};
    use crate::target::TargetError;
    use HeadError::*;

    /// Parses `text`, a valid head.
    pub(crate) fn request(text: &str) -> RequestHead {
        parse_request(text.as_bytes()).unwrap()
    }

    /// Parses `text`, a valid head.
    pub(crate) fn response(text: &str) -> ResponseHead {
        parse_response(text.as_bytes()).unwrap()
    }

    pub(crate) fn parse_request(text: &[u8]) -> Result<RequestHead, HeadError> {
        let limits = HeadLimits::default();
        let bounds = HeadScanner::default().scan(text, HeadKind::Request, &limits)?;
        let bounds = bounds.ok_or(Incomplete)?;
        let text = text[..bounds.end].to_vec();
        RequestHead::parse(text, bounds.start, Vec::new(), &limits).map_err(|no| no.error)
    }

    pub(crate) fn parse_response(text: &[u8]) -> Result<ResponseHead, HeadError> {
        let limits = HeadLimits::default();
        let bounds = HeadScanner::default().scan(text, HeadKind::Response, &limits)?;
        let bounds = bounds.ok_or(Incomplete)?;
        let text = text[..bounds.end].to_vec();
        ResponseHead::parse(text, bounds.start, Vec::new(), &limits).map_err(|no| no.error)
    }

    #[test]
    fn a_prefix_of_a_head_is_incomplete() {
        let whole = b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        for len in 0..whole.len() {
            assert_eq!(parse_request(&whole[..len]).err(), Some(Incomplete));
            let unscanned = whole[..len].to_vec();
            let result = RequestHead::parse(unscanned, 0, Vec::new(), &HeadLimits::default());
            assert!(result.is_err(), "{len}");
        }
        let whole = b"HTTP/1.1 200 OK\r\nServer : a\r\n\r\n";
        for len in 0..whole.len() {
            assert_eq!(parse_response(&whole[..len]).err(), Some(Incomplete));
            let unscanned = whole[..len].to_vec();
            let result = ResponseHead::parse(unscanned, 0, Vec::new(), &HeadLimits::default());
            assert!(result.is_err(), "{len}");
        }
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let head = |count: usize| {
            let fields = "a:b\r\n".repeat(count - 1);
            parse_request(format!("GET / HTTP/1.1\r\nHost:\r\n{fields}\r\n").as_bytes())
        };
        for count in [1, 39, 40, 41, 255, 256] {
            assert_eq!(head(count).unwrap().fields().len(), count);
        }
        assert_eq!(head(257).err(), Some(TooManyFields));
        let fields = "a:b\r\n".repeat(257);
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        assert_eq!(parse_response(text.as_bytes()).err(), Some(TooManyFields));
    }

    #[test]
    fn the_connection_can_set_the_version() {
        let mut head = request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        head.set_version(Version::Http2);
        assert_eq!(head.version().as_str(), "2.0");
        let mut head = response("HTTP/1.1 200 OK\r\n\r\n");
        head.set_version(Version::Http2);
        assert!(head.version() > Version::Http11);
    }

    #[test]
    fn edits_keep_the_received_text() {
        let mut head = request("GET http://a/old HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
        head.set_path(b"/new?q").unwrap();
        head.fields_mut().set("x", b"longer than before").unwrap();
        assert_eq!(head.set_path(b"no"), Err(TargetError::PathInvalid));
        let mut connect = request("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(connect.set_path(b"/"), Err(TargetError::PathInvalid));
        assert_eq!(head.path(), b"/new?q");
        assert_eq!(head.raw_target(), b"http://a/old");
        assert_eq!(
            head.fields().named("X").next(),
            Some(&b"longer than before"[..])
        );

        let mut head = response("HTTP/1.1 200 OK\r\n\r\n");
        head.set_status(418, b"I'm a tea pot").unwrap();
        assert_eq!(head.set_status(99, b""), Err(StatusLineInvalid));
        assert_eq!(head.set_status(200, b"a\r\nb"), Err(StatusLineInvalid));
        assert_eq!((head.status(), head.reason()), (418, &b"I'm a tea pot"[..]));
    }
}
