//! How the steps of an exchange end it: with an answer, a failure, or a tunnel.

use std::rc::Rc;

use super::origin::OwnTunnel;
use super::persistence::Persistence;
use super::progress::Progress;
use crate::error::{Cause, ExchangeError, Peer, Refusal, Step};
use crate::interception::Treatment;
use crate::stream::MessageStream;
use crate::transport::{ChannelError, Unprocessed};

/// What is known of a tunnel whose protocol is to be detected.
pub(crate) struct Detection {
    /// The connection to the upstream, if it is to be relayed as it is.
    pub(crate) upstream: Option<MessageStream>,
    /// What the configuration says about this tunnel.
    pub(crate) treatment: Treatment,
    /// TLS with the upstream, if it was set up.
    pub(crate) upstream_tls: Option<UpstreamTls>,
}

/// What a request leads to that opens a tunnel.
pub(super) enum Tunnel {
    /// To this upstream, relayed.
    Relay(MessageStream),
    /// To this proxy itself.
    Own(Rc<OwnTunnel>),
    Detect(Detection),
}

/// How an exchange ends that opens no tunnel. It is the `Err` of each step: after it, no further step is taken.
pub(super) enum Conclusion {
    /// The client has its answer, or gets none.
    Answered(Persistence),
    /// It has no answer yet, or a part of it.
    Failed(Failure),
    /// The request leads to this proxy itself, whose web server is to answer.
    Itself,
}

impl Conclusion {
    /// The answer that the client has, or why it has none. What would lead to this proxy itself is a loop here.
    pub(super) fn into_answer(self) -> Result<Persistence, Failure> {
        match self {
            Self::Answered(persistence) => Ok(persistence),
            Self::Failed(failure) => Err(failure),
            Self::Itself => {
                Err(ExchangeError::new(Peer::Client, Step::Route, Refusal::Loop).into())
            }
        }
    }
}

/// An error, and how far the exchange had come.
pub(super) struct Failure {
    pub(super) error: ExchangeError,
    pub(super) progress: Progress,
}

/// An error before anything was sent to an upstream.
impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        Self {
            error,
            progress: Progress::default(),
        }
    }
}

impl From<Failure> for Conclusion {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ExchangeError> for Conclusion {
    fn from(error: ExchangeError) -> Self {
        Self::Failed(error.into())
    }
}

impl Failure {
    /// Whether a reused connection turned out to have been closed before the request. A stream that was reset does not
    /// show that: its peer has seen the request, on a connection that is open.
    pub(super) fn is_stale(&self) -> bool {
        self.is_silence()
            && match &self.error.cause {
                Cause::Closed | Cause::Io(_) => true,
                Cause::Channel(error) => matches!(error, ChannelError::Unprocessed(..)),
                _ => false,
            }
    }

    /// Whether the upstream reports that it has not processed the request, which may be repeated then, whatever its method
    /// (RFC 9113 §8.7).
    pub(super) fn is_unprocessed(&self) -> bool {
        self.unprocessed().is_some()
    }

    /// As [`is_unprocessed`](Self::is_unprocessed), because a GOAWAY excludes the request.
    pub(super) fn is_left_out(&self) -> bool {
        self.unprocessed() == Some(Unprocessed::LeftOut)
    }

    /// As [`is_unprocessed`](Self::is_unprocessed), because the upstream requires HTTP/1.1 (RFC 9113 §7).
    pub(super) fn requires_http1(&self) -> bool {
        self.unprocessed() == Some(Unprocessed::Http1Required)
    }

    fn unprocessed(&self) -> Option<Unprocessed> {
        match &self.error.cause {
            Cause::Channel(ChannelError::Unprocessed(why, _)) if self.is_silence() => Some(*why),
            _ => None,
        }
    }

    fn is_silence(&self) -> bool {
        self.error.peer == Peer::Upstream && self.progress.is_silent()
    }
}

/// TLS with the upstream of a tunnel.
pub(crate) enum UpstreamTls {
    /// The upstream has accepted HTTP by ALPN. The connection is in the pool.
    Http { speaks_http2: bool },
    /// There is no ALPN: the upstream speaks HTTP/1.1 or another protocol.
    /// Boxed, as a tunnel is large enough without it.
    Unnamed(Box<MessageStream>),
}

impl UpstreamTls {
    pub(crate) fn speaks_http2(&self) -> bool {
        matches!(self, Self::Http { speaks_http2: true })
    }
}
