//! The content of a request, as far as it is not simply relayed.

use crate::collect::Collected;
use crate::held::Held;
use crate::http1::BodyDecoder;
use crate::plugins::{BodyPlan, ContentHooks};

/// What is known of a request's content.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// The plugins that see it pass.
    pub(super) plan: Option<BodyPlan>,
    /// What was read of it. Boxed, as for most requests there is nothing.
    pub(super) collected: Option<Box<Collected>>,
    /// All of it was read, and seen by everybody who wants to see it.
    pub(super) is_done: bool,
    /// What has been read of it went out to an upstream that may not have processed it, and can go out again.
    pub(super) kept: Option<Box<KeptContent>>,
    /// The client has been read to the end of its request.
    pub(super) is_read: bool,
}

/// The beginning of a request, as it went out, and how to go on with it.
pub(super) struct KeptContent {
    /// The head, then the body as it was framed; whatever plugins have changed in it stays so.
    pub(super) text: Vec<u8>,
    pub(super) head_len: usize,
    pub(super) content_len: usize,
    pub(super) held: Held,
    /// The body is all there.
    pub(super) is_over: bool,
    pub(super) decoder: BodyDecoder,
    /// Content that was read and has not gone out.
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
