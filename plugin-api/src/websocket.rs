//! A WebSocket message as plugins see it (RFC 6455).
//!
//! Numbers of kinds are the opcodes of §11.8, on both sides of the boundary. Frames, masks and the opening handshake are
//! the proxy's: a plugin gets whole messages, and what it sends is framed for it. Plugins with WebSockets of their own find
//! those things in [`utilities`](crate::utilities).

use crate::Direction;
use crate::abi::message;

/// What a WebSocket message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// Text: its data is UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// Asks the other side for a sign of life; at most 125 bytes.
    Ping,
    /// Answers a ping, with its data; at most 125 bytes.
    Pong,
    /// The last message of a side: nothing, or a code of two bytes and a reason, see [`close_data`]; at most 125 bytes.
    Close,
}

impl MessageKind {
    /// The kind with this number (RFC 6455 §11.8), as it also is at the plugin boundary.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            message::TEXT => Some(Self::Text),
            message::BINARY => Some(Self::Binary),
            message::CLOSE => Some(Self::Close),
            message::PING => Some(Self::Ping),
            message::PONG => Some(Self::Pong),
            _ => None,
        }
    }

    /// Its number: the opcode of the frame that begins such a message.
    pub const fn number(self) -> u8 {
        let number = match self {
            Self::Text => message::TEXT,
            Self::Binary => message::BINARY,
            Self::Close => message::CLOSE,
            Self::Ping => message::PING,
            Self::Pong => message::PONG,
        };
        number as u8
    }

    /// Whether it is about the WebSocket itself, and no more than 125 bytes long.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A WebSocket message, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebSocketMessage<'x> {
    /// Who sends it.
    pub from: Direction,
    /// What it is.
    pub kind: MessageKind,
    /// What it says.
    pub data: &'x [u8],
}

impl<'x> WebSocketMessage<'x> {
    pub(crate) fn new(from: Direction, kind: MessageKind, data: &'x [u8]) -> Self {
        Self { from, kind, data }
    }

    /// What a text says; none for every other kind.
    pub fn text(&self) -> Option<&'x str> {
        match self.kind {
            MessageKind::Text => std::str::from_utf8(self.data).ok(),
            _ => None,
        }
    }

    /// The code of a Close that has one (RFC 6455 §7.4); none for every other kind.
    pub fn close_code(&self) -> Option<u16> {
        match (self.kind, self.data) {
            (MessageKind::Close, [high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }

    /// The reason of a Close, possibly empty; none for every other kind.
    pub fn close_reason(&self) -> Option<&'x str> {
        match self.kind {
            MessageKind::Close => std::str::from_utf8(self.data.get(2..).unwrap_or_default()).ok(),
            _ => None,
        }
    }
}

/// The data of a Close with this code and reason. Codes may be 1000 to 1003, 1007 to 1014 and 3000 to 4999; of the
/// reason, what fits into 123 bytes is taken.
pub fn close_data(code: u16, reason: &str) -> Vec<u8> {
    let end = (0..=reason.len().min(123))
        .rev()
        .find(|&end| reason.is_char_boundary(end))
        .unwrap_or(0);
    [&code.to_be_bytes(), &reason.as_bytes()[..end]].concat()
}

#[cfg(test)]
mod tests {
    use super::{MessageKind, WebSocketMessage, close_data};
    use crate::Direction;

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
    fn a_long_reason_is_cut_between_characters() {
        let data = close_data(1000, &"ä".repeat(100));
        assert_eq!(data.len(), 2 + 122);
        assert_eq!(close(&data).close_reason(), Some("ä".repeat(61)).as_deref());
    }

    #[test]
    fn only_a_close_closes() {
        let text = WebSocketMessage::new(Direction::Client, MessageKind::Text, b"\x03\xe8");
        assert_eq!((text.close_code(), text.close_reason()), (None, None));
    }

    #[test]
    fn kinds_have_their_numbers() {
        for number in 0..16 {
            if let Some(kind) = MessageKind::from_number(number) {
                assert_eq!(u32::from(kind.number()), number);
            }
        }
    }
}
