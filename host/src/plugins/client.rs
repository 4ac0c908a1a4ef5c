//! The plugins of a client connection: their state, and the hooks at its beginning and end.
#![expect(unsafe_code, reason = "calls plugins through their tables")]

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;

use abi_stable::std_types::RStr;
use plugin_api::abi::hook::Hook;
use plugin_api::abi::{ConnectionView, code};

use super::chain::Chain;
use super::facts::ClientFacts;
use super::guard::guarded;
use super::instance::{Filter, Instance};
use super::state::PluginState;
use super::views;

/// The plugins of a client connection. Shared with its exchanges; when the last of them ends, plugins are notified.
///
/// What a plugin keeps for the connection is found by its instance: a later exchange may run with other plugins than the
/// connection has begun with. One that was added later is notified neither of the beginning nor of the end.
#[derive(Debug)]
pub(crate) struct ClientPlugins {
    facts: ClientFacts,
    /// In the order of the chain; those that were added later are at the end.
    parts: RefCell<Vec<PluginPart>>,
}

/// One plugin's part in the connection.
#[derive(Debug)]
struct PluginPart {
    plugin: Arc<Instance<Filter>>,
    state: PluginState,
    /// It will be notified of the end.
    has_begun: bool,
}

impl ClientPlugins {
    /// `None` when no plugin keeps anything for connections or listens to them.
    pub(crate) fn new(chain: &Chain, facts: impl FnOnce() -> ClientFacts) -> Option<Self> {
        chain.has_connection_plugins().then(|| Self {
            facts: facts(),
            parts: RefCell::new(
                chain
                    .plugins()
                    .iter()
                    .filter_map(PluginPart::at_beginning)
                    .collect(),
            ),
        })
    }

    /// For a connection that began when no plugin was interested in it.
    pub(crate) fn late(facts: ClientFacts) -> Self {
        Self {
            facts,
            parts: RefCell::default(),
        }
    }

    /// Notifies the plugins that the client has connected.
    ///
    /// # Errors
    /// The name of the plugin that refuses the connection.
    pub(crate) fn begin(&self, chain: &Chain) -> Result<(), String> {
        let hook = Hook::OnClientConnection;
        for &index in chain.listeners(hook) {
            let plugin = chain.plugin(index);
            self.note_beginning(plugin);
            let Some(state) = self.state(plugin) else {
                return Err(format!("{} (it failed)", plugin.name()));
            };
            match call(plugin, hook, state, self.facts) {
                code::PROCEED => {}
                code::CLOSE => return Err(plugin.name().to_owned()),
                _ => return Err(format!("{} (it failed)", plugin.name())),
            }
        }
        Ok(())
    }

    fn note_beginning(&self, plugin: &Instance<Filter>) {
        let mut parts = self.parts.borrow_mut();
        if let Some(part) = parts.iter_mut().find(|part| part.is_of(plugin)) {
            part.has_begun = true;
        }
    }

    /// The plugin's state, made at first use; null where it keeps none, `None` when it could not be made.
    #[inline]
    pub(super) fn state(&self, plugin: &Arc<Instance<Filter>>) -> Option<*mut c_void> {
        if !plugin.needs_connection_state {
            return Some(std::ptr::null_mut());
        }
        let parts = self.parts.borrow();
        let part = parts.iter().find(|part| part.is_of(plugin));
        match part.map_or(PluginState::NotMade, |part| part.state) {
            PluginState::Made(state) => Some(state),
            PluginState::Lost => None,
            PluginState::NotMade => {
                drop(parts);
                self.make_state(plugin)
            }
        }
    }

    #[inline(never)]
    fn make_state(&self, plugin: &Arc<Instance<Filter>>) -> Option<*mut c_void> {
        let state = PluginState::made(plugin.new_connection());
        let mut parts = self.parts.borrow_mut();
        match parts.iter_mut().find(|part| part.is_of(plugin)) {
            Some(part) => part.state = state,
            None => parts.push(PluginPart {
                plugin: Arc::clone(plugin),
                state,
                has_begun: false,
            }),
        }
        match state {
            PluginState::Made(state) => Some(state),
            PluginState::NotMade | PluginState::Lost => None,
        }
    }
}

impl PluginPart {
    /// `None` where the plugin has no part in connections.
    fn at_beginning(plugin: &Arc<Instance<Filter>>) -> Option<Self> {
        plugin.has_part_in_connections().then(|| Self {
            plugin: Arc::clone(plugin),
            state: PluginState::NotMade,
            // If an earlier plugin refuses the connection, this one is notified neither of the beginning nor of the end.
            has_begun: !plugin.listens_to(Hook::OnClientConnection),
        })
    }

    fn is_of(&self, plugin: &Instance<Filter>) -> bool {
        self.plugin.number() == plugin.number()
    }

    /// Notifies the plugin that the connection is over.
    fn end(&mut self, facts: ClientFacts) {
        let hook = Hook::OnClientConnectionClose;
        if !self.has_begun || !self.plugin.listens_to(hook) {
            return;
        }
        if self.state == PluginState::NotMade && self.plugin.needs_connection_state {
            self.state = PluginState::made(self.plugin.new_connection());
        }
        let state = match self.state {
            PluginState::Made(state) => state,
            PluginState::NotMade => std::ptr::null_mut(),
            PluginState::Lost => return,
        };
        call(&self.plugin, hook, state, facts);
    }
}

/// `state` is the plugin's own for this connection, null if it keeps none.
fn call(plugin: &Instance<Filter>, hook: Hook, state: *mut c_void, facts: ClientFacts) -> u32 {
    let mut failure = String::new();
    let mut view = ConnectionView {
        host: (&raw mut failure).cast(),
        fail,
        connection_id: facts.id,
        client: views::address(facts.client),
        local: facts.local.map_or(views::NO_ADDRESS, views::address),
        hook: hook as u32,
        reserved: [0; 4],
    };
    // SAFETY: the state is this plugin's own; the view and what it points to live through the call.
    let result = unsafe { plugin.call_connection(hook, state, &raw mut view) };
    if !matches!(result, code::PROCEED | code::CLOSE) {
        tracing::error!(
            plugin = plugin.name(),
            hook = hook.name(),
            connection = facts.id,
            error = failure,
            "a plugin failed"
        );
    }
    result
}

impl Drop for ClientPlugins {
    fn drop(&mut self) {
        let parts = self.parts.get_mut();
        for part in &mut *parts {
            part.end(self.facts);
        }
        for part in parts {
            if let PluginState::Made(state) = part.state {
                // SAFETY: made by this plugin, dropped once, and not used any more.
                unsafe { part.plugin.drop_connection(state) }
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::plugins::instance::fake::{called, filter};

    const FACTS: ClientFacts = ClientFacts {
        id: 7,
        client: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50_000),
        local: None,
    };
    const BOTH_ENDS: u64 = Hook::OnClientConnection.bit() | Hook::OnClientConnectionClose.bit();

    fn chain(plugins: &[&Arc<Instance<Filter>>]) -> Chain {
        let plugins = plugins.iter().map(|plugin| Arc::clone(plugin));
        Chain::new(plugins.collect(), Vec::new(), 0)
    }

    #[test]
    fn state_is_found_by_instance_whatever_the_chain() {
        let (first, second) = (filter("first", 0, true), filter("second", 0, true));
        let client = ClientPlugins::new(&chain(&[&first, &second]), || FACTS).unwrap();
        let states = [&first, &second].map(|plugin| client.state(plugin).unwrap());
        assert_ne!(states[0], states[1]);
        // Another of the same name is another instance.
        let again = filter("first", 0, true);
        let other = client.state(&again).unwrap();
        assert!(!states.contains(&other));
        let found = [&second, &again, &first].map(|plugin| client.state(plugin).unwrap());
        assert_eq!(found, [states[1], other, states[0]]);
        let makes = ["first", "second", "first"].map(|name| format!("{name}: Connection::default"));
        assert_eq!(called(), makes);
    }

    #[test]
    fn who_came_later_is_not_notified_of_the_end_and_has_its_state_dropped() {
        let begun = filter("begun", BOTH_ENDS, true);
        let client = ClientPlugins::new(&chain(&[&begun]), || FACTS).unwrap();
        client.begin(&chain(&[&begun])).unwrap();
        let late = filter("late", BOTH_ENDS, true);
        client.state(&late).unwrap();
        drop(client);
        assert_eq!(
            called(),
            [
                "begun: Connection::default",
                "begun: on_client_connection",
                "late: Connection::default",
                "begun: on_client_connection_close",
                "begun: drop of Connection",
                "late: drop of Connection",
            ]
        );
    }

    #[test]
    fn a_plugin_lives_as_long_as_a_connection_that_has_begun_with_it() {
        let plugin = filter("old", Hook::OnClientConnectionClose.bit(), false);
        let client = ClientPlugins::new(&chain(&[&plugin]), || FACTS).unwrap();
        client.begin(&chain(&[&plugin])).unwrap();
        drop(plugin);
        assert_eq!(called(), [""; 0]);
        drop(client);
        assert_eq!(called(), ["old: on_client_connection_close", "old: drop"]);
    }

    #[test]
    fn a_connection_that_began_without_plugins_has_state_for_those_that_come() {
        assert!(ClientPlugins::new(&chain(&[]), || FACTS).is_none());
        let plugin = filter("late", BOTH_ENDS, true);
        let client = ClientPlugins::late(FACTS);
        assert!(client.state(&plugin).is_some());
        drop(client);
        assert_eq!(
            called(),
            ["late: Connection::default", "late: drop of Connection"]
        );
    }
}
