//! Decodes the chunked transfer coding (RFC 9112 §7.1): one enum, one short step per state, byte by byte if necessary.
//!
//! Strictly by the grammar, because any difference between two readers enables request smuggling: digits without sign
//! or gap, nothing but CRLF after a size and after data. Extensions are checked, limited and dropped. Trailer fields
//! that must not be in a trailer section are dropped; those of responses are repaired like heads. Encoding is in
//! `body`.

use httparse::Status;

use crate::body::{BodyError, DecodedPiece};
use crate::encode::write_line;
use crate::fields::{FieldId, FieldLine, Fields, FieldsMut};
use crate::parse::span_in;
use crate::repair;

/// Maximum length of a chunk extension including preceding whitespace, in bytes.
const EXTENSION_BOUND: usize = 4 * 1024;

/// Maximum length of all chunk extensions of a body, in bytes.
const EXTENSIONS_BOUND: u32 = 16 * 1024;

/// Default maximum length of a trailer section, in bytes.
const TRAILER_LEN_BOUND: u32 = 64 * 1024;

/// Maximum number of lines of a trailer section, as for a head.
const TRAILER_LINES_BOUND: usize = 256;

/// Maximum number of digits of a chunk size, including leading zeros.
const SIZE_DIGITS_BOUND: u8 = 16;

/// The fields of a trailer section that may be forwarded.
#[derive(Debug)]
pub struct Trailers {
    text: Vec<u8>,
    lines: Vec<FieldLine>,
}

impl Trailers {
    /// The fields, in order.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.text, &self.lines)
    }

    /// The fields, for editing.
    pub fn fields_mut(&mut self) -> FieldsMut<'_> {
        FieldsMut::new(&mut self.text, &mut self.lines)
    }

    /// Writes the lines, without the empty line that ends the section.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.fields().lines().for_each(|line| write_line(out, line));
    }

    /// Parses a whole section; `None` if nothing in it may be forwarded. `repairs`: whether fields are repaired as RFC
    /// 9112 allows for responses.
    fn parse(text: Vec<u8>, repairs: bool) -> Result<Option<Box<Self>>, BodyError> {
        let mut table = [httparse::EMPTY_HEADER; TRAILER_LINES_BOUND];
        let headers = match httparse::parse_headers(&text, &mut table) {
            Ok(Status::Complete((len, headers))) if len == text.len() => headers,
            Err(httparse::Error::TooManyHeaders) => return Err(BodyError::TrailerTooLong),
            _ => {
                let repaired = repairs.then(|| repair::trailer_section(&text)).flatten();
                let repaired = repaired.ok_or(BodyError::TrailerInvalid)?;
                return Self::parse(repaired, false);
            }
        };
        let lines: Vec<_> = headers
            .iter()
            .filter(|header| may_travel(header.name))
            .map(|header| {
                let name = span_in(&text, header.name.as_bytes());
                FieldLine::new(&text, name, span_in(&text, header.value))
            })
            .collect();
        Ok((!lines.is_empty()).then(|| Box::new(Self { text, lines })))
    }
}

/// Whether a trailer field may be forwarded: not if it concerns framing, routing, authentication or the interpretation
/// of the content (RFC 9110 §6.5.1), or a single hop.
fn may_travel(name: &str) -> bool {
    const STAY: [&str; 9] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "set-cookie",
        "pragma",
        "range",
    ];
    let is_proxy_field = name
        .get(..6)
        .is_some_and(|begin| begin.eq_ignore_ascii_case("proxy-"));
    FieldId::of(name.as_bytes()) == FieldId::Other
        && !is_proxy_field
        && !STAY.iter().any(|stay| name.eq_ignore_ascii_case(stay))
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    Size { size: u64, digits: u8 },
    Padding { size: u64, len: usize },
    Extension { size: u64, len: usize },
    SizeLineFeed { size: u64 },
    Data { left: u64 },
    DataReturn,
    DataLineFeed,
    TrailerLineStart,
    TrailerLine,
    LastLineFeed,
    End,
    Failed(BodyError),
}

impl ChunkState {
    const START: Self = Self::Size { size: 0, digits: 0 };
}

/// Decodes a chunked body.
#[derive(Debug)]
pub(crate) struct ChunkedDecoder {
    state: ChunkState,
    extensions_len: u32,
    trailer_limit: u32,
    section: Vec<u8>,
    trailers: Option<Box<Trailers>>,
    is_response: bool,
}

impl ChunkedDecoder {
    pub(crate) fn new() -> Self {
        Self {
            state: ChunkState::START,
            extensions_len: 0,
            trailer_limit: TRAILER_LEN_BOUND,
            section: Vec::new(),
            trailers: None,
            is_response: false,
        }
    }

    /// For the body of a response, whose trailer fields may be folded or have white space before the colon.
    pub(crate) fn of_response() -> Self {
        Self {
            is_response: true,
            ..Self::new()
        }
    }

    /// Sets the maximum length of the trailer section, in bytes.
    pub(crate) fn limit_trailers(&mut self, len: usize) {
        self.trailer_limit = u32::try_from(len).unwrap_or(u32::MAX);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.state == ChunkState::End
    }

    pub(crate) fn is_in_content(&self) -> bool {
        matches!(self.state, ChunkState::Data { .. })
    }

    pub(crate) fn trailers(&self) -> Option<&Trailers> {
        self.trailers.as_deref()
    }

    pub(crate) fn trailers_mut(&mut self) -> Option<&mut Trailers> {
        self.trailers.as_deref_mut()
    }

    /// Skips framing, then returns at most one slice of content and skips the framing after it. Content before a fault
    /// is returned first, so the result does not depend on how the input was split; every later call fails.
    pub(crate) fn decode(&mut self, input: &[u8]) -> Result<DecodedPiece, BodyError> {
        let mut content = 0..0;
        let mut at = 0;
        while at < input.len() {
            match self.state {
                ChunkState::End => break,
                ChunkState::Data { .. } | ChunkState::Failed(_) if !content.is_empty() => break,
                ChunkState::Failed(error) => return Err(error),
                ChunkState::Data { left } => {
                    content = at..at + within(left, input.len() - at);
                    self.state = after_data(left - content.len() as u64);
                    at = content.end;
                }
                _ => match self.after(input[at]) {
                    Ok(state) => (self.state, at) = (state, at + 1),
                    Err(error) => self.state = ChunkState::Failed(error),
                },
            }
        }
        Ok(DecodedPiece {
            consumed: at,
            content,
            end: self.is_complete(),
        })
    }

    /// The state after a byte of framing.
    fn after(&mut self, byte: u8) -> Result<ChunkState, BodyError> {
        match self.state {
            ChunkState::Size { size, digits } => after_size(size, digits, byte),
            ChunkState::Padding { size, len } => self.after_padding(size, len, byte),
            ChunkState::Extension { size, len } => self.after_extension(size, len, byte),
            ChunkState::SizeLineFeed { size } => {
                expect(byte, b'\n', BodyError::ChunkSizeInvalid)?;
                Ok(after_size_line(size))
            }
            ChunkState::DataReturn => {
                expect(byte, b'\r', BodyError::ChunkEndInvalid)?;
                Ok(ChunkState::DataLineFeed)
            }
            ChunkState::DataLineFeed => {
                expect(byte, b'\n', BodyError::ChunkEndInvalid)?;
                Ok(ChunkState::START)
            }
            ChunkState::TrailerLineStart if byte == b'\r' => Ok(ChunkState::LastLineFeed),
            ChunkState::TrailerLineStart | ChunkState::TrailerLine => self.after_trailer_byte(byte),
            ChunkState::LastLineFeed => {
                expect(byte, b'\n', BodyError::TrailerInvalid)?;
                self.finish()
            }
            state @ (ChunkState::Data { .. } | ChunkState::End | ChunkState::Failed(_)) => {
                Ok(state)
            }
        }
    }

    fn after_padding(&mut self, size: u64, len: usize, byte: u8) -> Result<ChunkState, BodyError> {
        match byte {
            b'\r' => Ok(ChunkState::SizeLineFeed { size }),
            // Old servers pad every size. Only the line limits the padding, because a long body has many of them.
            b' ' | b'\t' if len < EXTENSION_BOUND => Ok(ChunkState::Padding { size, len: len + 1 }),
            b' ' | b'\t' => Err(BodyError::ChunkExtensionTooLong),
            b';' => Ok(ChunkState::Extension { size, len }),
            _ => Err(BodyError::ChunkSizeInvalid),
        }
    }

    fn after_extension(
        &mut self,
        size: u64,
        len: usize,
        byte: u8,
    ) -> Result<ChunkState, BodyError> {
        match byte {
            b'\r' => Ok(ChunkState::SizeLineFeed { size }),
            b'\t' | b' '..=b'~' | 0x80.. => Ok(ChunkState::Extension {
                size,
                len: self.count_extension(len)?,
            }),
            _ => Err(BodyError::ChunkExtensionInvalid),
        }
    }

    fn count_extension(&mut self, len: usize) -> Result<usize, BodyError> {
        self.extensions_len += 1;
        if len >= EXTENSION_BOUND || self.extensions_len > EXTENSIONS_BOUND {
            return Err(BodyError::ChunkExtensionTooLong);
        }
        Ok(len + 1)
    }

    fn after_trailer_byte(&mut self, byte: u8) -> Result<ChunkState, BodyError> {
        if self.section.len() >= self.trailer_limit as usize {
            return Err(BodyError::TrailerTooLong);
        }
        if byte == b'\n' && self.section.last() != Some(&b'\r') {
            return Err(BodyError::TrailerInvalid);
        }
        self.section.push(byte);
        Ok(match byte {
            b'\n' => ChunkState::TrailerLineStart,
            _ => ChunkState::TrailerLine,
        })
    }

    fn finish(&mut self) -> Result<ChunkState, BodyError> {
        if !self.section.is_empty() {
            let mut section = std::mem::take(&mut self.section);
            section.extend_from_slice(b"\r\n");
            self.trailers = Trailers::parse(section, self.is_response)?;
        }
        Ok(ChunkState::End)
    }
}

fn after_size(size: u64, digits: u8, byte: u8) -> Result<ChunkState, BodyError> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ if digits == 0 => return Err(BodyError::ChunkSizeInvalid),
        b'\r' => return Ok(ChunkState::SizeLineFeed { size }),
        b' ' | b'\t' => return Ok(ChunkState::Padding { size, len: 1 }),
        b';' => return Ok(ChunkState::Extension { size, len: 0 }),
        _ => return Err(BodyError::ChunkSizeInvalid),
    };
    if digits == SIZE_DIGITS_BOUND || size > (i64::MAX as u64) >> 4 {
        return Err(BodyError::ChunkSizeTooLarge);
    }
    Ok(ChunkState::Size {
        size: size << 4 | u64::from(digit),
        digits: digits + 1,
    })
}

fn after_size_line(size: u64) -> ChunkState {
    match size {
        0 => ChunkState::TrailerLineStart,
        left => ChunkState::Data { left },
    }
}

/// The part of `left` that `available` bytes contain.
pub(crate) fn within(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

fn after_data(left: u64) -> ChunkState {
    match left {
        0 => ChunkState::DataReturn,
        left => ChunkState::Data { left },
    }
}

fn expect(byte: u8, expected: u8, error: BodyError) -> Result<(), BodyError> {
    match byte == expected {
        true => Ok(()),
        false => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::BodyError::*;
    use super::*;

    /// The content and the length of the body, or the error, for input in pieces that end at `cuts`.
    fn decode(input: &[u8], cuts: &[usize]) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
        let mut decoder = ChunkedDecoder::new();
        let (mut content, mut at) = (Vec::new(), 0);
        for &cut in cuts {
            while at < cut {
                let step = decoder.decode(&input[at..cut])?;
                content.extend_from_slice(&input[at..cut][step.content.clone()]);
                at += step.consumed;
                if step.end {
                    return Ok(Some((content, at)));
                }
                assert!(step.consumed > 0);
            }
        }
        Ok(None)
    }

    fn whole(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
        decode(input, &[input.len()])
    }

    const BODIES: &[(&str, &str)] = &[
        ("0\r\n\r\n", ""),
        ("000000\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
        (
            "5\r\nhello\r\nA\r\n, wonderfu\r\n1\r\nl\r\n0\r\n\r\n",
            "hello, wonderful",
        ),
        ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("5 \t\r\nhello\r\n0 \r\n\r\n", "hello"),
        ("5;a=b\r\nhello\r\n0;c=\"\u{e9} \t;\"\r\n\r\n", "hello"),
        ("5 ;a\r\nhello\r\n0;\r\n\r\n", "hello"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("1\r\na\r\n0\r\nX: y\r\nZ:\r\n\r\n", "a"),
    ];

    #[test]
    fn reads_the_same_at_every_split() {
        for (body, content) in BODIES {
            let input = [body.as_bytes(), b"GET /"].concat();
            let expected = Ok(Some((content.as_bytes().to_vec(), body.len())));
            let bytewise: Vec<_> = (1..=input.len()).collect();
            assert_eq!(decode(&input, &bytewise), expected, "{body:?}");
            for first in 0..=body.len() {
                for second in first..=body.len() {
                    let cuts = [first, second, input.len()];
                    assert_eq!(decode(&input, &cuts), expected, "{body:?} {cuts:?}");
                }
            }
        }
    }

    #[test]
    fn no_prefix_is_complete() {
        for (body, _) in BODIES {
            for len in 0..body.len() {
                assert_eq!(whole(&body.as_bytes()[..len]), Ok(None), "{body:?} {len}");
            }
        }
    }

    #[test]
    fn refuses_grammar_violations() {
        for (body, expected) in [
            ("\r\n", ChunkSizeInvalid),
            (" 5\r\n", ChunkSizeInvalid),
            (";a\r\n", ChunkSizeInvalid),
            ("g\r\n", ChunkSizeInvalid),
            ("+5\r\n", ChunkSizeInvalid),
            ("-5\r\n", ChunkSizeInvalid),
            ("0x5\r\n", ChunkSizeInvalid),
            ("5_0\r\n", ChunkSizeInvalid),
            ("5,\r\n", ChunkSizeInvalid),
            ("5 5\r\n", ChunkSizeInvalid),
            ("5\n", ChunkSizeInvalid),
            ("5\r5", ChunkSizeInvalid),
            ("5\r\r\n", ChunkSizeInvalid),
            ("5;a\r \n", ChunkSizeInvalid),
            ("5;a\n", ChunkExtensionInvalid),
            ("5;\0\r\n", ChunkExtensionInvalid),
            ("5;\x7f\r\n", ChunkExtensionInvalid),
            ("8000000000000000\r\n", ChunkSizeTooLarge),
            ("ffffffffffffffff\r\n", ChunkSizeTooLarge),
            ("10000000000000000\r\n", ChunkSizeTooLarge),
            ("00000000000000005\r\n", ChunkSizeTooLarge),
            ("00000000000000000\r\n", ChunkSizeTooLarge),
            ("5\r\nhello5\r\n", ChunkEndInvalid),
            ("5\r\nhello\n", ChunkEndInvalid),
            ("5\r\nhello\r\r\n", ChunkEndInvalid),
            ("5\r\nhell\r\n0\r\n", ChunkEndInvalid),
            ("0\r\n\n", TrailerInvalid),
            ("0\r\n\rX", TrailerInvalid),
            ("0\r\nX: y\n\r\n", TrailerInvalid),
            ("0\r\nX: y\r\n\n", TrailerInvalid),
            ("0\r\nX y\r\n\r\n", TrailerInvalid),
            ("0\r\nX : y\r\n\r\n", TrailerInvalid),
            ("0\r\nX: y\r\n z\r\n\r\n", TrailerInvalid),
            ("0\r\nX: y\rz\r\n\r\n", TrailerInvalid),
            ("0\r\nGET / HTTP/1.1\r\n\r\n", TrailerInvalid),
        ] {
            let input = body.as_bytes();
            assert_eq!(whole(input), Err(expected), "{body:?}");
            let bytewise: Vec<_> = (1..=input.len()).collect();
            assert_eq!(decode(input, &bytewise), Err(expected), "{body:?}");
        }
    }

    #[test]
    fn trailers_of_a_response_are_repaired() {
        let read = |section: &str| {
            let mut decoder = ChunkedDecoder::of_response();
            let body = format!("0\r\n{section}\r\n");
            decoder.decode(body.as_bytes())?;
            let mut out = Vec::new();
            if let Some(trailers) = decoder.trailers() {
                trailers.write(&mut out);
            }
            Ok(String::from_utf8(out).unwrap())
        };
        for (section, expected) in [
            ("X: y\r\n z\r\n", Ok("X: y z\r\n")),
            ("X \t: y\r\n", Ok("X: y\r\n")),
            ("X:\r\n\ty\r\n \r\nZ: a\r\n", Ok("X: y\r\nZ: a\r\n")),
            (" X: y\r\n", Err(TrailerInvalid)),
            ("X y\r\n", Err(TrailerInvalid)),
            ("X: y\n z\r\n", Err(TrailerInvalid)),
            ("X: y\r\n z\0\r\n", Err(TrailerInvalid)),
            ("X: y\r\n a\rb\r\n", Err(TrailerInvalid)),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(read(section), expected, "{section:?}");
        }
    }

    #[test]
    fn content_before_a_fault_comes_first_and_nothing_after_it() {
        let mut decoder = ChunkedDecoder::new();
        let input = b"2\r\nhi!\r\n0\r\n\r\n";
        let step = decoder.decode(input).unwrap();
        assert_eq!((step.consumed, step.content, step.end), (5, 3..5, false));
        for rest in [&input[5..], b"\r\n0\r\n\r\n"] {
            assert_eq!(decoder.decode(rest), Err(ChunkEndInvalid));
            assert!(!decoder.is_complete());
        }
    }

    #[test]
    fn the_largest_size_is_the_largest_length() {
        let mut decoder = ChunkedDecoder::new();
        let step = decoder.decode(b"7fffffffffffffff\r\nabc").unwrap();
        assert_eq!((step.consumed, step.content), (21, 18..21));
        let left = i64::MAX as u64 - 3;
        assert_eq!(decoder.state, ChunkState::Data { left });
    }

    #[test]
    fn extensions_are_bounded_by_line_and_by_body() {
        let line = |len| format!("1;{}\r\nx\r\n", "e".repeat(len));
        let body = |lines: &[usize]| {
            let chunks: String = lines.iter().map(|&len| line(len)).collect();
            whole(format!("{chunks}0\r\n\r\n").as_bytes()).map(|_| ())
        };
        assert_eq!(body(&[4096; 4]), Ok(()));
        assert_eq!(body(&[4097]), Err(ChunkExtensionTooLong));
        assert_eq!(
            body(&[4096, 4096, 4096, 4096, 1]),
            Err(ChunkExtensionTooLong)
        );
        let padding = format!("1{}\r\n", " ".repeat(4097));
        assert_eq!(whole(padding.as_bytes()), Err(ChunkExtensionTooLong));
    }

    #[test]
    fn padding_of_many_sizes_is_bounded_by_the_line_alone() {
        let body = |len: usize, count: usize| {
            let chunk = format!("1{}\r\nx\r\n", " ".repeat(len));
            let body = format!("{}0   \r\n\r\n", chunk.repeat(count));
            whole(body.as_bytes()).map(|found| found.map(|(content, _)| content.len()))
        };
        assert_eq!(body(3, 9000), Ok(Some(9000)));
        assert_eq!(body(4096, 10), Ok(Some(10)));
        assert_eq!(body(4097, 1), Err(ChunkExtensionTooLong));
    }

    #[test]
    fn trailer_sections_are_bounded() {
        let lines = |count| format!("0\r\n{}\r\n", "a:b\r\n".repeat(count));
        assert!(whole(lines(256).as_bytes()).is_ok());
        assert_eq!(whole(lines(257).as_bytes()), Err(TrailerTooLong));
        let long = |len| format!("0\r\nA:{}\r\n\r\n", "b".repeat(len));
        assert!(whole(long(64 * 1024 - 4).as_bytes()).is_ok());
        assert_eq!(whole(long(64 * 1024 - 3).as_bytes()), Err(TrailerTooLong));
        let limited = |section: &str| {
            let mut decoder = ChunkedDecoder::new();
            decoder.limit_trailers(100);
            decoder.decode(section.as_bytes()).map(|step| step.end)
        };
        assert_eq!(limited(&long(96)), Ok(true));
        assert_eq!(limited(&long(97)), Err(TrailerTooLong));
    }

    #[test]
    fn only_forwardable_trailers_are_kept() {
        let stay = [
            "Content-Length",
            "transfer-encoding",
            "Host",
            "Connection",
            "keep-alive",
            "Authorization",
            "Content-Type",
            "Set-Cookie",
            "Proxy-Anything",
            "TE",
            "Via",
            "Max-Forwards",
        ];
        let stay: String = stay.iter().map(|name| format!("{name}: 1\r\n")).collect();
        let kept = |section: &str| {
            let mut decoder = ChunkedDecoder::new();
            let body = format!("0\r\n{section}\r\n");
            assert!(decoder.decode(body.as_bytes()).unwrap().end);
            let mut out = Vec::new();
            let trailers = decoder.trailers()?;
            trailers.write(&mut out);
            String::from_utf8(out).ok()
        };
        assert_eq!(kept(""), None);
        assert_eq!(kept(&stay), None);
        let some = kept(&format!("ETag:a\r\n{stay}Proxyless:\tb \r\n"));
        assert_eq!(some.as_deref(), Some("ETag: a\r\nProxyless: b\r\n"));
    }
}
