//! A generation: the configuration, and everything built from it.
//!
//! A [`Generation`] is immutable and shared by all threads. `build` makes one; it binds nothing, and either succeeds or
//! reports every problem. A [`WorkerGeneration`] is a generation on one worker; the reference count that its exchanges
//! use is not shared with other threads. [`Current`] is the worker's current one: an exchange takes it when its head is
//! read, and keeps it to its end.

mod build;
pub mod command;
mod problem;
mod reusable;

use std::cell::RefCell;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use crate::call_out::Caller;
use crate::config::{Config, HostPattern, InterceptionConfig, UpstreamTls};
use crate::events::{EventDispatcher, Events};
use crate::interception::Interception;
use crate::interception::certificates::Certificates;
use crate::plugins::load::Loaded;
use crate::plugins::{Chain, WorkerChain};
use crate::tls_listener::TlsListener;
use crate::upstream::resolve::NameFiles;
use crate::upstream::tls::TlsClient;
use crate::upstream::{Connector, Learned};
use crate::web::WebServer;
use crate::worker_context::WorkerContext;

pub(crate) use build::build;
pub use problem::{Problem, Problems};
use reusable::Reusable;

type ReusableTlsClient = Reusable<(UpstreamTls, bool, Vec<HostPattern>), TlsClient>;
type ReusableCertificates = Reusable<(InterceptionConfig, bool), Certificates>;

/// A configuration, and everything built from it.
#[derive(Debug)]
pub(crate) struct Generation {
    /// 1 at the start; each reload adds 1.
    pub(crate) number: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) chain: Arc<Chain>,
    /// The plugins of all kinds.
    plugins: Loaded,
    pub(crate) events: Events,
    dispatcher: Arc<EventDispatcher>,
    tls_client: ReusableTlsClient,
    name_files: Arc<NameFiles>,
    /// `None` if clients connect without TLS.
    pub(crate) tls_listener: Option<Arc<TlsListener>>,
    certificates: Option<ReusableCertificates>,
    /// `None` if tunnels are not intercepted.
    pub(crate) interception: Option<Arc<Interception>>,
    /// `None` if requests addressed to the proxy itself are refused.
    pub(crate) web: Option<Arc<WebServer>>,
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
        !self.chain.is_empty() || self.events.has_subscribers() || self.web.is_some()
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
            chain,
            web,
            plugins,
            ..
        } = self;
        drop(events);
        if let Some(dispatcher) = Arc::into_inner(dispatcher) {
            dispatcher.finish();
        }
        drop((chain, web, plugins));
    }
}

/// A generation on one worker, with the parts that belong to the worker.
#[derive(Debug)]
pub(crate) struct WorkerGeneration {
    shared: Arc<Generation>,
    pub(crate) chain: Rc<WorkerChain>,
    pub(crate) connector: Rc<Connector>,
    pub(crate) worker: Rc<WorkerContext>,
}

impl WorkerGeneration {
    /// Replaces `before`.
    ///
    /// # Errors
    /// The resolver cannot be set up.
    pub(crate) fn new(
        shared: &Arc<Generation>,
        worker: &Rc<WorkerContext>,
        learned: &Rc<Learned>,
        before: Option<&Self>,
    ) -> io::Result<Rc<Self>> {
        let connector = Connector::new(
            &shared.config,
            &shared.tls_client.part,
            &shared.name_files,
            learned,
            before.map(|before| &*before.connector),
        )?;
        Ok(Rc::new(Self {
            chain: WorkerChain::new(&shared.chain, &worker.deadlines),
            connector,
            worker: Rc::clone(worker),
            shared: Arc::clone(shared),
        }))
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

/// The current generation of a worker.
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
}
