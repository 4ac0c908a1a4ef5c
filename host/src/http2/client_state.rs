//! The state of a connection to an upstream, shared by its handles and its streams.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::oneshot;

use super::field_blocks::StreamFacts;
use crate::http1::Scheme;

/// How a connection to an upstream is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientOptions {
    /// The value of `:scheme`.
    pub(crate) scheme: Scheme,
    /// The longest head in bytes, as HTTP/2 counts it (32 more for each field). If it is exceeded, the stream fails; if
    /// it is exceeded several times over, the connection fails.
    pub(crate) max_head_len: usize,
}

/// Is notified when another stream may be possible.
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
    /// Dropped with this state; then the driver ends the connection.
    pub(super) _needed: oneshot::Sender<()>,
}

impl ClientState {
    pub(super) fn supports_websocket(&self) -> bool {
        self.send.borrow().is_extended_connect_protocol_enabled()
    }

    /// A sender for one request, without state of earlier requests.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.send.borrow().clone()
    }
}

/// A stream that counts as open until this is dropped.
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
