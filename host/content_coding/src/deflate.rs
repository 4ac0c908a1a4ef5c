//! `gzip` and `deflate`: one compressed format (RFC 1951), wrapped as gzip (RFC 1952), as zlib (RFC 1950) or not at
//! all.
//!
//! By `flate2` with zlib-rs, which takes about four seconds of a clean debug build on two cores. A decoder uses some 45
//! KiB from the first bytes of content to their end, an encoder some 370 KiB.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::decoder::{DecodeError, EngineProgress};
use crate::encoder::{EncodeError, Push};

/// Window in both directions, as a power of two: 32 KiB, that of the format.
const WINDOW_BITS: u8 = 15;

/// About 100 MB/s of source code on one core, to 26.5 %. Level 1 is 2.5 times as fast, for 37 %; level 4 takes a third
/// longer for one percent.
const LEVEL: u32 = 3;

/// The room reserved for coded bytes at a time.
const ROOM: usize = 8 * 1024;

/// The format around the compressed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapping {
    /// One or more members.
    Gzip,
    /// One zlib stream; when decoding, also none.
    Zlib,
}

/// Decodes `gzip` or `deflate`.
pub(crate) struct Inflater {
    wrapping: Wrapping,
    place: StreamPosition,
    /// A gzip member has ended; the next bytes need not be another one.
    had_member: bool,
}

/// The position of the next byte in the content.
enum StreamPosition {
    /// Before a member or the zlib stream.
    Start,
    /// After its first byte; two are needed to recognise it.
    SecondByte {
        first: u8,
    },
    Inside(Decompress),
    /// After the end; further bytes are ignored.
    Over,
}

impl Inflater {
    pub(crate) fn new(wrapping: Wrapping) -> Self {
        Self {
            wrapping,
            place: StreamPosition::Start,
            had_member: false,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.place, StreamPosition::Start | StreamPosition::Over)
    }

    pub(crate) fn step(
        &mut self,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<EngineProgress, DecodeError> {
        match (&self.place, input) {
            (StreamPosition::Inside(_), _) => self.inflate(input, out),
            (_, []) => Ok(EngineProgress::default()),
            (StreamPosition::Start, &[first, ..]) => self.after_first(first),
            (&StreamPosition::SecondByte { first }, &[second, ..]) => {
                self.begin([first, second], out)
            }
            (StreamPosition::Over, _) => Ok(EngineProgress {
                consumed: input.len(),
                produced: 0,
            }),
        }
    }

    fn after_first(&mut self, first: u8) -> Result<EngineProgress, DecodeError> {
        self.place = match self.wrapping {
            Wrapping::Gzip if first != GZIP_MAGIC[0] => self.after_other_than_member()?,
            _ => StreamPosition::SecondByte { first },
        };
        Ok(EngineProgress {
            consumed: 1,
            produced: 0,
        })
    }

    fn begin(&mut self, begin: [u8; 2], out: &mut [u8]) -> Result<EngineProgress, DecodeError> {
        self.place = match self.wrapping {
            Wrapping::Gzip if begin != GZIP_MAGIC => self.after_other_than_member()?,
            Wrapping::Gzip => StreamPosition::Inside(Decompress::new_gzip(WINDOW_BITS)),
            Wrapping::Zlib => StreamPosition::Inside(Decompress::new_with_window_bits(
                is_zlib(begin),
                WINDOW_BITS,
            )),
        };
        // The first byte has already been counted.
        let step = self.inflate(&begin, out)?;
        Ok(EngineProgress {
            consumed: 1,
            ..step
        })
    }

    fn after_other_than_member(&self) -> Result<StreamPosition, DecodeError> {
        match self.had_member {
            true => Ok(StreamPosition::Over),
            false => Err(DecodeError::Malformed),
        }
    }

    fn inflate(&mut self, input: &[u8], out: &mut [u8]) -> Result<EngineProgress, DecodeError> {
        let StreamPosition::Inside(inflate) = &mut self.place else {
            return Ok(EngineProgress::default());
        };
        let before = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress(input, out, FlushDecompress::None)
            .map_err(|_| DecodeError::Malformed)?;
        let step = EngineProgress {
            consumed: (inflate.total_in() - before.0) as usize,
            produced: (inflate.total_out() - before.1) as usize,
        };
        if status == Status::StreamEnd {
            self.had_member = true;
            self.place = match self.wrapping {
                Wrapping::Gzip => StreamPosition::Start,
                Wrapping::Zlib => StreamPosition::Over,
            };
        }
        Ok(step)
    }
}

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether this is the header of a zlib stream (RFC 1950 §2.2). A bare deflate stream that begins with the same bytes
/// would be a stored block with non-zero padding, which no encoder writes.
fn is_zlib([method, flags]: [u8; 2]) -> bool {
    method & 0x0f == 8 && method >> 4 <= 7 && u16::from_be_bytes([method, flags]) % 31 == 0
}

/// Encodes `gzip` or `deflate`.
pub(crate) struct Deflater {
    compress: Compress,
}

impl Deflater {
    pub(crate) fn new(wrapping: Wrapping) -> Self {
        let level = Compression::new(LEVEL);
        let compress = match wrapping {
            Wrapping::Gzip => Compress::new_gzip(level, WINDOW_BITS),
            Wrapping::Zlib => Compress::new_with_window_bits(level, true, WINDOW_BITS),
        };
        Self { compress }
    }

    pub(crate) fn run(
        &mut self,
        mut content: &[u8],
        push: Push,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let flush = match push {
            Push::Nothing => FlushCompress::None,
            Push::Flush => FlushCompress::Sync,
            Push::Finish => FlushCompress::Finish,
        };
        loop {
            out.reserve(ROOM);
            let before = self.compress.total_in();
            let status = self
                .compress
                .compress_vec(content, out, flush)
                .map_err(|_| EncodeError)?;
            content = &content[(self.compress.total_in() - before) as usize..];
            let has_room = out.len() < out.capacity();
            match push {
                Push::Nothing | Push::Flush if content.is_empty() && has_room => return Ok(()),
                Push::Finish if status == Status::StreamEnd => return Ok(()),
                // There is room but no end; the loop would not terminate.
                _ if has_room => return Err(EncodeError),
                _ => {}
            }
        }
    }
}
