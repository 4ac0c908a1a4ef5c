//! The plugins in force, in call order: every hook is called first to last, in the order of the command line.
//!
//! Immutable, and shared by all workers. Which hooks a plugin implements is known when it is loaded: a hook that no plugin
//! listens to costs one look at an empty list.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plugin_api::abi::hook::Hook;

use super::instance::{Filter, Instance, Protocol};
use crate::deadline::Deadlines;

/// The loaded plugins in call order.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    plugins: Vec<Arc<Instance<Filter>>>,
    /// Those that speak a protocol of their own with clients.
    protocols: Vec<Arc<Instance<Protocol>>>,
    /// By hook, the plugins that listen to it, as positions in `plugins`.
    listeners: [Vec<usize>; Hook::COUNT],
    /// Bits of the hooks that any plugin listens to.
    hooks: u64,
    /// Any plugin keeps something for a connection, or listens to its beginning or end.
    has_connection_plugins: bool,
    /// The most that is collected of one body, in bytes.
    max_body_buffer: u64,
    /// A request of a plugin for more than that has been reported.
    has_warned_of_limit: AtomicBool,
}

impl Chain {
    pub(crate) fn new(
        plugins: Vec<Arc<Instance<Filter>>>,
        protocols: Vec<Arc<Instance<Protocol>>>,
        max_body_buffer: u64,
    ) -> Self {
        let listeners = std::array::from_fn(|bit| {
            let listens = |(position, plugin): (usize, &Arc<Instance<Filter>>)| {
                (plugin.hooks >> bit & 1 == 1).then_some(position)
            };
            plugins.iter().enumerate().filter_map(listens).collect()
        });
        Self {
            hooks: plugins.iter().fold(0, |hooks, plugin| hooks | plugin.hooks),
            has_connection_plugins: plugins
                .iter()
                .any(|plugin| plugin.has_part_in_connections()),
            plugins,
            protocols,
            listeners,
            max_body_buffer,
            has_warned_of_limit: AtomicBool::new(false),
        }
    }

    /// Whether a plugin decides which clients may use the proxy.
    pub(crate) fn may_reject_clients(&self) -> bool {
        let hooks = [Hook::Authenticate, Hook::OnClientConnection];
        hooks.iter().any(|hook| !self.listeners(*hook).is_empty())
    }

    pub(crate) fn has_connection_plugins(&self) -> bool {
        self.has_connection_plugins
    }

    pub(super) fn plugins(&self) -> &[Arc<Instance<Filter>>] {
        &self.plugins
    }

    pub(super) fn protocols(&self) -> &[Arc<Instance<Protocol>>] {
        &self.protocols
    }

    /// Bits of the hooks that any plugin listens to.
    pub(super) fn hooks(&self) -> u64 {
        self.hooks
    }

    /// The plugins that listen to this hook, as positions in the chain.
    #[inline]
    pub(super) fn listeners(&self, hook: Hook) -> &[usize] {
        &self.listeners[hook as usize]
    }

    /// The most content that is collected of one body, in bytes.
    pub(super) fn max_body_buffer(&self) -> u64 {
        self.max_body_buffer
    }

    #[inline]
    pub(super) fn plugin(&self, index: usize) -> &Arc<Instance<Filter>> {
        &self.plugins[index]
    }

    /// A chain without plugins.
    pub(super) const fn empty() -> Self {
        Self {
            plugins: Vec::new(),
            protocols: Vec::new(),
            listeners: [const { Vec::new() }; Hook::COUNT],
            hooks: 0,
            has_connection_plugins: false,
            max_body_buffer: 0,
            has_warned_of_limit: AtomicBool::new(false),
        }
    }

    /// Whether any plugin listens to this hook.
    pub(crate) fn has_listeners(&self, hook: Hook) -> bool {
        !self.listeners(hook).is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }

    /// The limit for a plugin that requests up to `asked` bytes of content.
    pub(super) fn body_limit(&self, plugin: &str, asked: u64) -> u64 {
        if asked > self.max_body_buffer && !self.has_warned_of_limit.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                plugin,
                asked,
                max_body_buffer = self.max_body_buffer,
                "a plugin requests larger bodies than limits.max_body_buffer allows; it receives only bodies within \
                 that limit"
            );
        }
        asked.min(self.max_body_buffer)
    }
}

/// The chain on one worker, with what its exchanges need of the worker. They share it by a count that no other thread
/// writes to.
#[derive(Debug)]
pub(crate) struct WorkerChain {
    chain: Arc<Chain>,
    deadlines: Rc<Deadlines>,
}

impl WorkerChain {
    pub(crate) fn new(chain: &Arc<Chain>, deadlines: &Rc<Deadlines>) -> Rc<Self> {
        Rc::new(Self {
            chain: Arc::clone(chain),
            deadlines: Rc::clone(deadlines),
        })
    }

    pub(super) fn deadlines(&self) -> &Rc<Deadlines> {
        &self.deadlines
    }
}

impl Deref for WorkerChain {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.chain
    }
}
