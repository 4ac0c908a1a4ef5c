//! A client connection, without a client.
#![expect(unsafe_code, reason = "plays the host's part of the boundary")]

use super::fake;
use crate::abi::hook::Hook;
use crate::abi::{ConnectionView, code};
use crate::adapter::{Table, needs_connection_state};
use crate::guard::guarded;
use crate::{Error, Filter, Flow, Outcome};
use abi_stable::std_types::RStr;
use core::ffi::c_void;
use std::net::SocketAddr;
use std::ptr;

/// A connection under test: its exchanges share the filter's connection state.
pub struct Connection<'f, F: Filter> {
    filter: &'f F,
    client: SocketAddr,
    state: *mut c_void,
    outcome: Outcome,
}

impl<'f, F: Filter> Connection<'f, F> {
    /// `client` connects: runs `on_client_connection`.
    pub fn open(filter: &'f F, client: SocketAddr) -> Self {
        let mut connection = Self {
            filter,
            client,
            state: new_state(filter),
            outcome: Ok(Flow::Proceed),
        };
        connection.outcome = connection.call(Hook::OnClientConnection);
        connection
    }

    /// The outcome of `on_client_connection`.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Ends the connection: runs `on_client_connection_close`.
    ///
    /// # Errors
    /// The panic message of the hook.
    pub fn close(self) -> Result<(), Error> {
        self.call(Hook::OnClientConnectionClose).map(|_| ())
    }

    pub(super) fn filter(&self) -> &'f F {
        self.filter
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.client
    }

    pub(super) fn state(&self) -> *mut c_void {
        self.state
    }

    fn call(&self, hook: Hook) -> Outcome {
        if F::HOOKS.bits() & hook.bit() == 0 {
            return Ok(Flow::Proceed);
        }
        let mut failure = String::new();
        let mut view = ConnectionView {
            host: (&raw mut failure).cast(),
            fail,
            connection_id: 1,
            client: fake::address(self.client),
            local: fake::address(SocketAddr::from(([127, 0, 0, 1], 8899))),
            hook: hook as u32,
            reserved: [0; 4],
        };
        let filter = ptr::from_ref(self.filter).cast_mut().cast();
        // SAFETY: the view and what it points to live through the call.
        let answer = unsafe { Table::<F>::REF.call_connection()(filter, self.state, &mut view) };
        match answer {
            code::PROCEED => Ok(Flow::Proceed),
            code::CLOSE => Ok(Flow::Close),
            _ => Err(Error::new(failure)),
        }
    }
}

impl<F: Filter> Drop for Connection<'_, F> {
    fn drop(&mut self) {
        if !self.state.is_null() {
            // SAFETY: made by `new_state`, dropped once.
            unsafe { Table::<F>::REF.connection_drop()(self.state) };
        }
    }
}

/// The filter's state for a new connection; null if it keeps none.
pub(super) fn new_state<F: Filter>(filter: &F) -> *mut c_void {
    match needs_connection_state::<F>() {
        // SAFETY: the filter is of the table's type.
        true => unsafe {
            Table::<F>::REF.connection_new()(ptr::from_ref(filter).cast_mut().cast())
        },
        false => ptr::null_mut(),
    }
}

unsafe extern "C" fn fail(host: *mut c_void, kind: u32, message: RStr<'_>) {
    let noted = guarded(|| {
        // SAFETY: `call` passes the address of a String that outlives the call.
        let failure = unsafe { &mut *host.cast::<String>() };
        *failure = match kind {
            code::PANIC => format!("panicked: {message}"),
            _ => message.to_string(),
        };
    });
    // Formatting text cannot fail.
    drop(noted);
}
