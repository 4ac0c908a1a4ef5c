//! The plugin chain: every hook is called first to last, in the order of the command line.
//!
//! `spec`, `file_check` and `load` turn what an operator wrote into loaded plugins; a [`Chain`] is what the workers
//! share afterwards, immutable. A [`Session`] runs one exchange through it. Which hooks a plugin implements is known
//! when it is loaded: a hook that nobody listens to costs one look at an empty list.

pub(crate) mod callbacks;
pub mod file_check;
pub(crate) mod host_table;
pub mod load;
pub(crate) mod session;
pub mod spec;
pub(crate) mod views;

use load::LoadedPlugin;
use plugin_api::abi::hook;

pub(crate) use session::{ChunkHooks, ExchangeFacts, PluginReply, Session, Subject, Verdict};

/// The moments at which plugins are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    BeforeUpstreamConnection,
    HandleClientRequest,
    HandleUpstreamResponse,
    HandleUpstreamChunk,
    OnAccessLog,
    OnUpstreamConnectionClose,
}

impl Hook {
    const ALL: [Self; 6] = [
        Self::BeforeUpstreamConnection,
        Self::HandleClientRequest,
        Self::HandleUpstreamResponse,
        Self::HandleUpstreamChunk,
        Self::OnAccessLog,
        Self::OnUpstreamConnectionClose,
    ];

    /// Its bit in a plugin's declaration.
    const fn bit(self) -> u64 {
        match self {
            Self::BeforeUpstreamConnection => hook::BEFORE_UPSTREAM_CONNECTION,
            Self::HandleClientRequest => hook::HANDLE_CLIENT_REQUEST,
            Self::HandleUpstreamResponse => hook::HANDLE_UPSTREAM_RESPONSE,
            Self::HandleUpstreamChunk => hook::HANDLE_UPSTREAM_CHUNK,
            Self::OnAccessLog => hook::ON_ACCESS_LOG,
            Self::OnUpstreamConnectionClose => hook::ON_UPSTREAM_CONNECTION_CLOSE,
        }
    }

    /// The name that authors know it by.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BeforeUpstreamConnection => "before_upstream_connection",
            Self::HandleClientRequest => "handle_client_request",
            Self::HandleUpstreamResponse => "handle_upstream_response",
            Self::HandleUpstreamChunk => "handle_upstream_chunk",
            Self::OnAccessLog => "on_access_log",
            Self::OnUpstreamConnectionClose => "on_upstream_connection_close",
        }
    }
}

/// The loaded plugins in call order.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    plugins: Vec<LoadedPlugin>,
    /// Per hook the plugins that listen to it, as positions in `plugins`.
    listeners: [Vec<usize>; Hook::ALL.len()],
}

impl Chain {
    pub(crate) fn new(plugins: Vec<LoadedPlugin>) -> Self {
        let listeners = Hook::ALL.map(|hook| {
            let listens = |(position, plugin): (usize, &LoadedPlugin)| {
                (plugin.hooks & hook.bit() != 0).then_some(position)
            };
            plugins.iter().enumerate().filter_map(listens).collect()
        });
        Self { plugins, listeners }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }

    pub(crate) fn has_listeners(&self, hook: Hook) -> bool {
        !self.listeners[hook as usize].is_empty()
    }
}
