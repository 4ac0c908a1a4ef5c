//! One client connection in the plugin chain: what plugins keep for it, and the hooks at its two ends.
#![expect(unsafe_code, reason = "calls plugins through their tables")]

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::net::SocketAddr;
use std::rc::Rc;

use abi_stable::std_types::RStr;
use plugin_api::abi::{ConnectionView, code};

use super::call::{Call, Place};
use super::guard::guarded;
use super::load::LoadedPlugin;
use super::{Hook, WorkerChain, views};
use crate::transport::TlsFacts;

/// What plugins may know of a client connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientFacts {
    pub(crate) id: u64,
    pub(crate) client: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
}

/// Our end of a client connection, for plugins.
#[derive(Clone, Debug)]
pub(crate) struct ClientEnd {
    pub(crate) local: Option<SocketAddr>,
    /// None where the client speaks clear text.
    pub(crate) tls: Option<Box<TlsFacts>>,
}

/// A client connection in the chain. Shared with its exchanges; when the last of them has gone, plugins are told.
#[derive(Debug)]
pub(crate) struct ClientPlugins {
    chain: Rc<WorkerChain>,
    facts: ClientFacts,
    states: RefCell<Vec<ConnectionState>>,
    /// The plugins before this position have been asked whether they want the client.
    asked: Cell<usize>,
}

/// A plugin's own state for this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    NotMade,
    /// Made; null where the plugin keeps none.
    Made(*mut c_void),
    /// Making it panicked.
    Lost,
}

impl ClientPlugins {
    /// `None` when no plugin keeps anything for connections or listens to them.
    pub(crate) fn new(
        chain: &Rc<WorkerChain>,
        facts: impl FnOnce() -> ClientFacts,
    ) -> Option<Self> {
        chain.has_connection_plugins.then(|| Self {
            chain: Rc::clone(chain),
            facts: facts(),
            states: RefCell::new(vec![ConnectionState::NotMade; chain.plugins.len()]),
            asked: Cell::new(0),
        })
    }

    /// Tells the plugins that the client has connected; the name of the one that does not want it.
    pub(crate) fn begin(&self) -> Result<(), String> {
        let hook = Hook::OnClientConnection;
        for &index in &self.chain.listeners[hook as usize] {
            let name = &self.chain.plugins[index].name;
            self.asked.set(index + 1);
            match self.call(index, hook) {
                code::PROCEED => {}
                code::CLOSE => return Err(name.clone()),
                _ => return Err(format!("{name} (it failed)")),
            }
        }
        Ok(())
    }

    /// The plugin's state, made at first use; `None` when it could not be made.
    pub(super) fn state(&self, index: usize) -> Option<*mut c_void> {
        let known = self.states.borrow()[index];
        let state = match known {
            ConnectionState::Made(_) | ConnectionState::Lost => known,
            ConnectionState::NotMade => {
                let made = make(&self.chain.plugins[index]);
                self.states.borrow_mut()[index] = made;
                made
            }
        };
        match state {
            ConnectionState::Made(state) => Some(state),
            _ => None,
        }
    }

    fn call(&self, index: usize, hook: Hook) -> u32 {
        let plugin = &self.chain.plugins[index];
        let Some(state) = self.state(index) else {
            return code::ERROR;
        };
        let mut failure = String::new();
        let mut view = ConnectionView {
            host: (&raw mut failure).cast(),
            fail,
            connection_id: self.facts.id,
            client: views::address(self.facts.client),
            local: self.facts.local.map_or(views::NO_ADDRESS, views::address),
            hook: hook as u32,
            reserved: [0; 4],
        };
        let mark = Call::new(plugin.id, hook).mark();
        // SAFETY: object and state are this plugin's own, the view and what it points to live through the call.
        let result = unsafe { plugin.table.call_connection()(plugin.object, state, &raw mut view) };
        drop(mark);
        if !matches!(result, code::PROCEED | code::CLOSE) {
            tracing::error!(
                plugin = plugin.name,
                hook = hook.name(),
                connection = self.facts.id,
                error = failure,
                "a plugin failed"
            );
        }
        result
    }
}

fn make(plugin: &LoadedPlugin) -> ConnectionState {
    if plugin.needs_connection_state == 0 {
        return ConnectionState::Made(std::ptr::null_mut());
    }
    let _mark = Call::new(plugin.id, Place::CONNECTION).mark();
    // SAFETY: the object is this plugin's own.
    let state = unsafe { plugin.table.connection_new()(plugin.object) };
    if state.is_null() {
        ConnectionState::Lost
    } else {
        ConnectionState::Made(state)
    }
}

impl Drop for ClientPlugins {
    fn drop(&mut self) {
        let hook = Hook::OnClientConnectionClose;
        for position in 0..self.chain.listeners[hook as usize].len() {
            let index = self.chain.listeners[hook as usize][position];
            let sees_beginnings =
                self.chain.plugins[index].hooks & Hook::OnClientConnection.bit() != 0;
            // One that an earlier plugin's refusal kept from the beginning is told of no end.
            if !sees_beginnings || index < self.asked.get() {
                self.call(index, hook);
            }
        }
        for (plugin, state) in self.chain.plugins.iter().zip(self.states.get_mut()) {
            if let ConnectionState::Made(state) = *state
                && !state.is_null()
            {
                let _mark = Call::new(plugin.id, Place::CONNECTION_DROP).mark();
                // SAFETY: made by this plugin's `connection_new`, dropped once, and nobody uses it any more.
                unsafe { plugin.table.connection_drop()(state) }
            }
        }
    }
}

unsafe extern "C" fn fail(host: *mut c_void, kind: u32, message: RStr<'_>) {
    guarded((), || {
        // SAFETY: `call` passes the address of a String that outlives the call.
        let failure = unsafe { &mut *host.cast::<String>() };
        failure.clear();
        if kind == code::PANIC {
            failure.push_str("it panicked: ");
        }
        failure.push_str(message.as_str());
    });
}
