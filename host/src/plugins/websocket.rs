//! The messages of a WebSocket, for plugins that see them.

use std::io;

use plugin_api::abi::{code, flag};

use super::session::report;
use super::{Hook, Session, TunnelHooks};
use crate::error::{PluginFailure, PluginFailureKind};
use crate::http1::RequestHead;
use crate::side::Side;
use crate::tunnel::TunnelWatcher;
use crate::websocket::{self, Answer, Becomes, Kind, MessageWatcher, Sent};

const HOOK: Hook = Hook::HandleWebSocketMessage;

/// The plugins that see the messages of one WebSocket, and those that see its bytes.
pub(crate) struct WebSocketHooks {
    session: Session,
    bytes: Option<TunnelHooks>,
}

impl WebSocketHooks {
    /// The request stays where it is for as long as this is used.
    pub(crate) fn new(session: &Session, request: &RequestHead) -> Self {
        session.show_request(request);
        Self {
            session: session.clone(),
            bytes: TunnelHooks::new(session, request),
        }
    }

    /// Shows the message to every plugin that listens; `sent` gets messages of their own.
    fn walk(
        &self,
        from: Side,
        kind: Kind,
        data: &[u8],
        sent: &mut Vec<Sent>,
    ) -> Result<Becomes, PluginFailure> {
        let mut replacement: Option<Vec<u8>> = None;
        let from = match from {
            Side::Client => 0,
            Side::Upstream => flag::FROM_UPSTREAM,
        };
        let flags = from | u32::from(kind.number()) << flag::MESSAGE_SHIFT;
        for &plugin in self.session.listeners(HOOK) {
            let state = self.session.sure_state(plugin, HOOK)?;
            let current = replacement.as_deref().unwrap_or(data);
            let result = self.session.call_with(plugin, HOOK, state, current, flags);
            let emitted = self.session.with(|inner| {
                sent.append(&mut inner.sent);
                inner
                    .has_emitted
                    .then(|| std::mem::take(&mut inner.emitted))
            });
            match (result, emitted) {
                (code::PROCEED, _) => {}
                (code::REPLACED, None) => return Ok(Becomes::Nothing),
                (code::REPLACED, Some(data)) if websocket::is_sendable(kind, &data) => {
                    replacement = Some(data);
                }
                (code::REPLACED, Some(_)) => return Err(self.unsendable(plugin, kind)),
                (code::CLOSE, _) => {
                    let plugin = self.session.plugin(plugin).name();
                    tracing::debug!(plugin, "a plugin closed the WebSocket");
                    return Ok(Becomes::Closed);
                }
                (result, _) => return Err(self.session.failure(plugin, HOOK, result)),
            }
        }
        Ok(replacement.map_or(Becomes::Same, Becomes::Other))
    }

    fn unsendable(&self, plugin: usize, kind: Kind) -> PluginFailure {
        PluginFailure {
            plugin: self.session.plugin(plugin).name().to_owned(),
            hook: HOOK.name(),
            message: format!(
                "it replaced a {kind:?} message with data that is invalid for this kind"
            ),
            kind: PluginFailureKind::Broken,
        }
    }
}

impl MessageWatcher for WebSocketHooks {
    fn see_bytes(&self, from: Side, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match &self.bytes {
            Some(hooks) => hooks.see(from, bytes),
            None => Ok(None),
        }
    }

    fn see(&self, from: Side, kind: Kind, data: &[u8]) -> Answer {
        let mut sent = Vec::new();
        let becomes = self.walk(from, kind, data, &mut sent);
        Answer {
            sent,
            becomes: becomes.unwrap_or_else(|failure| {
                report(&failure);
                Becomes::Failed
            }),
        }
    }
}
