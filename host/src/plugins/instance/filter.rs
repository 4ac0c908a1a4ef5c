//! A filter: what it has declared, and the calls of its hooks.
#![expect(unsafe_code, reason = "calls the plugins' own functions")]

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use abi_stable::std_types::RSlice;
use plugin_api::abi::hook::{self, Hook};
use plugin_api::abi::{
    BodyMode, ConnectionView, ExchangeView, FilterTableRef, PluginDeclarationRef, RawWaker,
};

use super::{Instance, Origin};
use crate::plugins::callee::Place;

/// What makes a plugin a filter.
pub struct Filter {
    pub(super) table: FilterTableRef,
    /// Bits of the hooks to call.
    pub(crate) hooks: u64,
    /// How long each hook that waits may take; past it the exchange fails.
    pub(crate) hook_limit: Duration,
    /// It keeps something for an exchange.
    pub(crate) needs_state: bool,
    /// It keeps something for a client connection.
    pub(crate) needs_connection_state: bool,
    /// How it wants request bodies, unless it chooses otherwise for an exchange.
    pub(crate) client_body: BodyMode,
    /// How it wants response bodies, unless it chooses otherwise for an exchange.
    pub(crate) upstream_body: BodyMode,
}

impl Filter {
    /// The hooks it implements and that this version never calls.
    pub(crate) fn uncalled_hooks(&self) -> impl Iterator<Item = String> + use<> {
        let known = (1 << hook::NAMES.len()) - 1;
        let uncalled = self.hooks & !known;
        (0..u64::BITS)
            .filter(move |bit| uncalled >> bit & 1 == 1)
            .map(|bit| match hook::NAMES.get(bit as usize) {
                Some(name) => (*name).to_owned(),
                None => format!("hook number {bit}"),
            })
    }

    pub(in crate::plugins) fn listens_to(&self, hook: Hook) -> bool {
        self.hooks & hook.bit() != 0
    }

    /// Whether it keeps something for connections, or listens to their beginning or end.
    pub(in crate::plugins) fn has_part_in_connections(&self) -> bool {
        self.needs_connection_state
            || self.listens_to(Hook::OnClientConnection)
            || self.listens_to(Hook::OnClientConnectionClose)
    }
}

impl Instance<Filter> {
    /// Makes the filter that is declared.
    pub(in crate::plugins) fn filter(
        origin: Origin,
        declaration: PluginDeclarationRef,
        table: FilterTableRef,
        hook_limit: Duration,
    ) -> Result<Arc<Self>, String> {
        let kind = Filter {
            table,
            hooks: declaration.hooks(),
            hook_limit,
            needs_state: declaration.needs_state() != 0,
            needs_connection_state: declaration.needs_connection_state() != 0,
            client_body: declaration.client_body(),
            upstream_body: declaration.upstream_body(),
        };
        Self::create(origin, (table.create(), table.destroy()), kind)
    }

    /// The state of a new exchange; null if making it panicked.
    pub(in crate::plugins) fn new_state(&self) -> *mut c_void {
        // SAFETY: the object is the table's own.
        let make = || unsafe { self.table.state_new()(self.object) };
        self.callee.run(Place::STATE, make)
    }

    /// Ends the state of an exchange.
    ///
    /// # Safety
    /// This instance has made it, and it is not used any more.
    pub(in crate::plugins) unsafe fn drop_state(&self, state: *mut c_void) {
        // SAFETY: as the caller promises.
        let drop = || unsafe { self.table.state_drop()(state) };
        self.callee.run(Place::STATE_DROP, drop);
    }

    /// The state of a client connection; null if making it panicked.
    pub(in crate::plugins) fn new_connection(&self) -> *mut c_void {
        // SAFETY: the object is the table's own.
        let make = || unsafe { self.table.connection_new()(self.object) };
        self.callee.run(Place::CONNECTION, make)
    }

    /// Ends the state of a client connection.
    ///
    /// # Safety
    /// This instance has made it, and it is not used any more.
    pub(in crate::plugins) unsafe fn drop_connection(&self, state: *mut c_void) {
        // SAFETY: as the caller promises.
        let drop = || unsafe { self.table.connection_drop()(state) };
        self.callee.run(Place::CONNECTION_DROP, drop);
    }

    /// Calls a hook without data.
    ///
    /// # Safety
    /// The state is this instance's, or null if it needs none. The view and all that it leads to live through the call,
    /// and stay where they are until the hook has decided.
    #[inline]
    pub(in crate::plugins) unsafe fn call(
        &self,
        hook: Hook,
        state: *mut c_void,
        view: *mut ExchangeView,
    ) -> u32 {
        // SAFETY: as the caller promises.
        let call = || unsafe { self.table.call()(self.object, state, view) };
        self.callee.run(hook, call)
    }

    /// Calls a hook that is given data, which is borrowed for the call.
    ///
    /// # Safety
    /// As for [`call`](Self::call).
    pub(in crate::plugins) unsafe fn call_with(
        &self,
        hook: Hook,
        state: *mut c_void,
        view: *mut ExchangeView,
        data: &[u8],
        flags: u32,
    ) -> u32 {
        let data = RSlice::from_slice(data);
        // SAFETY: as the caller promises.
        let call = || unsafe { self.table.call_with()(self.object, state, view, data, flags) };
        self.callee.run(hook, call)
    }

    /// Calls a hook of a client connection.
    ///
    /// # Safety
    /// The state is this instance's, or null if it needs none. The view and all that it leads to live through the call.
    pub(in crate::plugins) unsafe fn call_connection(
        &self,
        hook: Hook,
        state: *mut c_void,
        view: *mut ConnectionView,
    ) -> u32 {
        // SAFETY: as the caller promises.
        let call = || unsafe { self.table.call_connection()(self.object, state, view) };
        self.callee.run(hook, call)
    }

    /// Goes on with a hook that waits.
    ///
    /// # Safety
    /// The state is this instance's, and its hook waits.
    pub(in crate::plugins) unsafe fn poll(
        &self,
        hook: Hook,
        state: *mut c_void,
        waker: &RawWaker,
    ) -> u32 {
        // SAFETY: as the caller promises.
        let poll = || unsafe { self.table.poll()(state, waker) };
        self.callee.run(hook, poll)
    }

    /// Ends a hook that waits.
    ///
    /// # Safety
    /// The state is this instance's.
    pub(in crate::plugins) unsafe fn cancel(&self, hook: Hook, state: *mut c_void) {
        // SAFETY: as the caller promises.
        let cancel = || unsafe { self.table.cancel()(state) };
        self.callee.run(hook, cancel);
    }
}
