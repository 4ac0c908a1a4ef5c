//! Upstream connections that are reserved for one client connection.
//!
//! NTLM and Negotiate authenticate a connection, not a request (RFC 4559 §6): the next request on it is made in the
//! name of the same user. So a connection on which such a handshake has begun is never pooled. It is reserved for the
//! client connection, serves its later requests to the same destination, and is closed with it. If the upstream closes
//! it, the client connection is closed, too, as it would be without a proxy: then the client starts a new handshake,
//! and does not continue the old one on a new connection.

use std::cell::RefCell;
use std::task::{Context, Poll};

use super::key::{Key, KeyRef};
use super::route::Route;
use crate::stream::MessageStream;

/// How many connections may be reserved for one client connection; beyond that, the least recently used one is closed.
const MAX_PINNED: usize = 8;

/// The idle connections that are reserved for a client connection, the most recently used one last.
#[derive(Debug, Default)]
pub(crate) struct Pinned {
    connections: RefCell<Vec<(Key, MessageStream)>>,
}

/// The connection that is reserved for a client connection and a destination.
pub(crate) enum PinnedConnection {
    Missing,
    /// It can serve the next request.
    Open(MessageStream),
    /// The upstream has closed it.
    Closed,
}

impl Pinned {
    /// Removes and returns the connection for `route`.
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

    /// Keeps a connection whose last exchange is complete.
    pub(crate) fn put(&self, route: &Route<'_>, stream: MessageStream) {
        self.keep((KeyRef::of_destination(route).to_key(), stream));
    }

    /// Takes over the connections of `other`.
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

    /// Ready once an upstream has closed one of them, or has sent unexpected bytes.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        for (_, stream) in &*self.connections.borrow() {
            if stream.poll_unquiet(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
