//! What happens to the client connection after an exchange.

use std::rc::Rc;

use super::conclusion::Detection;
use super::origin::OwnTunnel;
use super::persistence::Persistence;
use super::tunnel_exchange::TunnelExchange;
use crate::interception::RefusedProtocols;
use crate::stream::MessageStream;

/// What happens to the connection after an exchange.
pub(crate) enum Next {
    /// The client has its answer, or gets none.
    Answered(Persistence),
    /// It has become a tunnel, to be relayed.
    Tunnel(Box<TunnelStart>),
    /// It has become a tunnel to this proxy itself, for the web server to serve.
    OwnTunnel(Rc<OwnTunnel>),
    /// It has become a tunnel that may be intercepted: its protocol is detected first.
    Detect(Box<DetectStart>),
}

/// An exchange that has become a tunnel, and what its relay needs.
pub(crate) struct TunnelStart {
    pub(crate) exchange: TunnelExchange,
    pub(crate) upstream: MessageStream,
    /// Protocols that end the tunnel if its client turns out to speak them.
    pub(crate) refused: Option<RefusedProtocols>,
}

/// An exchange that has become a tunnel whose protocol is to be detected.
pub(crate) struct DetectStart {
    pub(crate) exchange: TunnelExchange,
    pub(crate) detection: Detection,
}
