//! Finds a head in a growing buffer and parses its lines: incomplete, complete, or refused (RFC 9112 §2–5).
//!
//! [`HeadScanner`] inspects every byte once however the head arrives, so a slow sender costs no more than a fast one;
//! bytes that cannot become HTTP are refused at the first one. httparse parses field lines, this file start lines.
//! `head` and `target` interpret them; the caller enforces deadlines.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};
use memchr::{memchr, memchr_iter};
use thiserror::Error;

use plugin_contract::field::{is_token, is_token_byte};

use crate::fields::{FieldId, FieldLine, Fields, Span};
use crate::head::Version;
use crate::target::TargetError;

/// The maximum number of field lines of a head, regardless of the configured limit.
const FIELDS_BOUND: usize = 256;

/// Most heads have fewer lines than this and use a smaller table.
const FIELDS_USUAL: usize = 40;

/// The maximum number of options in Connection: each is compared with the name of every line.
const CONNECTION_OPTIONS_BOUND: usize = 64;

/// Maximum length of a text with room for edits that spans can address, regardless of the configured limit.
const TEXT_BOUND: usize = u32::MAX as usize / 2;

/// The limits of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Maximum length of a head, including preceding empty lines and the start line, in bytes; if exceeded, 431 to a
    /// client, 502 for an origin. Default 64 KiB.
    pub max_head_len: usize,
    /// Maximum number of field lines, at most 256; if exceeded, 431 to a client, 502 for an origin. Default 256.
    pub max_fields: usize,
    /// Maximum length of a request target in bytes; 414 if exceeded. Default 16 KiB.
    pub max_target_len: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            max_head_len: 64 * 1024,
            max_fields: FIELDS_BOUND,
            max_target_len: 16 * 1024,
        }
    }
}

/// What is wrong with a head. The connection must be closed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The first bytes are not an HTTP/1 message; they may be a TLS handshake.
    #[error("this is not HTTP/1")]
    NotHttp,
    /// A line that ends with LF alone (RFC 9112 §2.2 allows it, but it enables request smuggling).
    #[error("a line ends with LF without CR")]
    BareLineFeed,
    /// A CR that does not end a line (RFC 9112 §2.2).
    #[error("a CR is not followed by LF")]
    BareCarriageReturn,
    /// The target exceeds the limit, or the request line does not end within the limit of the head: 414.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head exceeds the limit: 431 (RFC 6585 §5).
    #[error("the head is too long")]
    HeadTooLong,
    /// The number of field lines exceeds the limit: 431.
    #[error("the head has too many fields")]
    TooManyFields,
    /// Connection lists too many options.
    #[error("Connection lists too many options")]
    TooManyConnectionOptions,
    /// The method is not a token (RFC 9112 §3.1).
    #[error("the method is not a token")]
    MethodInvalid,
    /// Not `method SP target SP version` (RFC 9112 §3).
    #[error("the request line is not method, target and version with single spaces")]
    RequestLineInvalid,
    /// An HTTP version other than 1.0 and 1.1: 505 (RFC 9110 §15.6.6).
    #[error("the HTTP version is neither 1.0 nor 1.1")]
    VersionUnsupported,
    /// Not `version SP status SP [reason]` with a status from 100 to 999 (RFC 9112 §4).
    #[error("the status line is malformed")]
    StatusLineInvalid,
    /// A field name that is not a token or is followed by space, or a folded line (RFC 9112 §5.1, §5.2).
    #[error("a field name is malformed")]
    FieldNameInvalid,
    /// A control character in a field value (RFC 9110 §5.5).
    #[error("a field value contains a control character")]
    FieldValueInvalid,
    /// The bytes are not exactly one head.
    #[error("the head is incomplete")]
    Incomplete,
    /// The request target is malformed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// An HTTP/1.1 request without Host (RFC 9112 §3.2).
    #[error("the request has no Host")]
    HostMissing,
    /// More than one Host (RFC 9112 §3.2).
    #[error("the request has more than one Host")]
    HostRepeated,
    /// A Host that is not `host[:port]` (RFC 9110 §7.2).
    #[error("Host is not a host with an optional port")]
    HostInvalid,
}

/// The kind of head that a scanner looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// A request; empty lines before it are skipped (RFC 9112 §2.2).
    Request,
    /// A response, which begins with `HTTP/1.`.
    Response,
    /// A response whose lines may end with LF alone, and that may begin with `ICY `, for
    /// [`ResponseHead::parse_relaxed`](super::ResponseHead::parse_relaxed).
    RelaxedResponse,
}

/// The position of a head in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadBounds {
    /// Offset of the start line.
    pub start: usize,
    /// Offset after the empty line that ends the head.
    pub end: usize,
}

/// Finds the end of a head in a growing buffer; one scanner per head.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    start: usize,
    begun: bool,
    line_start: usize,
    scanned: usize,
}

impl HeadScanner {
    /// Scans the bytes that arrived since the last call; `bytes` always begins at the same position. `None`:
    /// incomplete.
    ///
    /// # Errors
    /// The peer violated the grammar or the limits.
    pub fn scan(
        &mut self,
        bytes: &[u8],
        kind: HeadKind,
        limits: &HeadLimits,
    ) -> Result<Option<HeadBounds>, HeadError> {
        let window = &bytes[..bytes.len().min(limits.max_head_len)];
        if !self.begun {
            self.begun = self.find_start(window, kind)?;
        }
        if self.begun
            && let Some(end) = self.find_end(window, kind)?
        {
            let start = self.start;
            return Ok(Some(HeadBounds { start, end }));
        }
        if bytes.len() < limits.max_head_len {
            return Ok(None);
        }
        Err(self.overlong(kind))
    }

    /// Whether the start line has begun; before that, a client may close without an error.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    fn find_start(&mut self, bytes: &[u8], kind: HeadKind) -> Result<bool, HeadError> {
        match kind {
            HeadKind::Request => self.find_request(bytes),
            HeadKind::Response => find_response(bytes, &[b"HTTP/1."]),
            HeadKind::RelaxedResponse => find_response(bytes, &[b"HTTP/1.", b"ICY "]),
        }
    }

    fn find_request(&mut self, bytes: &[u8]) -> Result<bool, HeadError> {
        loop {
            match &bytes[self.start.min(bytes.len())..] {
                [] | [b'\r'] => return Ok(false),
                [b'\r', b'\n', ..] => self.start += 2,
                [b'\r', ..] => return Err(HeadError::BareCarriageReturn),
                [b'\n', ..] => return Err(HeadError::BareLineFeed),
                [byte, ..] if is_token_byte(*byte) => break,
                _ => return Err(HeadError::NotHttp),
            }
        }
        self.line_start = self.start;
        self.scanned = self.start;
        Ok(true)
    }

    fn find_end(&mut self, bytes: &[u8], kind: HeadKind) -> Result<Option<usize>, HeadError> {
        let unseen = self.scanned;
        for offset in memchr_iter(b'\n', bytes.get(unseen..).unwrap_or_default()) {
            let at = unseen + offset;
            let is_bare = at == self.line_start || bytes[at - 1] != b'\r';
            if is_bare && kind != HeadKind::RelaxedResponse {
                return Err(HeadError::BareLineFeed);
            }
            if at == self.line_start + usize::from(!is_bare) {
                return Ok(Some(at + 1));
            }
            let is_request_line = kind == HeadKind::Request && self.line_start == self.start;
            if is_request_line && !names_version(&bytes[self.start..at - 1]) {
                return Err(HeadError::RequestLineInvalid);
            }
            self.line_start = at + 1;
        }
        self.scanned = bytes.len();
        Ok(None)
    }

    fn overlong(&self, kind: HeadKind) -> HeadError {
        let in_request_line = self.begun && self.line_start == self.start;
        match kind {
            HeadKind::Request if in_request_line => HeadError::TargetTooLong,
            _ => HeadError::HeadTooLong,
        }
    }
}

/// Whether a request line ends with something like a version. A client of another line-based protocol waits for an
/// answer after its first line, and gets one.
fn names_version(line: &[u8]) -> bool {
    const LONGEST: usize = b" HTTP/99.99".len();
    let end = &line[line.len().saturating_sub(LONGEST)..];
    memchr::memmem::find(end, b" HTTP/").is_some()
}

fn find_response(bytes: &[u8], beginnings: &[&[u8]]) -> Result<bool, HeadError> {
    if beginnings.iter().any(|begin| bytes.starts_with(begin)) {
        return Ok(true);
    }
    match beginnings.iter().any(|begin| begin.starts_with(bytes)) {
        true => Ok(false),
        false => Err(HeadError::NotHttp),
    }
}

/// The parts of a request line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLine {
    pub(crate) method: Span,
    pub(crate) target: Span,
    pub(crate) version: Version,
}

/// The parts of a status line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusLine {
    pub(crate) version: Version,
    pub(crate) status: u16,
    pub(crate) reason: Span,
}

/// Parses the request head from `start` to the end of `text`.
pub(crate) fn request(
    text: &[u8],
    start: usize,
    lines: &mut Vec<FieldLine>,
    limits: &HeadLimits,
) -> Result<RequestLine, HeadError> {
    let end = line_end(text, start)?;
    let parsed = request_line(text, start, end - 2, limits)?;
    match fields_within::<FIELDS_USUAL>(text, end, lines, limits) {
        Err(HeadError::TooManyFields) => fields_within::<FIELDS_BOUND>(text, end, lines, limits)?,
        result => result?,
    }
    Ok(parsed)
}

/// Parses the response head from `start` to the end of `text`.
pub(crate) fn response(
    text: &[u8],
    start: usize,
    lines: &mut Vec<FieldLine>,
    limits: &HeadLimits,
) -> Result<StatusLine, HeadError> {
    let end = line_end(text, start)?;
    let parsed = status_line(text, start, end - 2)?;
    let mut table = [const { MaybeUninit::uninit() }; FIELDS_BOUND];
    let mut response = httparse::Response::new(&mut []);
    let result = ParserConfig::default()
        .allow_spaces_after_header_name_in_responses(true)
        .parse_response_with_uninit_headers(&mut response, &text[start..], &mut table);
    let status = result.map_err(fault)?;
    let complete = matches!(status, Status::Complete(len) if len == text.len() - start);
    keep(text, response.headers, complete, lines, limits)?;
    Ok(parsed)
}

/// The offset after the CRLF of the line at `start`.
fn line_end(text: &[u8], start: usize) -> Result<usize, HeadError> {
    let line = text.get(start..).ok_or(HeadError::Incomplete)?;
    if text.len() > TEXT_BOUND {
        return Err(HeadError::HeadTooLong);
    }
    match memchr(b'\n', line) {
        None => Err(HeadError::Incomplete),
        Some(at) if at > 0 && line[at - 1] == b'\r' => Ok(start + at + 1),
        Some(_) => Err(HeadError::BareLineFeed),
    }
}

fn request_line(
    text: &[u8],
    start: usize,
    end: usize,
    limits: &HeadLimits,
) -> Result<RequestLine, HeadError> {
    let line = &text[start..end];
    let method_len = memchr(b' ', line).ok_or(HeadError::RequestLineInvalid)?;
    if !is_token(&line[..method_len]) {
        return Err(HeadError::MethodInvalid);
    }
    let rest = &line[method_len + 1..];
    let target_len = memchr(b' ', rest).ok_or(HeadError::RequestLineInvalid)?;
    let version = version(&rest[target_len + 1..], HeadError::RequestLineInvalid)?;
    let target = start + method_len + 1;
    match target_len {
        0 => Err(HeadError::RequestLineInvalid),
        len if len > limits.max_target_len => Err(HeadError::TargetTooLong),
        _ => Ok(RequestLine {
            method: Span::between(start, start + method_len),
            target: Span::between(target, target + target_len),
            version,
        }),
    }
}

fn status_line(text: &[u8], start: usize, end: usize) -> Result<StatusLine, HeadError> {
    let invalid = HeadError::StatusLineInvalid;
    let (name, rest) = text[start..end].split_at_checked(8).ok_or(invalid)?;
    let version = version(name, invalid)?;
    let (status, reason_len) = match rest {
        [
            b' ',
            a @ b'1'..=b'9',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            rest @ ..,
        ] => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            (digit(a) * 100 + digit(b) * 10 + digit(c), rest)
        }
        _ => return Err(invalid),
    };
    let reason_len = match reason_len {
        [] => 0,
        [b' ', reason @ ..] => reason.len(),
        _ => return Err(invalid),
    };
    Ok(StatusLine {
        version,
        status,
        reason: Span::between(end - reason_len, end),
    })
}

/// The version called `name`; `malformed` if it is not a version.
fn version(name: &[u8], malformed: HeadError) -> Result<Version, HeadError> {
    match name {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(HeadError::VersionUnsupported)
        }
        _ => Err(malformed),
    }
}

fn fields_within<const N: usize>(
    text: &[u8],
    start: usize,
    lines: &mut Vec<FieldLine>,
    limits: &HeadLimits,
) -> Result<(), HeadError> {
    let mut table = [httparse::EMPTY_HEADER; N];
    let section = &text[start..];
    match httparse::parse_headers(section, &mut table).map_err(fault)? {
        Status::Complete((len, headers)) => {
            keep(text, headers, len == section.len(), lines, limits)
        }
        Status::Partial => Err(HeadError::Incomplete),
    }
}

/// Records the positions of the names and values that httparse found in `text`.
fn keep(
    text: &[u8],
    headers: &[Header<'_>],
    complete: bool,
    lines: &mut Vec<FieldLine>,
    limits: &HeadLimits,
) -> Result<(), HeadError> {
    if !complete {
        return Err(HeadError::Incomplete);
    }
    if headers.len() > limits.max_fields {
        return Err(HeadError::TooManyFields);
    }
    lines.clear();
    lines.extend(headers.iter().map(|header| {
        let name = span_in(text, header.name.as_bytes());
        FieldLine::new(text, name, span_in(text, header.value))
    }));
    check_connection_options(Fields::new(text, lines))
}

/// The span of `part`, a subslice of `text`.
pub(crate) fn span_in(text: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    Span::between(start, start + part.len())
}

fn check_connection_options(fields: Fields<'_>) -> Result<(), HeadError> {
    if !fields.has(FieldId::Connection) {
        return Ok(());
    }
    let commas = |value| 1 + memchr_iter(b',', value).count();
    let options: usize = fields.all(FieldId::Connection).map(commas).sum();
    match options > CONNECTION_OPTIONS_BOUND {
        true => Err(HeadError::TooManyConnectionOptions),
        false => Ok(()),
    }
}

fn fault(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::FieldNameInvalid,
        httparse::Error::HeaderValue => HeadError::FieldValueInvalid,
        httparse::Error::NewLine => HeadError::BareCarriageReturn,
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Token => HeadError::RequestLineInvalid,
        httparse::Error::Status | httparse::Error::Version => HeadError::StatusLineInvalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HeadKind::*;

    const LIMITS: HeadLimits = HeadLimits {
        max_head_len: 64,
        max_fields: 4,
        max_target_len: 16,
    };

    fn scan(bytes: &[u8], kind: HeadKind) -> Result<Option<HeadBounds>, HeadError> {
        HeadScanner::default().scan(bytes, kind, &LIMITS)
    }

    #[test]
    fn finds_the_end_at_any_split() {
        for (kind, start, head) in [
            (Request, 0, &b"GET / HTTP/1.1\r\nA: b\r\n\r\n"[..]),
            (Request, 4, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
            (Response, 0, b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        ] {
            let buffer = [head, b"\nrest\n\r\n\r\n"].concat();
            let end = head.len();
            for cut in 0..end {
                let mut scanner = HeadScanner::default();
                let first = scanner.scan(&buffer[..cut], kind, &LIMITS);
                assert_eq!(first, Ok(None), "{cut}");
                let second = scanner.scan(&buffer, kind, &LIMITS);
                assert_eq!(second, Ok(Some(HeadBounds { start, end })), "{cut}");
            }
            let mut scanner = HeadScanner::default();
            let found = (0..=end).map(|to| scanner.scan(&buffer[..to], kind, &LIMITS));
            let found: Vec<_> = found.collect();
            assert!(found[..end].iter().all(|step| *step == Ok(None)));
            assert_eq!(found[end], Ok(Some(HeadBounds { start, end })));
        }
    }

    #[test]
    fn refuses_at_once_what_cannot_become_http() {
        for (kind, bytes, expected) in [
            (Request, &b"\x16\x03\x01"[..], HeadError::NotHttp),
            (Request, b"\0", HeadError::NotHttp),
            (Request, b" GET", HeadError::NotHttp),
            (Request, b"\xffGET", HeadError::NotHttp),
            (Request, b"\r\n\r\n(", HeadError::NotHttp),
            (Request, b"\n", HeadError::BareLineFeed),
            (Request, b"\r\n\n", HeadError::BareLineFeed),
            (Request, b"\rG", HeadError::BareCarriageReturn),
            (Request, b"GET / HTTP/1.1\n", HeadError::BareLineFeed),
            (
                Request,
                b"GET / HTTP/1.1\r\nA: b\n",
                HeadError::BareLineFeed,
            ),
            (Request, b"GET / HTTP/1.1\r\n\n", HeadError::BareLineFeed),
            (Response, b"S", HeadError::NotHttp),
            (Response, b"HTTQ", HeadError::NotHttp),
            (Response, b"HTTP/2", HeadError::NotHttp),
            (Response, b"http/1.1", HeadError::NotHttp),
            (Response, b"\r\n", HeadError::NotHttp),
            (Response, b"HTTP/1.1 200 OK\n", HeadError::BareLineFeed),
        ] {
            assert_eq!(scan(bytes, kind), Err(expected), "{bytes:?}");
        }
    }

    #[test]
    fn a_head_may_be_as_long_as_the_limit_and_no_longer() {
        let head = |len: usize| {
            let mut head = b"GET / HTTP/1.1\r\nA: ".to_vec();
            head.resize(len - 4, b'x');
            head.extend(b"\r\n\r\n");
            head
        };
        let bounds = HeadBounds { start: 0, end: 64 };
        assert_eq!(scan(&head(64), Request), Ok(Some(bounds)));
        assert_eq!(scan(&head(65), Request), Err(HeadError::HeadTooLong));
        assert_eq!(scan(&head(65)[..63], Request), Ok(None));
        assert_eq!(scan(&head(65)[..64], Request), Err(HeadError::HeadTooLong));
        assert_eq!(scan(&[b'G'; 64], Request), Err(HeadError::TargetTooLong));
        let empty_lines = b"\r\n".repeat(32);
        assert_eq!(scan(&empty_lines, Request), Err(HeadError::HeadTooLong));
        let status_line = [&b"HTTP/1.1 200 "[..], &[b'x'; 64]].concat();
        assert_eq!(scan(&status_line, Response), Err(HeadError::HeadTooLong));
    }
}
