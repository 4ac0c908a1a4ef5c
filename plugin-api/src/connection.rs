//! A client's connection as the connection hooks see it.
#![expect(unsafe_code, reason = "reads the host's view of the connection")]

use crate::Filter;
use crate::abi::ConnectionView;
use crate::exchange::socket_address;
use std::net::SocketAddr;

/// A client's connection, at its beginning or its end.
pub struct ClientConnection<'a, F: Filter> {
    /// What this filter keeps for the connection; the same that its exchanges see.
    pub state: &'a F::Connection,
    view: &'a ConnectionView,
}

impl<'a, F: Filter> ClientConnection<'a, F> {
    pub(crate) fn new(view: &'a ConnectionView, state: &'a F::Connection) -> Self {
        Self { state, view }
    }

    /// Counts client connections since the proxy started.
    pub fn id(&self) -> u64 {
        self.view.connection_id
    }

    /// Who has connected; none when it did not come from an IP address.
    pub fn client(&self) -> Option<SocketAddr> {
        socket_address(&self.view.client)
    }

    /// The address of the proxy's that the client has connected to.
    pub fn local(&self) -> Option<SocketAddr> {
        socket_address(&self.view.local)
    }
}

/// The connection state behind a pointer from the host. A state that is nothing is not kept: any address does.
///
/// # Safety
/// `kept` is null, which it may only be for a state of size 0 that needs no drop, or points to a state that
/// lives for `'a`.
pub(crate) unsafe fn state<'a, F: Filter>(kept: *mut core::ffi::c_void) -> &'a F::Connection {
    let kept = kept.cast::<F::Connection>();
    if kept.is_null() {
        // SAFETY: a value of size 0 exists at every aligned address; `Default` says that the type has values.
        return unsafe { std::ptr::NonNull::dangling().as_ref() };
    }
    // SAFETY: as the caller promises.
    unsafe { &*kept }
}
