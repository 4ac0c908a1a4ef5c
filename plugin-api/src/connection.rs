//! The client connection in the connection hooks.
#![expect(unsafe_code, reason = "reads the host's view of the connection")]

use crate::Filter;
use crate::abi::ConnectionView;
use crate::exchange::socket_address;
use std::any::Any;
use std::net::SocketAddr;

/// A client connection, at its start or end.
pub struct ClientConnection<'a, F: Filter> {
    /// The state of this filter for the connection, shared with its exchanges.
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

    /// The address of the client; none if it has no IP address, as on a Unix socket.
    pub fn client(&self) -> Option<SocketAddr> {
        socket_address(&self.view.client)
    }

    /// The local address that the client connected to.
    pub fn local(&self) -> Option<SocketAddr> {
        socket_address(&self.view.local)
    }
}

/// The connection state behind a pointer from the host; null if the host keeps none, because the state is `()`.
///
/// # Panics
/// It is null, and the state is not `()`.
///
/// # Safety
/// `kept` is null, or points to a state that lives for `'a`.
#[inline]
pub(crate) unsafe fn state<'a, F: Filter>(kept: *mut core::ffi::c_void) -> &'a F::Connection {
    // SAFETY: as the caller promises.
    if let Some(state) = unsafe { kept.cast::<F::Connection>().as_ref() } {
        return state;
    }
    let nothing: &'static dyn Any = &();
    match nothing.downcast_ref() {
        Some(state) => state,
        None => panic!("KEEPS_CONNECTION is false, but Connection is not ()"),
    }
}
