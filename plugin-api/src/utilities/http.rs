//! HTTP/1.1 messages as bytes, written by a plugin itself (RFC 9112).
//!
//! Parts are written as given, in this order and spelling, and little is added; the author decides whether the message
//! makes sense. Characters that would end a line early are refused, because a name or a value from elsewhere could
//! otherwise add fields, or a second message. The messages of an exchange are changed with
//! [`RequestMut`](crate::RequestMut) and [`Reply`](crate::Reply) instead, and [`Call`](crate::Call) needs no bytes.

use plugin_contract::field::{is_text, is_token};
use std::fmt;

/// The bytes of a request, with HTTP/1.1 and nothing added: no Host, and no Content-Length. [`HttpRequest`] can do
/// more.
///
/// ```
/// use plugin_api::utilities::build_http_request;
///
/// assert_eq!(build_http_request("GET", "/", &[], None)?, b"GET / HTTP/1.1\r\n\r\n");
///
/// assert_eq!(
///     build_http_request("GET", "/", &[("Connection", "close")], None)?,
///     b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
/// );
///
/// let json = br#"{"email": "hello@world.com"}"#;
/// assert_eq!(
///     build_http_request("POST", "/form", &[("Content-type", "application/json")], Some(json))?,
///     b"POST /form HTTP/1.1\r\nContent-type: application/json\r\n\r\n{\"email\": \"hello@world.com\"}"
/// );
///
/// assert!(build_http_request("GET", "/", &[("X-Name", "a\r\nX-Other: b")], None).is_err());
/// # Ok::<(), plugin_api::utilities::BuildError>(())
/// ```
///
/// # Errors
/// A part is invalid, see [`BuildError`].
pub fn build_http_request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Vec<u8>, BuildError> {
    let mut request = HttpRequest::new(method, url);
    request.body = body;
    headers
        .iter()
        .fold(request, |request, (name, value)| {
            request.header(name, value)
        })
        .build()
}

/// The bytes of a response, with HTTP/1.1. If there is a body, Content-Length is added after the headers, unless they
/// contain it or Transfer-Encoding. [`HttpResponse`] can do more.
///
/// Without a reason, the space before it remains, as RFC 9112 §4 requires.
///
/// ```
/// use plugin_api::utilities::build_http_response;
///
/// assert_eq!(
///     build_http_response(200, Some("OK"), &[("X-A", "b")], Some(b"hello"))?,
///     b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello"
/// );
/// assert_eq!(
///     build_http_response(404, Some("NOT FOUND"), &[("Connection", "close")], None)?,
///     b"HTTP/1.1 404 NOT FOUND\r\nConnection: close\r\n\r\n"
/// );
/// assert_eq!(
///     build_http_response(200, None, &[("Transfer-Encoding", "chunked")], Some(b"0\r\n\r\n"))?,
///     b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
/// );
/// # Ok::<(), plugin_api::utilities::BuildError>(())
/// ```
///
/// # Errors
/// A part is invalid, see [`BuildError`].
pub fn build_http_response(
    status: u16,
    reason: Option<&str>,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Vec<u8>, BuildError> {
    let mut response = HttpResponse::new(status);
    response.reason = reason;
    response.body = body;
    headers
        .iter()
        .fold(response, |response, (name, value)| {
            response.header(name, value)
        })
        .build()
}

/// Builds a request step by step.
///
/// ```
/// use plugin_api::utilities::HttpRequest;
///
/// let request = HttpRequest::new("PUT", "/notes/1")
///     .version("HTTP/1.0")
///     .header("Host", "notes.example")
///     .body(b"milk")
///     .content_length()
///     .build()?;
/// assert_eq!(request, b"PUT /notes/1 HTTP/1.0\r\nHost: notes.example\r\nContent-Length: 4\r\n\r\nmilk");
/// # Ok::<(), plugin_api::utilities::BuildError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "`build` gives the bytes"]
pub struct HttpRequest<'a> {
    method: &'a str,
    url: &'a str,
    version: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
    body: Option<&'a [u8]>,
    length: Length,
}

impl<'a> HttpRequest<'a> {
    /// A request with HTTP/1.1, without headers and body. `url` is written as given: a path, or a whole URL for a
    /// proxy.
    pub fn new(method: &'a str, url: &'a str) -> Self {
        Self {
            method,
            url,
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: None,
            length: Length::Unsaid,
        }
    }

    /// Sets the version, such as `HTTP/1.0`.
    pub fn version(mut self, version: &'a str) -> Self {
        self.version = version;
        self
    }

    /// Adds a header at the end.
    pub fn header(mut self, name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push((name, value.as_ref()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.body = Some(body.as_ref());
        self
    }

    /// Adds the Content-Length of the body, unless there is no body or the headers specify its framing.
    pub fn content_length(mut self) -> Self {
        self.length = Length::Said;
        self
    }

    /// Builds the bytes.
    ///
    /// # Errors
    /// A part is invalid.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let is_url = |url: &str| !url.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic());
        check(is_token(self.method), BuildError::Method)?;
        check(is_url(self.url), BuildError::Url)?;
        check(is_version(self.version), BuildError::Version)?;
        let line = [self.method, self.url, self.version];
        build(line, &self.headers, self.body, self.length)
    }
}

/// Builds a response step by step.
///
/// ```
/// use plugin_api::utilities::HttpResponse;
///
/// let response = HttpResponse::new(200).reason("OK").header("X-A", "b").body("hello").build()?;
/// assert_eq!(response, b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello");
/// # Ok::<(), plugin_api::utilities::BuildError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "`build` gives the bytes"]
pub struct HttpResponse<'a> {
    status: u16,
    reason: Option<&'a str>,
    version: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
    body: Option<&'a [u8]>,
}

impl<'a> HttpResponse<'a> {
    /// A response with HTTP/1.1, without a reason, headers and body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            reason: None,
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: None,
        }
    }

    /// Sets the reason.
    pub fn reason(mut self, reason: &'a str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Sets the version, such as `HTTP/1.0`.
    pub fn version(mut self, version: &'a str) -> Self {
        self.version = version;
        self
    }

    /// Adds a header at the end.
    pub fn header(mut self, name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push((name, value.as_ref()));
        self
    }

    /// Sets the body, possibly empty, with its Content-Length unless the headers specify its framing.
    pub fn body(mut self, body: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.body = Some(body.as_ref());
        self
    }

    /// Builds the bytes.
    ///
    /// # Errors
    /// A part is invalid.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let reason = self.reason.unwrap_or_default();
        check(is_version(self.version), BuildError::Version)?;
        check((100..=999).contains(&self.status), BuildError::Status)?;
        check(is_text(reason.as_bytes()), BuildError::Reason)?;
        let line = [self.version, &self.status.to_string(), reason];
        build(line, &self.headers, self.body, Length::Said)
    }
}

/// Why a message cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The method is not a token (RFC 9110 §9.1).
    Method,
    /// The URL is empty, or contains something other than visible ASCII characters (RFC 9112 §3.2).
    Url,
    /// The version does not look like `HTTP/1.1` (RFC 9112 §2.3).
    Version,
    /// The status does not have three digits (RFC 9110 §15).
    Status,
    /// The reason contains control characters (RFC 9112 §4).
    Reason,
    /// The name of a header is not a token (RFC 9110 §5.1).
    HeaderName,
    /// The value of a header contains control characters (RFC 9110 §5.5).
    HeaderValue,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "the method is not a token",
            Self::Url => "the URL is empty or contains invalid characters",
            Self::Version => "the version does not have the form HTTP/1.1",
            Self::Status => "the status does not have three digits",
            Self::Reason => "the reason contains control characters",
            Self::HeaderName => "a header name is not a token",
            Self::HeaderValue => "a header value contains control characters",
        })
    }
}

impl std::error::Error for BuildError {}

/// Whether a length is added for a body whose headers do not specify the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Said,
    Unsaid,
}

fn build(
    line: [&str; 3],
    headers: &[(&str, &[u8])],
    body: Option<&[u8]>,
    length: Length,
) -> Result<Vec<u8>, BuildError> {
    let mut message = line.join(" ").into_bytes();
    message.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        check(is_token(name), BuildError::HeaderName)?;
        check(is_text(value), BuildError::HeaderValue)?;
        push_header(&mut message, name, value);
    }
    let is_framed = headers
        .iter()
        .any(|(name, _)| FRAMING.iter().any(|known| known.eq_ignore_ascii_case(name)));
    if let Some(body) = body.filter(|_| length == Length::Said && !is_framed) {
        push_header(&mut message, FRAMING[0], body.len().to_string().as_bytes());
    }
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(body.unwrap_or_default());
    Ok(message)
}

/// The headers that specify where a body ends.
const FRAMING: [&str; 2] = ["Content-Length", "Transfer-Encoding"];

fn push_header(message: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        message.extend_from_slice(part);
    }
}

fn check(is_right: bool, error: BuildError) -> Result<(), BuildError> {
    if is_right { Ok(()) } else { Err(error) }
}

fn is_version(version: &str) -> bool {
    matches!(version.as_bytes(), [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_could_end_its_line_is_refused_everywhere() {
        for evil in [
            "a\r\nb: c",
            "a\rb",
            "a\nb",
            "a\0b",
            "\r\n\r\nGET / HTTP/1.1",
            "\u{7f}",
        ] {
            let request = |method, url, name, value| {
                build_http_request(method, url, &[("A", "b"), (name, value)], None)
            };
            assert_eq!(request(evil, "/", "A", "b"), Err(BuildError::Method));
            assert_eq!(request("GET", evil, "A", "b"), Err(BuildError::Url));
            assert_eq!(request("GET", "/", evil, "b"), Err(BuildError::HeaderName));
            assert_eq!(request("GET", "/", "A", evil), Err(BuildError::HeaderValue));
            let reason = build_http_response(200, Some(evil), &[], None);
            assert_eq!(reason, Err(BuildError::Reason));
            let version = HttpRequest::new("GET", "/").version(evil).build();
            assert_eq!(version, Err(BuildError::Version));
        }
    }

    #[test]
    fn a_part_that_would_be_parsed_differently_is_refused() {
        for (method, url, name, error) in [
            ("", "/", "A", BuildError::Method),
            ("GET /", "/", "A", BuildError::Method),
            ("GET", "", "A", BuildError::Url),
            ("GET", "/a b", "A", BuildError::Url),
            ("GET", "/ä", "A", BuildError::Url),
            ("GET", "/", "", BuildError::HeaderName),
            ("GET", "/", "A ", BuildError::HeaderName),
            ("GET", "/", "A:", BuildError::HeaderName),
        ] {
            let built = build_http_request(method, url, &[(name, "b")], None);
            assert_eq!(built, Err(error), "{method:?} {url:?} {name:?}");
        }
        for status in [0, 99, 1000, u16::MAX] {
            let built = build_http_response(status, None, &[], None);
            assert_eq!(built, Err(BuildError::Status), "{status}");
        }
    }

    #[test]
    fn values_may_contain_text_and_bytes_beyond_ascii() {
        let built = HttpRequest::new("GET", "/")
            .header("A", b"\xff \t\"")
            .build();
        assert_eq!(built.unwrap(), b"GET / HTTP/1.1\r\nA: \xff \t\"\r\n\r\n");
    }

    #[test]
    fn content_length_is_written_once() {
        let length = "content-LENGTH: 9\r\n";
        for name in ["content-LENGTH", "transfer-encoding"] {
            let built = HttpResponse::new(200).header(name, "9").body("x").build();
            let expected = format!("HTTP/1.1 200 \r\n{name}: 9\r\n\r\nx");
            assert_eq!(built.unwrap(), expected.as_bytes());
        }
        let empty = HttpResponse::new(200).body("").build().unwrap();
        assert_eq!(empty, b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n");
        let none = HttpRequest::new("GET", "/").content_length().build();
        assert_eq!(none.unwrap(), b"GET / HTTP/1.1\r\n\r\n");
        let own = HttpRequest::new("PUT", "/").header("content-LENGTH", "9");
        let own = own.body("x").content_length().build().unwrap();
        assert_eq!(own, format!("PUT / HTTP/1.1\r\n{length}\r\nx").as_bytes());
    }
}
