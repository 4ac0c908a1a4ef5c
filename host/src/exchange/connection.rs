//! The facts about the client connection that an exchange needs.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::origin::{Origin, OwnTunnel};
use crate::generation::Current;
use crate::plugins::{Chain, ClientEnd, ClientFacts, ClientPlugins};
use crate::transport::Transport;
use crate::upstream::pinned::Pinned;
use crate::worker_context::WorkerContext;

/// A client connection as its exchanges see it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) worker: Rc<WorkerContext>,
    /// What is in force for its next exchange.
    pub(crate) current: Rc<Current>,
    pub(crate) client: SocketAddr,
    pub(crate) id: u64,
    /// Empty as long as no plugin listens to connections.
    pub(crate) plugins: OnceCell<Rc<ClientPlugins>>,
    /// Our end of it; None if neither plugins nor subscribers see it.
    pub(crate) end: Option<Rc<ClientEnd>>,
    /// The origin that an intercepted tunnel leads to, if this is inside of one.
    pub(crate) origin: Option<Rc<Origin>>,
    /// The tunnel to this proxy itself, if this is inside of one.
    pub(crate) own_tunnel: Option<Rc<OwnTunnel>>,
    /// Its exchanges are HTTP/2 streams, which run concurrently.
    pub(crate) is_http2: bool,
    /// The upstream connections that it has authenticated, once there are any.
    pub(crate) pinned: OnceCell<Rc<Pinned>>,
}

impl Connection {
    /// What the plugins of an exchange keep for the connection; `None` if none of them listens to connections.
    pub(crate) fn plugins_of(&self, chain: &Chain) -> Option<&Rc<ClientPlugins>> {
        chain.has_connection_plugins().then(|| {
            self.plugins
                .get_or_init(|| Rc::new(ClientPlugins::late(self.facts())))
        })
    }

    fn facts(&self) -> ClientFacts {
        ClientFacts {
            id: self.id,
            client: self.client,
            local: self.end.as_ref().and_then(|end| end.local),
        }
    }

    /// Keeps the upstream connections on which an exchange has begun to authenticate.
    pub(crate) fn pin(&self, pinned: Rc<Pinned>) {
        let kept = self.pinned.get_or_init(|| Rc::clone(&pinned));
        // Two streams may have begun at the same time.
        if !Rc::ptr_eq(kept, &pinned) {
            kept.adopt(&pinned);
        }
    }

    /// Records the negotiated TLS parameters, for plugins.
    pub(crate) fn note_tls(&mut self, transport: &Transport) {
        if let Some(end) = &self.end
            && let Some(facts) = transport.client_tls()
        {
            self.end = Some(Rc::new(ClientEnd {
                local: end.local,
                tls: Some(Box::new(facts)),
            }));
        }
    }
}
