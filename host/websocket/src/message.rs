//! Kinds of messages, and their permitted content (RFC 6455 §5.5, §5.6, §7.4).

use crate::FrameError;

/// The maximum payload of a control frame, in bytes (§5.5).
pub(crate) const MAX_CONTROL_LEN: usize = 125;

/// The kind of a WebSocket message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// Text in UTF-8.
    Text,
    /// Binary data.
    Binary,
    /// Requests a Pong; at most 125 bytes.
    Ping,
    /// Answers a Ping, with its data; at most 125 bytes.
    Pong,
    /// The last message of a side: empty, or a code of two bytes and a reason, see [`close_data`]; at most 125 bytes.
    Close,
}

impl MessageKind {
    /// The kind with this number (RFC 6455 §11.8), which is also used at the plugin boundary.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Its number: the opcode of its first frame.
    pub const fn number(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Whether it is a control message: about the WebSocket itself, at most 125 bytes long.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The data of a Close with this code and reason. Valid codes are 1000 to 1003, 1007 to 1014 and 3000 to 4999; the
/// reason is cut to 123 bytes.
pub fn close_data(code: u16, reason: &str) -> Vec<u8> {
    let end = (0..=reason.len().min(123))
        .rev()
        .find(|&end| reason.is_char_boundary(end))
        .unwrap_or(0);
    [&code.to_be_bytes(), &reason.as_bytes()[..end]].concat()
}

/// Checks the data of a Close: empty, or a permitted code and a reason (§5.5.1, §7.4).
///
/// # Errors
/// Why it must not be sent.
pub fn check_close(data: &[u8]) -> Result<(), FrameError> {
    match data {
        [] => Ok(()),
        [_] => Err(FrameError::CloseCode),
        [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
            1000..=1003 | 1007..=1014 | 3000..=4999 => check_text(reason),
            _ => Err(FrameError::CloseCode),
        },
    }
}

/// Checks the data of a message of this kind (§5.5, §5.6).
///
/// # Errors
/// Why it must not be sent.
pub fn check_message(kind: MessageKind, data: &[u8]) -> Result<(), FrameError> {
    match kind {
        MessageKind::Text => check_text(data),
        MessageKind::Binary => Ok(()),
        _ if data.len() > MAX_CONTROL_LEN => Err(FrameError::ControlTooLong),
        MessageKind::Close => check_close(data),
        MessageKind::Ping | MessageKind::Pong => Ok(()),
    }
}

fn check_text(data: &[u8]) -> Result<(), FrameError> {
    match std::str::from_utf8(data) {
        Ok(_) => Ok(()),
        Err(_) => Err(FrameError::NotUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_numbers() {
        for number in 0..16 {
            if let Some(kind) = MessageKind::from_number(number) {
                assert_eq!(u32::from(kind.number()), number);
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let data = close_data(1000, &"ä".repeat(100));
        assert_eq!(&data[2..], "ä".repeat(61).as_bytes());
    }

    #[test]
    fn closes_are_checked_by_the_table_of_the_rfc() {
        let allowed = |code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        for code in 0..=u16::MAX {
            let expected = match allowed(code) {
                true => Ok(()),
                false => Err(FrameError::CloseCode),
            };
            assert_eq!(check_close(&code.to_be_bytes()), expected, "{code}");
        }
        assert_eq!(check_close(b""), Ok(()));
        assert_eq!(check_close(b"\x03"), Err(FrameError::CloseCode));
        assert_eq!(check_close(b"\x03\xe8bye"), Ok(()));
        assert_eq!(check_close(b"\x03\xe8\xff"), Err(FrameError::NotUtf8));
    }

    #[test]
    fn messages_are_checked_by_kind() {
        let rows: &[(MessageKind, &[u8], Result<(), FrameError>)] = &[
            (MessageKind::Binary, &[0xff; 1000], Ok(())),
            (MessageKind::Text, "ä".as_bytes(), Ok(())),
            (MessageKind::Text, b"\xc3", Err(FrameError::NotUtf8)),
            (MessageKind::Ping, &[0xff; 125], Ok(())),
            (
                MessageKind::Pong,
                &[0xff; 126],
                Err(FrameError::ControlTooLong),
            ),
            (MessageKind::Close, b"", Ok(())),
            (MessageKind::Close, b"\x03\xed", Err(FrameError::CloseCode)),
        ];
        for (kind, data, expected) in rows {
            assert_eq!(check_message(*kind, data), *expected, "{kind:?}");
        }
    }
}
