//! Reads and writes message bodies, for each kind of framing (RFC 9112 §6, §7).
//!
//! The decoder reports which bytes of the caller's buffer are content and never copies them; the encoder writes only
//! the framing between the caller's slices. Timeouts, and the consequences of an incomplete body for the connection,
//! are the caller's concern; an incomplete body is never reported as complete.

use std::ops::Range;

use thiserror::Error;

use crate::chunked::{ChunkedDecoder, Trailers, within};
use crate::encode::push_hexadecimal;
use crate::framing::BodyFraming;

/// What is wrong with a body. Afterwards the decoder cannot be used and the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// A chunk size line that is not hexadecimal digits and CRLF (RFC 9112 §7.1).
    #[error("a chunk size is malformed")]
    ChunkSizeInvalid,
    /// A chunk size above `i64::MAX` or with more than 16 digits.
    #[error("a chunk size is too large")]
    ChunkSizeTooLarge,
    /// A control character in a chunk extension (RFC 9112 §7.1.1).
    #[error("a chunk extension contains a control character")]
    ChunkExtensionInvalid,
    /// More than 4 KiB of extensions on a line, or 16 KiB in a body.
    #[error("chunk extensions are too long")]
    ChunkExtensionTooLong,
    /// No CRLF after the data of a chunk (RFC 9112 §7.1).
    #[error("the chunk data is longer than the chunk size")]
    ChunkEndInvalid,
    /// A malformed trailer section (RFC 9112 §7.1.2).
    #[error("the trailer section is malformed")]
    TrailerInvalid,
    /// A trailer section longer than a head may be, or with more than 256 lines.
    #[error("the trailer section is too long")]
    TrailerTooLong,
    /// The input ended before the body did (RFC 9112 §8).
    #[error("the body is truncated")]
    Truncated,
}

/// The result of [`BodyDecoder::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedPiece {
    /// The number of bytes consumed, content included. 0 without `end`: more input is needed.
    pub consumed: usize,
    /// The position of the content in the input; may be empty.
    pub content: Range<usize>,
    /// The body is complete.
    pub end: bool,
}

/// Decodes a message body.
#[derive(Debug)]
pub struct BodyDecoder {
    reading: BodyState,
}

#[derive(Debug)]
enum BodyState {
    Length { left: u64 },
    Chunked(ChunkedDecoder),
    UntilClose,
    Complete,
}

impl BodyDecoder {
    /// Like [`new`](Self::new), for the body of a response: its trailer fields are repaired as far as RFC 9112 allows.
    pub fn of_response(framing: BodyFraming) -> Self {
        let reading = match framing {
            BodyFraming::Chunked => BodyState::Chunked(ChunkedDecoder::of_response()),
            framing => return Self::new(framing),
        };
        Self { reading }
    }

    /// A decoder for a body with this framing.
    pub fn new(framing: BodyFraming) -> Self {
        let reading = match framing {
            BodyFraming::Empty | BodyFraming::Length(0) => BodyState::Complete,
            BodyFraming::Length(left) => BodyState::Length { left },
            BodyFraming::Chunked => BodyState::Chunked(ChunkedDecoder::new()),
            BodyFraming::UntilClose => BodyState::UntilClose,
        };
        Self { reading }
    }

    /// Sets the maximum length of the trailer section; the default is 64 KiB.
    #[must_use]
    pub fn with_trailer_limit(mut self, len: usize) -> Self {
        if let BodyState::Chunked(decoder) = &mut self.reading {
            decoder.limit_trailers(len);
        }
        self
    }

    /// Decodes `input`, which begins where the last call stopped; returns at most one slice of content.
    ///
    /// # Errors
    /// The sender violated the chunked coding. Content before the fault has been returned; every later call fails.
    pub fn decode(&mut self, input: &[u8]) -> Result<DecodedPiece, BodyError> {
        let len = match &mut self.reading {
            BodyState::Chunked(decoder) => return decoder.decode(input),
            BodyState::Complete => 0,
            BodyState::UntilClose => input.len(),
            BodyState::Length { left } => {
                let len = within(*left, input.len());
                *left -= len as u64;
                len
            }
        };
        if matches!(self.reading, BodyState::Length { left: 0 }) {
            self.reading = BodyState::Complete;
        }
        Ok(DecodedPiece {
            consumed: len,
            content: 0..len,
            end: self.is_complete(),
        })
    }

    /// Whether the body has ended.
    pub fn is_complete(&self) -> bool {
        match &self.reading {
            BodyState::Complete => true,
            BodyState::Chunked(decoder) => decoder.is_complete(),
            BodyState::Length { .. } | BodyState::UntilClose => false,
        }
    }

    /// Whether the next byte is content, not framing.
    pub fn is_in_content(&self) -> bool {
        match &self.reading {
            BodyState::Length { .. } | BodyState::UntilClose => true,
            BodyState::Chunked(decoder) => decoder.is_in_content(),
            BodyState::Complete => false,
        }
    }

    /// The sender has closed its direction.
    ///
    /// # Errors
    /// `Truncated`, unless the body is complete or ends this way.
    pub fn end_of_input(&mut self) -> Result<(), BodyError> {
        if matches!(self.reading, BodyState::UntilClose) {
            self.reading = BodyState::Complete;
        }
        match self.is_complete() {
            true => Ok(()),
            false => Err(BodyError::Truncated),
        }
    }

    /// The trailer fields that may be forwarded, once the body is complete; `None` if there are none.
    pub fn trailers(&self) -> Option<&Trailers> {
        match &self.reading {
            BodyState::Chunked(decoder) => decoder.trailers(),
            _ => None,
        }
    }

    /// Like [`trailers`](Self::trailers), for editing.
    pub fn trailers_mut(&mut self) -> Option<&mut Trailers> {
        match &mut self.reading {
            BodyState::Chunked(decoder) => decoder.trailers_mut(),
            _ => None,
        }
    }

    /// The number of bytes still expected, if known from the head; 0 once a body without chunks is complete.
    pub fn remaining_length(&self) -> Option<u64> {
        match self.reading {
            BodyState::Length { left } => Some(left),
            BodyState::Complete => Some(0),
            BodyState::Chunked(_) | BodyState::UntilClose => None,
        }
    }

    /// Counts `len` bytes of content as read that bypassed the decoder, as with splice(2). At most
    /// [`remaining_length`](Self::remaining_length); otherwise has no effect.
    pub fn skip(&mut self, len: u64) {
        if let BodyState::Length { left } = &mut self.reading {
            debug_assert!(len <= *left);
            *left = left.saturating_sub(len);
            if *left == 0 {
                self.reading = BodyState::Complete;
            }
        }
    }
}

/// Writes the framing of a body; the caller writes the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoder {
    /// Content without framing: of known length, or until close.
    Identity,
    /// Each slice of content becomes a chunk.
    Chunked,
}

impl BodyEncoder {
    /// Writes the framing before `len` bytes of content; `len` must not be 0, which would end the body.
    pub fn begin_chunk(self, out: &mut Vec<u8>, len: usize) {
        debug_assert!(len > 0);
        if self == Self::Chunked {
            push_hexadecimal(out, len as u64);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes the framing after the content of a chunk.
    pub fn end_chunk(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes the end of the body.
    pub fn finish(self, out: &mut Vec<u8>, trailers: Option<&Trailers>) {
        if self == Self::Identity {
            return;
        }
        out.extend_from_slice(b"0\r\n");
        if let Some(trailers) = trailers {
            trailers.write(out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(consumed: usize, content: Range<usize>, end: bool) -> Result<DecodedPiece, BodyError> {
        Ok(DecodedPiece {
            consumed,
            content,
            end,
        })
    }

    #[test]
    fn a_length_consumes_exactly_its_bytes() {
        let mut decoder = BodyDecoder::new(BodyFraming::Length(5));
        assert_eq!(decoder.decode(b""), step(0, 0..0, false));
        assert_eq!(decoder.decode(b"abc"), step(3, 0..3, false));
        assert_eq!(decoder.remaining_length(), Some(2));
        assert_eq!(decoder.end_of_input(), Err(BodyError::Truncated));
        assert_eq!(decoder.decode(b"deGET"), step(2, 0..2, true));
        assert_eq!(decoder.decode(b"GET"), step(0, 0..0, true));
        assert_eq!(decoder.end_of_input(), Ok(()));
    }

    #[test]
    fn an_empty_body_is_complete_from_the_start() {
        for framing in [BodyFraming::Empty, BodyFraming::Length(0)] {
            let mut decoder = BodyDecoder::new(framing);
            assert!(decoder.is_complete());
            assert_eq!(decoder.decode(b"GET"), step(0, 0..0, true));
            assert_eq!(decoder.end_of_input(), Ok(()));
        }
    }

    #[test]
    fn until_close_ends_with_the_input_only() {
        let mut decoder = BodyDecoder::new(BodyFraming::UntilClose);
        assert_eq!(decoder.decode(b"abc"), step(3, 0..3, false));
        assert_eq!(decoder.remaining_length(), None);
        assert!(!decoder.is_complete());
        assert_eq!(decoder.end_of_input(), Ok(()));
        assert!(decoder.is_complete());
    }

    #[test]
    fn a_chunked_body_may_not_end_early() {
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
        assert!(!decoder.is_in_content());
        assert_eq!(decoder.decode(b"3\r\n"), step(3, 0..0, false));
        assert!(decoder.is_in_content());
        assert_eq!(decoder.decode(b"abc\r\n0\r\n"), step(8, 0..3, false));
        assert!(!decoder.is_in_content());
        assert_eq!(decoder.end_of_input(), Err(BodyError::Truncated));
        assert_eq!(decoder.decode(b"\r\nGET"), step(2, 0..0, true));
        assert_eq!(decoder.end_of_input(), Ok(()));
        assert!(decoder.trailers().is_none());
    }

    #[test]
    fn skipped_content_counts() {
        let mut decoder = BodyDecoder::new(BodyFraming::Length(5));
        decoder.skip(4);
        assert_eq!(decoder.remaining_length(), Some(1));
        decoder.skip(1);
        assert!(decoder.is_complete());
    }

    #[test]
    fn encoding_and_decoding_round_trip() {
        let mut out = Vec::new();
        for content in [&b"hello"[..], &[b'x'; 300]] {
            BodyEncoder::Chunked.begin_chunk(&mut out, content.len());
            out.extend_from_slice(content);
            BodyEncoder::Chunked.end_chunk(&mut out);
        }
        let mut source = BodyDecoder::new(BodyFraming::Chunked);
        let end = source.decode(b"0\r\nX: y\r\nHost: a\r\n\r\n").unwrap().end;
        assert!(end);
        BodyEncoder::Chunked.finish(&mut out, source.trailers());
        let expected = format!(
            "5\r\nhello\r\n12c\r\n{}\r\n0\r\nX: y\r\n\r\n",
            "x".repeat(300)
        );
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn identity_writes_nothing() {
        let mut out = Vec::new();
        BodyEncoder::Identity.begin_chunk(&mut out, 5);
        BodyEncoder::Identity.end_chunk(&mut out);
        BodyEncoder::Identity.finish(&mut out, None);
        assert!(out.is_empty());
    }
}
