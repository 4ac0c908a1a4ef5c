//! The WebSocket handshake with a client (RFC 6455 §4.2).
//!
//! Neither sockets nor policy: a request is checked against the RFC only. A refusal has the status, the fields and a
//! text for the response; the caller sends it, and selects the subprotocol. Extensions are never accepted.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::http1::{
    BodyFraming, FieldId, RequestHead, Version, check_field, request_framing, requests_websocket,
    write_field, write_status_line,
};
use crate::http2::websocket_key;

/// The length of a decoded key, in bytes.
const KEY_LEN: usize = 16;

/// Standard Base64, except that the unused bits of the last digit may be set, as in the RFC's own example of a key.
const KEY_CODING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A valid handshake of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The value of `Sec-WebSocket-Accept`.
    accept: String,
    /// Tokens, in the client's order.
    subprotocols: Vec<String>,
}

/// Why the handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeRefused {
    #[error("this path accepts only WebSockets")]
    NotAsked,
    #[error("only version 13 of the WebSocket protocol is supported")]
    Version,
    #[error("a WebSocket handshake requires HTTP/1.1")]
    Http10,
    #[error("a WebSocket handshake requires GET")]
    Method,
    #[error("a WebSocket handshake must not have content")]
    Content,
    #[error("Sec-WebSocket-Key must be present once, with 16 bytes in Base64")]
    Key,
    #[error("Sec-WebSocket-Protocol contains a value that is not a token")]
    Subprotocol,
}

impl HandshakeRefused {
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::NotAsked | Self::Version => 426,
            _ => 400,
        }
    }

    /// Fields of the response, which say what the client may request instead.
    pub(crate) fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self.status() {
            426 => &[
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Version", "13"),
            ],
            _ => &[],
        }
    }
}

impl Handshake {
    /// Parses the head of a request (§4.2.1).
    pub(crate) fn read(head: &RequestHead) -> Result<Self, HandshakeRefused> {
        check_request(head)?;
        let fields = head.fields();
        let mut versions = fields.named("sec-websocket-version");
        if (versions.next(), versions.next()) != (Some(b"13"), None) {
            return Err(HandshakeRefused::Version);
        }
        let mut keys = fields.named("sec-websocket-key");
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err(HandshakeRefused::Key);
        };
        if !is_key(key) {
            return Err(HandshakeRefused::Key);
        }
        let accept = websocket_key::accept(key);
        let members = fields
            .named("sec-websocket-protocol")
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty());
        Ok(Self {
            accept: String::from_utf8_lossy(&accept).into_owned(),
            subprotocols: members.map(token).collect::<Result<_, _>>()?,
        })
    }

    /// Whether the client offers this subprotocol. The comparison is case-sensitive.
    pub(crate) fn offers(&self, subprotocol: &str) -> bool {
        self.subprotocols.iter().any(|name| name == subprotocol)
    }

    /// Appends the head of the response that accepts it (§4.2.2). A subprotocol that the client does not offer is
    /// omitted.
    pub(crate) fn write_accept(&self, subprotocol: Option<&str>, date: &str, out: &mut Vec<u8>) {
        write_status_line(out, 101, b"Switching Protocols");
        write_field(out, "Date", date.as_bytes());
        write_field(out, "Upgrade", b"websocket");
        write_field(out, "Connection", b"Upgrade");
        write_field(out, "Sec-WebSocket-Accept", self.accept.as_bytes());
        if let Some(name) = subprotocol.filter(|name| self.offers(name)) {
            write_field(out, "Sec-WebSocket-Protocol", name.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Checks everything except the fields of the WebSocket handshake.
fn check_request(head: &RequestHead) -> Result<(), HandshakeRefused> {
    let has_protocol = head
        .fields()
        .members(FieldId::Upgrade)
        .any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
    let is_empty = matches!(
        request_framing(head),
        Ok(BodyFraming::Empty | BodyFraming::Length(0))
    );
    if !has_protocol || !head.fields().connection_options().upgrade {
        Err(HandshakeRefused::NotAsked)
    } else if head.version() == Version::Http10 {
        Err(HandshakeRefused::Http10)
    } else if !head.is_method("GET") {
        Err(HandshakeRefused::Method)
    } else if !is_empty {
        Err(HandshakeRefused::Content)
    } else {
        debug_assert!(requests_websocket(head));
        Ok(())
    }
}

fn is_key(text: &[u8]) -> bool {
    // The decoder's estimate may exceed the length.
    let mut key = [0; KEY_LEN + 2];
    KEY_CODING.decode_slice(text, &mut key) == Ok(KEY_LEN)
}

fn token(member: &[u8]) -> Result<String, HandshakeRefused> {
    let name = str::from_utf8(member).map_err(|_| HandshakeRefused::Subprotocol)?;
    // Field names are tokens, too (RFC 9110 §5.1).
    match check_field(name, b"") {
        Ok(()) => Ok(name.to_owned()),
        Err(_) => Err(HandshakeRefused::Subprotocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HeadKind, HeadLimits, HeadScanner};

    const ASKS: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn read(line: &str, fields: &[&str]) -> Result<Handshake, HandshakeRefused> {
        let text = format!("{line}\r\nHost: o\r\n{}\r\n", fields.concat());
        let limits = HeadLimits::default();
        let scanned = HeadScanner::default().scan(text.as_bytes(), HeadKind::Request, &limits);
        let bounds = scanned.unwrap().expect("a whole head");
        let head = RequestHead::parse(text.into_bytes(), bounds.start, Vec::new(), &limits);
        Handshake::read(&head.expect("a good head"))
    }

    #[test]
    fn a_valid_handshake_is_accepted_as_in_the_rfc() {
        let offer =
            "Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Protocol: ,Chat.2\r\n";
        let handshake = read("GET /a HTTP/1.1", &[ASKS, VERSION, KEY, offer]).unwrap();
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.subprotocols, ["chat", "superchat", "Chat.2"]);
        let mut head = Vec::new();
        handshake.write_accept(Some("superchat"), "today", &mut head);
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nDate: today\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: superchat\r\n\r\n"
        );
    }

    #[test]
    fn a_subprotocol_that_is_not_offered_is_not_named() {
        let handshake = read("GET / HTTP/1.1", &[ASKS, VERSION, KEY]).unwrap();
        assert!(!handshake.offers("chat"));
        for subprotocol in [None, Some("chat")] {
            let mut head = Vec::new();
            handshake.write_accept(subprotocol, "today", &mut head);
            assert!(!String::from_utf8(head).unwrap().contains("Protocol:"));
        }
    }

    #[test]
    fn requirements_of_the_rfc_are_enforced() {
        use HandshakeRefused::*;
        let get = "GET / HTTP/1.1";
        let key = |text: &str| format!("Sec-WebSocket-Key: {text}\r\n");
        let rows: &[(&str, &[&str], HandshakeRefused)] = &[
            (get, &[], NotAsked),
            ("POST / HTTP/1.0", &[], NotAsked),
            (get, &["Upgrade: websocket\r\n", VERSION, KEY], NotAsked),
            (
                get,
                &["Upgrade: h2c\r\nConnection: upgrade\r\n", VERSION, KEY],
                NotAsked,
            ),
            ("GET / HTTP/1.0", &[ASKS, VERSION, KEY], Http10),
            ("POST / HTTP/1.1", &[ASKS, VERSION, KEY], Method),
            ("HEAD / HTTP/1.1", &[ASKS, VERSION, KEY], Method),
            (get, &[ASKS, VERSION, KEY, "Content-Length: 1\r\n"], Content),
            (
                get,
                &[ASKS, VERSION, KEY, "Transfer-Encoding: chunked\r\n"],
                Content,
            ),
            (get, &[ASKS, KEY], Version),
            (get, &[ASKS, KEY, "Sec-WebSocket-Version: 8\r\n"], Version),
            (get, &[ASKS, KEY, VERSION, VERSION], Version),
            (get, &[ASKS, VERSION], Key),
            (get, &[ASKS, VERSION, KEY, KEY], Key),
            (get, &[ASKS, VERSION, &key("")], Key),
            (get, &[ASKS, VERSION, &key("dGhlIHNhbXBsZSBub25jZQ")], Key),
            (get, &[ASKS, VERSION, &key("dGhlIHNhbXBsZSBub25j")], Key),
            (get, &[ASKS, VERSION, &key("dGhlIHNhbXBsZSBub25jZWE=")], Key),
            (get, &[ASKS, VERSION, &key("dGhlIHNhbXBsZSBub25jZ*==")], Key),
            (get, &[ASKS, VERSION, &key(&"A".repeat(4000))], Key),
            (
                get,
                &[ASKS, VERSION, KEY, "Sec-WebSocket-Protocol: a b\r\n"],
                Subprotocol,
            ),
        ];
        for (line, fields, refused) in rows {
            assert_eq!(read(line, fields), Err(*refused), "{line} {fields:?}");
        }
    }

    #[test]
    fn a_key_may_end_in_spare_bits_as_in_the_rfc() {
        let key = "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n";
        assert!(read("GET / HTTP/1.1", &[ASKS, VERSION, key]).is_ok());
    }

    #[test]
    fn refusals_say_how_to_ask() {
        for refused in [HandshakeRefused::NotAsked, HandshakeRefused::Version] {
            assert_eq!(refused.status(), 426);
            let fields = refused.fields();
            assert!(fields.contains(&("Upgrade", "websocket")));
            assert!(fields.contains(&("Sec-WebSocket-Version", "13")));
        }
        assert_eq!(HandshakeRefused::Key.status(), 400);
        assert!(HandshakeRefused::Key.fields().is_empty());
    }
}
