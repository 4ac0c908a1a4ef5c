//! The four forms of request targets and their authority (RFC 9112 §3.2, RFC 3986 §3.2).
//!
//! Filters decide by host, so a host has one canonical form here, that of `plugin_contract::canonical_host`: names in
//! lower case without the final dot, IPv4 as a dotted quad, IPv6 in its shortest form, IPv4-mapped IPv6 as IPv4. Names
//! that some resolvers would take for an address (`127.1`, `0x7f000001`), empty labels, zones, percent-encoding and
//! userinfo are refused. The path is not interpreted. The dialler resolves names.

use plugin_contract::canonical_address;
use plugin_contract::host::is_host;
use thiserror::Error;

use crate::fields::{Span, push_text};

/// The form of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `http://host:port/path?query`, in requests to a proxy (RFC 9112 §3.2.2).
    Absolute,
    /// `host:port`, with CONNECT only (RFC 9112 §3.2.3).
    Authority,
    /// `/path?query`, in requests to an origin (RFC 9112 §3.2.1).
    Origin,
    /// `*`, with OPTIONS only (RFC 9112 §3.2.4).
    Asterisk,
}

/// The schemes that the proxy forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What is wrong with a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// None of the four forms (RFC 9112 §3.2).
    #[error("the request target has an invalid form")]
    FormInvalid,
    /// CONNECT with something other than `host:port` (RFC 9112 §3.2.3).
    #[error("CONNECT requires the target host:port")]
    ConnectNeedsAuthority,
    /// `*` with a method other than OPTIONS (RFC 9112 §3.2.4).
    #[error("only OPTIONS may have the target *")]
    AsteriskNeedsOptions,
    /// A space, a control character or a fragment (RFC 3986 §2, RFC 9112 §3.2).
    #[error("the request target contains an invalid character")]
    ByteInvalid,
    /// A scheme other than http or https (RFC 9110 §4.2).
    #[error("the scheme is neither http nor https")]
    SchemeUnsupported,
    /// `user@` before the host (RFC 9110 §4.2.4).
    #[error("the request target contains user information, which is not allowed")]
    UserinfoRefused,
    /// No host (RFC 9110 §4.2.1).
    #[error("the request target has an empty host")]
    HostMissing,
    /// The host is not a name, a dotted quad or an IPv6 address in brackets (RFC 3986 §3.2.2).
    #[error("the host is neither a name nor an address")]
    HostInvalid,
    /// CONNECT without a port (RFC 9110 §9.3.6).
    #[error("the request target has no port")]
    PortMissing,
    /// A port that is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    PortInvalid,
    /// A path that does not begin with `/`, or one for CONNECT.
    #[error("the path is missing or does not begin with /")]
    PathInvalid,
}

/// A parsed request target; its spans refer to the text of [`RequestHead`](super::RequestHead).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its form.
    pub form: TargetForm,
    /// The scheme of the absolute form; `None` if the connection determines it.
    pub scheme: Option<Scheme>,
    /// The host without brackets; empty if the target has none.
    pub(crate) host: Span,
    /// The host was written with a final dot, which its canonical form omits: it is fully qualified (RFC 1034 §3.1).
    pub(crate) is_absolute: bool,
    /// 0 if the target has none.
    pub(crate) port: u16,
    /// Path and query; empty for CONNECT, and if the absolute form omits the `/`.
    pub(crate) path: Span,
}

/// Host and port of an authority or a Host field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) host: Span,
    /// 0 if there is none.
    pub(crate) port: u16,
}

impl Target {
    /// Parses the target at `span` of `text`.
    pub(crate) fn parse(method: &[u8], text: &[u8], span: Span) -> Result<Self, TargetError> {
        let target = span.of(text);
        // An origin would see bytes that are not text, but a filter would not.
        if !is_target_text(target) || str::from_utf8(target).is_err() {
            return Err(TargetError::ByteInvalid);
        }
        match target {
            _ if method == b"CONNECT" => Self::authority(text, span),
            [b'/', ..] => Ok(Self::without_authority(TargetForm::Origin, span)),
            b"*" if method == b"OPTIONS" => Ok(Self::without_authority(TargetForm::Asterisk, span)),
            b"*" => Err(TargetError::AsteriskNeedsOptions),
            _ => Self::absolute(text, span),
        }
    }

    fn authority(text: &[u8], span: Span) -> Result<Self, TargetError> {
        if span.of(text).iter().any(|byte| b"/?".contains(byte)) {
            return Err(TargetError::ConnectNeedsAuthority);
        }
        let Authority { host, port } = Authority::parse(text, span)?;
        if port == 0 {
            return Err(TargetError::PortMissing);
        }
        Ok(Self {
            form: TargetForm::Authority,
            scheme: None,
            host,
            is_absolute: false,
            port,
            path: Span::default(),
        })
    }

    fn absolute(text: &[u8], span: Span) -> Result<Self, TargetError> {
        let target = span.of(text);
        let colon = memchr::memchr(b':', target).ok_or(TargetError::FormInvalid)?;
        let (scheme, rest) = (&target[..colon], &target[colon + 1..]);
        if !is_scheme(scheme) || !rest.starts_with(b"//") {
            return Err(TargetError::FormInvalid);
        }
        let scheme = supported(scheme).ok_or(TargetError::SchemeUnsupported)?;
        let rest = &rest[2..];
        let authority_len = rest.iter().position(|byte| b"/?".contains(byte));
        let start = span.start as usize + colon + 3;
        let path = start + authority_len.unwrap_or(rest.len());
        let Authority { host, port } = Authority::parse(text, Span::between(start, path))?;
        Ok(Self {
            form: TargetForm::Absolute,
            scheme: Some(scheme),
            host,
            is_absolute: false,
            port,
            path: Span::between(path, (span.start + span.len) as usize),
        })
    }

    fn without_authority(form: TargetForm, path: Span) -> Self {
        Self {
            form,
            scheme: None,
            host: Span::default(),
            is_absolute: false,
            port: 0,
            path,
        }
    }
}

impl Authority {
    /// Parses `host[:port]` (RFC 3986 §3.2); an empty port counts as none.
    pub(crate) fn parse(text: &[u8], span: Span) -> Result<Self, TargetError> {
        let authority = span.of(text);
        if authority.contains(&b'@') {
            return Err(TargetError::UserinfoRefused);
        }
        let bracketed = authority.first() == Some(&b'[');
        let host_len = match bracketed {
            true => memchr::memchr(b']', authority).ok_or(TargetError::HostInvalid)? + 1,
            false => memchr::memchr(b':', authority).unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(host_len);
        check_host(host)?;
        let start = span.start as usize + usize::from(bracketed);
        let end = span.start as usize + host_len - usize::from(bracketed);
        Ok(Self {
            host: Span::between(start, end),
            port: port_after_host(port)?,
        })
    }
}

/// Converts a checked host to its canonical form, in place if possible.
pub(crate) fn settle_host(text: &mut Vec<u8>, host: Span) -> Span {
    text[host.start as usize..(host.start + host.len) as usize].make_ascii_lowercase();
    match host.of(text) {
        [name @ .., b'.'] => Span {
            len: name.len() as u32,
            ..host
        },
        // Only addresses begin with a digit or contain colons; most hosts do neither.
        [b'0'..=b'9', ..] => settle_address(text, host),
        bytes if memchr::memchr(b':', bytes).is_some() => settle_address(text, host),
        _ => host,
    }
}

/// Converts an address; leaves a name unchanged.
fn settle_address(text: &mut Vec<u8>, host: Span) -> Span {
    let Ok(address) = host.str_of(text).parse() else {
        return host;
    };
    let canonical = canonical_address(address);
    // A dotted quad has only one form.
    if canonical == address && address.is_ipv4() {
        return host;
    }
    let spelling = canonical.to_string();
    match spelling == host.str_of(text) {
        true => host,
        false => push_text(text, spelling.as_bytes()),
    }
}

/// Checks `path` as path and query: it begins with `/` and would be a valid request target.
pub(crate) fn check_path(path: &[u8]) -> Result<(), TargetError> {
    match path {
        [b'/', ..] if is_target_text(path) && str::from_utf8(path).is_ok() => Ok(()),
        [b'/', ..] => Err(TargetError::ByteInvalid),
        _ => Err(TargetError::PathInvalid),
    }
}

fn is_target_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|&byte| byte > b' ' && byte != 0x7f && byte != b'#')
}

fn is_scheme(bytes: &[u8]) -> bool {
    let mut bytes = bytes.iter();
    bytes.next().is_some_and(u8::is_ascii_alphabetic)
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

fn supported(scheme: &[u8]) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https]
        .into_iter()
        .find(|known| scheme.eq_ignore_ascii_case(known.as_str().as_bytes()))
}

fn check_host(host: &[u8]) -> Result<(), TargetError> {
    match str::from_utf8(host) {
        Ok("") => Err(TargetError::HostMissing),
        Ok(host) if is_host(host) => Ok(()),
        _ => Err(TargetError::HostInvalid),
    }
}

fn port_after_host(bytes: &[u8]) -> Result<u16, TargetError> {
    let digits = match bytes {
        [] | [b':'] => return Ok(0),
        [b':', digits @ ..] if digits.len() <= 5 => digits,
        [b':', ..] => return Err(TargetError::PortInvalid),
        _ => return Err(TargetError::HostInvalid),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(TargetError::PortInvalid);
    }
    let value = digits
        .iter()
        .fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    match u16::try_from(value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(TargetError::PortInvalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TargetError::*;
    use plugin_contract::canonical_host;

    type Parts<'a> = (TargetForm, Option<Scheme>, &'a str, u16, &'a str);

    fn parse<'a>(method: &str, target: &'a str) -> Result<Parts<'a>, TargetError> {
        let text = target.as_bytes();
        let found = Target::parse(method.as_bytes(), text, Span::between(0, text.len()))?;
        Ok((
            found.form,
            found.scheme,
            found.host.str_of(text),
            found.port,
            found.path.str_of(text),
        ))
    }

    #[test]
    fn parses_the_four_forms() {
        use TargetForm::*;
        let (http, https) = (Some(Scheme::Http), Some(Scheme::Https));
        for (method, target, expected) in [
            ("GET", "http://a.b/c?d", (Absolute, http, "a.b", 0, "/c?d")),
            ("GET", "HTTPS://a:8443", (Absolute, https, "a", 8443, "")),
            ("GET", "http://a?q", (Absolute, http, "a", 0, "?q")),
            ("GET", "http://a:/", (Absolute, http, "a", 0, "/")),
            ("GET", "http://[::1]:80/", (Absolute, http, "::1", 80, "/")),
            (
                "GET",
                "http://1.2.3.4/",
                (Absolute, http, "1.2.3.4", 0, "/"),
            ),
            (
                "GET",
                "http://a//b@c:d",
                (Absolute, http, "a", 0, "//b@c:d"),
            ),
            (
                "GET",
                "http://a_b.c-d./",
                (Absolute, http, "a_b.c-d.", 0, "/"),
            ),
            (
                "GET",
                "http://1.2.3.4.a/",
                (Absolute, http, "1.2.3.4.a", 0, "/"),
            ),
            ("CONNECT", "a:443", (Authority, None, "a", 443, "")),
            (
                "CONNECT",
                "[2001:DB8::1]:1",
                (Authority, None, "2001:DB8::1", 1, ""),
            ),
            ("GET", "/", (Origin, None, "", 0, "/")),
            ("GET", "//x", (Origin, None, "", 0, "//x")),
            ("OPTIONS", "*", (Asterisk, None, "", 0, "*")),
        ] {
            assert_eq!(parse(method, target), Ok(expected), "{method} {target}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for (method, target, expected) in [
            ("GET", "*", AsteriskNeedsOptions),
            ("OPTIONS", "*x", FormInvalid),
            ("GET", "a.b/c", FormInvalid),
            ("GET", "a:80", FormInvalid),
            ("GET", "http:/a", FormInvalid),
            ("GET", "://a/", FormInvalid),
            ("GET", "1http://a/", FormInvalid),
            ("GET", "ftp://a/", SchemeUnsupported),
            ("GET", "ws://a/", SchemeUnsupported),
            ("GET", "http://", HostMissing),
            ("GET", "http:///x", HostMissing),
            ("GET", "http://:80/", HostMissing),
            ("GET", "http://u@a/", UserinfoRefused),
            ("GET", "http://u:p@a/", UserinfoRefused),
            ("GET", "http://@a/", UserinfoRefused),
            ("GET", "http://a/#f", ByteInvalid),
            ("GET", "http://a/\u{1}", ByteInvalid),
            ("GET", "/\u{7f}", ByteInvalid),
            ("GET", "http://a:0/", PortInvalid),
            ("GET", "http://a:00/", PortInvalid),
            ("GET", "http://a:65536/", PortInvalid),
            ("GET", "http://a:000080/", PortInvalid),
            ("GET", "http://a:+80/", PortInvalid),
            ("GET", "http://a:80:80/", PortInvalid),
            ("GET", "http://::1/", HostMissing),
            ("GET", "http://2001:db8::1/", HostInvalid),
            ("GET", "http://db8::1/", PortInvalid),
            ("GET", "http://[::1/", HostInvalid),
            ("GET", "http://[::1]x/", HostInvalid),
            ("GET", "http://[::1]80/", HostInvalid),
            ("GET", "http://[fe80::1%25eth0]/", HostInvalid),
            ("GET", "http://[v1.a]/", HostInvalid),
            ("GET", "http://[]/", HostInvalid),
            ("GET", "http://[127.0.0.1]/", HostInvalid),
            ("GET", "http://a%2eb/", HostInvalid),
            ("GET", "http://./", HostInvalid),
            ("GET", "http://../", HostInvalid),
            ("GET", "http://a../", HostInvalid),
            ("GET", "http://a..b/", HostInvalid),
            ("GET", "http://.a/", HostInvalid),
            ("GET", "http://a\\b/", HostInvalid),
            ("GET", "http://\u{e9}/", HostInvalid),
            ("GET", "http://127.1/", HostInvalid),
            ("GET", "http://2130706433/", HostInvalid),
            ("GET", "http://0x7f000001/", HostInvalid),
            ("GET", "http://127.0.0.0x1/", HostInvalid),
            ("GET", "http://0x/", HostInvalid),
            ("GET", "http://127.0.0.1./", HostInvalid),
            ("GET", "http://127.0.0.01/", HostInvalid),
            ("GET", "http://256.0.0.1/", HostInvalid),
            ("GET", "http://1.2.3.4.5/", HostInvalid),
            ("GET", "http://a.1/", HostInvalid),
            ("CONNECT", "a", PortMissing),
            ("CONNECT", "a:", PortMissing),
            ("CONNECT", ":443", HostMissing),
            ("CONNECT", "a:0", PortInvalid),
            ("CONNECT", "a:65536", PortInvalid),
            ("CONNECT", "u@a:443", UserinfoRefused),
            ("CONNECT", "a:443/", ConnectNeedsAuthority),
            ("CONNECT", "/", ConnectNeedsAuthority),
            ("CONNECT", "http://a:443/", ConnectNeedsAuthority),
            ("CONNECT", "*", HostInvalid),
        ] {
            assert_eq!(parse(method, target), Err(expected), "{method} {target}");
        }
    }

    #[test]
    fn a_host_is_in_its_canonical_form() {
        for host in [
            "a",
            "A.Example.",
            "a_b.c-d",
            "xn--A",
            "1a",
            "1.2.3.4.a.",
            "127.0.0.1",
            "0.0.0.0",
            "255.1.2.3",
            "[::1]",
            "::",
            "[::]",
            "::FFFF:127.0.0.1",
            "[::ffff:7f00:1]",
            "0:0:0:0:0:ffff:7f00:0001",
            "::ffff:0:0",
            "::127.0.0.1",
            "2001:DB8:0:0::0001",
            "[2001:db8::1]",
            "fe80::1",
            "1:2:3:4:5:6:7:8",
            "",
            ".",
            "..",
            "a..",
            "a..b",
            ".a",
            "a b",
            "a:80",
            "[::1]:80",
            "[a]",
            "[]",
            "[127.0.0.1]",
            "[::1",
            "u@a",
            "a%2eb",
            "fe80::1%eth0",
            "b\u{fc}cher",
            "127.1",
            "127.0.0.1.",
            "127.0.0.01",
            "0177.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x",
            "a.1",
            "a.0X1f",
            "256.0.0.1",
            "1.2.3.4.5",
            "*",
            "*.a",
            "a/",
            "::ffff:127.1",
            ":",
            "::1.",
        ] {
            // As in a target.
            let is_bare = host.matches(':').count() > 1 && !host.starts_with('[');
            let written = match is_bare {
                true => format!("[{host}]"),
                false => host.to_owned(),
            };
            let mut text = written.into_bytes();
            let whole = Span::between(0, text.len());
            let found = Authority::parse(&text, whole).ok();
            let found = found.filter(|found| found.port == 0 && !text.ends_with(b":"));
            let settled = found.map(|found| settle_host(&mut text, found.host));
            let expected = canonical_host(host).ok();
            assert_eq!(
                settled.map(|host| host.str_of(&text)),
                expected.as_deref(),
                "{host}"
            );
        }
    }

    #[test]
    fn a_path_begins_with_a_slash_and_remains_one_target() {
        assert_eq!(check_path("/a?b//\u{e9}".as_bytes()), Ok(()));
        assert_eq!(check_path(b"/a\xffb"), Err(ByteInvalid));
        assert_eq!(check_path(b""), Err(PathInvalid));
        assert_eq!(check_path(b"a"), Err(PathInvalid));
        assert_eq!(check_path(b"*"), Err(PathInvalid));
        assert_eq!(check_path(b"/a b"), Err(ByteInvalid));
        assert_eq!(check_path(b"/a\r\nb"), Err(ByteInvalid));
        assert_eq!(check_path(b"/a#b"), Err(ByteInvalid));
    }
}
