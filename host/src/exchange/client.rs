//! The client's side of an exchange.

use std::rc::Rc;

use super::connection::Connection;
use super::origin::{Origin, OwnTunnel};
use crate::plugins::{ClientEnd, ExchangeFacts};
use crate::upstream::pinned::Pinned;

/// What an exchange knows about its client's connection.
pub(super) struct ClientSide {
    pub(super) facts: ExchangeFacts,
    /// Our end of the connection; None if neither plugins nor subscribers see it.
    pub(super) end: Option<Rc<ClientEnd>>,
    /// The origin that an intercepted tunnel leads to, if the connection is inside of one.
    pub(super) origin: Option<Rc<Origin>>,
    /// The tunnel to this proxy itself, if the connection is inside of one.
    pub(super) own_tunnel: Option<Rc<OwnTunnel>>,
    /// The upstream connections that the client has authenticated; None before there is one.
    pub(super) pinned: Option<Rc<Pinned>>,
    pub(super) binding: Binding,
    pub(super) protocol: ClientProtocol,
}

/// How the client has sent the request, and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientProtocol {
    Http,
    /// The request is a CONNECT, and the only one of its connection.
    Socks5,
}

/// Who may use the upstream connection after this exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// Any client.
    Free,
    /// This client's connection only: NTLM or Negotiate has begun on it.
    Bound,
    /// As before, and it is closed after this exchange.
    Over,
}

impl ClientSide {
    pub(super) fn new(connection: &Connection, facts: ExchangeFacts) -> Self {
        Self {
            facts,
            end: connection.end.clone(),
            origin: connection.origin.clone(),
            own_tunnel: connection.own_tunnel.clone(),
            pinned: connection.pinned.get().map(Rc::clone),
            binding: Binding::Free,
            protocol: ClientProtocol::Http,
        }
    }

    /// Hands the upstream connections that the client has authenticated over to its connection.
    pub(super) fn leave_pinned(&mut self, connection: &Connection) {
        if self.binding == Binding::Bound
            && let Some(pinned) = self.pinned.take()
        {
            connection.pin(pinned);
        }
    }
}
