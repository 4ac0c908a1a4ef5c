//! The plugin chain: every hook is called first to last, in the order of the command line.
//!
//! `spec`, `search`, `file_check` and `load` turn what an operator wrote into loaded plugins; a [`Chain`] is what the workers
//! share afterwards, immutable. A [`ClientPlugins`] is one client connection in it, a [`Session`] one exchange, and
//! [`ContentHooks`] one body. Which hooks a plugin implements is known when it is loaded: a hook that nobody listens
//! to costs one look at an empty list.

mod blocking;
pub(crate) mod call;
pub(crate) mod callbacks;
pub(crate) mod callee;
mod client;
mod content;
pub mod file_check;
mod guard;
mod hello;
pub(crate) mod host_table;
mod inner;
pub mod instance;
mod job;
pub(crate) mod last_words;
pub mod load;
pub(crate) mod marks;
#[cfg(feature = "benches")]
#[doc(hidden)]
#[path = "../benches/hooks/measured.rs"]
pub mod measured;
mod plan;
pub(crate) mod protocol;
mod search;
pub(crate) mod session;
pub mod spec;
pub(crate) mod statistics;
pub(crate) mod summary;
mod tunnel;
pub(crate) mod views;
mod waiting;
pub(crate) mod watchdog;
pub(crate) mod web;
mod websocket;

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use instance::{Filter, Instance, Protocol};

use crate::deadline::Deadlines;

pub(crate) use plugin_api::abi::hook::Hook;

pub(crate) use client::{ClientEnd, ClientFacts, ClientPlugins};
pub(crate) use content::{ContentHooks, Whole};
pub(crate) use hello::ShownHello;
pub(crate) use inner::TunnelEnd;
pub(crate) use plan::{BodyFacts, BodyPlan};
pub(crate) use session::{ExchangeFacts, Session, Subject, Verdict};
pub(crate) use summary::{AnsweredBy, Summary};
pub(crate) use tunnel::TunnelHooks;
pub(crate) use websocket::WebSocketHooks;

/// The loaded plugins in call order.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    plugins: Vec<Arc<Instance<Filter>>>,
    /// Those that speak a protocol of their own with clients.
    protocols: Vec<Arc<Instance<Protocol>>>,
    /// Per hook the plugins that listen to it, as positions in `plugins`.
    listeners: [Vec<usize>; Hook::COUNT],
    /// Bits of the hooks that anybody listens to.
    hooks: u64,
    /// Any plugin keeps something for a connection, or listens to its beginning or end.
    has_connection_plugins: bool,
    /// The most that is collected of one body, in bytes.
    max_body_buffer: u64,
    /// Somebody was told that a plugin asks for more than that.
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

    pub(crate) fn has_connection_plugins(&self) -> bool {
        self.has_connection_plugins
    }

    fn plugin(&self, index: usize) -> &Arc<Instance<Filter>> {
        &self.plugins[index]
    }

    /// A chain without plugins.
    const fn empty() -> Self {
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

    pub(crate) fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }

    /// The limit that a plugin gets that asks to have up to `asked` bytes collected.
    fn body_limit(&self, plugin: &str, asked: u64) -> u64 {
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

/// The chain on one worker, with what its exchanges need of the worker: they share this by a count that no other
/// thread writes to.
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
}

impl Deref for WorkerChain {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.chain
    }
}
