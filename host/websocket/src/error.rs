//! Violations of the WebSocket protocol, and the matching close codes.

use std::fmt;

/// How a peer violated the protocol (RFC 6455), or a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame from the client is not masked (§5.1).
    Unmasked,
    /// A frame from the server is masked (§5.1).
    Masked,
    /// A reserved bit is set without an extension (§5.2).
    Reserved,
    /// An unknown opcode (§5.2).
    Opcode,
    /// A length that is not encoded in the shortest form, or exceeds 63 bits (§5.2).
    Length,
    /// A control frame is longer than 125 bytes (§5.5).
    ControlTooLong,
    /// A control frame is fragmented (§5.5).
    ControlFragmented,
    /// A continuation without a message to continue (§5.4).
    Continuation,
    /// A new message begins within another one (§5.4).
    Interleaved,
    /// A Close has a forbidden or incomplete code (§7.4).
    CloseCode,
    /// Text is not UTF-8 (§8.1).
    NotUtf8,
    /// A message or a payload exceeds the reader's limit.
    TooLong,
}

impl FrameError {
    /// The code for the Close to its sender (§7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            Self::TooLong => 1009,
            _ => 1002,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmasked => "a frame from the client is not masked",
            Self::Masked => "a frame from the server is masked",
            Self::Reserved => "a reserved bit is set",
            Self::Opcode => "unknown opcode",
            Self::Length => "a length is not encoded minimally or exceeds 63 bits",
            Self::ControlTooLong => "a control frame is longer than 125 bytes",
            Self::ControlFragmented => "a control frame is fragmented",
            Self::Continuation => "a continuation frame without a message to continue",
            Self::Interleaved => "a new message begins before the previous one ended",
            Self::CloseCode => "a Close frame has an invalid or incomplete code",
            Self::NotUtf8 => "text is not UTF-8",
            Self::TooLong => "a message exceeds the limit",
        })
    }
}

impl std::error::Error for FrameError {}
