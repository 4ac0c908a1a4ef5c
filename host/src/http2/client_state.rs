//! What the handles of a connection to an upstream share with its streams.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::oneshot;

use super::field_blocks::Remarks;
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
pub(crate) trait Room: fmt::Debug {
    /// A stream has ended. Called while nothing of the connection is borrowed.
    fn has_room(&self);
}

/// What handles and streams share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: ClientOptions,
    pub(super) send: RefCell<SendRequest<Bytes>>,
    pub(super) open_streams: Cell<usize>,
    pub(super) idle_since: Cell<Instant>,
    pub(super) is_retired: Cell<bool>,
    pub(super) room: OnceCell<Weak<dyn Room>>,
    pub(super) remarks: Rc<Remarks>,
    /// Tells the driver, by its end, that nobody needs the connection.
    pub(super) _needed: oneshot::Sender<()>,
}

impl Shared {
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
pub(super) struct Opened(pub(super) Rc<Shared>);

impl Opened {
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        shared.open_streams.set(shared.open_streams.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let left = self.0.open_streams.get().saturating_sub(1);
        self.0.open_streams.set(left);
        if left == 0 {
            self.0.idle_since.set(Instant::now());
        }
        if let Some(room) = self.0.room.get().and_then(Weak::upgrade) {
            room.has_room();
        }
    }
}
