//! The client's side of an exchange.

use std::rc::Rc;

use super::connection::Connection;
use super::origin::{Origin, OwnTunnel};
use crate::plugins::{ClientEnd, ExchangeFacts};
use crate::upstream::pinned::Pinned;

/// What an exchange knows of its client's connection, and what it has to give back to it.
pub(super) struct ClientSide {
    pub(super) facts: ExchangeFacts,
    /// Our end of the connection; None where nobody is told.
    pub(super) end: Option<Rc<ClientEnd>>,
    /// What the connection is for, inside of an intercepted tunnel.
    pub(super) origin: Option<Rc<Origin>>,
    /// The tunnel to this proxy itself that it came through.
    pub(super) own_tunnel: Option<Rc<OwnTunnel>>,
    /// The upstream connections that the client has authenticated; None before there is one.
    pub(super) pinned: Option<Rc<Pinned>>,
    pub(super) binding: Binding,
}

/// Whom the upstream connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// Whoever comes next.
    Free,
    /// The client's connection, on which NTLM or Negotiate has begun.
    Bound,
    /// As before, and it ends with this exchange.
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
        }
    }

    /// Leaves the upstream connections that the client has authenticated to its connection.
    pub(super) fn leave_pinned(&mut self, connection: &Connection) {
        if self.binding == Binding::Bound
            && let Some(pinned) = self.pinned.take()
        {
            connection.pin(pinned);
        }
    }
}
