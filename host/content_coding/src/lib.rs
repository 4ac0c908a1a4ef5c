//! Content codings (RFC 9110 §8.4): decodes and encodes the content of messages.
//!
//! A filter that reads or changes content needs it decoded, while the message remains compressed on the wire. Supported
//! are the codings of browsers and servers: `gzip`, `deflate`, `br` and `zstd`. Bytes in, bytes out, without sockets or
//! clocks: content is processed in pieces, memory does not depend on its length or ratio, no input panics, and
//! truncated content is never reported as complete. Out of scope: which messages are decoded, the fields that change
//! with it (`Content-Length`, `ETag`, `Content-MD5`, ranges), and scheduling, because both directions keep a worker
//! busy.
//!
//! Bytes after the end of coded content are treated as by browsers, because a filter should see what the client sees:
//! after `gzip`, `deflate` and `br` content they are dropped. But several gzip members and zstd frames may form one
//! content (RFC 1952 §2.2, RFC 8878 §3), as for the programs `gzip` and `zstd`. So bytes that begin with the magic
//! number of a gzip member must be one, and anything after a zstd frame must be another frame.
//!
//! In the order of use: [`Codings::of`] parses the field, [`Decoder`] and [`Encoder`] do the work, using `deflate`,
//! `brotli` or `zstd`, the only files that use the libraries.

mod brotli;
mod decoder;
mod deflate;
mod encoder;
mod zstd;

pub use decoder::{DecodeError, DecodeFailure, Decoder, MAX_PIECE_LEN};
pub use encoder::{EncodeError, Encoder};

/// A supported content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` and its old name `x-gzip` (RFC 9110 §8.4.1.3).
    Gzip,
    /// `deflate`, the zlib format (RFC 9110 §8.4.1.2). Content without its wrapping is decoded too, because old servers
    /// send it; encoded content has it.
    Deflate,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878, with the window of RFC 9659).
    Zstd,
}

impl Coding {
    /// The coding called `name`, in any case.
    fn of(name: &[u8]) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("deflate") {
            Some(Self::Deflate)
        } else if is("br") {
            Some(Self::Brotli)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// The Content-Encoding of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codings {
    /// The content is not coded.
    Identity,
    /// One supported coding.
    One(Coding),
    /// An unknown coding, or more than one: the content can only be forwarded unchanged.
    Unknown,
}

impl Codings {
    /// Parses the values of Content-Encoding. `identity` is not valid there, but ignored (RFC 9110 §12.5.3); so are
    /// empty list members (§5.6.1).
    pub fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut codings = Self::Identity;
        for member in values.flat_map(|value| value.split(|&byte| byte == b',')) {
            let name = member.trim_ascii();
            if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            codings = match (codings, Coding::of(name)) {
                (Self::Identity, Some(coding)) => Self::One(coding),
                _ => return Self::Unknown,
            };
        }
        codings
    }
}

#[cfg(test)]
mod fixtures;

#[cfg(test)]
mod tests;
