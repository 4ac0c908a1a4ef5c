//! What the handles of a connection to an upstream share with its streams.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::oneshot;

use super::field_blocks::StreamFacts;
use crate::http1::Scheme;

/// How an upstream's connection is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientOptions {
    /// What `:scheme` says.
    pub(crate) scheme: Scheme,
    /// Longest head in bytes, as HTTP/2 counts them (32 more for each field). Past it the stream fails; past a few times
    /// as much the connection.
    pub(crate) max_head_len: usize,
}

/// Somebody who waits for streams to end.
pub(crate) trait CapacityListener: fmt::Debug {
    /// A stream has ended. Called while nothing of the connection is borrowed.
    fn capacity_freed(&self);
}

/// What handles and streams share.
#[derive(Debug)]
pub(super) struct ClientState {
    pub(super) options: ClientOptions,
    pub(super) send: RefCell<SendRequest<Bytes>>,
    pub(super) open_streams: Cell<usize>,
    pub(super) idle_since: Cell<Instant>,
    pub(super) is_retired: Cell<bool>,
    pub(super) listener: OnceCell<Weak<dyn CapacityListener>>,
    pub(super) facts: Rc<StreamFacts>,
    /// Tells the driver, by its end, that nobody needs the connection.
    pub(super) _needed: oneshot::Sender<()>,
}

impl ClientState {
    pub(super) fn supports_websocket(&self) -> bool {
        self.send.borrow().is_extended_connect_protocol_enabled()
    }

    /// A sender for one request, which remembers nothing of those before it.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.send.borrow().clone()
    }
}

/// A stream that counts as open.
#[derive(Debug)]
pub(super) struct OpenStream(pub(super) Rc<ClientState>);

impl OpenStream {
    pub(super) fn new(state: &Rc<ClientState>) -> Self {
        state.open_streams.set(state.open_streams.get() + 1);
        Self(Rc::clone(state))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let left = self.0.open_streams.get().saturating_sub(1);
        self.0.open_streams.set(left);
        if left == 0 {
            self.0.idle_since.set(Instant::now());
        }
        if let Some(listener) = self.0.listener.get().and_then(Weak::upgrade) {
            listener.capacity_freed();
        }
    }
}
