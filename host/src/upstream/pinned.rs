//! Upstream connections that belong to one client connection.
//!
//! NTLM and Negotiate authenticate a connection and not a request (RFC 4559 §6): whoever sends the next request over it
//! speaks in the name of the user who did. So a connection on which such a handshake has begun is never pooled. It
//! belongs to the client's connection, whose later requests to the same destination go over it, and is closed with it.
//! Where the upstream closes it, the client's connection ends too, as it would without a proxy in between: the client
//! then begins anew, and does not go on with a handshake of which the next connection knows nothing.

use std::cell::RefCell;
use std::task::{Context, Poll};

use super::key::{Key, KeyRef};
use super::route::Route;
use crate::stream::MessageStream;

/// Connections that one client connection may own; past it the one that was used least recently is closed.
const MAX_PINNED: usize = 8;

/// The idle connections that one client connection owns, the last used one at the end.
#[derive(Debug, Default)]
pub(crate) struct Pinned {
    connections: RefCell<Vec<(Key, MessageStream)>>,
}

/// What a client connection has for a destination.
pub(crate) enum PinnedConnection {
    Missing,
    /// The connection that its next request goes over.
    Open(MessageStream),
    /// It had one, and the upstream has closed it.
    Closed,
}

impl Pinned {
    /// The connection along `route`; it is no longer held afterwards.
    pub(crate) fn take(&self, route: &Route<'_>) -> PinnedConnection {
        let key = KeyRef::of_destination(route);
        let connections = &mut *self.connections.borrow_mut();
        let Some(at) = connections.iter().rposition(|(of, _)| of.as_ref() == key) else {
            return PinnedConnection::Missing;
        };
        let (_, stream) = connections.remove(at);
        match stream.is_quiet_now() {
            true => PinnedConnection::Open(stream),
            false => PinnedConnection::Closed,
        }
    }

    /// Keeps a connection whose last exchange is over and complete.
    pub(crate) fn put(&self, route: &Route<'_>, stream: MessageStream) {
        self.keep((KeyRef::of_destination(route).to_key(), stream));
    }

    /// Takes over what another one holds.
    pub(crate) fn adopt(&self, other: &Self) {
        for connection in other.connections.take() {
            self.keep(connection);
        }
    }

    fn keep(&self, connection: (Key, MessageStream)) {
        let connections = &mut *self.connections.borrow_mut();
        if connections.len() >= MAX_PINNED {
            connections.remove(0);
        }
        connections.push(connection);
    }

    /// Ready once an upstream has closed one of them, or sent something that nobody has asked for.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        for (_, stream) in &*self.connections.borrow() {
            if stream.poll_unquiet(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
