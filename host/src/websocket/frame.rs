//! The heads of frames, and what a message of each kind may say (RFC 6455 §5.2, §5.5, §7.4).
//!
//! Bytes in, values out; no socket. Whatever the RFC forbids its sender is a [`Fault`], which names the code that the
//! sender is closed with.

use super::assembly::is_utf8;

/// The longest head: two bytes, eight of length, four of mask.
const MAX_HEAD_LEN: usize = 14;
/// The most that a control frame carries, in bytes (§5.5).
const MAX_CONTROL_LEN: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LEN: u8 = 0x7f;
/// The length follows in two bytes.
const LEN_16: u8 = 126;
/// The length follows in eight bytes.
const LEN_64: u8 = 127;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    /// The opcode (§11.8), which is also its number at the plugin boundary.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    pub(super) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("a frame of the client's is not masked")]
    Unmasked,
    #[error("a frame of the upstream's is masked")]
    Masked,
    #[error("a reserved bit is set")]
    Reserved,
    #[error("an opcode is not known")]
    Opcode,
    #[error("a length is not written in the shortest way, or beyond 63 bits")]
    Length,
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    #[error("a control frame is fragmented")]
    ControlFragmented,
    #[error("a continuation continues nothing")]
    Continuation,
    #[error("a message begins inside of another")]
    Interleaved,
    #[error("a Close has a code that must not be sent, or half a code")]
    CloseCode,
    #[error("text is not UTF-8")]
    NotUtf8,
    #[error("a message is longer than max_body_buffer")]
    TooLong,
}

impl Fault {
    /// What its sender is told in a Close (§7.4.1).
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            Self::TooLong => 1009,
            _ => 1002,
        }
    }
}

/// What a frame's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// None: it continues a message.
    pub(super) kind: Option<Kind>,
    /// It is the last of its message.
    pub(super) is_last: bool,
    /// Set in what clients send, and only there.
    pub(super) mask: Option<[u8; 4]>,
    /// Bytes that follow; below 2^63.
    pub(super) len: u64,
}

/// The two ends. What comes from a client has to be masked, and nothing else may be (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Upstream,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// Reads heads, however their bytes come.
#[derive(Debug)]
pub(super) struct HeadReader {
    side: Side,
    bytes: [u8; MAX_HEAD_LEN],
    len: usize,
}

impl HeadReader {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            bytes: [0; MAX_HEAD_LEN],
            len: 0,
        }
    }

    /// Takes bytes off the front of `input`, up to the end of a head; `None`: all of it, and the head goes on.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<FrameHead>, Fault> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.bytes[self.len] = byte;
            self.len += 1;
            self.check_first_bytes()?;
            if self.len >= 2 && self.len == self.whole_len() {
                self.len = 0;
                return self.head().map(Some);
            }
        }
        Ok(None)
    }

    /// What two bytes tell: so early that nobody has to send the rest.
    fn check_first_bytes(&self) -> Result<(), Fault> {
        let [first, second, ..] = self.bytes;
        if self.len == 1 {
            let opcode = first & OPCODE;
            return match first & RESERVED {
                0 if opcode == 0 => Ok(()),
                0 => match Kind::from_number(opcode.into()) {
                    Some(kind) if kind.is_control() && first & FIN == 0 => {
                        Err(Fault::ControlFragmented)
                    }
                    Some(_) => Ok(()),
                    None => Err(Fault::Opcode),
                },
                _ => Err(Fault::Reserved),
            };
        }
        if self.len > 2 {
            return Ok(());
        }
        let is_control = first & OPCODE >= Kind::Close.number();
        match (self.side, second & MASKED != 0) {
            (Side::Client, false) => Err(Fault::Unmasked),
            (Side::Upstream, true) => Err(Fault::Masked),
            _ if is_control && second & LEN > MAX_CONTROL_LEN as u8 => Err(Fault::ControlTooLong),
            _ => Ok(()),
        }
    }

    fn whole_len(&self) -> usize {
        let second = self.bytes[1];
        let mask_len = if second & MASKED != 0 { 4 } else { 0 };
        2 + length_len(second) + mask_len
    }

    fn head(&self) -> Result<FrameHead, Fault> {
        let [first, second, ..] = self.bytes;
        let len_end = 2 + length_len(second);
        let written = self.bytes[2..len_end]
            .iter()
            .fold(0_u64, |len, &byte| len << 8 | u64::from(byte));
        let len = match second & LEN {
            LEN_16 if written > MAX_CONTROL_LEN as u64 => written,
            LEN_64 if written > u64::from(u16::MAX) && written >> 63 == 0 => written,
            LEN_16 | LEN_64 => return Err(Fault::Length),
            len => len.into(),
        };
        let mask = self.bytes[len_end..].first_chunk().copied();
        Ok(FrameHead {
            kind: Kind::from_number((first & OPCODE).into()),
            is_last: first & FIN != 0,
            mask: mask.filter(|_| second & MASKED != 0),
            len,
        })
    }
}

/// How many bytes of length follow the first two.
const fn length_len(second: u8) -> usize {
    match second & LEN {
        LEN_16 => 2,
        LEN_64 => 8,
        _ => 0,
    }
}

/// Appends the head of a frame that is a whole message.
pub(super) fn write_head(kind: Kind, mask: Option<[u8; 4]>, len: usize, out: &mut Vec<u8>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.push(FIN | kind.number());
    if len <= MAX_CONTROL_LEN {
        out.push(masked | len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(masked | LEN_16);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(masked | LEN_64);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| mask));
}

/// Masks bytes, or unmasks them; `at` is where in their frame they begin (§5.3).
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4], at: u64) {
    let shift = (at % 4) as usize;
    // A block at a time, so that the compiler makes wide operations of it.
    let key: [u8; 16] = std::array::from_fn(|index| mask[(index + shift) % 4]);
    for block in bytes.chunks_mut(key.len()) {
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}

/// What a Close says, or why nobody may say it (§5.5.1, §7.4).
pub(super) fn check_close(data: &[u8]) -> Result<(), Fault> {
    match data {
        [] => Ok(()),
        [_] => Err(Fault::CloseCode),
        [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
            1000..=1003 | 1007..=1014 | 3000..=4999 if is_utf8(reason) => Ok(()),
            1000..=1003 | 1007..=1014 | 3000..=4999 => Err(Fault::NotUtf8),
            _ => Err(Fault::CloseCode),
        },
    }
}

/// Whether a message of this kind may say that.
pub(crate) fn is_sendable(kind: Kind, data: &[u8]) -> bool {
    match kind {
        Kind::Text => is_utf8(data),
        Kind::Binary => true,
        _ if data.len() > MAX_CONTROL_LEN => false,
        Kind::Close => check_close(data).is_ok(),
        Kind::Ping | Kind::Pong => true,
    }
}

/// What a Close with this code says.
pub(super) fn close_data(code: u16) -> [u8; 2] {
    code.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<Option<FrameHead>, Fault>;

    fn read(side: Side, mut bytes: &[u8]) -> Outcome {
        let mut reader = HeadReader::new(side);
        let head = reader.read(&mut bytes)?;
        assert_eq!(bytes, b"");
        Ok(head)
    }

    fn head(kind: Option<Kind>, is_last: bool, len: u64) -> Outcome {
        Ok(Some(FrameHead {
            kind,
            is_last,
            mask: None,
            len,
        }))
    }

    #[test]
    fn heads_are_read_by_the_table_of_the_rfc() {
        let rows: &[(&[u8], Outcome)] = &[
            (b"\x81\x00", head(Some(Kind::Text), true, 0)),
            (b"\x01\x05", head(Some(Kind::Text), false, 5)),
            (b"\x02\x7d", head(Some(Kind::Binary), false, 125)),
            (b"\x00\x05", head(None, false, 5)),
            (b"\x80\x05", head(None, true, 5)),
            (b"\x88\x02", head(Some(Kind::Close), true, 2)),
            (b"\x89\x7d", head(Some(Kind::Ping), true, 125)),
            (b"\x8a\x00", head(Some(Kind::Pong), true, 0)),
            (b"\x82\x7e\x00\x7e", head(Some(Kind::Binary), true, 126)),
            (b"\x82\x7e\xff\xff", head(Some(Kind::Binary), true, 65535)),
            (
                b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
                head(Some(Kind::Binary), true, 65536),
            ),
            (
                b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
                head(Some(Kind::Binary), true, u64::MAX >> 1),
            ),
            (b"\x82\x7e\x00\x7d", Err(Fault::Length)),
            (b"\x82\x7e\x00\x00", Err(Fault::Length)),
            (
                b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
                Err(Fault::Length),
            ),
            (
                b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00",
                Err(Fault::Length),
            ),
            (b"\x81\x85", Err(Fault::Masked)),
            (b"\x89\x7e", Err(Fault::ControlTooLong)),
            (b"\x88\x7f", Err(Fault::ControlTooLong)),
            (b"\x81", Ok(None)),
            (b"", Ok(None)),
        ];
        for (bytes, expected) in rows {
            let shown = bytes.escape_ascii();
            assert_eq!(read(Side::Upstream, bytes), *expected, "{shown}");
        }
    }

    #[test]
    fn the_first_byte_tells_what_it_can() {
        for first in 0..=u8::MAX {
            let (is_last, opcode) = (first & FIN != 0, first & OPCODE);
            let expected = match opcode {
                _ if first & RESERVED != 0 => Err(Fault::Reserved),
                0..=2 => Ok(None),
                8..=10 if is_last => Ok(None),
                8..=10 => Err(Fault::ControlFragmented),
                _ => Err(Fault::Opcode),
            };
            assert_eq!(read(Side::Client, &[first]), expected, "{first:#x}");
        }
    }

    #[test]
    fn clients_have_to_mask() {
        assert_eq!(read(Side::Client, b"\x81\x05"), Err(Fault::Unmasked));
        let masked = FrameHead {
            kind: Some(Kind::Text),
            is_last: true,
            mask: Some(*b"mask"),
            len: 5,
        };
        assert_eq!(read(Side::Client, b"\x81\x85mask"), Ok(Some(masked)));
    }

    #[test]
    fn what_is_written_is_what_is_read_at_every_split() {
        for len in [0, 1, 125, 126, 127, 65535, 65536, 1 << 40] {
            for mask in [None, Some(*b"\x00\x81\xfe\x7f")] {
                let mut written = Vec::new();
                write_head(Kind::Binary, mask, len, &mut written);
                let side = match mask {
                    None => Side::Upstream,
                    Some(_) => Side::Client,
                };
                let expected = FrameHead {
                    kind: Some(Kind::Binary),
                    is_last: true,
                    mask,
                    len: len as u64,
                };
                for split in 0..written.len() {
                    let (mut first, mut rest) = written.split_at(split);
                    let mut reader = HeadReader::new(side);
                    assert_eq!(reader.read(&mut first), Ok(None));
                    assert_eq!(reader.read(&mut rest), Ok(Some(expected)));
                    assert_eq!((first, rest), (&b""[..], &b""[..]));
                }
            }
        }
    }

    #[test]
    fn a_mask_goes_on_where_it_stopped() {
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
    fn closes_are_checked_by_the_table_of_the_rfc() {
        let allowed = |code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        for code in 0..=u16::MAX {
            let expected = match allowed(code) {
                true => Ok(()),
                false => Err(Fault::CloseCode),
            };
            assert_eq!(check_close(&close_data(code)), expected, "{code}");
        }
        assert_eq!(check_close(b""), Ok(()));
        assert_eq!(check_close(b"\x03"), Err(Fault::CloseCode));
        assert_eq!(check_close(b"\x03\xe8bye"), Ok(()));
        assert_eq!(check_close(b"\x03\xe8\xff"), Err(Fault::NotUtf8));
    }

    #[test]
    fn plugins_may_send_what_peers_may() {
        assert!(is_sendable(Kind::Binary, &[0xff; 1000]));
        assert!(is_sendable(Kind::Text, "ä".as_bytes()));
        assert!(!is_sendable(Kind::Text, b"\xc3"));
        assert!(is_sendable(Kind::Ping, &[0xff; 125]));
        assert!(!is_sendable(Kind::Pong, &[0xff; 126]));
        assert!(is_sendable(Kind::Close, b""));
        assert!(!is_sendable(Kind::Close, b"\x03\xed"));
    }
}
