//! One worker: a thread, a single-threaded runtime, and everything its connections use. Nothing here is shared.
//!
//! A worker accepts on its own listener, keeps its own upstream connections, deadlines and buffers, and writes its
//! own access log batch. What all workers share is immutable: the configuration, the plugin chain
//! and the trust in upstreams; or written rarely: certificates, what was learnt about hosts, and what the machine's
//! files say about names. Only the counts of connections and exchanges are written by all.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::config::Config;
use crate::connection;
use crate::deadline::Deadlines;
use crate::events::Events;
use crate::handover::Handover;
use crate::held;
use crate::http1::HeadLimits;
use crate::interception::Interception;
use crate::open_files;
use crate::plugins::call::{Role, Visible};
use crate::plugins::{Chain, WorkerChain};
use crate::telemetry::{self, AccessLog, AccessRecord, LogSink};
use crate::tls_listener::TlsListener;
use crate::upstream::handshakes::Handshakes;
use crate::upstream::http1_hosts::Http1Hosts;
use crate::upstream::mark;
use crate::upstream::pool::{Pool, PoolLimits};
use crate::upstream::pressure;
use crate::upstream::resolve::{NameFiles, Resolver};
use crate::upstream::tls::TlsClient;
use crate::web::WebServer;

/// How often access lines are handed to the writer.
const LOG_INTERVAL: Duration = Duration::from_millis(50);
/// How long accepting rests when the process has no descriptor or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The most threads for what blocks of the proxy's own, such as long content codings and name resolution by the system,
/// per worker; further work waits. Plugins have threads of their own.
const MAX_BLOCKING_THREADS: usize = 16;

/// A count that all workers share, alone on its cache lines.
#[repr(align(128))]
struct Count(AtomicU64);

static CONNECTIONS: Count = Count(AtomicU64::new(0));
static EXCHANGES: Count = Count(AtomicU64::new(0));

thread_local! {
    static CURRENT: RefCell<Weak<Worker>> = const { RefCell::new(Weak::new()) };
}

/// The worker on whose thread this is called.
pub(crate) fn current() -> Option<Rc<Worker>> {
    CURRENT
        .try_with(|current| current.borrow().upgrade())
        .ok()
        .flatten()
}

/// What a worker's connections use.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) config: Arc<Config>,
    pub(crate) chain: Rc<WorkerChain>,
    pub(crate) head_limits: HeadLimits,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) pool: Pool,
    pub(crate) http1_hosts: Http1Hosts,
    pub(crate) resolver: Resolver,
    pub(crate) tls_client: Arc<TlsClient>,
    /// None where clients speak clear text.
    pub(crate) tls_listener: Option<Arc<TlsListener>>,
    /// None where no TLS is ended here but the listener's own.
    pub(crate) interception: Option<Arc<Interception>>,
    /// None where requests for the proxy itself are refused.
    pub(crate) web: Option<Arc<WebServer>>,
    pub(crate) events: Events,
    /// The name in Via by which this process knows its own requests.
    pub(crate) marked_via: String,
    /// Handshakes with parent proxies that are under way.
    pub(crate) handshakes: Handshakes,
    /// Where this proxy listens; the same for all workers.
    pub(crate) own_addresses: Vec<SocketAddr>,
    access_log: AccessLog,
    access_lines: Notify,
    is_draining: Cell<bool>,
    /// What is still open is given up.
    is_stopping: Cell<bool>,
    cut: Cell<Cut>,
    connections: Cell<usize>,
    /// Whether anybody sees the numbers of exchanges.
    counts_exchanges: bool,
    date: RefCell<DateText>,
}

/// What a worker is started with.
#[derive(Debug)]
pub(crate) struct WorkerStart {
    pub(crate) number: usize,
    pub(crate) listeners: Vec<std::net::TcpListener>,
    /// Connections of workers that are stuck. None where there is no other worker, or nothing to be stuck in.
    pub(crate) handover: Option<Arc<Handover>>,
    pub(crate) config: Arc<Config>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) tls_client: Arc<TlsClient>,
    pub(crate) name_files: Arc<NameFiles>,
    pub(crate) tls_listener: Option<Arc<TlsListener>>,
    pub(crate) interception: Option<Arc<Interception>>,
    pub(crate) web: Option<Arc<WebServer>>,
    pub(crate) events: Events,
    pub(crate) log: LogSink,
    /// How far the end of the process has come.
    pub(crate) stage: watch::Receiver<Stage>,
    /// Told once when the worker takes connections; dropped untold when it cannot.
    pub(crate) ready: mpsc::Sender<()>,
}

/// How far the end of the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// Finish what is under way, take nothing new.
    Draining,
    /// Give up what is still under way.
    Stopping,
}

/// What a worker has given up at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) exchanges: usize,
    /// Client connections, idle ones included.
    pub(crate) connections: usize,
}

/// Runs a worker on the calling thread until it has drained, or is told to give up what is under way.
pub(crate) fn run(start: WorkerStart) -> io::Result<Cut> {
    let _visible = Visible::new(Role::Worker(start.number));
    telemetry::bound_repeats_of_this_thread();
    held::set_limit(start.config.limits.max_buffer_total);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build_local(tokio::runtime::LocalOptions::default())?;
    let worker = runtime.block_on(async { enter(&start) })?;
    let result = runtime.block_on(serve(Rc::clone(&worker), start));
    // Blocking work that nobody waits for any more does not keep the process. Exchanges that are still under way end
    // here, each with its line in the log.
    runtime.shutdown_background();
    worker.access_log.flush();
    result.map(|()| worker.cut.get())
}

async fn serve(worker: Rc<Worker>, start: WorkerStart) -> io::Result<()> {
    let housekeeper = Rc::clone(&worker);
    tokio::task::spawn_local(async move {
        let deadlines = Rc::clone(&housekeeper.deadlines);
        deadlines.run(|| housekeeper.pool.sweep()).await;
    });
    let log_writer = Rc::clone(&worker);
    tokio::task::spawn_local(async move { log_writer.write_access_log().await });
    for listener in start.listeners {
        let listener = TcpListener::from_std(listener)?;
        let acceptor = Rc::clone(&worker);
        let stage = start.stage.clone();
        tokio::task::spawn_local(async move { acceptor.accept(listener, stage).await });
    }
    if let Some(handover) = start.handover {
        let taker = Rc::clone(&worker);
        let stage = start.stage.clone();
        tokio::task::spawn_local(
            async move { taker.take_over(&handover, start.number, stage).await },
        );
    }
    // The server may have given up waiting because another worker failed.
    let _ = start.ready.send(());
    drop(start.ready);
    worker.drained(start.stage).await;
    Ok(())
}

/// Makes a worker that belongs to the calling thread.
pub(crate) fn enter(start: &WorkerStart) -> io::Result<Rc<Worker>> {
    let worker = Rc::new(Worker::new(start)?);
    CURRENT.set(Rc::downgrade(&worker));
    Ok(worker)
}

impl Worker {
    fn new(start: &WorkerStart) -> io::Result<Self> {
        let limits = &start.config.limits;
        let deadlines = Deadlines::new();
        let pool = PoolLimits {
            per_host: limits.upstream_idle_per_host.unwrap_or(usize::MAX),
            total: limits.upstream_idle_total.unwrap_or(usize::MAX),
            idle: limits.upstream_idle_timeout,
            descriptors: open_files::limit(),
        };
        Ok(Self {
            head_limits: HeadLimits {
                max_head_len: limits.max_head_len,
                max_fields: limits.max_fields,
                max_target_len: limits.max_target_len,
            },
            pool: Pool::new(pool, &deadlines),
            http1_hosts: Http1Hosts::default(),
            marked_via: mark::marked(&start.config.via),
            handshakes: Handshakes::default(),
            resolver: Resolver::new(
                &start.config.dns,
                start.config.timeouts.connect,
                &start.name_files,
            )?,
            access_log: AccessLog::new(start.log.clone()),
            access_lines: Notify::new(),
            is_draining: Cell::new(false),
            is_stopping: Cell::new(false),
            cut: Cell::default(),
            connections: Cell::new(0),
            counts_exchanges: !start.chain.is_empty()
                || start.events.has_subscribers()
                || start.web.is_some(),
            date: RefCell::default(),
            config: Arc::clone(&start.config),
            chain: WorkerChain::new(&start.chain, &deadlines),
            deadlines,
            tls_client: Arc::clone(&start.tls_client),
            tls_listener: start.tls_listener.clone(),
            interception: start.interception.clone(),
            web: start.web.clone(),
            events: start.events.clone(),
            own_addresses: start
                .listeners
                .iter()
                .map(std::net::TcpListener::local_addr)
                .collect::<io::Result<_>>()?,
        })
    }

    /// Whether exchanges shall be the last of their connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Whether exchanges are given up, as the process ends.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Counts an exchange that did not come to its end.
    pub(crate) fn count_cut_exchange(&self) {
        let cut = self.cut.get();
        self.cut.set(Cut {
            exchanges: cut.exchanges + usize::from(self.is_stopping()),
            ..cut
        });
    }

    /// The number of a client connection: 1, 2, 3 in the process, in the order of their beginnings.
    pub(crate) fn next_connection_id(&self) -> u64 {
        CONNECTIONS.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of an exchange, as [`next_connection_id`](Self::next_connection_id); 0 where no plugin could see it:
    /// then workers need not share a counter.
    pub(crate) fn next_exchange_id(&self) -> u64 {
        match self.counts_exchanges {
            true => EXCHANGES.0.fetch_add(1, Ordering::Relaxed) + 1,
            false => 0,
        }
    }

    /// Runs `use_date` with the time as fields give it (RFC 9110 §5.6.7).
    pub(crate) fn with_date<R>(&self, use_date: impl FnOnce(&str) -> R) -> R {
        let mut date = self.date.borrow_mut();
        date.refresh();
        use_date(&date.text)
    }

    /// Whether anybody reads the access log.
    pub(crate) fn logs_access(&self) -> bool {
        self.access_log.is_enabled()
    }

    /// Puts one line into the access log.
    pub(crate) fn log_access(&self, record: &AccessRecord<'_>) {
        self.access_log.record(record);
        if self.access_log.is_batch_full() {
            self.access_log.flush();
        } else {
            self.access_lines.notify_one();
        }
    }

    /// Counts a connection for as long as the returned value lives.
    fn count_connection(self: &Rc<Self>) -> Counted {
        self.connections.set(self.connections.get() + 1);
        Counted(Rc::clone(self))
    }

    async fn accept(self: Rc<Self>, listener: TcpListener, mut stage: watch::Receiver<Stage>) {
        let mut has_asked = false;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage >= Stage::Draining) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, client)) => {
                    has_asked = false;
                    self.begin(socket, client);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error)
                    if open_files::is_out_of_descriptors(&error)
                        && self.pool.give_up(pressure::RELIEF) > 0 => {}
                Err(error) if open_files::is_out_of_descriptors(&error) && !has_asked => {
                    has_asked = true;
                    pressure::ask(pressure::RELIEF);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Err(error) => {
                    has_asked = false;
                    tracing::warn!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves connections that other workers cannot take.
    async fn take_over(
        self: Rc<Self>,
        handover: &Handover,
        number: usize,
        mut stage: watch::Receiver<Stage>,
    ) {
        loop {
            let (socket, client) = tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage >= Stage::Draining) => return,
                accepted = handover.next(number) => accepted,
            };
            match TcpStream::from_std(socket) {
                Ok(socket) => self.begin(socket, client),
                Err(error) => {
                    tracing::warn!(%error, %client, "cannot take over a connection of a stuck worker")
                }
            }
            // One at a time, so that others get theirs.
            tokio::task::yield_now().await;
        }
    }

    fn begin(self: &Rc<Self>, socket: TcpStream, client: SocketAddr) {
        let limit = self.config.limits.max_connections;
        if limit > 0 && self.connections.get() >= limit.div_ceil(self.config.num_workers.get()) {
            tracing::warn!(%client, limit, "too many connections, closing a new one");
            return;
        }
        self.pool.note_descriptor(open_files::number_of(&socket));
        let counted = self.count_connection();
        connection::begin(socket, client, counted);
    }

    /// Waits for the order to drain, and then for the connections to end, or for the order to give them up.
    async fn drained(&self, mut stage: watch::Receiver<Stage>) {
        // An error means that the server is gone, which is an order too.
        let _ = stage.wait_for(|stage| *stage >= Stage::Draining).await;
        self.is_draining.set(true);
        self.pool.clear();
        let ended = async {
            while self.connections.get() > 0 {
                self.deadlines.wake_all();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let has_stopped = tokio::select! {
            biased;
            stopped = stage.wait_for(|stage| *stage >= Stage::Stopping) => stopped.is_ok(),
            () = ended => false,
        };
        if has_stopped {
            self.is_stopping.set(true);
            self.cut.set(Cut {
                exchanges: 0,
                connections: self.connections.get(),
            });
        }
    }

    async fn write_access_log(&self) {
        loop {
            self.access_lines.notified().await;
            tokio::time::sleep(LOG_INTERVAL).await;
            self.access_log.flush();
        }
    }
}

/// A connection that is open, counted.
#[derive(Debug)]
pub(crate) struct Counted(Rc<Worker>);

impl Counted {
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}

/// Errors of accept(2) that say something about the connection, not about us.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[derive(Debug, Default)]
struct DateText {
    second: u64,
    text: String,
}

impl DateText {
    fn refresh(&mut self) {
        let now = SystemTime::now();
        let second = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text = httpdate::fmt_http_date(now);
        }
    }
}
