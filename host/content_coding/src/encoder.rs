//! Plain content in, coded content out, at levels that keep up with a network.
//!
//! A proxy codes while somebody waits and for one reader only, so that a few percent of length are worth less than
//! the time and the memory they cost; every file says what its level costs. How each coding is done is for `deflate`,
//! `brotli` and `zstd`.

use thiserror::Error;

use crate::Coding;
use crate::brotli::BrotliEncoder;
use crate::deflate::{Deflater, Wrapping};
use crate::zstd::ZstdEncoder;

/// The library could not go on: there is no memory left. What was encoded so far is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("encoding the content failed")]
pub struct EncodeError;

/// Applies a content coding to the content of one message.
pub struct Encoder {
    engine: Engine,
}

/// What is to become of the bytes that an engine holds back to code them better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// They may stay.
    Nothing,
    /// They have to go out.
    Flush,
    /// They have to go out, and the coded content ends.
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

    /// Encodes the next piece of content; what is ready is appended to `out`, the rest is held back.
    ///
    /// # Errors
    /// As [`EncodeError`] says; the coded content is then to be given up.
    pub fn encode(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match content.is_empty() {
            true => Ok(()),
            false => self.engine.run(content, Push::Nothing, out),
        }
    }

    /// Makes everything given so far decodable, for content that comes in bursts: its reader must not wait for the
    /// next one. Costs a few bytes and worse compression each time.
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
