//! The content of a request, as far as it is not simply relayed.

use crate::collect::Collected;
use crate::held::HeldBytes;
use crate::http1::BodyDecoder;
use crate::plugins::{BodyPlan, ContentHooks};

/// The content of a request.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// The plugins that listen to it.
    pub(super) plan: Option<BodyPlan>,
    /// The part that was read. Boxed, as most requests have none.
    pub(super) collected: Option<Box<Collected>>,
    /// All of it was read, and shown to the plugins.
    pub(super) is_done: bool,
    /// The part that was sent to an upstream that may not have processed it, for a retry.
    pub(super) kept: Option<Box<KeptContent>>,
    /// The client has been read to the end of its request.
    pub(super) is_read: bool,
}

/// The beginning of a request as it was sent, and how to continue.
pub(super) struct KeptContent {
    /// The head and the body as they were sent, with the changes of plugins.
    pub(super) text: Vec<u8>,
    pub(super) head_len: usize,
    pub(super) content_len: usize,
    pub(super) held: HeldBytes,
    /// The body is all there.
    pub(super) is_over: bool,
    pub(super) decoder: BodyDecoder,
    /// Content that was read and not sent.
    pub(super) begun: Vec<u8>,
    /// The plugins that have seen it so far.
    pub(super) hooks: Option<ContentHooks>,
}

impl KeptContent {
    /// Whether the client has begun to send content.
    pub(super) fn has_content(&self) -> bool {
        self.is_over || self.text.len() > self.head_len
    }
}

impl std::fmt::Debug for KeptContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptContent").finish_non_exhaustive()
    }
}
