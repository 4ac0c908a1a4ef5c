//! Content codings, by the reference libraries: others must be able to decode what the proxy encodes, and the reverse.

use std::io::{Read, Write};

use flate2::Compression;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// The codings that the proxy supports.
    pub(crate) const ALL: [Coding; 4] =
        [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    /// Its name in Content-Encoding.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    /// Encodes `content`.
    pub(crate) fn encode(self, content: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        let written = match self {
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(&mut coded, Compression::fast());
                encoder
                    .write_all(content)
                    .and_then(|()| encoder.try_finish())
            }
            Coding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(&mut coded, Compression::fast());
                encoder
                    .write_all(content)
                    .and_then(|()| encoder.try_finish())
            }
            Coding::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(&mut coded, 4096, 3, 18);
                encoder.write_all(content)
            }
            Coding::Zstd => {
                coded.reserve(zstd_safe::compress_bound(content.len()));
                let compressed = zstd_safe::compress(&mut coded, content, 1);
                compressed.expect("there is room");
                Ok(())
            }
        };
        written.expect("memory takes everything");
        coded
    }

    /// Decodes `coded`; `None` if it is not completely well-formed.
    pub(crate) fn decode(self, coded: &[u8]) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        let read = match self {
            Coding::Gzip => flate2::read::MultiGzDecoder::new(coded).read_to_end(&mut content),
            Coding::Deflate => flate2::read::ZlibDecoder::new(coded).read_to_end(&mut content),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut content),
            Coding::Zstd => {
                content.reserve(1 << 20);
                return zstd_safe::decompress(&mut content, coded)
                    .is_ok()
                    .then_some(content);
            }
        };
        read.is_ok().then_some(content)
    }
}

/// `deflate` content of about 1 KiB for each of `mebibytes` zeros; it has no end.
pub(crate) fn bomb(mebibytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
    let filled = encoder
        .write_all(&vec![0; 1 << 20])
        .and_then(|()| encoder.flush());
    filled.expect("memory takes everything");
    encoder.get_ref().repeat(mebibytes)
}
