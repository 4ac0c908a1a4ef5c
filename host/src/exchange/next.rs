//! What happens to the client connection after an exchange.

use std::rc::Rc;

use super::{Exchange, OwnTunnel, Secured};
use crate::interception::{RefusedProtocols, Treatment};
use crate::stream::MessageStream;

/// What becomes of the connection after an exchange.
pub(crate) enum Next {
    /// It waits for the next request.
    Again,
    /// It is closed.
    Close(CloseReason),
    /// It has become a tunnel.
    Tunnel(Box<TunnelStart>),
    /// It has become a tunnel to this proxy itself, for the web server to serve.
    OwnTunnel(Rc<OwnTunnel>),
    /// It has become a tunnel whose protocol is found out before it is relayed.
    Look(Box<LookStart>),
}

/// Why a client connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// It has gone.
    Gone,
    /// It asked for it.
    Client,
    /// HTTP/1.0 connections carry one exchange (RFC 9112 §9.3).
    Http10,
    /// The answer came before the request was over; the rest of it is not read.
    BodyUnread,
    /// What the client sent cannot be understood, so nobody knows where the next request begins.
    Malformed,
    /// The response could not be finished: what was sent of it must not look whole.
    ResponseCutOff { framed: bool },
    /// The upstream has closed the connection that it had authenticated.
    Upstream,
    /// A plugin wants it closed.
    Plugin,
    /// The upstream has not processed the request, and the client may send it again.
    Unprocessed,
    /// The proxy is shutting down.
    Draining,
}

/// An exchange that has become a tunnel: what it needs to go on.
pub(crate) struct TunnelStart {
    pub(crate) exchange: Exchange,
    pub(crate) upstream: MessageStream,
    /// What ends it if its client turns out to speak that.
    pub(crate) refused: Option<RefusedProtocols>,
}

/// An exchange that has become a tunnel whose client has yet to show what it speaks.
pub(crate) struct LookStart {
    pub(crate) exchange: Exchange,
    /// The connection to the upstream that is there to be relayed; TLS that was tried out is in the pool.
    pub(crate) upstream: Option<MessageStream>,
    /// What becomes of it as far as the configuration says.
    pub(crate) treatment: Treatment,
    /// TLS with the upstream, once it has begun.
    pub(crate) secured: Option<Secured>,
}
