//! HPACK (RFC 7541), as far as it is needed to check field blocks before `h2` sees them: the positions and lengths of
//! strings, and the names. Values are not stored, except for paths that `h2` does not accept.
//!
//! [`FieldTable`] mirrors the dynamic table of the peer's encoder, entry by entry, as `h2` does. The Huffman code is
//! canonical, so the table contains only the lengths of its codes.

use std::collections::VecDeque;
use std::rc::Rc;

/// The size limit of the peer's dynamic table, in bytes: the default, which this host does not change (§4.2).
const TABLE_LEN: usize = 4096;
/// What an entry counts in addition to its name and its value, in bytes (§4.1).
const ENTRY_OVERHEAD: usize = 32;

/// The block is not valid HPACK, or exceeds a limit. The connection cannot be used any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupt;

/// The kind of a name, as far as it matters for the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Authority,
    Method,
    Path,
    Protocol,
    Scheme,
    Status,
    UnknownPseudo,
    /// A field that belongs to HTTP/1.1 connections (RFC 9113 §8.2.2).
    Connection,
    Te,
    Other,
}

impl Name {
    /// The kind of a name in lower case.
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            [b':', pseudo @ ..] => match pseudo {
                b"authority" => Self::Authority,
                b"method" => Self::Method,
                b"path" => Self::Path,
                b"protocol" => Self::Protocol,
                b"scheme" => Self::Scheme,
                b"status" => Self::Status,
                _ => Self::UnknownPseudo,
            },
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Self::Connection,
            b"te" => Self::Te,
            _ => Self::Other,
        }
    }

    pub(super) fn is_pseudo(self) -> bool {
        !matches!(self, Self::Connection | Self::Te | Self::Other)
    }
}

/// A value, as far as it matters for the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Any other.
    Any,
    /// The status of an interim response.
    Interim,
    /// `te: trailers`.
    Trailers,
    /// A path that is replaced for `h2`.
    Path(Rc<[u8]>),
}

/// A field in the dynamic table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) value: Value,
    pub(super) name_len: usize,
    pub(super) value_len: usize,
}

impl Entry {
    fn len(&self) -> usize {
        self.name_len + self.value_len + ENTRY_OVERHEAD
    }
}

/// The tables of the peer's encoder (§2.3).
#[derive(Debug)]
pub(super) struct FieldTable {
    /// The newest first.
    dynamic: VecDeque<Entry>,
    len: usize,
    limit: usize,
}

impl FieldTable {
    pub(super) fn new() -> Self {
        Self {
            dynamic: VecDeque::new(),
            len: 0,
            limit: TABLE_LEN,
        }
    }

    /// The field with an index (§2.3.3).
    pub(super) fn field(&self, index: usize) -> Result<(Name, &Value), Corrupt> {
        match index.checked_sub(STATIC_NAMES.len() + 1) {
            Some(index) => {
                let entry = self.dynamic.get(index).ok_or(Corrupt)?;
                Ok((entry.name, &entry.value))
            }
            None => Ok((static_name(index)?, &Value::Any)),
        }
    }

    /// The name with an index, and its length.
    pub(super) fn name(&self, index: usize) -> Result<(Name, usize), Corrupt> {
        match index.checked_sub(STATIC_NAMES.len() + 1) {
            Some(index) => {
                let entry = self.dynamic.get(index).ok_or(Corrupt)?;
                Ok((entry.name, entry.name_len))
            }
            None => Ok((static_name(index)?, STATIC_NAMES[index - 1].len())),
        }
    }

    /// Adds an entry, which may evict older ones; one that is too long evicts all, and is not added (§4.4).
    pub(super) fn add(&mut self, entry: Entry) {
        let len = entry.len();
        self.shrink_to(self.limit.saturating_sub(len));
        if len <= self.limit {
            self.len += len;
            self.dynamic.push_front(entry);
        }
    }

    /// Changes the size of the table (§6.3).
    pub(super) fn resize(&mut self, limit: usize) -> Result<(), Corrupt> {
        if limit > TABLE_LEN {
            return Err(Corrupt);
        }
        self.limit = limit;
        self.shrink_to(limit);
        Ok(())
    }

    fn shrink_to(&mut self, len: usize) {
        while self.len > len {
            match self.dynamic.pop_back() {
                Some(entry) => self.len -= entry.len(),
                None => self.len = 0,
            }
        }
    }
}

/// How a field is represented (§6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Representation {
    Indexed(usize),
    /// The index of the name; 0 if the name is a literal, too.
    Literal {
        name: usize,
        is_added: bool,
    },
    Resize(usize),
}

/// Reads a block from left to right.
#[derive(Debug)]
pub(super) struct BlockReader<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> BlockReader<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self { block, at: 0 }
    }

    /// The current position.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next representation; `None` at the end of the block.
    pub(super) fn representation(&mut self) -> Result<Option<Representation>, Corrupt> {
        let Some(&first) = self.block.get(self.at) else {
            return Ok(None);
        };
        Ok(Some(match first {
            0x80.. => Representation::Indexed(self.integer(7)?),
            0x40.. => Representation::Literal {
                name: self.integer(6)?,
                is_added: true,
            },
            0x20.. => Representation::Resize(self.integer(5)?),
            _ => Representation::Literal {
                name: self.integer(4)?,
                is_added: false,
            },
        }))
    }

    /// Reads a string into `text` (§5.2).
    pub(super) fn string(&mut self, text: &mut Vec<u8>) -> Result<(), Corrupt> {
        text.clear();
        let is_coded = self.block.get(self.at).ok_or(Corrupt)? & 0x80 != 0;
        let len = self.integer(7)?;
        let end = self.at.checked_add(len).ok_or(Corrupt)?;
        let bytes = self.block.get(self.at..end).ok_or(Corrupt)?;
        self.at = end;
        match is_coded {
            true => decode_huffman(bytes, text),
            false => {
                text.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// An integer that begins with the low `bits` of a byte (§5.1).
    fn integer(&mut self, bits: u32) -> Result<usize, Corrupt> {
        let mask = (1 << bits) - 1;
        let mut value = u32::from(self.next()? & mask);
        if value < u32::from(mask) {
            return Ok(value as usize);
        }
        // No valid integer needs more than 28 bits.
        for shift in [0, 7, 14, 21] {
            let byte = self.next()?;
            value += u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value as usize);
            }
        }
        Err(Corrupt)
    }

    fn next(&mut self) -> Result<u8, Corrupt> {
        let byte = *self.block.get(self.at).ok_or(Corrupt)?;
        self.at += 1;
        Ok(byte)
    }
}

/// Writes a string without Huffman coding.
pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    let len = text.len();
    if len < 127 {
        out.push(len as u8);
    } else {
        out.push(127);
        let mut left = len - 127;
        while left >= 128 {
            out.push((left % 128) as u8 | 0x80);
            left /= 128;
        }
        out.push(left as u8);
    }
    out.extend_from_slice(text);
}

/// Decodes a string (§5.2, appendix B).
fn decode_huffman(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Corrupt> {
    // Unread bits, left-aligned, and their number.
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut bytes = bytes.iter();
    loop {
        while count <= 32 {
            let Some(&byte) = bytes.next() else { break };
            bits |= u64::from(byte) << (56 - count);
            count += 8;
        }
        // Missing bits at the end are ones, like padding.
        let window = (bits >> 32) as u32 | u32::MAX.checked_shr(count).unwrap_or(0);
        let (symbol, len) = CODES.short[(window >> 24) as usize];
        if len > 0 && u32::from(len) <= count {
            text.push(symbol);
            bits <<= len;
            count -= u32::from(len);
            continue;
        }
        let length = CODES
            .lengths
            .iter()
            .find(|length| u64::from(window) < length.end);
        let Some(length) = length else {
            // A prefix of EOS is padding, which is shorter than a byte and ends the string.
            return match count < 8 {
                true => Ok(()),
                false => Err(Corrupt),
            };
        };
        if length.bits > count {
            let is_padding = count < 8 && window == u32::MAX;
            return if is_padding { Ok(()) } else { Err(Corrupt) };
        }
        let index = length.first + ((window - length.start) >> (32 - length.bits)) as usize;
        text.push(CODES.symbols[index]);
        bits <<= length.bits;
        count -= length.bits;
    }
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Length {
    bits: u32,
    /// The first code, left-aligned.
    start: u32,
    /// Where the next length begins.
    end: u64,
    /// The first code's symbol in the list.
    first: usize,
}

struct Codes {
    /// By the first eight bits: the symbol and its length, if it has no more.
    short: [(u8, u8); 256],
    lengths: [Length; LENGTHS],
    /// By length of the code, then by value.
    symbols: [u8; 256],
}

/// How many lengths there are without that of EOS, which has the longest code with three others.
const LENGTHS: usize = 21;

static CODES: Codes = codes();

const fn codes() -> Codes {
    let none = Length {
        bits: 0,
        start: 0,
        end: 0,
        first: 0,
    };
    let (mut lengths, mut symbols, mut short) = ([none; LENGTHS], [0; 256], [(0, 0); 256]);
    let (mut found, mut placed, mut code, mut bits) = (0, 0, 0_u64, 1);
    while bits <= 30 {
        let first = placed;
        let mut symbol = 0;
        while symbol < 256 {
            if CODE_LENGTHS[symbol] as u32 == bits {
                if bits <= 8 {
                    let begin = (code as usize + placed - first) << (8 - bits);
                    let mut rest = 0;
                    while rest < 1 << (8 - bits) {
                        short[begin + rest] = (symbol as u8, bits as u8);
                        rest += 1;
                    }
                }
                symbols[placed] = symbol as u8;
                placed += 1;
            }
            symbol += 1;
        }
        if placed > first {
            let start = code << (32 - bits);
            code += (placed - first) as u64;
            lengths[found] = Length {
                bits,
                start: start as u32,
                end: code << (32 - bits),
                first,
            };
            found += 1;
        }
        code <<= 1;
        bits += 1;
    }
    assert!(found == LENGTHS && placed == 256);
    Codes {
        short,
        lengths,
        symbols,
    }
}

/// How long the code of each byte is, in bits; that of EOS has 30 (appendix B).
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// What the name of an index of the static table means.
fn static_name(index: usize) -> Result<Name, Corrupt> {
    Ok(match index {
        1 => Name::Authority,
        2 | 3 => Name::Method,
        4 | 5 => Name::Path,
        6 | 7 => Name::Scheme,
        8..=14 => Name::Status,
        57 => Name::Connection,
        15..=61 => Name::Other,
        _ => return Err(Corrupt),
    })
}

/// The names of the static table (appendix A).
#[rustfmt::skip]
const STATIC_NAMES: [&str; 61] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status", ":status",
    ":status", ":status", ":status", ":status", "accept-charset", "accept-encoding", "accept-language", "accept-ranges",
    "accept", "access-control-allow-origin", "age", "allow", "authorization", "cache-control", "content-disposition",
    "content-encoding", "content-language", "content-length", "content-location", "content-range", "content-type",
    "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match",
    "if-range", "if-unmodified-since", "last-modified", "link", "location", "max-forwards", "proxy-authenticate",
    "proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie",
    "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Result<String, Corrupt> {
        let mut text = Vec::new();
        decode_huffman(bytes, &mut text)?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn decodes_the_examples_of_rfc_7541() {
        for (bytes, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\x64\x02", "302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                b"\x94\xe7\x82\x1d\xd7\xf2\xe6\xc7\xb3\x35\xdf\xdf\xcd\x5b\x39\x60\xd5\xaf\x27\x08\x7f\x36\x72\xc1\
                  \xab\x27\x0f\xb5\x29\x1f\x95\x87\x31\x60\x65\xc0\x03\xed\x4e\xe5\xb1\x06\x3d\x50\x07",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
            (b"", ""),
        ] {
            assert_eq!(decoded(bytes).as_deref(), Ok(text));
        }
    }

    #[test]
    fn refuses_invalid_padding() {
        // A whole byte of it, zeros, and EOS itself.
        for bytes in [&b"\x1f\xff\xff"[..], b"\xff", b"\x18", b"\xff\xff\xff\xff"] {
            assert_eq!(decoded(bytes), Err(Corrupt), "{bytes:x?}");
        }
        assert_eq!(decoded(b"\x1f").as_deref(), Ok("a"));
    }

    #[test]
    fn reads_integers_of_rfc_7541() {
        let integer = |bytes: &[u8], bits| BlockReader::new(bytes).integer(bits);
        assert_eq!(integer(b"\x0a", 5), Ok(10));
        assert_eq!(integer(b"\x1f\x9a\x0a", 5), Ok(1337));
        assert_eq!(integer(b"\x2a", 8 - 1), Ok(42));
        assert_eq!(integer(b"\x1f\x9a", 5), Err(Corrupt));
        assert_eq!(integer(b"\x1f\xff\xff\xff\xff\xff\x01", 5), Err(Corrupt));
    }

    #[test]
    fn a_string_that_is_written_is_read_again() {
        for len in [0, 1, 126, 127, 128, 254, 255, 256, 20_000] {
            let text = vec![b'x'; len];
            let (mut block, mut read) = (Vec::new(), Vec::new());
            write_string(&text, &mut block);
            let mut reader = BlockReader::new(&block);
            reader.string(&mut read).unwrap();
            assert_eq!((read.len(), reader.at()), (len, block.len()));
        }
    }

    #[test]
    fn names_of_the_static_table_have_their_kind() {
        for (index, name) in STATIC_NAMES.iter().enumerate() {
            assert_eq!(
                static_name(index + 1),
                Ok(Name::of(name.as_bytes())),
                "{name}"
            );
        }
        assert!(static_name(0).is_err() && static_name(62).is_err());
    }

    #[test]
    fn the_table_evicts_its_oldest_entries() {
        let entry = |name_len| Entry {
            name: Name::Other,
            value: Value::Any,
            name_len,
            value_len: 0,
        };
        let mut table = FieldTable::new();
        table.add(entry(2000));
        table.add(entry(1000));
        assert_eq!(table.name(62), Ok((Name::Other, 1000)));
        assert_eq!(table.name(63), Ok((Name::Other, 2000)));
        assert!(table.name(64).is_err() && table.name(0).is_err());
        table.add(entry(1001));
        assert_eq!(table.dynamic.len(), 2);
        table.add(entry(4096));
        assert_eq!((table.dynamic.len(), table.len), (0, 0));
        table.add(entry(4064));
        assert_eq!(table.len, 4096);
        assert!(table.resize(4097).is_err());
        table.resize(0).unwrap();
        assert_eq!((table.dynamic.len(), table.len), (0, 0));
    }
}
