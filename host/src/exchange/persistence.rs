//! Whether the client's connection goes on after an exchange. Decided here alone.

use super::{Binding, CloseReason, Exchange, Progress};
use crate::http1::Version;

/// What becomes of the client's connection once it has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// It is there for another request.
    Again,
    Close(CloseReason),
}

/// Whether it is known where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestEnd {
    /// This one has been read to its end.
    Read,
    /// The rest of it is not read.
    Unread,
}

/// How the client knows where the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerEnd {
    /// By its framing.
    Framed,
    /// By the end of the connection.
    Connection,
}

impl Exchange {
    /// What becomes of the client's connection behind an answer. Whoever sends its head announces it there.
    pub(super) fn persistence(&self, request: RequestEnd, answer: AnswerEnd) -> Persistence {
        match (request, answer, self.reason_to_close()) {
            (RequestEnd::Unread, ..) => Persistence::Close(CloseReason::BodyUnread),
            (_, AnswerEnd::Connection, _) => Persistence::Close(CloseReason::Http10),
            (.., Some(reason)) => Persistence::Close(reason),
            (.., None) => Persistence::Again,
        }
    }

    /// What was announced, unless the proxy has begun to shut down since.
    pub(super) fn persistence_at_end(&self, announced: Persistence) -> Persistence {
        match announced {
            Persistence::Again if self.generation.worker.is_draining() => {
                Persistence::Close(CloseReason::Draining)
            }
            announced => announced,
        }
    }

    /// Whether the client has been read to the end of its request, as far as that was not passed on.
    pub(super) fn request_end(&self) -> RequestEnd {
        match self.has_content() && !self.upload.is_read() {
            true => RequestEnd::Unread,
            false => RequestEnd::Read,
        }
    }

    /// The same while the request is passed on.
    pub(super) fn request_end_in(&self, progress: &Progress) -> RequestEnd {
        match progress.is_sent() {
            true => RequestEnd::Read,
            false => self.request_end(),
        }
    }

    /// Why the client's connection is not kept, whatever the answer.
    fn reason_to_close(&self) -> Option<CloseReason> {
        if self.head.version() == Version::Http10 {
            Some(CloseReason::Http10)
        } else if self.head.fields().connection_options().close {
            Some(CloseReason::Client)
        } else if self.client.binding == Binding::Over && self.head.version() != Version::Http2 {
            // A stream of HTTP/2 ends by itself: to reset it would take its answer back.
            Some(CloseReason::Upstream)
        } else if self.generation.worker.is_draining() {
            Some(CloseReason::Draining)
        } else {
            None
        }
    }
}
