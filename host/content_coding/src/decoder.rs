//! Coded content in, plain content out, piece by piece.
//!
//! Content from a stranger may decode to a thousand times its length and more, so that plain content never stands in
//! memory as a whole: it goes to a sink in pieces, and the ratio is watched. How each coding is undone is for
//! `deflate`, `brotli` and `zstd`.

use std::cell::Cell;

use thiserror::Error;

use crate::Coding;
use crate::brotli::BrotliDecoder;
use crate::deflate::{Inflater, Wrapping};
use crate::zstd::ZstdDecoder;

/// Longest piece that a sink is given, in bytes.
pub const MAX_PIECE_LEN: usize = 64 * 1024;

/// Decoded bytes that no ratio is asked of: small content may well be one word over and over.
const FREE_LEN: u64 = 1024 * 1024;

thread_local! {
    /// Room for one piece, shared by the decoders of a worker as none of them keeps anything in it.
    static PIECE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How coded content is wrong. After any of these the rest of it cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not what the coding says: its grammar or a checksum is broken, or it asks for more window than an HTTP content
    /// may (zstd: 8 MiB, RFC 9659; brotli: 16 MiB, that is not the "large window" variant), or for a dictionary.
    #[error("the content does not match its content coding")]
    Malformed,
    /// It ended before the coding did.
    #[error("the encoded content is truncated")]
    CutOff,
    /// It decodes to more than the ratio given to [`Decoder::new`] allows.
    #[error("the decoded content exceeds the limit")]
    Bomb,
}

/// Why [`Decoder::decode`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeFailure<E> {
    /// The coded content is wrong.
    Coded(DecodeError),
    /// The sink failed.
    Sink(E),
}

impl<E> From<DecodeError> for DecodeFailure<E> {
    fn from(error: DecodeError) -> Self {
        Self::Coded(error)
    }
}

/// Undoes a content coding.
pub struct Decoder {
    engine: Engine,
    ratio: Ratio,
    failed: Option<DecodeError>,
}

/// What one call of an engine did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Step {
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
}

enum Engine {
    Deflate(Inflater),
    Brotli(BrotliDecoder),
    Zstd(ZstdDecoder),
}

impl Decoder {
    /// A decoder for the content of one message.
    ///
    /// `max_ratio` is how many bytes one coded byte may decode to, counted over all of the content but its first MiB
    /// of decoded bytes; past it the content is a [`DecodeError::Bomb`]. `deflate` cannot exceed 1032, the others have
    /// no limit of their own; text seldom exceeds 20.
    pub fn new(coding: Coding, max_ratio: u32) -> Self {
        let engine = match coding {
            Coding::Gzip => Engine::Deflate(Inflater::new(Wrapping::Gzip)),
            Coding::Deflate => Engine::Deflate(Inflater::new(Wrapping::Zlib)),
            Coding::Brotli => Engine::Brotli(BrotliDecoder::new()),
            Coding::Zstd => Engine::Zstd(ZstdDecoder::new()),
        };
        Self {
            engine,
            ratio: Ratio::new(max_ratio),
            failed: None,
        }
    }

    /// Decodes the next piece of coded content: everything that it makes decodable goes to `sink`, in pieces of 1 to
    /// [`MAX_PIECE_LEN`] bytes.
    ///
    /// # Errors
    /// When the content is wrong, or when the sink fails. What went to the sink before is right as far as it goes.
    /// Either way the decoder is spent: every later call fails, with [`DecodeError::CutOff`] if it was the sink.
    pub fn decode<E>(
        &mut self,
        coded: &[u8],
        sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), DecodeFailure<E>> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        if coded.is_empty() {
            return Ok(());
        }
        let mut piece = PIECE.take();
        // Filled with zeros once per thread: as much work as decoding a small piece would be.
        piece.resize(MAX_PIECE_LEN, 0);
        let result = self.decode_through(&mut piece, coded, sink);
        PIECE.set(piece);
        self.failed = result.as_ref().err().map(|failure| match failure {
            DecodeFailure::Coded(error) => *error,
            DecodeFailure::Sink(_) => DecodeError::CutOff,
        });
        result
    }

    fn decode_through<E>(
        &mut self,
        piece: &mut [u8],
        mut coded: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), DecodeFailure<E>> {
        loop {
            let step = self.engine.step(coded, piece)?;
            coded = &coded[step.consumed..];
            self.ratio.count(step)?;
            if step.produced > 0 {
                sink(&piece[..step.produced]).map_err(DecodeFailure::Sink)?;
            }
            if coded.is_empty() && step.produced < piece.len() {
                return Ok(());
            }
            if step.consumed == 0 && step.produced == 0 {
                // No library does this; if one did, it would do it for ever.
                return Err(DecodeError::Malformed.into());
            }
        }
    }

    /// The coded content is over.
    ///
    /// # Errors
    /// When it was cut off, or had failed before. No content at all is no error.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.ratio.coded == 0 || self.engine.is_complete() => Ok(()),
            None => Err(DecodeError::CutOff),
        }
    }
}

impl Engine {
    /// Decodes as much of `input` as there is room for in `out`. Called without input it gives what it holds back.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, DecodeError> {
        match self {
            Self::Deflate(inflater) => inflater.step(input, out),
            Self::Brotli(decoder) => decoder.step(input, out),
            Self::Zstd(decoder) => decoder.step(input, out),
        }
    }

    /// Whether the content may end here.
    fn is_complete(&self) -> bool {
        match self {
            Self::Deflate(inflater) => inflater.is_complete(),
            Self::Brotli(decoder) => decoder.is_complete(),
            Self::Zstd(decoder) => decoder.is_complete(),
        }
    }
}

/// What has gone in and come out so far.
struct Ratio {
    max: u64,
    coded: u64,
    decoded: u64,
}

impl Ratio {
    fn new(max: u32) -> Self {
        Self {
            max: max.into(),
            coded: 0,
            decoded: 0,
        }
    }

    fn count(&mut self, step: Step) -> Result<(), DecodeError> {
        self.coded += step.consumed as u64;
        self.decoded += step.produced as u64;
        let allowed = self.coded.saturating_mul(self.max);
        match self.decoded.saturating_sub(FREE_LEN) > allowed {
            true => Err(DecodeError::Bomb),
            false => Ok(()),
        }
    }
}
