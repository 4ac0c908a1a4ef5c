//! The messages of a WebSocket, for plugins that see them.

use std::io;

use plugin_api::abi::hook::Hook;
use plugin_api::abi::{code, flag};

use super::exchange::ExchangePlugins;
use super::listener::report;
use super::tunnel::TunnelHooks;
use crate::error::{PluginFailure, PluginFailureKind};
use crate::http1::RequestHead;
use crate::side::Side;
use crate::tunnel::TunnelWatcher;
use crate::websocket::{self, Kind, MessageAction, MessageVerdict, MessageWatcher, PluginMessage};

const HOOK: Hook = Hook::HandleWebSocketMessage;

/// The plugins that see the messages of one WebSocket, and those that see its bytes.
pub(crate) struct WebSocketHooks {
    exchange: ExchangePlugins,
    bytes: Option<TunnelHooks>,
}

impl WebSocketHooks {
    /// The request stays where it is for as long as this is used.
    pub(crate) fn new(exchange: &ExchangePlugins, request: &RequestHead) -> Self {
        exchange.show_request(request);
        Self {
            exchange: exchange.clone(),
            bytes: TunnelHooks::new(exchange, request),
        }
    }

    /// Shows the message to every plugin that listens; `sent` gets messages of their own.
    fn walk(
        &self,
        from: Side,
        kind: Kind,
        data: &[u8],
        sent: &mut Vec<PluginMessage>,
    ) -> Result<MessageAction, PluginFailure> {
        let mut replacement: Option<Vec<u8>> = None;
        let from = match from {
            Side::Client => 0,
            Side::Upstream => flag::FROM_UPSTREAM,
        };
        let flags = from | u32::from(kind.number()) << flag::MESSAGE_SHIFT;
        for plugin in self.exchange.listeners(HOOK) {
            let current = replacement.as_deref().unwrap_or(data);
            let result = plugin.call_with(current, flags);
            let emitted = plugin.take_emitted();
            self.exchange
                .with(|state| sent.append(&mut state.output.messages));
            match (result, emitted) {
                (code::PROCEED, _) => {}
                (code::REPLACED, None) => return Ok(MessageAction::Drop),
                (code::REPLACED, Some(data)) if websocket::is_sendable(kind, &data) => {
                    replacement = Some(data);
                }
                (code::REPLACED, Some(_)) => {
                    let message = format!(
                        "it replaced a {kind:?} message with data that is invalid for this kind"
                    );
                    return Err(plugin.failed(message, PluginFailureKind::Broken));
                }
                (code::CLOSE, _) => {
                    let plugin = plugin.name();
                    tracing::debug!(plugin, "a plugin closed the WebSocket");
                    return Ok(MessageAction::Closed);
                }
                (result, _) => return Err(plugin.failure(result)),
            }
        }
        Ok(replacement.map_or(MessageAction::Forward, MessageAction::Replace))
    }
}

impl MessageWatcher for WebSocketHooks {
    fn see_bytes(&self, from: Side, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match &self.bytes {
            Some(hooks) => hooks.see(from, bytes),
            None => Ok(None),
        }
    }

    fn see(&self, from: Side, kind: Kind, data: &[u8]) -> MessageVerdict {
        let mut sent = Vec::new();
        let action = self.walk(from, kind, data, &mut sent);
        MessageVerdict {
            sent,
            action: action.unwrap_or_else(|failure| {
                report(&failure);
                MessageAction::Failed
            }),
        }
    }
}
