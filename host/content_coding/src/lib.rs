//! Content codings (RFC 9110 §8.4): what a message's content is compressed with, undone and redone.
//!
//! A filter that reads or changes content wants it plain while the message stays compressed on the wire. Here are the
//! codings that browsers and servers use: `gzip`, `deflate`, `br` and `zstd`. Bytes in, bytes out, without sockets or
//! clocks: content streams through in pieces, memory stays the same however long it is and however much a few coded
//! bytes decode to, nothing that is decoded panics, and content that was cut off is never taken for complete. Left to
//! others: which messages are to be decoded, the fields that then change (`Content-Length`, `ETag`, `Content-MD5`, ranges),
//! and that both directions are work which keeps a worker busy.
//!
//! What comes after the end of coded content is decided as by the browsers, since a filter is to see what the client
//! will see: bytes after `gzip`, `deflate` and `br` content are dropped. But gzip members and zstd frames may follow
//! each other as one content (RFC 1952 §2.2, RFC 8878 §3), as `gzip` and `zstd` take them, so that begins with the
//! magic number of a gzip member has to be one, and anything after a zstd frame has to be another frame.
//!
//! In the order of use: [`Codings::of`] reads the field, [`Decoder`] and [`Encoder`] do the work, each by way of
//! `deflate`, `brotli` or `zstd`, the only files that know the libraries.

mod brotli;
mod decoder;
mod deflate;
mod encoder;
mod zstd;

pub use decoder::{DecodeError, DecodeFailure, Decoder, MAX_PIECE_LEN};
pub use encoder::{EncodeError, Encoder};

/// A content coding that can be undone and redone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` and its old name `x-gzip` (RFC 9110 §8.4.1.3).
    Gzip,
    /// `deflate`, which is the zlib format (RFC 9110 §8.4.1.2). What lacks its wrapping is decoded too, as old
    /// servers send it; what we encode has it.
    Deflate,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878, with the window of RFC 9659).
    Zstd,
}

impl Coding {
    /// The coding of this name, in any case.
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

/// What the Content-Encoding field of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codings {
    /// The content is plain.
    Identity,
    /// One coding, and it can be undone.
    One(Coding),
    /// A coding that is not known here, or more than one: the content can only be passed on as it is.
    Unknown,
}

impl Codings {
    /// Reads the values of the Content-Encoding field lines of a message. `identity` does not belong there but changes
    /// nothing (RFC 9110 §12.5.3); so do empty list members (§5.6.1).
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
