//! Extracts what is recognisable of a request whose head is malformed, for the log.
//!
//! An operator needs to know what was requested to make use of a refusal. Nothing is decided here: the request has been
//! refused. All text comes from the peer and is limited in length.

use plugin_contract::field::is_token;

/// Maximum length of a method, in bytes; longer text is not a method.
const MAX_METHOD_LEN: usize = 32;
/// Maximum length of a host, in bytes; longer text is not a name (RFC 1035 §2.3.4).
const MAX_HOST_LEN: usize = 255;
/// Maximum length of a path, in bytes; the rest becomes `...`.
const MAX_PATH_LEN: usize = 256;

/// The recognisable parts of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glimpse {
    /// The method; empty if there is none.
    pub method: String,
    /// Host (in lower case and without brackets) and port of the target, or else of the first Host field.
    pub authority: Option<(String, u16)>,
    /// Path and query; empty if nothing looks like one, because lines of other protocols may contain passwords.
    pub path: Vec<u8>,
}

impl Glimpse {
    /// Extracts the parts from the received bytes of a head.
    pub fn of(received: &[u8]) -> Self {
        let start = received
            .iter()
            .position(|byte| !matches!(byte, b'\r' | b'\n'));
        let mut lines = received[start.unwrap_or(received.len())..].split(|byte| *byte == b'\n');
        let mut parts = lines
            .next()
            .unwrap_or_default()
            .trim_ascii_end()
            .split(|byte| *byte == b' ');
        let method = parts.next().unwrap_or_default();
        if method.len() > MAX_METHOD_LEN || !is_token(method) {
            return Self::default();
        }
        let target = parts.next().unwrap_or_default();
        let (authority, default_port, path) = split_target(target, method == b"CONNECT");
        let authority = match authority {
            Some(authority) => authority,
            None => lines.find_map(host_field).unwrap_or_default(),
        };
        Self {
            method: String::from_utf8_lossy(method).into_owned(),
            authority: split_authority(authority, default_port),
            path: shortened(path),
        }
    }
}

/// The authority of a target, if any, its default port, and the path.
fn split_target(target: &[u8], is_connect: bool) -> (Option<&[u8]>, u16, &[u8]) {
    let after = |scheme: &[u8]| {
        let (begin, rest) = target.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let (rest, port) = match (after(b"http://"), after(b"https://")) {
        _ if is_connect => return (Some(target), 443, b""),
        (Some(rest), _) => (rest, 80),
        (_, Some(rest)) => (rest, 443),
        (None, None) if target.starts_with(b"/") || target == b"*" => return (None, 80, target),
        (None, None) => return (None, 80, b""),
    };
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
    // The part before the host may be a password.
    let host = authority.rsplit(|byte| *byte == b'@').next();
    (host, port, path)
}

/// The value, if the line is a Host field.
fn host_field(line: &[u8]) -> Option<&[u8]> {
    let (name, value) = line.split_at_checked("host:".len())?;
    name.eq_ignore_ascii_case(b"host:")
        .then(|| value.trim_ascii())
}

fn split_authority(authority: &[u8], default_port: u16) -> Option<(String, u16)> {
    let is_readable = authority.iter().all(u8::is_ascii_graphic);
    if authority.len() > MAX_HOST_LEN || !is_readable || authority.contains(&b'@') {
        return None;
    }
    let text = str::from_utf8(authority).ok()?;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(default_port)),
        _ => (text, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

fn shortened(path: &[u8]) -> Vec<u8> {
    match path.split_at_checked(MAX_PATH_LEN) {
        Some((kept, rest)) if !rest.is_empty() => [kept, b"..."].concat(),
        _ => path.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(received: &str) -> (String, String, String) {
        let glimpse = Glimpse::of(received.as_bytes());
        let authority = glimpse
            .authority
            .map(|(host, port)| format!("{host}:{port}"));
        let path = String::from_utf8(glimpse.path).unwrap();
        (glimpse.method, authority.unwrap_or_default(), path)
    }

    #[test]
    fn extracts_the_request_of_a_malformed_head() {
        for (received, method, authority, path) in [
            (
                "GET http://A.example/p HTTP/9.9\r\n\r\n",
                "GET",
                "a.example:80",
                "/p",
            ),
            (
                "\r\nGET https://a.example:8443?q HTTP/1.1\r\n",
                "GET",
                "a.example:8443",
                "?q",
            ),
            (
                "GET http://u:secret@a.example/ HTTP/1.1\r\n",
                "GET",
                "a.example:80",
                "/",
            ),
            ("GET http://[::1]:81/ HTTP/1.1", "GET", "::1:81", "/"),
            (
                "CONNECT a.example HTTP/1.1\r\n",
                "CONNECT",
                "a.example:443",
                "",
            ),
            (
                "CONNECT a.example:22 HTTP/7\r\n",
                "CONNECT",
                "a.example:22",
                "",
            ),
            (
                "GET /p\r\nX: y\r\nhost: b.example:81\r\n",
                "GET",
                "b.example:81",
                "/p",
            ),
            ("GET /p HTTP/1.1\r\nX: y\r\n", "GET", "", "/p"),
            ("PASS secret\r\n", "PASS", "", ""),
            ("GET", "GET", "", ""),
            ("", "", "", ""),
            ("G@T http://a.example/ HTTP/1.1\r\n", "", "", ""),
            ("GET http://a\u{fc}/ HTTP/1.1\r\n", "GET", "", "/"),
            (
                "GET http://a.example:x/ HTTP/1.1\r\n",
                "GET",
                "a.example:80",
                "/",
            ),
        ] {
            let expected = (method.to_owned(), authority.to_owned(), path.to_owned());
            assert_eq!(seen(received), expected, "{received:?}");
        }
    }

    #[test]
    fn keeps_a_limited_part() {
        let long = "a".repeat(20_000);
        let (_, authority, path) = seen(&format!("GET http://a.example/{long} HTTP/1.1\r\n"));
        assert_eq!(
            (authority.as_str(), path.len()),
            ("a.example:80", MAX_PATH_LEN + 3)
        );
        assert_eq!(seen(&format!("{long} / HTTP/1.1\r\n")).0, "");
        assert_eq!(seen(&format!("GET http://{long}/ HTTP/1.1\r\n")).1, "");
    }
}
