//! Decodes content piece by piece.
//!
//! Content may decode to a thousand times its length and more. So decoded content is never held in memory as a whole:
//! it is passed to a sink in pieces, and the ratio is limited. `deflate`, `brotli` and `zstd` implement the codings.

use std::cell::Cell;

use thiserror::Error;

use crate::Coding;
use crate::brotli::BrotliDecoder;
use crate::deflate::{Inflater, Wrapping};
use crate::zstd::ZstdDecoder;

/// Maximum length of the pieces passed to the sink, in bytes.
pub const MAX_PIECE_LEN: usize = 64 * 1024;

/// The number of decoded bytes for which the ratio is not limited, because short content may be very repetitive.
const FREE_LEN: u64 = 1024 * 1024;

thread_local! {
    /// Room for one piece, shared by the decoders of a thread, because none of them keeps data in it.
    static PIECE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is wrong with coded content. The rest of it cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Invalid: the grammar or a checksum is wrong, or it requires a larger window than HTTP allows (zstd: 8 MiB, RFC
    /// 9659; brotli: 16 MiB, without the "large window" variant), or a dictionary.
    #[error("the content does not match its content coding")]
    Malformed,
    /// It is truncated.
    #[error("the encoded content is truncated")]
    CutOff,
    /// It exceeds the ratio given to [`Decoder::new`].
    #[error("the decoded content exceeds the limit")]
    Bomb,
}

/// Why [`Decoder::decode`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeFailure<E> {
    /// The coded content is invalid.
    Coded(DecodeError),
    /// The sink failed.
    Sink(E),
}

impl<E> From<DecodeError> for DecodeFailure<E> {
    fn from(error: DecodeError) -> Self {
        Self::Coded(error)
    }
}

/// Decodes a content coding.
pub struct Decoder {
    engine: Engine,
    ratio: Ratio,
    failed: Option<DecodeError>,
}

/// The result of a call to an engine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EngineProgress {
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
    /// `max_ratio` is the maximum number of decoded bytes per coded byte, over all content except the first MiB of
    /// decoded bytes; above it, the content is a [`DecodeError::Bomb`]. `deflate` cannot exceed 1032, the others have
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

    /// Decodes the next piece of coded content and passes everything that can be decoded to `sink`, in pieces of 1 to
    /// [`MAX_PIECE_LEN`] bytes.
    ///
    /// # Errors
    /// The content is invalid, or the sink fails. The pieces passed before are correct. The decoder cannot be used
    /// afterwards: every later call fails, with [`DecodeError::CutOff`] if the sink failed.
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
        // Zeroed once per thread, because it would cost as much as decoding a small piece.
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
                // No library does this; one that did would loop forever.
                return Err(DecodeError::Malformed.into());
            }
        }
    }

    /// Ends the coded content.
    ///
    /// # Errors
    /// It is truncated, or had failed before. Empty content is valid.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.ratio.coded == 0 || self.engine.is_complete() => Ok(()),
            None => Err(DecodeError::CutOff),
        }
    }
}

impl Engine {
    /// Decodes as much of `input` as fits into `out`. Without input, returns held-back bytes.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<EngineProgress, DecodeError> {
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

/// The number of bytes in and out so far.
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

    fn count(&mut self, step: EngineProgress) -> Result<(), DecodeError> {
        self.coded += step.consumed as u64;
        self.decoded += step.produced as u64;
        let allowed = self.coded.saturating_mul(self.max);
        match self.decoded.saturating_sub(FREE_LEN) > allowed {
            true => Err(DecodeError::Bomb),
            false => Ok(()),
        }
    }
}
