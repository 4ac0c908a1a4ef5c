//! Frame heads and masks (RFC 6455 §5.2, §5.3).
//!
//! Everything that the RFC forbids in a head is a [`FrameError`].

use crate::message::MAX_CONTROL_LEN;
use crate::{FrameError, MessageKind};

/// The maximum length of a head: two bytes, eight of length, four of mask.
const MAX_HEAD_LEN: usize = 14;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;
const RESERVED: u8 = RSV1 | RSV2 | RSV3;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LEN: u8 = 0x7f;
/// The length follows in two bytes.
const LEN_16: u8 = 126;
/// The length follows in eight bytes.
const LEN_64: u8 = 127;

/// The type of a frame (§11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// Continues the message of the previous frame.
    Continuation,
    /// Begins a text.
    Text,
    /// Begins binary data.
    Binary,
    /// The last frame of its side.
    Close,
    /// Requests a Pong.
    Ping,
    /// Answers a Ping.
    Pong,
}

impl Opcode {
    /// Its number in a frame head.
    pub const fn number(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// The opcode with this number; `None` if it is reserved.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// The kind of message that a frame with this opcode begins; `None` for a continuation.
    pub const fn kind(self) -> Option<MessageKind> {
        Some(match self {
            Self::Continuation => return None,
            Self::Text => MessageKind::Text,
            Self::Binary => MessageKind::Binary,
            Self::Close => MessageKind::Close,
            Self::Ping => MessageKind::Ping,
            Self::Pong => MessageKind::Pong,
        })
    }

    /// Whether it is a control frame, which is short and may appear between fragments (§5.5).
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl From<MessageKind> for Opcode {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
            MessageKind::Close => Self::Close,
            MessageKind::Ping => Self::Ping,
            MessageKind::Pong => Self::Pong,
        }
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// It is the last frame of its message.
    pub fin: bool,
    /// The first reserved bit; used by compression (RFC 7692).
    pub rsv1: bool,
    /// The second reserved bit.
    pub rsv2: bool,
    /// The third reserved bit.
    pub rsv3: bool,
    /// The type of the frame.
    pub opcode: Opcode,
    /// The mask of the payload: required from clients, forbidden for servers.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload in bytes; below 2^63.
    pub len: u64,
}

impl FrameHead {
    /// The head of a frame that contains a whole message.
    pub const fn whole(opcode: Opcode, mask: Option<[u8; 4]>, len: u64) -> Self {
        Self {
            fin: true,
            rsv1: false,
            rsv2: false,
            rsv3: false,
            opcode,
            mask,
            len,
        }
    }

    /// Appends the encoded head: 2 to 14 bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let reserved = bit(self.rsv1, RSV1) | bit(self.rsv2, RSV2) | bit(self.rsv3, RSV3);
        out.push(bit(self.fin, FIN) | reserved | self.opcode.number());
        let masked = bit(self.mask.is_some(), MASKED);
        if self.len <= MAX_CONTROL_LEN as u64 {
            out.push(masked | self.len as u8);
        } else if let Ok(len) = u16::try_from(self.len) {
            out.push(masked | LEN_16);
            out.extend_from_slice(&len.to_be_bytes());
        } else {
            out.push(masked | LEN_64);
            out.extend_from_slice(&self.len.to_be_bytes());
        }
        out.extend_from_slice(self.mask.as_ref().map_or(&[], |mask| mask));
    }

    /// Whether a reserved bit is set, which requires an extension.
    pub const fn has_reserved_bits(&self) -> bool {
        self.rsv1 || self.rsv2 || self.rsv3
    }
}

/// The sender of a frame. Frames from clients must be masked, those from servers must not (§5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The side that opened the connection.
    Client,
    /// The side that accepted it.
    Server,
}

/// Parses frame heads, in any number of pieces.
///
/// ```
/// # use proxy_websocket as websocket;
/// use websocket::{FrameHead, HeadReader, Opcode, Sender};
///
/// let mut reader = HeadReader::of(Sender::Server);
/// let (mut first, mut rest) = (&b"\x81"[..], &b"\x05hello"[..]);
/// assert_eq!(reader.read(&mut first)?, None);
/// assert_eq!(reader.read(&mut rest)?, Some(FrameHead::whole(Opcode::Text, None, 5)));
/// assert_eq!(rest, b"hello");
/// # Ok::<(), websocket::FrameError>(())
/// ```
#[derive(Debug)]
pub struct HeadReader {
    /// The side whose rules are enforced; `None`: either side, with unknown extensions.
    sender: Option<Sender>,
    bytes: [u8; MAX_HEAD_LEN],
    len: usize,
}

impl HeadReader {
    /// Parses the frames of this side without extensions: masked or not, as required, and without reserved bits.
    pub const fn of(sender: Sender) -> Self {
        Self::new(Some(sender))
    }

    /// Parses the frames of either side; the caller checks masks and reserved bits.
    pub const fn of_either() -> Self {
        Self::new(None)
    }

    const fn new(sender: Option<Sender>) -> Self {
        Self {
            sender,
            bytes: [0; MAX_HEAD_LEN],
            len: 0,
        }
    }

    /// Consumes bytes from the front of `input`, up to the end of a head; `None`: all of `input`, and the head is
    /// incomplete.
    ///
    /// # Errors
    /// The sender violated the protocol; what follows cannot be interpreted.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<FrameHead>, FrameError> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.bytes[self.len] = byte;
            self.len += 1;
            let checked = self.check_first_bytes();
            if checked.is_err() || self.len >= 2 && self.len == self.whole_len() {
                self.len = 0;
                return self.head(checked?).map(Some);
            }
        }
        Ok(None)
    }

    /// Checks the first two bytes, without waiting for the rest.
    fn check_first_bytes(&self) -> Result<Opcode, FrameError> {
        let [first, second, ..] = self.bytes;
        if self.sender.is_some() && first & RESERVED != 0 {
            return Err(FrameError::Reserved);
        }
        let opcode = Opcode::from_number(first & OPCODE).ok_or(FrameError::Opcode)?;
        if opcode.is_control() && first & FIN == 0 {
            return Err(FrameError::ControlFragmented);
        }
        if self.len < 2 {
            return Ok(opcode);
        }
        match (self.sender, second & MASKED != 0) {
            (Some(Sender::Client), false) => Err(FrameError::Unmasked),
            (Some(Sender::Server), true) => Err(FrameError::Masked),
            _ if opcode.is_control() && second & LEN > MAX_CONTROL_LEN as u8 => {
                Err(FrameError::ControlTooLong)
            }
            _ => Ok(opcode),
        }
    }

    fn whole_len(&self) -> usize {
        let second = self.bytes[1];
        let mask_len = if second & MASKED != 0 { 4 } else { 0 };
        2 + length_len(second) + mask_len
    }

    fn head(&self, opcode: Opcode) -> Result<FrameHead, FrameError> {
        let [first, second, ..] = self.bytes;
        let len_end = 2 + length_len(second);
        let written = self.bytes[2..len_end]
            .iter()
            .fold(0_u64, |len, &byte| len << 8 | u64::from(byte));
        let len = match second & LEN {
            LEN_16 if written > MAX_CONTROL_LEN as u64 => written,
            LEN_64 if written > u64::from(u16::MAX) && written >> 63 == 0 => written,
            LEN_16 | LEN_64 => return Err(FrameError::Length),
            len => len.into(),
        };
        let mask = self.bytes[len_end..].first_chunk().copied();
        Ok(FrameHead {
            fin: first & FIN != 0,
            rsv1: first & RSV1 != 0,
            rsv2: first & RSV2 != 0,
            rsv3: first & RSV3 != 0,
            opcode,
            mask: mask.filter(|_| second & MASKED != 0),
            len,
        })
    }
}

/// The number of length bytes after the first two.
const fn length_len(second: u8) -> usize {
    match second & LEN {
        LEN_16 => 2,
        LEN_64 => 8,
        _ => 0,
    }
}

/// Masks or unmasks bytes; `at` is their offset in the payload (§5.3).
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4], at: u64) {
    let shift = (at % 4) as usize;
    // In blocks, which the compiler can vectorise.
    let key: [u8; 16] = std::array::from_fn(|index| mask[(index + shift) % 4]);
    for block in bytes.chunks_mut(key.len()) {
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type ParsedHead = Result<Option<FrameHead>, FrameError>;

    fn read(sender: Sender, mut bytes: &[u8]) -> ParsedHead {
        let mut reader = HeadReader::of(sender);
        let head = reader.read(&mut bytes)?;
        assert_eq!(bytes, b"");
        Ok(head)
    }

    fn head(opcode: Opcode, fin: bool, len: u64) -> ParsedHead {
        Ok(Some(FrameHead {
            fin,
            ..FrameHead::whole(opcode, None, len)
        }))
    }

    #[test]
    fn heads_are_parsed_by_the_table_of_the_rfc() {
        let rows: &[(&[u8], ParsedHead)] = &[
            (b"\x81\x00", head(Opcode::Text, true, 0)),
            (b"\x01\x05", head(Opcode::Text, false, 5)),
            (b"\x02\x7d", head(Opcode::Binary, false, 125)),
            (b"\x00\x05", head(Opcode::Continuation, false, 5)),
            (b"\x80\x05", head(Opcode::Continuation, true, 5)),
            (b"\x88\x02", head(Opcode::Close, true, 2)),
            (b"\x89\x7d", head(Opcode::Ping, true, 125)),
            (b"\x8a\x00", head(Opcode::Pong, true, 0)),
            (b"\x82\x7e\x00\x7e", head(Opcode::Binary, true, 126)),
            (b"\x82\x7e\xff\xff", head(Opcode::Binary, true, 65535)),
            (
                b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
                head(Opcode::Binary, true, 65536),
            ),
            (
                b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
                head(Opcode::Binary, true, u64::MAX >> 1),
            ),
            (b"\x82\x7e\x00\x7d", Err(FrameError::Length)),
            (b"\x82\x7e\x00\x00", Err(FrameError::Length)),
            (
                b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
                Err(FrameError::Length),
            ),
            (
                b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00",
                Err(FrameError::Length),
            ),
            (b"\x81\x85", Err(FrameError::Masked)),
            (b"\x89\x7e", Err(FrameError::ControlTooLong)),
            (b"\x88\x7f", Err(FrameError::ControlTooLong)),
            (b"\x81", Ok(None)),
            (b"", Ok(None)),
        ];
        for (bytes, expected) in rows {
            let shown = bytes.escape_ascii();
            assert_eq!(read(Sender::Server, bytes), *expected, "{shown}");
        }
    }

    #[test]
    fn violations_are_detected_at_the_first_byte() {
        for first in 0..=u8::MAX {
            let (fin, opcode) = (first & FIN != 0, first & OPCODE);
            let expected = match opcode {
                _ if first & RESERVED != 0 => Err(FrameError::Reserved),
                0..=2 => Ok(None),
                8..=10 if fin => Ok(None),
                8..=10 => Err(FrameError::ControlFragmented),
                _ => Err(FrameError::Opcode),
            };
            assert_eq!(read(Sender::Client, &[first]), expected, "{first:#x}");
        }
    }

    #[test]
    fn clients_must_mask() {
        assert_eq!(read(Sender::Client, b"\x81\x05"), Err(FrameError::Unmasked));
        let masked = FrameHead::whole(Opcode::Text, Some(*b"mask"), 5);
        assert_eq!(read(Sender::Client, b"\x81\x85mask"), Ok(Some(masked)));
    }

    #[test]
    fn written_heads_parse_to_the_same_at_every_split() {
        for len in [0, 1, 125, 126, 127, 65535, 65536, 1 << 40] {
            for mask in [None, Some(*b"\x00\x81\xfe\x7f")] {
                let expected = FrameHead::whole(Opcode::Binary, mask, len);
                let mut written = Vec::new();
                expected.write(&mut written);
                let sender = match mask {
                    None => Sender::Server,
                    Some(_) => Sender::Client,
                };
                for split in 0..written.len() {
                    let (mut first, mut rest) = written.split_at(split);
                    let mut reader = HeadReader::of(sender);
                    assert_eq!(reader.read(&mut first), Ok(None));
                    assert_eq!(reader.read(&mut rest), Ok(Some(expected)));
                    assert_eq!((first, rest), (&b""[..], &b""[..]));
                }
            }
        }
    }

    #[test]
    fn a_mask_continues_where_it_stopped() {
        let plain: Vec<u8> = (0..100).collect();
        let mask = *b"\x37\xfa\x21\x3d";
        let expected: Vec<u8> = plain
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ mask[at % 4])
            .collect();
        for split in 0..plain.len() {
            let mut bytes = plain.clone();
            let (first, rest) = bytes.split_at_mut(split);
            apply_mask(first, mask, 0);
            apply_mask(rest, mask, split as u64);
            assert_eq!(bytes, expected, "{split}");
        }
    }

    #[test]
    fn reserved_bits_and_masks_are_returned_for_either_side() {
        for first in 0..8 {
            let bits = [4, 2, 1].map(|bit| first & bit != 0);
            for mask in [None, Some(*b"mask")] {
                let [rsv1, rsv2, rsv3] = bits;
                let whole = FrameHead::whole(Opcode::Text, mask, 5);
                let expected = FrameHead {
                    rsv1,
                    rsv2,
                    rsv3,
                    ..whole
                };
                let mut bytes = Vec::new();
                expected.write(&mut bytes);
                let read = HeadReader::of_either().read(&mut &bytes[..]);
                assert_eq!(read, Ok(Some(expected)));
            }
        }
    }

    #[test]
    fn opcodes_have_their_numbers() {
        for number in 0..=u8::MAX {
            if let Some(opcode) = Opcode::from_number(number) {
                assert_eq!(opcode.number(), number);
                assert_eq!(
                    opcode.kind().map_or(Opcode::Continuation, Opcode::from),
                    opcode
                );
                let kind = opcode.kind().map(|kind| (kind.number(), kind.is_control()));
                assert!(kind.is_none_or(|kind| kind == (number, opcode.is_control())));
            }
        }
    }

    #[test]
    fn a_reader_can_continue_after_an_error() {
        let mut reader = HeadReader::of(Sender::Server);
        for _ in 0..100 {
            assert_eq!(reader.read(&mut &b"\x81\x85"[..]), Err(FrameError::Masked));
        }
        assert_eq!(
            reader.read(&mut &b"\x81\x00"[..]),
            Ok(Some(FrameHead::whole(Opcode::Text, None, 0)))
        );
    }
}
