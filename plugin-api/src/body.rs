//! How a plugin wants to get a message's content.

use crate::abi::{self, delivery, over};

/// How a plugin gets the bodies of one direction: not at all, in pieces, or whole.
///
/// Only the proxy writes Content-Length, Transfer-Encoding and the content coding; a changed body is framed anew.
///
/// ```
/// use plugin_api::BodyMode;
/// // Whole JSON documents of up to 64 KiB, without their compression; larger ones pass unseen.
/// const DOCUMENTS: BodyMode = BodyMode::whole(64 * 1024).or_pass().decoded();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyMode(pub(crate) abi::BodyMode);

impl BodyMode {
    /// Whole bodies of up to 1 MiB for the body hooks, pieces for the chunk hooks, as they come.
    pub const DEFAULT: Self = Self::whole(1024 * 1024);

    /// No body hook is called.
    pub const SKIP: Self = Self::new(delivery::SKIP, 0);

    /// The chunk hooks get each piece as it passes, whatever the body's size.
    pub const STREAM: Self = Self::new(delivery::STREAM, 0);

    /// The chunk hooks get each piece as it passes and cannot change it: results other than
    /// [`Chunk::Pass`](crate::Chunk::Pass) and [`Chunk::Close`](crate::Chunk::Close) fail the exchange. The message
    /// keeps its Content-Length, unlike one that might be changed.
    pub const WATCH: Self = Self::new(delivery::WATCH, 0);

    /// The body hooks get the whole content, of at most `limit` bytes. A longer request is answered with 413, a longer
    /// response with 502, and nothing of it is forwarded. If the proxy's own limit is lower, it applies. A plugin with
    /// chunk hooks only gets pieces.
    pub const fn whole(limit: u64) -> Self {
        Self::new(delivery::WHOLE, limit)
    }

    /// Content above the limit, and content whose coding cannot be decoded, is not buffered: it is streamed through the
    /// chunk hooks, if there are any.
    #[must_use]
    pub const fn or_pass(mut self) -> Self {
        self.0.over = over::PASS;
        self
    }

    /// Content codings (gzip, deflate, br, zstd) are decoded before the hooks see the content, and encoded again
    /// afterwards. The limit applies to the decoded and to the encoded content. Content in another coding is refused
    /// (415 for a request, 502 for a response), or forwarded without the hooks with [`or_pass`](Self::or_pass) and with
    /// [`STREAM`](Self::STREAM).
    #[must_use]
    pub const fn decoded(mut self) -> Self {
        self.0.decode = 1;
        self
    }

    const fn new(delivery: u32, limit: u64) -> Self {
        Self(abi::BodyMode {
            delivery,
            over: over::REFUSE,
            limit,
            decode: 0,
            reserved: 0,
        })
    }
}
