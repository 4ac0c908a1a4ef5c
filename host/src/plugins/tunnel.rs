//! The bytes of a tunnel, for plugins that see them.

use std::io;

use plugin_api::abi::hook::Hook;
use plugin_api::abi::{code, flag};

use super::exchange::ExchangePlugins;
use super::listener::report;
use crate::http1::RequestHead;
use crate::side::Side;
use crate::tunnel::TunnelWatcher;

const HOOK: Hook = Hook::HandleTunnelChunk;

/// The plugins that see the bytes of one tunnel.
pub(crate) struct TunnelHooks {
    exchange: ExchangePlugins,
}

impl TunnelHooks {
    /// `None` if no plugin listens. The request stays where it is for as long as this is used.
    pub(crate) fn new(exchange: &ExchangePlugins, request: &RequestHead) -> Option<Self> {
        if !exchange.has_listeners(HOOK) {
            return None;
        }
        exchange.show_request(request);
        Some(Self {
            exchange: exchange.clone(),
        })
    }
}

impl TunnelWatcher for TunnelHooks {
    fn see(&self, from: Side, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let aborted = || io::Error::from(io::ErrorKind::ConnectionAborted);
        let flags = match from {
            Side::Client => 0,
            Side::Upstream => flag::FROM_UPSTREAM,
        };
        let mut replacement: Option<Vec<u8>> = None;
        for plugin in self.exchange.listeners(HOOK) {
            let current = replacement.as_deref().unwrap_or(bytes);
            if current.is_empty() {
                break;
            }
            match plugin.call_with(current, flags) {
                code::PROCEED => {}
                code::REPLACED => {
                    replacement = Some(plugin.take_emitted().unwrap_or_default());
                }
                code::CLOSE => {
                    tracing::debug!(plugin = plugin.name(), "a plugin closed the tunnel");
                    return Err(aborted());
                }
                result => {
                    report(&plugin.failure(result));
                    return Err(aborted());
                }
            }
        }
        Ok(replacement)
    }
}
