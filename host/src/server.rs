//! Start and end: load the plugins, bind, run the workers, and drain them when told to stop.
//!
//! Every worker binds the same addresses with SO_REUSEPORT, so that the kernel spreads connections and no worker waits
//! for another. SIGTERM and SIGINT drain: no new connection is taken, exchanges under way finish, idle connections
//! close. A second signal, or [`DRAIN_LIMIT`], cuts off what is still open, each exchange with its line in the log, and
//! ends the process within [`STOP_LIMIT`]. SIGHUP reads the listener's certificate and key
//! again.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::generation::{self, Problems};
use crate::handover::Handover;
use crate::plugins::call::{self, Role, Visible};
use crate::plugins::{last_words, watchdog};
use crate::telemetry::LogSink;
use crate::tls_listener::TlsListener;
use crate::worker::{self, Stage, WorkerStart};
use crate::worker_context::Cut;

/// How long exchanges may take to finish once the proxy has been told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How long workers may take to give up what is still open, once they have been told to.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// How long plugins may take to end, and subscribers to hear the last events, once the workers have drained;
/// [`STOP_LIMIT`] if they were cut off.
const END_LIMIT: Duration = Duration::from_secs(5);

/// When the system asks a silent client whether it is there: after a minute, then every 15 s. Ones that have closed their
/// direction answer as well, as long as they read.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15));

/// Why the proxy could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be in force.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The host name has no address.
    #[error(
        "--hostname {hostname}: {source}; specify an address of this machine, such as ::1, 127.0.0.1, :: or 0.0.0.0"
    )]
    Hostname {
        /// As configured.
        hostname: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; {remedy}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A thread or a runtime could not be made, or a worker failed.
    #[error("a worker failed: {0}")]
    Worker(io::Error),
}

impl StartError {
    /// Whether the configuration or a plugin is at fault, rather than the system.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Problems(problems) => problems.is_configuration(),
            Self::Hostname { .. } => true,
            Self::Listen { .. } | Self::Worker(_) => false,
        }
    }
}

/// Runs the proxy until a signal ends it. Blocks.
///
/// # Errors
/// Nothing has been served when this fails at the start; see [`StartError`].
pub fn run(config: Config, log: LogSink) -> Result<(), StartError> {
    if !config.plugins.is_empty() {
        last_words::install();
    }
    if config.compatibility.relaxes_all() {
        tracing::warn!(
            "compatibility: malformed responses of all hosts are repaired and forwarded; to limit this, list the \
             hosts in relaxed_hosts"
        );
    }
    let generation = Arc::new(generation::build(config)?);
    for name in &generation.plugin_names {
        tracing::info!("Loaded plugin {name}");
    }
    let config = Arc::clone(&generation.config);
    let has_plugins = !generation.plugin_names.is_empty();
    let workers = config.num_workers.get();
    let (addresses, listeners) = listen(&config)?;
    let handover = match !has_plugins || workers < 2 {
        true => None,
        false => Some(Arc::new(
            Handover::new(&listeners).map_err(StartError::Worker)?,
        )),
    };
    let (stage, stage_receiver) = watch::channel(Stage::Serving);
    let (ended, mut endings) = mpsc::unbounded_channel();
    let (ready, ready_workers) = std::sync::mpsc::channel();
    for (number, listeners) in listeners.into_iter().enumerate() {
        let start = WorkerStart {
            number,
            listeners,
            handover: handover.clone(),
            generation: Arc::clone(&generation),
            log: log.clone(),
            stage: stage_receiver.clone(),
            ready: ready.clone(),
        };
        start_worker(start, ended.clone()).map_err(StartError::Worker)?;
    }
    drop((ended, ready));
    if ready_workers.iter().take(workers).count() < workers {
        return Err(StartError::Worker(first_failure(&mut endings)));
    }
    if has_plugins {
        watch_plugins(&config, handover.clone()).map_err(StartError::Worker)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Worker)?;
    // Before anybody is told that the proxy runs: from then on a signal drains.
    let mut signals = {
        let _context = runtime.enter();
        Signals::listen().map_err(StartError::Worker)?
    };
    tracing::info!("Started {workers} workers");
    for address in addresses {
        tracing::info!("Started server on {}", shown(address));
    }
    let enter = |next| {
        if let Some(handover) = &handover {
            handover.close();
        }
        stage.send_replace(next);
    };
    let reload = || reload(generation.tls_listener.as_deref());
    let supervised = supervise(&enter, &mut endings, workers, &mut signals, reload);
    let (outcome, drained) = runtime.block_on(supervised);
    // Workers have dropped theirs when they have drained.
    let end = move || {
        if let Some(generation) = Arc::into_inner(generation) {
            generation.end();
        }
    };
    match drained {
        Drained::Whole => runtime.block_on(end_plugins(end, &mut signals, END_LIMIT)),
        Drained::Cut => runtime.block_on(end_plugins(end, &mut signals, STOP_LIMIT)),
        // It still uses the plugins.
        Drained::Stuck => std::mem::forget(end),
    }
    outcome
}

/// Names the plugins that keep the process from ending.
fn tell_stuck_ends(limit: Duration) {
    let mut seen = Vec::new();
    call::look(&mut seen);
    let calls = seen.iter().filter_map(|seen| seen.moment.call());
    for call in calls {
        let (plugin, hook) = (call.plugin().name(), call.place().name());
        tracing::warn!(
            plugin,
            hook,
            "a plugin did not stop within {limit:?}: not waiting for it"
        );
    }
}

/// Starts the watchdog.
fn watch_plugins(config: &Config, handover: Option<Arc<Handover>>) -> io::Result<()> {
    let patience = watchdog::Patience {
        worker: config.timeouts.plugin_budget,
        background: config.timeouts.plugin_hook,
    };
    watchdog::start(patience, config.num_workers.get(), move |stuck| {
        if let Some(handover) = &handover {
            handover.relieve(stuck);
        }
    })
}

/// Runs `end`, which is code of plugins and may never return, on a thread of its own, as long as there is time.
async fn end_plugins(end: impl FnOnce() + Send + 'static, signals: &mut Signals, limit: Duration) {
    let (over, ended) = tokio::sync::oneshot::channel();
    let thread = thread::Builder::new().name("end".to_owned());
    let spawned = thread.spawn(move || {
        let _visible = Visible::new(Role::Background);
        end();
        let _ = over.send(());
    });
    if spawned.is_err() {
        return;
    }
    tokio::select! {
        _ = ended => {}
        signal = signals.next_end() => tracing::warn!("second {signal}: not waiting for plugins to stop"),
        () = tokio::time::sleep(limit) => tell_stuck_ends(limit),
    }
}

/// Binds every address of the host name once per worker; port 0 becomes the same free port everywhere.
fn listen(config: &Config) -> Result<(Vec<SocketAddr>, Vec<Vec<TcpListener>>), StartError> {
    let hostname = config
        .hostname
        .trim_start_matches('[')
        .trim_end_matches(']');
    let resolved = (hostname, config.port)
        .to_socket_addrs()
        .map_err(|source| StartError::Hostname {
            hostname: config.hostname.clone(),
            source,
        })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in resolved {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let mut per_worker: Vec<Vec<TcpListener>> =
        (0..config.num_workers.get()).map(|_| Vec::new()).collect();
    let mut chosen_port = config.port;
    for address in &mut addresses {
        address.set_port(chosen_port);
        let failed = |source| not_listening(*address, source);
        refuse_if_taken(*address).map_err(failed)?;
        for listeners in &mut per_worker {
            address.set_port(chosen_port);
            let listener =
                bind(*address, config.backlog).map_err(|source| not_listening(*address, source))?;
            chosen_port = listener.local_addr().map_err(StartError::Worker)?.port();
            listeners.push(listener);
        }
        address.set_port(chosen_port);
    }
    Ok((addresses, per_worker))
}

/// SO_REUSEPORT would let a second proxy take half of the first one's connections: one bind without it tells.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())
}

fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    #[cfg(unix)]
    {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    // Accepted connections inherit both: a message is written whole, waiting for more would only delay it; and a client
    // that has gone shows even to a route that waits for something else and has nothing to send.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn not_listening(address: SocketAddr, source: io::Error) -> StartError {
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => "another process listens there: stop it, or use another --port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 require privileges: use a higher --port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: use another --hostname"
        }
        _ => "use another --hostname or --port",
    };
    StartError::Listen {
        address,
        source,
        remedy,
    }
}

fn start_worker(
    start: WorkerStart,
    ended: mpsc::UnboundedSender<io::Result<Cut>>,
) -> io::Result<()> {
    let name = format!("worker-{}", start.number);
    thread::Builder::new().name(name).spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker::run(start)));
        let result = result.unwrap_or_else(|_| Err(io::Error::other("it panicked")));
        // Nobody listens any more when the process ends.
        let _ = ended.send(result);
    })?;
    Ok(())
}

/// Why a worker ended before it was ready.
fn first_failure(endings: &mut mpsc::UnboundedReceiver<io::Result<Cut>>) -> io::Error {
    let failure = std::iter::from_fn(|| endings.blocking_recv()).find_map(Result::err);
    failure.unwrap_or_else(|| io::Error::other("it stopped before it was ready"))
}

/// Waits for a signal, or for a worker that fails; then drains the workers.
async fn supervise(
    enter: impl Fn(Stage),
    endings: &mut mpsc::UnboundedReceiver<io::Result<Cut>>,
    workers: usize,
    signals: &mut Signals,
    reload: impl Fn(),
) -> (Result<(), StartError>, Drained) {
    let mut outcome = Ok(());
    let mut running = workers;
    loop {
        tokio::select! {
            signal = signals.next() => {
                if signal == RELOAD {
                    reload();
                    continue;
                }
                tracing::info!("Shutting down {workers} workers ({signal})");
            }
            Some(ending) = endings.recv() => {
                running -= 1;
                if let Err(error) = ending {
                    tracing::error!(%error, "a worker failed: shutting down");
                    outcome = Err(StartError::Worker(error));
                }
            }
        }
        break;
    }
    enter(Stage::Draining);
    let mut cut = Cut::default();
    tokio::select! {
        () = all_ended(endings, &mut running, &mut cut) => return (outcome, Drained::Whole),
        signal = signals.next_end() => tracing::warn!("second {signal}: aborting open exchanges"),
        () = tokio::time::sleep(DRAIN_LIMIT) => {
            tracing::warn!("some exchanges did not finish within {DRAIN_LIMIT:?}: aborting them");
        }
    }
    enter(Stage::Stopping);
    let stopped = all_ended(endings, &mut running, &mut cut);
    let is_stopped = tokio::time::timeout(STOP_LIMIT, stopped).await.is_ok();
    let Cut {
        exchanges,
        connections,
    } = cut;
    tracing::warn!("Cut off {exchanges} exchanges and {connections} client connections");
    if !is_stopped {
        tracing::warn!(
            "{running} workers did not stop within {STOP_LIMIT:?}: their open exchanges are not logged"
        );
        return (outcome, Drained::Stuck);
    }
    (outcome, Drained::Cut)
}

/// How far the workers came in draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Whole,
    /// What was still open has been cut off.
    Cut,
    /// A worker has not ended.
    Stuck,
}

/// Waits for the workers to end; adds up what they have cut off. Cancel safe.
async fn all_ended(
    endings: &mut mpsc::UnboundedReceiver<io::Result<Cut>>,
    running: &mut usize,
    cut: &mut Cut,
) {
    while *running > 0
        && let Some(ending) = endings.recv().await
    {
        *running -= 1;
        let Cut {
            exchanges,
            connections,
        } = ending.unwrap_or_default();
        cut.exchanges += exchanges;
        cut.connections += connections;
    }
}

/// Reads again what may change while the proxy runs.
fn reload(tls_listener: Option<&TlsListener>) {
    let Some(tls_listener) = tls_listener else {
        tracing::info!("{RELOAD}: nothing to reload");
        return;
    };
    match tls_listener.reload() {
        Ok(()) => tracing::info!("{RELOAD}: certificate and key reloaded"),
        Err(error) => tracing::error!(%error, "reload failed: keeping the current certificate"),
    }
}

/// The signal that has files read again.
const RELOAD: &str = "SIGHUP";

/// The signals that the proxy listens to.
#[cfg(unix)]
struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From here on they no longer end the process by themselves. Called inside a runtime.
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one. Cancel safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.hangup.recv() => RELOAD,
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

impl Signals {
    /// Waits for the next one that ends the proxy. Cancel safe.
    async fn next_end(&mut self) -> &'static str {
        loop {
            match self.next().await {
                RELOAD => {}
                signal => return signal,
            }
        }
    }
}

/// What ends the proxy where there are no signals.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next one. Cancel safe.
    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => std::future::pending().await,
        }
    }
}

/// An address as the start-up line shows it: `::1:8899`, `127.0.0.1:8899`.
fn shown(address: SocketAddr) -> String {
    format!("{}:{}", address.ip(), address.port())
}
