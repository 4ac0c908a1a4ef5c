//! The client side of the opening handshake, without a socket (RFC 6455 §4.1).
//!
//! Parses a URL, builds the request, and checks the head of the response. A server has to prove that it supports
//! WebSocket and has read this request, so everything is checked.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::utilities::HttpRequest;

/// Appended to the key before it is hashed (§1.3).
const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Fields that the handshake writes itself.
const OWN: [&str; 6] = [
    "Host",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Extensions",
];
const PROTOCOL: &str = "Sec-WebSocket-Protocol";

/// The destination of a WebSocket (§3).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WebSocketUrl<'u> {
    /// Without brackets.
    pub(super) host: &'u str,
    pub(super) port: u16,
    /// As in the URL, without a default port.
    authority: &'u str,
    path: String,
}

impl<'u> WebSocketUrl<'u> {
    /// # Errors
    /// It is not the URL of a WebSocket without TLS.
    pub(super) fn parse(url: &'u str) -> io::Result<Self> {
        // The URL may contain secrets that must not be logged.
        let wrong = |what: &str| invalid_input(format!("not a WebSocket URL: {what}"));
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("it does not have the form ws://host:port/path"))?;
        match scheme {
            _ if scheme.eq_ignore_ascii_case("ws") => {}
            _ if scheme.eq_ignore_ascii_case("wss") => {
                return Err(invalid_input(
                    "wss requires TLS, which this client does not support".to_owned(),
                ));
            }
            _ => return Err(wrong("the scheme is not ws")),
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('#') {
            return Err(wrong("it contains an invalid character"));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (bracketed, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None => 80,
            Some(port) => decimal(port).ok_or_else(|| wrong("the port is not a number"))?,
        };
        let host = match bracketed.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').filter(|host| host.contains(':')),
            None => Some(bracketed).filter(|host| !host.contains([':', ']'])),
        };
        let host = host
            .filter(|host| !host.is_empty() && !host.contains(['@', '[']))
            .ok_or_else(|| wrong("it has no host"))?;
        Ok(Self {
            host,
            port,
            authority: if port == 80 { bracketed } else { authority },
            path: match path.starts_with('/') {
                true => path.to_owned(),
                false => format!("/{path}"),
            },
        })
    }

    /// The handshake request.
    ///
    /// # Errors
    /// A header is invalid, or one of the handshake's own.
    pub(super) fn request(&self, key: &str, headers: &[(&str, &str)]) -> io::Result<Vec<u8>> {
        let is_own = |name: &str| OWN.iter().any(|own| own.eq_ignore_ascii_case(name));
        if let Some((name, _)) = headers.iter().find(|(name, _)| is_own(name)) {
            return Err(invalid_input(format!("the client sets {name} itself")));
        }
        let request = HttpRequest::new("GET", &self.path)
            .header("Host", self.authority)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Key", key)
            .header("Sec-WebSocket-Version", "13");
        headers
            .iter()
            .fold(request, |request, (name, value)| {
                request.header(name, value)
            })
            .build()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }
}

/// 16 random bytes, as a `Sec-WebSocket-Key`.
///
/// # Errors
/// The system provides no random numbers.
pub(super) fn random_key() -> io::Result<String> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)?;
    Ok(STANDARD.encode(nonce))
}

/// The `Sec-WebSocket-Accept` that answers `key`.
pub(super) fn accept(key: &str) -> String {
    let hash = sha1_smol::Sha1::from([key, SUFFIX].concat());
    STANDARD.encode(hash.digest().bytes())
}

/// Checks that the head of a response, including its last line end, accepts the WebSocket requested with this key and
/// these headers.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_response(head: &[u8], key: &str, headers: &[(&str, &str)]) -> io::Result<()> {
    let text = String::from_utf8_lossy(head);
    let head = HandshakeResponse::parse(&text)?;
    if head.status != "101" {
        let status = [head.status, head.reason].join(" ");
        let text = format!("the server answered {} instead of 101", status.trim_end());
        return Err(refused(text));
    }
    if !head.lists("Upgrade", "websocket") {
        return Err(refused("Upgrade in the response is not websocket"));
    }
    if !head.lists("Connection", "upgrade") {
        return Err(refused("Connection in the response does not list upgrade"));
    }
    let expected = accept(key);
    if !head.values("Sec-WebSocket-Accept").eq([&*expected]) {
        return Err(refused(
            "Sec-WebSocket-Accept in the response does not match the key",
        ));
    }
    if head.values("Sec-WebSocket-Extensions").next().is_some() {
        return Err(refused(
            "the response lists an extension that was not offered",
        ));
    }
    let has_offered = |protocol: &str| {
        headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(PROTOCOL))
            .any(|(_, value)| list(value).any(|offered| offered == protocol))
    };
    match head.values(PROTOCOL).all(has_offered) {
        true => Ok(()),
        false => Err(refused(
            "the response lists a subprotocol that was not offered",
        )),
    }
}

struct HandshakeResponse<'h> {
    status: &'h str,
    reason: &'h str,
    fields: Vec<(&'h str, &'h str)>,
}

impl<'h> HandshakeResponse<'h> {
    fn parse(head: &'h str) -> io::Result<Self> {
        let broken = || refused("the response is not an HTTP/1.1 response");
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let is_text = |line: &str| !line.contains(|char: char| char.is_control() && char != '\t');
        if !lines.clone().all(is_text) {
            return Err(broken());
        }
        let line = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let line = line.ok_or_else(broken)?;
        let (status, reason) = line.split_once(' ').unwrap_or((line, ""));
        let field = |line: &'h str| {
            let (name, value) = line.split_once(':')?;
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            is_name.then(|| (name, value.trim_matches([' ', '\t'])))
        };
        Ok(Self {
            status,
            reason,
            fields: lines.map(field).collect::<Option<_>>().ok_or_else(broken)?,
        })
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'h str> {
        self.fields
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    /// Whether a list field contains this member.
    fn lists(&self, name: &str, member: &str) -> bool {
        self.values(name)
            .flat_map(list)
            .any(|listed| listed.eq_ignore_ascii_case(member))
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
}

fn decimal(text: &str) -> Option<u16> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal)
}

fn invalid_input(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn refused(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn urls_are_parsed() {
        for (url, host, port, authority, path) in [
            ("ws://a.example", "a.example", 80, "a.example", "/"),
            ("WS://a.example/", "a.example", 80, "a.example", "/"),
            (
                "ws://a.example:80/x?y",
                "a.example",
                80,
                "a.example",
                "/x?y",
            ),
            (
                "ws://a.example:8080?y",
                "a.example",
                8080,
                "a.example:8080",
                "/?y",
            ),
            ("ws://[::1]:90/a:b/@", "::1", 90, "[::1]:90", "/a:b/@"),
            ("ws://[::1]/", "::1", 80, "[::1]", "/"),
        ] {
            let path = path.to_owned();
            let expected = WebSocketUrl {
                host,
                port,
                authority,
                path,
            };
            assert_eq!(WebSocketUrl::parse(url).unwrap(), expected);
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "",
            "a.example",
            "http://a.example/",
            "ws:///x",
            "ws://:80/",
            "ws://a:b/",
            "ws://a:/",
            "ws://a:65536/",
            "ws://a:+80/",
            "ws://::1/",
            "ws://[]/",
            "ws://[a]/",
            "ws://[::1/",
            "ws://[::1]x/",
            "ws://u:p@a/",
            "ws://a/#b",
            "ws://a/ b",
            "ws://a/\r\nX: y",
            "ws://ä/",
        ] {
            let error = WebSocketUrl::parse(url).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{url}");
            assert!(error.to_string().starts_with("not a WebSocket URL: "));
        }
        let error = WebSocketUrl::parse("wss://a.example/")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "wss requires TLS, which this client does not support"
        );
    }

    #[test]
    fn the_request_is_that_of_the_rfc_with_own_headers() {
        let target = WebSocketUrl::parse("ws://server.example:81/chat").unwrap();
        let request = target
            .request(KEY, &[("Origin", "http://example.com")])
            .unwrap();
        let expected = "GET /chat HTTP/1.1\r\nHost: server.example:81\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
            Origin: http://example.com\r\n\r\n";
        assert_eq!(request, expected.as_bytes());
        for header in [
            ("host", "other"),
            ("sec-websocket-extensions", "x"),
            ("A", "b\r\nc: d"),
        ] {
            let error = target.request(KEY, &[header]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    fn check(answer: &str) -> Result<(), String> {
        let asked = [("Sec-WebSocket-Protocol", "chat, superchat")];
        check_response(answer.as_bytes(), KEY, &asked).map_err(|error| error.to_string())
    }

    #[test]
    fn the_response_of_the_rfc_is_accepted() {
        assert_eq!(check(ANSWER), Ok(()));
        let other = ANSWER.replace("Connection: Upgrade", "CONNECTION:keep-alive,\tupgrade ");
        assert_eq!(check(&other.replace(": websocket", ": WebSocket")), Ok(()));
        let protocol = "Upgrade: websocket\r\nSec-WebSocket-Protocol: superchat";
        assert_eq!(
            check(&ANSWER.replace("Upgrade: websocket", protocol)),
            Ok(())
        );
    }

    #[test]
    fn other_responses_are_refused_with_the_reason() {
        let one = "Upgrade: websocket\r\n";
        for (from, to, error) in [
            (
                "101 Switching Protocols",
                "403 Forbidden",
                "the server answered 403 Forbidden instead of 101",
            ),
            (
                "101 Switching Protocols",
                "200",
                "the server answered 200 instead of 101",
            ),
            (
                "HTTP/1.1 101",
                "HTTP/1.0 101",
                "the response is not an HTTP/1.1 response",
            ),
            (
                "HTTP/1.1 101",
                "hello",
                "the response is not an HTTP/1.1 response",
            ),
            (
                one,
                "Upgrade : websocket\r\n",
                "the response is not an HTTP/1.1 response",
            ),
            (
                one,
                " folded\r\n",
                "the response is not an HTTP/1.1 response",
            ),
            (
                one,
                "Upgrade: websocket\nA: b\r\n",
                "the response is not an HTTP/1.1 response",
            ),
            (
                one,
                "Upgrade: webs\0cket\r\n",
                "the response is not an HTTP/1.1 response",
            ),
            (
                one,
                "Upgrade: h2c\r\n",
                "Upgrade in the response is not websocket",
            ),
            (one, "", "Upgrade in the response is not websocket"),
            (
                "Connection: Upgrade",
                "Connection: close",
                "Connection in the response does not list upgrade",
            ),
            (
                "s3pP",
                "S3pP",
                "Sec-WebSocket-Accept in the response does not match the key",
            ),
            (
                "Sec-WebSocket-Accept",
                "X",
                "Sec-WebSocket-Accept in the response does not match the key",
            ),
            (
                one,
                "Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n",
                "Sec-WebSocket-Accept in the response does not match the key",
            ),
            (
                one,
                "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
                "the response lists an extension that was not offered",
            ),
            (
                one,
                "Upgrade: websocket\r\nSec-WebSocket-Protocol: other\r\n",
                "the response lists a subprotocol that was not offered",
            ),
        ] {
            let answer = ANSWER.replace(from, to);
            assert_eq!(check(&answer), Err(error.to_owned()), "{answer}");
        }
    }

    #[test]
    fn keys_are_sixteen_random_bytes() {
        let (first, second) = (random_key().unwrap(), random_key().unwrap());
        assert_eq!(STANDARD.decode(&first).unwrap().len(), 16);
        assert_ne!(first, second);
    }

    #[test]
    fn a_key_of_any_length_has_an_answer() {
        assert_eq!(accept(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept("").len(), 28);
        assert_eq!(accept(&"x".repeat(1000)).len(), 28);
    }
}
