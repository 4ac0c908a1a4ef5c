//! The two sides of a WebSocket, and what may be sent to either.
//!
//! [`proxy_websocket`], which plugins use, too, parses and writes frames and messages. This file adds the proxy's
//! sides, and describes faults for the operator.

use std::borrow::Cow;

pub(crate) use proxy_websocket::MessageKind as Kind;
use proxy_websocket::{FrameError, FrameHead, Sender, check_message};

use crate::side::Side;

impl Side {
    /// The role of the side in the protocol.
    pub(super) const fn sender(self) -> Sender {
        match self {
            Self::Client => Sender::Client,
            Self::Upstream => Sender::Server,
        }
    }
}

/// Appends the head of a frame that contains a whole message.
pub(super) fn write_head(kind: Kind, mask: Option<[u8; 4]>, len: usize, out: &mut Vec<u8>) {
    FrameHead::whole(kind.into(), mask, len as u64).write(out);
}

/// Whether a message of this kind may have this content.
pub(crate) fn is_sendable(kind: Kind, data: &[u8]) -> bool {
    check_message(kind, data).is_ok()
}

/// Describes a fault for the log, with the name of the setting that limits the message.
pub(super) fn describe(fault: FrameError) -> Cow<'static, str> {
    match fault {
        FrameError::TooLong => "a message exceeds max_body_buffer".into(),
        _ => fault.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_and_peers_have_the_same_rules() {
        assert!(is_sendable(Kind::Text, "ä".as_bytes()));
        assert!(!is_sendable(Kind::Text, b"\xc3"));
        assert!(!is_sendable(Kind::Pong, &[0xff; 126]));
        assert!(!is_sendable(Kind::Close, b"\x03\xed"));
    }

    #[test]
    fn a_fault_names_its_setting() {
        assert!(describe(FrameError::TooLong).ends_with("max_body_buffer"));
        assert_eq!(describe(FrameError::NotUtf8), "text is not UTF-8");
    }
}
