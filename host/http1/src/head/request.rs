//! The head of a request: method, target and fields (RFC 9112 §3, RFC 9110 §7.1).
//!
//! It always has a valid target and, in HTTP/1.1, one valid Host.

use super::{Refused, Version};
use plugin_contract::canonical_host;
use plugin_contract::field::is_token;

use crate::encode::push_decimal;
use crate::fields::{FieldId, FieldLine, Fields, FieldsMut, Span, push_text};
use crate::framing::request_framing;
use crate::parse::{self, HeadError, HeadLimits, RequestLine};
use crate::target::{Authority, Scheme, Target, TargetError, TargetForm, check_path, settle_host};

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    text: Vec<u8>,
    lines: Vec<FieldLine>,
    method: Span,
    /// The method as received.
    client_method: Span,
    /// The host has been changed since the head was received.
    has_new_host: bool,
    /// The port in Host, if it differs from the port that the request is sent to; otherwise 0.
    host_port: u16,
    raw_target: Span,
    target: Target,
    version: Version,
}

impl RequestHead {
    /// Parses the head from `start` to the end of `text`, as found by a [`HeadScanner`](crate::HeadScanner). The
    /// contents of `lines` are dropped, its allocation is reused.
    ///
    /// # Errors
    /// The client violated the protocol: 400, 414, 431 or 505, by the variant. Returns the buffers.
    pub fn parse(
        mut text: Vec<u8>,
        start: usize,
        mut lines: Vec<FieldLine>,
        limits: &HeadLimits,
    ) -> Result<Self, Box<Refused>> {
        match read_request(&mut text, start, &mut lines, limits) {
            Ok((line, target)) => Ok(Self {
                text,
                lines,
                method: line.method,
                client_method: line.method,
                has_new_host: false,
                host_port: 0,
                raw_target: line.target,
                target,
                version: line.version,
            }),
            Err(error) => Err(Box::new(Refused { error, text, lines })),
        }
    }

    /// Moves the head to buffers of minimal size and returns the old ones, for a head that is kept for long.
    pub fn compact(&mut self) -> (Vec<u8>, Vec<FieldLine>) {
        let (text, lines) = (self.text.to_vec(), self.lines.to_vec());
        (
            std::mem::replace(&mut self.text, text),
            std::mem::replace(&mut self.lines, lines),
        )
    }

    /// Returns the buffers, for the next head.
    pub fn into_buffers(self) -> (Vec<u8>, Vec<FieldLine>) {
        (self.text, self.lines)
    }

    /// Like [`into_buffers`](Self::into_buffers), for a head inside another value; it must not be used afterwards.
    pub fn take_buffers(&mut self) -> (Vec<u8>, Vec<FieldLine>) {
        (
            std::mem::take(&mut self.text),
            std::mem::take(&mut self.lines),
        )
    }

    /// The method, a token; it is case-sensitive (RFC 9110 §9.1).
    pub fn method(&self) -> &str {
        self.method.str_of(&self.text)
    }

    /// [`method`](Self::method) as bytes.
    pub fn method_bytes(&self) -> &[u8] {
        self.method.of(&self.text)
    }

    /// Whether the method is `method`.
    pub fn is_method(&self, method: &str) -> bool {
        self.method.of(&self.text) == method.as_bytes()
    }

    /// The method that the client sent, which determines the kind of response.
    pub fn client_method(&self) -> &str {
        self.client_method.str_of(&self.text)
    }

    /// Changes the method.
    ///
    /// # Errors
    /// It is not a token, or it is TRACE and the request has content (RFC 9110 §9.3.8). CONNECT would change the
    /// meaning of the request; callers must exclude it.
    pub fn set_method(&mut self, method: &str) -> Result<(), HeadError> {
        debug_assert!(method != "CONNECT" && !self.is_method("CONNECT"));
        let fits = u32::try_from(self.text.len() + method.len()).is_ok();
        if !is_token(method.as_bytes()) || !fits {
            return Err(HeadError::MethodInvalid);
        }
        let before = self.method;
        self.method = push_text(&mut self.text, method.as_bytes());
        if request_framing(self).is_err() {
            self.method = before;
            return Err(HeadError::MethodInvalid);
        }
        Ok(())
    }

    /// The request target as received, except that its host is in lower case.
    pub fn raw_target(&self) -> &[u8] {
        self.raw_target.of(&self.text)
    }

    /// The parsed request target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The version of the client.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sets the version of the client, if it is not that of the text.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The field section.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.text, &self.lines)
    }

    /// The field section, for editing. Host, framing and hop-by-hop fields are written anew when the head is forwarded,
    /// regardless of their values here.
    pub fn fields_mut(&mut self) -> FieldsMut<'_> {
        FieldsMut::new(&mut self.text, &mut self.lines)
    }

    /// The host in its canonical form, see [`canonical_host`]. From Host if the target has none; empty if there is no
    /// Host either.
    pub fn host(&self) -> &str {
        self.target.host.str_of(&self.text)
    }

    /// Whether the client wrote [`host`](Self::host) with a final dot: such a name is resolved without the search
    /// domains of this machine.
    pub fn has_absolute_host(&self) -> bool {
        self.target.is_absolute
    }

    /// [`host`](Self::host) as bytes.
    pub fn host_bytes(&self) -> &[u8] {
        self.target.host.of(&self.text)
    }

    /// The port, or the default of the scheme; 80 without a scheme.
    pub fn port(&self) -> u16 {
        match self.target.port {
            0 => self.target.scheme.unwrap_or(Scheme::Http).default_port(),
            port => port,
        }
    }

    /// Path and query as sent to the origin, or `*`; empty for CONNECT.
    pub fn path(&self) -> &[u8] {
        self.target.path.of(&self.text)
    }

    /// Changes path and query, with the same authority.
    ///
    /// # Errors
    /// The path does not begin with `/`, or contains a space, a control character or `#`; or this is a CONNECT.
    pub fn set_path(&mut self, path: &[u8]) -> Result<(), TargetError> {
        check_path(path)?;
        let fits = u32::try_from(self.text.len() + path.len()).is_ok();
        if self.target.form == TargetForm::Authority || !fits {
            return Err(TargetError::PathInvalid);
        }
        self.target.path = push_text(&mut self.text, path);
        Ok(())
    }

    /// Changes the authority and the Host field.
    ///
    /// # Errors
    /// The host is invalid, or the port is 0; or this is a CONNECT, whose target cannot be changed.
    pub fn set_host(&mut self, host: &str, port: u16) -> Result<(), TargetError> {
        let host = canonical_host(host).map_err(|_| match host {
            "" => TargetError::HostMissing,
            _ => TargetError::HostInvalid,
        })?;
        // Once for the target and once for Host.
        let fits = u32::try_from(self.text.len() + 2 * host.len() + 16).is_ok();
        if self.target.form == TargetForm::Authority || !fits {
            return Err(TargetError::FormInvalid);
        }
        if port == 0 {
            return Err(TargetError::PortInvalid);
        }
        self.target.host = push_text(&mut self.text, host.as_bytes());
        self.target.is_absolute = false;
        self.target.port = port;
        self.host_port = 0;
        self.has_new_host = true;
        let mut authority = Vec::with_capacity(host.len() + 8);
        self.write_authority(&mut authority);
        // A checked host is a valid field value.
        self.fields_mut()
            .set("Host", &authority)
            .map_err(|_| TargetError::HostInvalid)
    }

    /// Whether [`set_host`](Self::set_host) has changed the host.
    pub fn has_new_host(&self) -> bool {
        self.has_new_host
    }

    /// Sets the scheme if the connection determines it rather than the target, as inside intercepted TLS.
    pub fn set_scheme(&mut self, scheme: Scheme) {
        self.target.scheme = Some(scheme);
    }

    /// Completes a request from a connection that leads to a single origin: sets scheme and port, and the host if the
    /// request has none (HTTP/1.0). A host in the request remains. So does a different port in Host, as with a port
    /// mapping (if Host has none, the default of the scheme); the request is sent to the origin's port nevertheless.
    pub fn settle_origin(&mut self, scheme: Scheme, host: &str, port: u16) {
        self.target.scheme = Some(scheme);
        let named = self.port();
        if named != port {
            if !self.target.host.is_empty() {
                self.host_port = named;
            }
            self.target.port = port;
        }
        let fits = u32::try_from(self.text.len() + host.len()).is_ok();
        if self.target.host.is_empty() && fits {
            self.target.host = push_text(&mut self.text, host.as_bytes());
        }
    }

    /// Writes the value of Host, whose port may differ from the one that the request is sent to.
    pub(crate) fn write_host(&self, out: &mut Vec<u8>) {
        match self.host_port {
            0 => self.write_authority(out),
            port => self.write_authority_with(port, out),
        }
    }

    /// Writes the authority: brackets around IPv6, the port unless it is the scheme's default.
    pub fn write_authority(&self, out: &mut Vec<u8>) {
        self.write_authority_with(self.target.port, out);
    }

    fn write_authority_with(&self, port: u16, out: &mut Vec<u8>) {
        let host = self.target.host.of(&self.text);
        if host.contains(&b':') {
            out.push(b'[');
            out.extend_from_slice(host);
            out.push(b']');
        } else {
            out.extend_from_slice(host);
        }
        let default = match self.target.form {
            TargetForm::Authority => None,
            _ => Some(self.target.scheme.unwrap_or(Scheme::Http).default_port()),
        };
        if port != 0 && Some(port) != default {
            out.push(b':');
            push_decimal(out, u64::from(port));
        }
    }
}

fn read_request(
    text: &mut Vec<u8>,
    start: usize,
    lines: &mut Vec<FieldLine>,
    limits: &HeadLimits,
) -> Result<(RequestLine, Target), HeadError> {
    let line = parse::request(text, start, lines, limits)?;
    let method = line.method.of(text);
    let mut target = Target::parse(method, text, line.target)?;
    let host_field = check_host_field(text, lines, line.version, &target)?;
    if target.host.is_empty()
        && let Some(authority) = host_field
    {
        (target.host, target.port) = (authority.host, authority.port);
    }
    if target.form == TargetForm::Absolute {
        let is_options = method == b"OPTIONS";
        target.path = complete_path(text, target.path, is_options);
    }
    target.is_absolute = target.host.of(text).ends_with(b".");
    target.host = settle_host(text, target.host);
    Ok((line, target))
}

/// The authority in Host, if it has one.
fn check_host_field(
    text: &[u8],
    lines: &[FieldLine],
    version: Version,
    target: &Target,
) -> Result<Option<Authority>, HeadError> {
    let mut hosts = lines.iter().filter(|line| line.id() == FieldId::Host);
    let Some(host) = hosts.next() else {
        return match version {
            Version::Http11 | Version::Http2 => Err(HeadError::HostMissing),
            Version::Http10 => Ok(None),
        };
    };
    if hosts.next().is_some() {
        return Err(HeadError::HostRepeated);
    }
    if host.value().is_empty() || repeats_authority(text, target, host.value().of(text)) {
        return Ok(None);
    }
    Authority::parse(text, host.value())
        .map(Some)
        .map_err(|_| HeadError::HostInvalid)
}

/// Whether Host equals the authority of an absolute target, which is already checked: the usual case.
fn repeats_authority(text: &[u8], target: &Target, host: &[u8]) -> bool {
    let authority_end = target.path.start as usize;
    let Some(starts_at) = authority_end.checked_sub(host.len()) else {
        return false;
    };
    target.form == TargetForm::Absolute
        && text[..authority_end].ends_with(host)
        && text[..starts_at].ends_with(b"://")
}

/// The path for the origin, if the absolute form omits it (RFC 9112 §3.2.1, §3.2.4).
fn complete_path(text: &mut Vec<u8>, path: Span, is_options: bool) -> Span {
    match path.of(text).first() {
        Some(b'/') => path,
        None if is_options => push_text(text, b"*"),
        None => push_text(text, b"/"),
        Some(_) => {
            let slash = push_text(text, b"/");
            let query = path.start as usize..(path.start + path.len) as usize;
            text.extend_from_within(query);
            Span::between(slash.start as usize, text.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::{parse_request, request};
    use HeadError::*;

    #[test]
    fn a_request_has_its_written_parts() {
        let head = request(
            "\r\nGET http://EXAMPLE.com:8080/a?b HTTP/1.1\r\nhost: Other\r\nX-A:\t 1 \r\nx-a:2\r\nEmpty:\r\n\r\n",
        );
        assert_eq!(head.method(), "GET");
        assert!(head.is_method("GET") && !head.is_method("get"));
        assert_eq!(head.raw_target(), b"http://example.com:8080/a?b");
        assert_eq!(head.version(), Version::Http11);
        assert_eq!((head.host(), head.port()), ("example.com", 8080));
        assert_eq!(head.path(), b"/a?b");
        let lines: Vec<_> = head.fields().iter().collect();
        let expected: [(&str, &[u8]); 4] = [
            ("host", b"Other"),
            ("X-A", b"1"),
            ("x-a", b"2"),
            ("Empty", b""),
        ];
        assert_eq!(lines, expected);
        let named: Vec<_> = head.fields().named("x-A").collect();
        assert_eq!(named, [b"1", b"2"]);
    }

    #[test]
    fn the_host_of_a_request_can_be_changed() {
        let mut head =
            request("GET http://a.test:81/x HTTP/1.1\r\nX: 1\r\nHost: a.test:81\r\n\r\n");
        assert!(!head.has_new_host());
        head.set_host("[::FFFF:192.0.2.1]", 80).unwrap();
        assert!(head.has_new_host());
        assert_eq!((head.host(), head.port()), ("192.0.2.1", 80));
        let lines: Vec<_> = head.fields().iter().collect();
        assert_eq!(lines, [("X", &b"1"[..]), ("Host", b"192.0.2.1")]);
        head.set_host("2001:db8::1", 8080).unwrap();
        assert_eq!(
            head.fields().first(FieldId::Host),
            Some(&b"[2001:db8::1]:8080"[..])
        );
        assert_eq!(head.set_host("a b", 80), Err(TargetError::HostInvalid));
        assert_eq!(head.set_host("", 80), Err(TargetError::HostMissing));
        assert_eq!(head.set_host("b.test", 0), Err(TargetError::PortInvalid));
        assert_eq!((head.host(), head.port()), ("2001:db8::1", 8080));
        let mut connect = request("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
        assert!(connect.set_host("b.test", 443).is_err());
    }

    #[test]
    fn a_final_dot_marks_an_absolute_name() {
        for (text, host, is_absolute) in [
            ("GET http://A./x HTTP/1.1\r\nHost: A.\r\n\r\n", "a", true),
            ("GET http://a/x. HTTP/1.1\r\nHost: a\r\n\r\n", "a", false),
            ("GET / HTTP/1.1\r\nHost: b.c.:80\r\n\r\n", "b.c", true),
            (
                "CONNECT b.c.:443 HTTP/1.1\r\nHost: b.c.:443\r\n\r\n",
                "b.c",
                true,
            ),
            (
                "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n",
                "::1",
                false,
            ),
        ] {
            let mut head = request(text);
            assert_eq!(
                (head.host(), head.has_absolute_host()),
                (host, is_absolute),
                "{text}"
            );
            if head.set_host("d", 80).is_ok() {
                assert!(!head.has_absolute_host(), "{text}");
            }
        }
    }

    #[test]
    fn changing_the_method_keeps_the_clients() {
        let mut head = request("HEAD http://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
        head.set_method("GET").unwrap();
        assert_eq!((head.method(), head.client_method()), ("GET", "HEAD"));
        for method in ["", "G T", "GET\r\nX: y", "G\u{e9}T"] {
            assert_eq!(head.set_method(method), Err(MethodInvalid), "{method}");
        }
        assert_eq!(head.method(), "GET");
        head.set_method("TRACE").unwrap();
        let mut head = request("POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
        assert_eq!(head.set_method("TRACE"), Err(MethodInvalid));
        assert_eq!(head.method(), "POST");
    }

    #[test]
    fn refuses_malformed_requests() {
        for (text, expected) in [
            (
                "GET  http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
                RequestLineInvalid,
            ),
            (
                "GET http://a/  HTTP/1.1\r\nHost: a\r\n\r\n",
                RequestLineInvalid,
            ),
            (
                "GET http://a/ HTTP/1.1 \r\nHost: a\r\n\r\n",
                RequestLineInvalid,
            ),
            ("GET\thttp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", MethodInvalid),
            ("GET http://a/\r\nHost: a\r\n\r\n", RequestLineInvalid),
            ("GET\r\nHost: a\r\n\r\n", RequestLineInvalid),
            ("G(T http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", MethodInvalid),
            (
                "GET http://a/ http/1.1\r\nHost: a\r\n\r\n",
                RequestLineInvalid,
            ),
            (
                "GET http://a/ HTTP/1.10\r\nHost: a\r\n\r\n",
                RequestLineInvalid,
            ),
            (
                "GET http://a/ HTTP/2.0\r\nHost: a\r\n\r\n",
                VersionUnsupported,
            ),
            (
                "GET http://a/ HTTP/1.2\r\nHost: a\r\n\r\n",
                VersionUnsupported,
            ),
            (
                "GET http://a/ HTTP/1.1\r\n Host: a\r\n\r\n",
                FieldNameInvalid,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost : a\r\n\r\n",
                FieldNameInvalid,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
                FieldNameInvalid,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n",
                FieldNameInvalid,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
                FieldNameInvalid,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nX\u{e9}: a\r\n\r\n",
                FieldNameInvalid,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
                FieldValueInvalid,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
                FieldValueInvalid,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
                FieldValueInvalid,
            ),
            ("GET http://a/ HTTP/1.1\r\nX: a\r\n\r\n", HostMissing),
            ("GET http://a/ HTTP/1.1\r\n\r\n", HostMissing),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
                HostRepeated,
            ),
            (
                "GET http://a/ HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n",
                HostRepeated,
            ),
            ("GET http://a/ HTTP/1.1\r\nHost: a, b\r\n\r\n", HostInvalid),
            ("GET http://a/ HTTP/1.1\r\nHost: a/b\r\n\r\n", HostInvalid),
            ("GET http://a/ HTTP/1.1\r\nHost: u@a\r\n\r\n", HostInvalid),
            ("GET http://a/ HTTP/1.1\r\nHost: a:b\r\n\r\n", HostInvalid),
            (
                "GET http://a/ HTTP/1.1\r\nHost: http://a\r\n\r\n",
                HostInvalid,
            ),
            (
                "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
                Target(TargetError::SchemeUnsupported),
            ),
        ] {
            assert_eq!(
                parse_request(text.as_bytes()).err(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn limits_of_the_caller_apply() {
        let limits = HeadLimits {
            max_fields: 2,
            max_target_len: 5,
            ..HeadLimits::default()
        };
        for (text, expected) in [
            ("GET /1234 HTTP/1.1\r\nHost: a\r\nb:c\r\n\r\n", None),
            (
                "GET /12345 HTTP/1.1\r\nHost: a\r\n\r\n",
                Some(TargetTooLong),
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nb:c\r\nd:e\r\n\r\n",
                Some(TooManyFields),
            ),
        ] {
            let text = text.as_bytes().to_vec();
            let result = RequestHead::parse(text, 0, Vec::new(), &limits);
            assert_eq!(result.err().map(|no| no.error), expected);
        }
    }

    #[test]
    fn a_refusal_returns_the_buffers() {
        let text = b"GET / HTTP/3.0\r\n\r\n".to_vec();
        let lines = Vec::with_capacity(17);
        let refused = RequestHead::parse(text, 0, lines, &HeadLimits::default()).unwrap_err();
        assert_eq!(refused.text, b"GET / HTTP/3.0\r\n\r\n");
        assert!(refused.lines.capacity() >= 17);
    }

    #[test]
    fn the_path_is_completed_for_the_origin() {
        for (line, path) in [
            ("GET http://a", "/"),
            ("GET http://a?q=1", "/?q=1"),
            ("GET http://a/", "/"),
            ("OPTIONS http://a", "*"),
            ("OPTIONS http://a/", "/"),
            ("OPTIONS http://a?q", "/?q"),
            ("OPTIONS *", "*"),
            ("GET //x/?", "//x/?"),
            ("CONNECT a:1", ""),
        ] {
            let head = request(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(head.path(), path.as_bytes(), "{line}");
        }
    }

    #[test]
    fn the_authority_is_written_as_in_host() {
        for (line, host, authority, port) in [
            ("GET http://A.b/", "x", "a.b", 80),
            ("GET http://a:80/", "x", "a", 80),
            ("GET http://a:443/", "x", "a:443", 443),
            ("GET https://a:443/", "x", "a", 443),
            ("GET https://a:/", "x", "a", 443),
            ("GET http://[::A]:81/", "x", "[::a]:81", 81),
            ("CONNECT A:443", "x", "a:443", 443),
            ("GET /", "A.b:8080", "a.b:8080", 8080),
            ("GET /", "[::1]", "[::1]", 80),
            ("GET /", "", "", 80),
            ("OPTIONS *", "A", "a", 80),
        ] {
            let head = request(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let mut written = Vec::new();
            head.write_authority(&mut written);
            assert_eq!(String::from_utf8_lossy(&written), authority, "{line}");
            assert_eq!(head.port(), port, "{line}");
        }
    }

    #[test]
    fn the_connection_can_set_the_scheme() {
        let mut head = request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        head.set_scheme(Scheme::Https);
        assert_eq!((head.host(), head.port()), ("a", 443));
    }
}
