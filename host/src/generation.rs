//! What is in force: the configuration, and everything that was made from it.
//!
//! A [`Generation`] is immutable and shared by all threads. `build` makes one, binds nothing, and either succeeds or reports
//! every problem. A [`WorkerGeneration`] is a generation on one worker; its exchanges share it by a count that
//! no other thread writes to. [`Current`] is the one that is in force on a worker now: an exchange takes it when its head
//! is read, and keeps it to its end.

mod build;
pub mod command;
mod made;
mod problem;

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
use made::Made;
pub use problem::{Problem, Problems};

type MadeTlsClient = Made<(UpstreamTls, bool, Vec<HostPattern>), TlsClient>;
type MadeCertificates = Made<(InterceptionConfig, bool), Certificates>;

/// What is in force.
#[derive(Debug)]
pub(crate) struct Generation {
    /// 1 at the start; each reload has the next one.
    pub(crate) number: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) chain: Arc<Chain>,
    /// The plugins of all kinds.
    plugins: Loaded,
    pub(crate) events: Events,
    dispatcher: Arc<EventDispatcher>,
    tls_client: MadeTlsClient,
    name_files: Arc<NameFiles>,
    /// None where clients speak clear text.
    pub(crate) tls_listener: Option<Arc<TlsListener>>,
    certificates: Option<MadeCertificates>,
    /// None where no TLS is ended here but the listener's own.
    pub(crate) interception: Option<Arc<Interception>>,
    /// None where requests for the proxy itself are refused.
    pub(crate) web: Option<Arc<WebServer>>,
    /// The name in Via by which this process knows its own requests.
    pub(crate) marked_via: String,
}

impl Generation {
    /// The plugins of all kinds, as the log names them.
    pub(crate) fn plugin_names(&self) -> &[String] {
        &self.plugins.names
    }

    /// Whether anybody sees the numbers of exchanges; where nobody does, workers need not share a counter.
    pub(crate) fn numbers_exchanges(&self) -> bool {
        !self.chain.is_empty() || self.events.has_subscribers() || self.web.is_some()
    }

    /// Waits until subscribers have heard everything so far, also where somebody else still holds this generation.
    pub(crate) fn flush_events(&self) {
        self.events.flush();
    }

    /// Ends what belongs to it alone, plugins included: their code runs here. Waits until subscribers that are its own have
    /// the last events.
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

/// A generation on one worker, with what its exchanges need of the worker.
#[derive(Debug)]
pub(crate) struct WorkerGeneration {
    shared: Arc<Generation>,
    pub(crate) chain: Rc<WorkerChain>,
    pub(crate) connector: Rc<Connector>,
    pub(crate) worker: Rc<WorkerContext>,
}

impl WorkerGeneration {
    /// In place of `before`.
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

    /// Makes the HTTP requests of plugins on this thread, its worker's, by this configuration from now on.
    pub(crate) fn make_calls(&self) {
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

/// What is in force on a worker now.
#[derive(Debug)]
pub(crate) struct Current(RefCell<Rc<WorkerGeneration>>);

impl Current {
    pub(crate) fn new(generation: Rc<WorkerGeneration>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(generation)))
    }

    /// Exchanges that begin from now on take this one.
    pub(crate) fn replace(&self, generation: Rc<WorkerGeneration>) {
        // The old one is dropped when it is no longer current.
        self.0.replace(generation);
    }

    pub(crate) fn get(&self) -> Rc<WorkerGeneration> {
        Rc::clone(&self.0.borrow())
    }
}
