//! Protocol switches on a connection (RFC 9110 §7.8): which may be offered to the origin, and which it accepted.
//!
//! Decides by the heads alone. `forward` writes them for the next hop, and the caller handles the tunnel.

use crate::fields::{FieldId, Fields};
use crate::framing::{BodyFraming, request_framing};
use crate::head::{RequestHead, ResponseHead, Version};

/// The protocols that a client requests and that may be forwarded.
#[derive(Clone, Copy, Debug)]
pub struct RequestedUpgrade<'a> {
    fields: Fields<'a>,
}

impl<'a> RequestedUpgrade<'a> {
    /// The protocols, in the client's order. Never HTTP/2 without TLS, another version of HTTP, or TLS, because the
    /// proxy could not interpret what follows.
    pub fn protocols(self) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .members(FieldId::Upgrade)
            .filter(|protocol| may_pass(protocol))
    }
}

/// The upgrade that this request asks for, if allowed (RFC 9110 §7.8): HTTP/1.1 or later, without content, not CONNECT.
pub fn requested_upgrade(head: &RequestHead) -> Option<RequestedUpgrade<'_>> {
    let fields = head.fields();
    if head.version() == Version::Http10
        || head.is_method("CONNECT")
        || !fields.connection_options().upgrade
        || !matches!(
            request_framing(head),
            Ok(BodyFraming::Empty | BodyFraming::Length(0))
        )
    {
        return None;
    }
    let upgrade = RequestedUpgrade { fields };
    upgrade.protocols().next().is_some().then_some(upgrade)
}

/// Whether the origin switches to a protocol that `request` asked for (RFC 9110 §7.8).
pub fn upgrade_accepted(head: &ResponseHead, request: &RequestHead) -> bool {
    let fields = head.fields();
    let Some(offer) = requested_upgrade(request) else {
        return false;
    };
    let mut chosen = fields.members(FieldId::Upgrade).peekable();
    head.status() == 101
        && fields.connection_options().upgrade
        && chosen.peek().is_some()
        && chosen.all(|protocol| {
            offer
                .protocols()
                .any(|offered| offered.eq_ignore_ascii_case(protocol))
        })
}

/// Whether this request asks for a WebSocket (RFC 6455).
pub fn requests_websocket(head: &RequestHead) -> bool {
    requested_upgrade(head).is_some_and(|upgrade| upgrade.protocols().any(is_websocket))
}

/// Whether a response switches the protocol to WebSocket.
pub fn switches_to_websocket(head: &ResponseHead) -> bool {
    head.fields().members(FieldId::Upgrade).any(is_websocket)
}

fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"websocket")
}

/// Whether this protocol may be forwarded in Upgrade.
fn may_pass(protocol: &[u8]) -> bool {
    !["h2", "http/", "tls/"].iter().any(|refused| {
        protocol
            .get(..refused.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(refused.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::{requested_upgrade, requests_websocket, switches_to_websocket, upgrade_accepted};
    use crate::head::tests::{request, response};

    #[test]
    fn an_upgrade_needs_all_of_its_parts() {
        for head in [
            "GET http://a/ HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: H2C\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ] {
            assert!(requested_upgrade(&request(head)).is_none(), "{head}");
        }
    }

    #[test]
    fn a_websocket_is_distinguished_from_other_protocols() {
        let asks = |protocols: &str| {
            let fields = format!("Host: o\r\nConnection: upgrade\r\nUpgrade: {protocols}");
            requests_websocket(&request(&format!(
                "GET http://o/ HTTP/1.1\r\n{fields}\r\n\r\n"
            )))
        };
        assert!(asks("websocket") && asks("x, WebSocket"));
        assert!(!asks("x") && !asks("websockets") && !asks("websocket/2"));
        let head = "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: ";
        let switches = |to: &str| switches_to_websocket(&response(&format!("{head}{to}\r\n\r\n")));
        assert!(switches("WebSocket") && !switches("x"));
    }

    #[test]
    fn an_upgrade_is_accepted_by_101_with_both_fields() {
        let asked = request(
            "GET http://o/ HTTP/1.1\r\nHost: o\r\nConnection: upgrade\r\nUpgrade: A, b\r\n\r\n",
        );
        let accepted = |text: &str| upgrade_accepted(&response(text), &asked);
        assert!(!accepted(
            "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: c\r\n\r\n"
        ));
        assert!(accepted(
            "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n"
        ));
        assert!(!accepted(
            "HTTP/1.1 200 x\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n"
        ));
        assert!(!accepted("HTTP/1.1 101 x\r\nUpgrade: a\r\n\r\n"));
        assert!(!accepted("HTTP/1.1 101 x\r\nConnection: Upgrade\r\n\r\n"));
    }
}
