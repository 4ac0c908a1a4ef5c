//! The bytes of a tunnel, for plugins that see them.

use std::io;

use plugin_api::abi::{code, flag};

use super::session::report;
use super::{Hook, Session};
use crate::http1::RequestHead;
use crate::side::Side;
use crate::tunnel::TunnelWatcher;

/// The plugins that see the bytes of one tunnel.
pub(crate) struct TunnelHooks {
    session: Session,
}

impl TunnelHooks {
    /// `None` when nobody listens. The request stays where it is for as long as this is used.
    pub(crate) fn new(session: &Session, request: &RequestHead) -> Option<Self> {
        if !session.has_listeners(Hook::HandleTunnelChunk) {
            return None;
        }
        session.with(|inner| inner.show(request, None));
        Some(Self {
            session: session.clone(),
        })
    }
}

impl TunnelWatcher for TunnelHooks {
    fn see(&self, from: Side, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let hook = Hook::HandleTunnelChunk;
        let flags = match from {
            Side::Client => 0,
            Side::Upstream => flag::FROM_UPSTREAM,
        };
        let mut replacement: Option<Vec<u8>> = None;
        for &plugin in self.session.listeners(hook) {
            let state = match self.session.sure_state(plugin, hook) {
                Ok(state) => state,
                Err(failure) => {
                    report(&failure);
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            };
            let current = replacement.as_deref().unwrap_or(bytes);
            if current.is_empty() {
                break;
            }
            match self.session.call_with(plugin, hook, state, current, flags) {
                code::PROCEED => {}
                code::REPLACED => {
                    replacement = Some(
                        self.session
                            .with(|inner| std::mem::take(&mut inner.emitted)),
                    );
                }
                code::CLOSE => {
                    let plugin = self.session.plugin(plugin).name();
                    tracing::debug!(plugin, "a plugin closed the tunnel");
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                result => {
                    report(&self.session.failure(plugin, hook, result));
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
        Ok(replacement)
    }
}
