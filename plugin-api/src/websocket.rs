//! A WebSocket message as plugins see it (RFC 6455).
//!
//! The numbers of kinds are the opcodes of §11.8, on both sides of the boundary. The proxy handles frames, masks and
//! the opening handshake: a plugin receives and sends whole messages. Plugins that implement WebSocket themselves find
//! tools in [`utilities`](crate::utilities).

pub use proxy_websocket::{MessageKind, close_data};

use crate::Direction;

/// A whole WebSocket message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebSocketMessage<'x> {
    /// The side that sent it.
    pub from: Direction,
    /// Its kind.
    pub kind: MessageKind,
    /// Its content.
    pub data: &'x [u8],
}

impl<'x> WebSocketMessage<'x> {
    pub(crate) fn new(from: Direction, kind: MessageKind, data: &'x [u8]) -> Self {
        Self { from, kind, data }
    }

    /// The text; none for other kinds.
    pub fn text(&self) -> Option<&'x str> {
        match self.kind {
            MessageKind::Text => std::str::from_utf8(self.data).ok(),
            _ => None,
        }
    }

    /// The code of a Close, if it has one (RFC 6455 §7.4); none for other kinds.
    pub fn close_code(&self) -> Option<u16> {
        match (self.kind, self.data) {
            (MessageKind::Close, [high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }

    /// The reason of a Close, possibly empty; none for other kinds.
    pub fn close_reason(&self) -> Option<&'x str> {
        match self.kind {
            MessageKind::Close => std::str::from_utf8(self.data.get(2..).unwrap_or_default()).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MessageKind, WebSocketMessage, close_data};
    use crate::Direction;
    use crate::abi::message;

    fn close(data: &[u8]) -> WebSocketMessage<'_> {
        WebSocketMessage::new(Direction::Client, MessageKind::Close, data)
    }

    #[test]
    fn a_close_has_a_code_and_a_reason_or_neither() {
        let data = close_data(4001, "späť");
        assert_eq!(close(&data).close_code(), Some(4001));
        assert_eq!(close(&data).close_reason(), Some("späť"));
        assert_eq!(
            (close(b"").close_code(), close(b"").close_reason()),
            (None, Some(""))
        );
    }

    #[test]
    fn only_a_close_closes() {
        let text = WebSocketMessage::new(Direction::Client, MessageKind::Text, b"\x03\xe8");
        assert_eq!((text.close_code(), text.close_reason()), (None, None));
    }

    #[test]
    fn kinds_have_the_same_numbers_at_the_boundary() {
        let rows = [
            (message::TEXT, MessageKind::Text),
            (message::BINARY, MessageKind::Binary),
            (message::CLOSE, MessageKind::Close),
            (message::PING, MessageKind::Ping),
            (message::PONG, MessageKind::Pong),
        ];
        for (number, kind) in rows {
            assert_eq!(MessageKind::from_number(number), Some(kind));
        }
    }
}
