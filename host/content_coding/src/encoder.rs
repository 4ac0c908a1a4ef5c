//! Encodes content, at levels that keep up with a network.
//!
//! A proxy encodes for one reader, who is waiting, so a few percent of length are worth less than their time and
//! memory; every file states the cost of its level. `deflate`, `brotli` and `zstd` implement the codings.

use thiserror::Error;

use crate::Coding;
use crate::brotli::BrotliEncoder;
use crate::deflate::{Deflater, Wrapping};
use crate::zstd::ZstdEncoder;

/// The library failed for lack of memory. The content encoded so far is incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("encoding the content failed")]
pub struct EncodeError;

/// Encodes the content of one message.
pub struct Encoder {
    engine: Engine,
}

/// What to do with bytes that an engine holds back for better compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// Keep them.
    Nothing,
    /// Output them.
    Flush,
    /// Output them, and end the coded content.
    Finish,
}

enum Engine {
    Deflate(Deflater),
    Brotli(BrotliEncoder),
    Zstd(ZstdEncoder),
}

impl Encoder {
    /// An encoder for the content of one message.
    pub fn new(coding: Coding) -> Self {
        let engine = match coding {
            Coding::Gzip => Engine::Deflate(Deflater::new(Wrapping::Gzip)),
            Coding::Deflate => Engine::Deflate(Deflater::new(Wrapping::Zlib)),
            Coding::Brotli => Engine::Brotli(BrotliEncoder::new()),
            Coding::Zstd => Engine::Zstd(ZstdEncoder::new()),
        };
        Self { engine }
    }

    /// Encodes the next piece of content; appends available output to `out`, and holds the rest back.
    ///
    /// # Errors
    /// As [`EncodeError`] says; the coded content must be discarded.
    pub fn encode(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match content.is_empty() {
            true => Ok(()),
            false => self.engine.run(content, Push::Nothing, out),
        }
    }

    /// Makes all content so far decodable, for content in bursts, whose reader must not wait for the next one. Each
    /// call costs a few bytes and some compression.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.engine.run(&[], Push::Flush, out)
    }

    /// Ends the coded content.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.engine.run(&[], Push::Finish, out)
    }
}

impl Engine {
    fn run(&mut self, content: &[u8], push: Push, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Deflate(deflater) => deflater.run(content, push, out),
            Self::Brotli(encoder) => encoder.run(content, push, out),
            Self::Zstd(encoder) => encoder.run(content, push, out),
        }
    }
}
