//! A generation: the configuration, and everything built from it.
//!
//! A [`Generation`] is immutable and shared by all threads. `build` makes one; it binds nothing, and either succeeds or
//! reports every problem. A [`WorkerGeneration`] is a generation on one worker; the reference count that its exchanges
//! use is not shared with other threads. [`Current`] is the worker's current one: an exchange takes it when its head is
//! read, and keeps it to its end.
//!
//! Listeners differ in TLS and plugins, so each has a [`ListenerPart`] in the generation, and a worker has a
//! [`WorkerGeneration`] and a [`Current`] for each of its listeners. A connection uses those of the listener that has
//! accepted it.

mod build;
pub mod command;
mod listener_part;
mod preconditions;
mod problem;
mod renew;
mod reusable;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use crate::call_out::Caller;
use crate::config::{Config, HostPattern, InterceptionConfig, UpstreamTls};
use crate::events::{EventDispatcher, Events};
use crate::interception::Interception;
use crate::interception::certificates::Certificates;
use crate::listener::ListenerId;
use crate::plugins::WorkerChain;
use crate::plugins::load::Loaded;
use crate::privileges::Identity;
use crate::server_tls::ServerTls;
use crate::telemetry::AccessOutput;
use crate::tls_listener::TlsListener;
use crate::upstream::resolve::NameFiles;
use crate::upstream::tls::TlsClient;
use crate::upstream::{Connector, Learned};
use crate::web::WebServer;
use crate::worker_context::WorkerContext;

pub(crate) use build::build;
pub(crate) use listener_part::ListenerPart;
use listener_part::Plugins;
pub use problem::{Problem, Problems};
pub(crate) use renew::{certificate_files, renew};
use reusable::{Inputs, Reusable};

type ReusableTlsClient = Reusable<(UpstreamTls, bool, Vec<HostPattern>), TlsClient>;
type ReusableCertificates = Reusable<(InterceptionConfig, bool), Certificates>;

/// A configuration, and everything built from it.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    /// 1 at the start; each reload adds 1.
    pub(crate) number: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) access_log: Arc<AccessOutput>,
    /// In the order of the configuration; at least one.
    pub(crate) listeners: Vec<ListenerPart>,
    /// Larger than any that was used.
    next_listener_id: u64,
    /// What serves listeners that name no plugins.
    of_all: Plugins,
    /// The plugins of all kinds.
    plugins: Loaded,
    pub(crate) events: Events,
    dispatcher: Arc<EventDispatcher>,
    /// That of the files from which its certificates were made.
    certificate_content: Inputs<()>,
    tls_client: ReusableTlsClient,
    name_files: Arc<NameFiles>,
    /// What the TLS of all listeners shares; `None` if none speaks TLS.
    server_tls: Option<Arc<ServerTls>>,
    certificates: Option<ReusableCertificates>,
    /// `None` if tunnels are not intercepted.
    pub(crate) interception: Option<Arc<Interception>>,
    /// The user that the process becomes; `None` if it stays what it is.
    pub(crate) identity: Option<Identity>,
    /// The proxy's name in Via, with the pseudonym that identifies this process.
    pub(crate) marked_via: String,
}

impl Generation {
    /// The names of all plugins, for the log.
    pub(crate) fn plugin_names(&self) -> &[String] {
        &self.plugins.names
    }

    /// Whether anybody uses the ids of exchanges; otherwise, workers need not share a counter.
    pub(crate) fn numbers_exchanges(&self) -> bool {
        !self.of_all.chain.is_empty()
            || self.events.has_subscribers()
            || self.of_all.web.is_some()
            || self.access_log.needs().ids
    }

    /// Waits until subscribers have received all events so far, even if this generation is still in use.
    pub(crate) fn flush_events(&self) {
        self.events.flush();
    }

    /// Drops it, plugins included, which runs their code. Waits until subscribers that no other generation uses have
    /// received the last events.
    pub(crate) fn end(self) {
        let Self {
            events,
            dispatcher,
            listeners,
            of_all,
            plugins,
            ..
        } = self;
        drop(events);
        if let Some(dispatcher) = Arc::into_inner(dispatcher) {
            dispatcher.finish();
        }
        drop((listeners, of_all, plugins));
    }

    /// What connections to upstreams need on a worker; `own_addresses` are those of all its listeners. Replaces `before`.
    ///
    /// # Errors
    /// The resolver cannot be set up.
    pub(crate) fn connector(
        &self,
        learned: &Rc<Learned>,
        own_addresses: Vec<SocketAddr>,
        before: Option<&Connector>,
    ) -> io::Result<Rc<Connector>> {
        Connector::new(
            &self.config,
            &self.tls_client.part,
            &self.name_files,
            learned,
            own_addresses,
            before,
        )
    }
}

/// What the listeners of a worker share in a generation.
#[derive(Clone, Debug)]
pub(crate) struct WorkerParts {
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) connector: Rc<Connector>,
    /// The TCP ports of this proxy, each with its listener.
    pub(crate) ports: Rc<[(ListenerId, u16)]>,
}

/// A generation on one worker, as the connections of one listener use it.
#[derive(Debug)]
pub(crate) struct WorkerGeneration {
    shared: Arc<Generation>,
    /// The position of the listener among those of the generation.
    position: usize,
    /// Whether a later generation is without the listener.
    is_removed: Rc<Cell<bool>>,
    ports: Rc<[(ListenerId, u16)]>,
    pub(crate) chain: Rc<WorkerChain>,
    /// Shared by all listeners of the worker.
    pub(crate) connector: Rc<Connector>,
    pub(crate) worker: Rc<WorkerContext>,
}

impl WorkerGeneration {
    /// For the listener at `position` of a generation, to replace the one that `before` refers to.
    pub(crate) fn new(
        shared: &Arc<Generation>,
        position: usize,
        parts: &WorkerParts,
        before: Option<&Current>,
    ) -> Rc<Self> {
        let chain = &shared.listeners[position].chain;
        Rc::new(Self {
            chain: WorkerChain::new(chain, &parts.worker.deadlines),
            connector: Rc::clone(&parts.connector),
            worker: Rc::clone(&parts.worker),
            ports: Rc::clone(&parts.ports),
            shared: Arc::clone(shared),
            position,
            is_removed: before.map_or_else(Rc::default, Current::removal),
        })
    }

    /// The listener whose connections use it: what its clients speak, and which plugins serve them.
    pub(crate) fn listener(&self) -> &ListenerPart {
        &self.shared.listeners[self.position]
    }

    /// TLS with the clients of the listener; `None` if they connect without TLS.
    pub(crate) fn tls_listener(&self) -> Option<&Arc<TlsListener>> {
        self.listener().tls.as_ref()
    }

    /// TLS with the clients of the listener on this port of the proxy, for a client that connects through the proxy.
    pub(crate) fn tls_listener_at(&self, port: u16) -> Option<&Arc<TlsListener>> {
        let Some((id, _)) = self.ports.iter().find(|(_, own)| *own == port) else {
            // A plugin has led here from another port.
            return self.tls_listener();
        };
        let mut parts = self.shared.listeners.iter();
        parts.find(|part| part.id == *id)?.tls.as_ref()
    }

    /// The web server of the listener; `None` if requests addressed to the proxy itself are refused.
    pub(crate) fn web(&self) -> Option<&Arc<WebServer>> {
        self.listener().web.as_ref()
    }

    /// Whether each exchange is the last of its connection: the process ends, or the listener was removed.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_removed.get() || self.worker.is_draining()
    }

    /// Whether idle connections are closed, rather than left to send another request.
    pub(crate) fn closes_idle(&self) -> bool {
        self.is_removed.get() || self.worker.closes_idle()
    }

    /// From now on, HTTP requests of plugins on this worker's thread use this generation.
    pub(crate) fn install_caller(&self) {
        let caller = Caller {
            config: Arc::clone(&self.config),
            connector: Rc::clone(&self.connector),
        };
        caller.install();
    }
}

impl Deref for WorkerGeneration {
    type Target = Generation;

    fn deref(&self) -> &Generation {
        &self.shared
    }
}

/// The current generation of the connections of one listener on a worker. After the listener was removed, it remains the
/// last one with that listener.
#[derive(Debug)]
pub(crate) struct Current(RefCell<Rc<WorkerGeneration>>);

impl Current {
    pub(crate) fn new(generation: Rc<WorkerGeneration>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(generation)))
    }

    /// Makes it the current one for exchanges that begin from now on.
    pub(crate) fn replace(&self, generation: Rc<WorkerGeneration>) {
        // The old one is dropped after the exchange of values, so `Drop` may use the current one.
        self.0.replace(generation);
    }

    pub(crate) fn get(&self) -> Rc<WorkerGeneration> {
        Rc::clone(&self.0.borrow())
    }

    /// From now on, each exchange is the last of its connection.
    pub(crate) fn remove(&self) {
        self.0.borrow().is_removed.set(true);
    }

    /// Whether each exchange is the last of its connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.borrow().is_draining()
    }

    /// Whether idle connections are closed, rather than left to send another request.
    pub(crate) fn closes_idle(&self) -> bool {
        self.0.borrow().closes_idle()
    }

    fn removal(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.0.borrow().is_removed)
    }
}
