//! `br` (RFC 7932), by the `brotli` crate: the reference implementation rewritten in Rust without `unsafe`.
//!
//! It takes about five seconds of a clean debug build on two cores. A decoder uses some 300 KiB, and up to 16 MiB more
//! if the content requires a large window; an encoder uses up to 1.3 MiB.

use ::brotli::enc::StandardAlloc;
use ::brotli::enc::encode::{
    BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct,
};
use ::brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

use crate::decoder::{DecodeError, EngineProgress};
use crate::encoder::{EncodeError, Push};

/// About 65 MB/s of source code on one core, to 26.7 %. Quality 4 takes 1.5 times as long and 2.5 times the memory, for
/// 25.5 %.
const QUALITY: u32 = 3;

/// Window of the encoder, as a power of two: 256 KiB. Its buffers grow with it.
const ENCODER_WINDOW_BITS: u32 = 18;

/// The room reserved for coded bytes at a time.
const ROOM: usize = 8 * 1024;

/// Decodes `br`.
pub(crate) struct BrotliDecoder {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    is_over: bool,
}

impl BrotliDecoder {
    pub(crate) fn new() -> Self {
        let alloc = StandardAlloc::default;
        // Strict: without large windows, which are not part of the content coding.
        let state = BrotliState::new_strict(alloc(), alloc(), alloc());
        Self {
            state: Box::new(state),
            is_over: false,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is_over
    }

    pub(crate) fn step(
        &mut self,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<EngineProgress, DecodeError> {
        if self.is_over {
            return Ok(EngineProgress {
                consumed: input.len(),
                produced: 0,
            });
        }
        let mut step = EngineProgress::default();
        let result = BrotliDecompressStream(
            &mut input.len(),
            &mut step.consumed,
            input,
            &mut out.len(),
            &mut step.produced,
            out,
            &mut 0,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(DecodeError::Malformed),
            BrotliResult::ResultSuccess => self.is_over = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(step)
    }
}

/// Encodes `br`.
pub(crate) struct BrotliEncoder {
    state: Box<BrotliEncoderStateStruct<StandardAlloc>>,
}

impl BrotliEncoder {
    pub(crate) fn new() -> Self {
        let mut state = Box::new(BrotliEncoderStateStruct::new(StandardAlloc::default()));
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, QUALITY);
        state.set_parameter(
            BrotliEncoderParameter::BROTLI_PARAM_LGWIN,
            ENCODER_WINDOW_BITS,
        );
        Self { state }
    }

    pub(crate) fn run(
        &mut self,
        content: &[u8],
        push: Push,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let operation = match push {
            Push::Nothing => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
            Push::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
            Push::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
        };
        let (mut content_left, mut content_at) = (content.len(), 0);
        loop {
            let mut at = out.len();
            out.resize(at + ROOM, 0);
            let mut room_left = ROOM;
            let went_well = self.state.compress_stream(
                operation,
                &mut content_left,
                content,
                &mut content_at,
                &mut room_left,
                out,
                &mut at,
                &mut None,
                &mut |_, _, _, _| (),
            );
            out.truncate(at);
            let has_more = content_left > 0 || self.state.has_more_output();
            match (went_well, has_more) {
                (false, _) => return Err(EncodeError),
                (true, true) => {}
                (true, false) if push != Push::Finish || self.state.is_finished() => return Ok(()),
                (true, false) => {}
            }
        }
    }
}
