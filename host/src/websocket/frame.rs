//! The two sides of a WebSocket, and what may be sent to either.
//!
//! Frames, masks and messages out of them are read and written by [`proxy_websocket`], which plugins use,
//! too; here is what the proxy adds: its sides, and how an operator reads of a fault.

use std::borrow::Cow;

pub(crate) use proxy_websocket::MessageKind as Kind;
use proxy_websocket::{FrameError, FrameHead, Sender, check_message};

use crate::side::Side;

impl Side {
    /// What it is in the protocol.
    pub(super) const fn sender(self) -> Sender {
        match self {
            Self::Client => Sender::Client,
            Self::Upstream => Sender::Server,
        }
    }
}

/// Appends the head of a frame that is a whole message.
pub(super) fn write_head(kind: Kind, mask: Option<[u8; 4]>, len: usize, out: &mut Vec<u8>) {
    FrameHead::whole(kind.into(), mask, len as u64).write(out);
}

/// Whether a message of this kind may say that.
pub(crate) fn is_sendable(kind: Kind, data: &[u8]) -> bool {
    check_message(kind, data).is_ok()
}

/// A fault for the log, with the name of the limit that a message is beyond.
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
    fn plugins_may_send_what_peers_may() {
        assert!(is_sendable(Kind::Text, "ä".as_bytes()));
        assert!(!is_sendable(Kind::Text, b"\xc3"));
        assert!(!is_sendable(Kind::Pong, &[0xff; 126]));
        assert!(!is_sendable(Kind::Close, b"\x03\xed"));
    }

    #[test]
    fn a_fault_names_the_setting_that_it_is_about() {
        assert!(describe(FrameError::TooLong).ends_with("max_body_buffer"));
        assert_eq!(describe(FrameError::NotUtf8), "text is not UTF-8");
    }
}
