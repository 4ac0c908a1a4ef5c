//! The request of an exchange, as its client sent it and plugins have changed it.

use super::progress::Progress;
use super::upload::Upload;
use crate::error::{ExchangeError, Peer, Refusal, Step};
use crate::http1::{self, BodyFraming, FieldId, RequestHead, Version};
use crate::reply::Reply;
use crate::stream::MessageStream;

/// What is agreed about the frames of a WebSocket beyond RFC 6455.
pub(super) const EXTENSIONS: &str = "sec-websocket-extensions";

/// A request whose head has been read.
pub(super) struct Request {
    pub(super) head: RequestHead,
    /// How the client frames the content.
    pub(super) framing: BodyFraming,
    /// The content, if it is not simply relayed.
    pub(super) upload: Upload,
    /// Whether only the client says that the request's host is at the address that its tunnel leads to.
    pub(super) is_host_claimed: bool,
}

/// Whether the beginning of the next request is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestEnd {
    /// This request has been read to its end.
    Read,
    /// The rest of it will not be read.
    Unread,
}

impl Request {
    pub(super) fn new(head: RequestHead) -> Self {
        Self {
            head,
            framing: BodyFraming::Empty,
            upload: Upload::default(),
            is_host_claimed: false,
        }
    }

    pub(super) fn has_content(&self) -> bool {
        !matches!(self.framing, BodyFraming::Empty | BodyFraming::Length(0))
    }

    /// Whether all of the content is here, so that it can be sent more than once.
    pub(super) fn is_whole(&self) -> bool {
        !self.has_content() || self.upload.is_done
    }

    /// Whether the request has been read to its end without being forwarded.
    pub(super) fn end(&self) -> RequestEnd {
        match self.has_content() && !self.upload.is_read {
            true => RequestEnd::Unread,
            false => RequestEnd::Read,
        }
    }

    /// The same while the request is forwarded.
    pub(super) fn end_in(&self, progress: &Progress) -> RequestEnd {
        match progress.is_sent() {
            true => RequestEnd::Read,
            false => self.end(),
        }
    }

    /// Whether the client waits for 100 (Continue) before it sends content.
    pub(super) fn expects_continue(&self, client: &MessageStream) -> bool {
        let mut expectations = self.head.fields().all(FieldId::Expect);
        expectations.any(|value| value.eq_ignore_ascii_case(b"100-continue"))
            && self.head.version() != Version::Http10
            && !client.has_buffered()
    }

    /// How the content is framed for the upstream.
    pub(super) fn outbound_framing(&self) -> BodyFraming {
        let Upload {
            plan: Some(plan),
            collected,
            is_done,
            ..
        } = &self.upload
        else {
            return self.framing;
        };
        match collected {
            Some(collected) if *is_done && collected.decoder.trailers().is_none() => {
                BodyFraming::Length(collected.content.len() as u64)
            }
            _ if plan.may_edit() => BodyFraming::Chunked,
            _ => self.framing,
        }
    }

    /// The answer to a request that may be forwarded no further (RFC 9110 §7.6.2).
    pub(super) fn last_hop_answer(&self) -> Option<Reply> {
        (http1::max_forwards(&self.head) == Some(0)).then(|| match self.head.method() {
            "TRACE" => Reply::trace(http1::trace_content(&self.head)),
            _ => Reply::options(),
        })
    }

    /// Refuses a request that this process, whose name in Via is `own_name`, has forwarded before.
    pub(super) fn refuse_loop(&self, own_name: &str) -> Result<(), ExchangeError> {
        match http1::is_named_in_via(&self.head, own_name) {
            true => Err(ExchangeError::new(Peer::Client, Step::Route, Refusal::Loop)),
            false => Ok(()),
        }
    }
}
