//! `zstd` (RFC 8878), by `zstd-safe`: the reference implementation in C, with a safe interface.
//!
//! It is the only library here that needs a C compiler, because the ports to Rust are still experimental. It takes
//! about seven seconds of a clean debug build on two cores. A decoder uses some 450 KiB with the windows that encoders
//! choose, and up to 9 MiB if the content requires more; an encoder uses up to 1.3 MiB.
//!
//! If the last block of a frame is empty, the library compares the content with the declared length only if the frame
//! arrived in one piece. So a frame with a wrong length may pass; its content is that of its blocks.

use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

use crate::decoder::{DecodeError, EngineProgress};
use crate::encoder::{EncodeError, Push};

/// The library's default: about 160 MB/s of source code on one core, to 26 %. Level 1 is twice as fast, to 30 %.
const LEVEL: i32 = 3;

/// Window of the encoder, as a power of two: 256 KiB, an eighth of the level's default, which saves memory; content
/// seldom repeats what is farther back.
const ENCODER_WINDOW_BITS: u32 = 18;

/// Maximum window for decoding, as a power of two: 8 MiB, which a decoder of this content coding must support (RFC 9659
/// §3).
const DECODER_WINDOW_BITS: u32 = 23;

/// The room reserved for coded bytes at a time.
const ROOM: usize = 8 * 1024;

/// Decodes `zstd`.
pub(crate) struct ZstdDecoder {
    context: DCtx<'static>,
    /// Between frames.
    is_complete: bool,
}

impl ZstdDecoder {
    pub(crate) fn new() -> Self {
        let mut context = DCtx::create();
        context
            .set_parameter(DParameter::WindowLogMax(DECODER_WINDOW_BITS))
            .expect("the window is within the bounds of zstd, and no frame has begun");
        Self {
            context,
            is_complete: false,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(crate) fn step(
        &mut self,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<EngineProgress, DecodeError> {
        let mut input = InBuffer::around(input);
        let mut out = OutBuffer::around(out);
        let still_wanted = self
            .context
            .decompress_stream(&mut out, &mut input)
            .map_err(|_| DecodeError::Malformed)?;
        let step = EngineProgress {
            consumed: input.pos(),
            produced: out.pos(),
        };
        if step.consumed > 0 || step.produced > 0 {
            self.is_complete = still_wanted == 0;
        }
        Ok(step)
    }
}

/// Encodes `zstd`.
pub(crate) struct ZstdEncoder {
    context: CCtx<'static>,
}

impl ZstdEncoder {
    pub(crate) fn new() -> Self {
        let mut context = CCtx::create();
        for parameter in [
            CParameter::CompressionLevel(LEVEL),
            CParameter::WindowLog(ENCODER_WINDOW_BITS),
        ] {
            context
                .set_parameter(parameter)
                .expect("the value is within the bounds of zstd, and no frame has begun");
        }
        Self { context }
    }

    pub(crate) fn run(
        &mut self,
        content: &[u8],
        push: Push,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let mut content = InBuffer::around(content);
        let len = content.src.len();
        loop {
            out.reserve(ROOM);
            let at = out.len();
            let mut room = OutBuffer::around_pos(out, at);
            let result = match push {
                Push::Nothing => self.context.compress_stream(&mut room, &mut content),
                Push::Flush => self.context.flush_stream(&mut room),
                Push::Finish => self.context.end_stream(&mut room),
            };
            let still_held = result.map_err(|_| EncodeError)?;
            let is_done = match push {
                Push::Nothing => content.pos() == len,
                Push::Flush | Push::Finish => still_held == 0,
            };
            if is_done {
                return Ok(());
            }
        }
    }
}
