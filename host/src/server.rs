//! Start and end: load plugins, bind, run the workers, and drain them on a signal.
//!
//! Every worker binds the same addresses with SO_REUSEPORT, so the kernel spreads connections and workers do not wait
//! for each other. SIGTERM and SIGINT drain: no new connections are accepted, exchanges in flight finish, idle
//! connections are closed. A second signal, or the end of `drain_timeout`, aborts the remaining exchanges, each with its
//! line in the log, and ends the process within [`STOP_LIMIT`]. SIGHUP reloads, see `reload`. A worker that panics is
//! restarted, see `restart`. `control` serves the clients of the control socket, whose commands are requests like
//! signals.

mod adopt;
mod banner;
mod certificate_files;
#[cfg(unix)]
mod control;
mod drain;
mod heartbeats;
mod listen;
mod listeners;
mod notify;
mod observe;
mod overview;
mod ownership;
mod panics;
mod port_file;
mod reload;
mod requester;
mod requests;
mod restart;
mod signals;
mod socket_file;
#[cfg(unix)]
mod takeover;

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::config::{Config, ConfigErrors};
#[cfg(unix)]
use crate::control::socket::{ControlSocket, ControlSocketError};
#[cfg(unix)]
use crate::control::takeover::Predecessor;
use crate::control::takeover::TakeoverError;
use crate::generation::{self, Generation, Problems};
use crate::handover::Handover;
use crate::inherited::{InheritedError, InheritedSocket};
use crate::listener::Sockets;
use crate::pid_file::{PidFile, PidFileError};
use crate::plugins::call::Visible;
use crate::plugins::marks::{self, Role};
use crate::plugins::statistics;
use crate::telemetry::LogSink;
use crate::worker::{self, DrainReport, ShutdownStage, Switched, WorkerStart};
use crate::worker_context::Tally;
use adopt::Passed;
use certificate_files::CertificateFiles;
#[cfg(unix)]
use control::{Control, Process, ServedSocket};
use drain::{Drain, Drained, STOP_LIMIT};
use heartbeats::Heartbeats;
use listeners::Listeners;
use notify::Notifier;
use observe::Observer;
use overview::{Overview, ReportTo};
pub use port_file::PortFileError;
use reload::Generations;
use requests::{Offered, Request, Requests, Successor};
pub use socket_file::SocketFileError;

/// How often replaced generations are checked for users.
const CHECK_UNUSED: Duration = Duration::from_millis(200);

/// How long plugins may take to end, and subscribers to receive the last events, once the workers have drained.
/// [`STOP_LIMIT`] applies instead if exchanges were aborted.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Why the proxy did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The host name does not resolve.
    #[error(
        "{hostname}: {source}; specify an address of this machine, such as ::1, 127.0.0.1, :: or 0.0.0.0"
    )]
    Hostname {
        /// The setting, as written.
        hostname: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// The address cannot be bound.
    #[error("{place}cannot listen on {address}: {source}; {remedy}")]
    Listen {
        /// Where the listener is written, with a colon; empty for the first one.
        place: String,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
        /// How to fix it.
        remedy: String,
    },
    /// A Unix socket cannot be bound.
    #[error(transparent)]
    SocketFile(#[from] SocketFileError),
    /// The port file cannot be written.
    #[error(transparent)]
    PortFile(#[from] PortFileError),
    /// The process cannot become the configured user.
    #[error("server.user: cannot become `{user}`: {source}; start the proxy as that user instead")]
    Identity {
        /// As configured.
        user: String,
        /// The system's error.
        source: io::Error,
    },
    /// Two listeners have the same address.
    #[error(
        "{origin}: {address} is already an address of another listener ({other}); give one of them another port"
    )]
    Shared {
        /// The address.
        address: SocketAddr,
        /// Where the listener is written.
        origin: String,
        /// Where the other one is.
        other: String,
    },
    /// The configured control socket cannot be made.
    #[cfg(unix)]
    #[error(transparent)]
    ControlSocket(#[from] ControlSocketError),
    /// The sockets that a service manager has passed cannot be used.
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    /// The running proxy cannot be replaced.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// The control socket of the proxy to be replaced is not known.
    #[error(
        "--takeover finds the running proxy by its control socket, which is turned off, or has no name because the port is \
         0; specify its path with --control-socket"
    )]
    NoControlSocket,
    /// The pid file cannot be written.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// A thread or a runtime could not be created, or a worker failed.
    #[error("a worker failed: {0}")]
    Worker(io::Error),
}

impl StartError {
    /// Whether the configuration or a plugin is the cause, rather than the system.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Problems(problems) => problems.is_configuration(),
            Self::Hostname { .. } | Self::Shared { .. } => true,
            Self::Inherited(_) | Self::NoControlSocket => true,
            #[cfg(unix)]
            Self::ControlSocket(_) => false,
            Self::Listen { .. } | Self::SocketFile(_) | Self::PortFile(_) => false,
            Self::Identity { .. } => false,
            Self::Takeover(_) | Self::PidFile(_) | Self::Worker(_) => false,
        }
    }
}

/// Reads the configuration for a reload: the file as it is now, with the flags of the start.
pub type ConfigSource = Arc<dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync>;

/// How the proxy gets its listening sockets.
#[derive(Debug, Default)]
pub struct SocketSource {
    /// Those that a service manager has passed; other listeners are bound.
    pub inherited: Vec<InheritedSocket>,
    /// Whether those of a running proxy are taken over, which this one then replaces.
    pub takes_over: bool,
}

/// Runs the proxy until a signal ends it. Blocks. `source` is called at each reload.
///
/// # Errors
/// If the start fails, nothing has been served; see [`StartError`].
pub fn run(
    config: Config,
    source: ConfigSource,
    log: LogSink,
    sockets: SocketSource,
) -> Result<(), StartError> {
    panics::report();
    let notifier = Notifier::from_environment();
    observe::prepare_start(&config);
    let generation = Arc::new(generation::build(config, None)?);
    announce(&generation);
    let mut predecessor = match sockets.takes_over {
        true => takeover::find(&generation.config)?,
        false => None,
    };
    let (mut passed, control) = match &mut predecessor {
        Some(running) => takeover::take_sockets(running, &generation)?,
        None => (Passed::inherited(sockets.inherited, &generation)?, None),
    };
    // The files of a running proxy are written once it has left them.
    let pid_file = match &predecessor {
        Some(_) => None,
        None => pid_file(&generation.config)?,
    };
    let mut listeners = Listeners::bind(&generation, &mut passed)?;
    if predecessor.is_none() {
        listeners.write_port_file(&generation)?;
    }
    passed.report_unused();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(StartError::Worker)?;
    // Removed at the end of the drain and of the plugins, so that `proxy status` shows both.
    #[cfg(unix)]
    let socket = control_socket(
        control,
        predecessor.as_ref(),
        &listeners,
        &generation.config,
    )?;
    drop_privileges(&generation, &listeners)?;
    let mut server = Server::start(generation, source, listeners, log, notifier)?;
    let (commands, received) = mpsc::unbounded_channel();
    // Before the start is reported: from then on, a signal drains.
    let mut requests = {
        let _context = runtime.enter();
        Requests::listen(received).map_err(StartError::Worker)?
    };
    #[cfg(unix)]
    if let Some(socket) = socket {
        let control = Control::new(Rc::clone(&server.overview), commands.clone());
        server.overview.set_control_socket(socket.path());
        let serving = runtime.block_on(async { control.serve(socket) });
        server.control = Some(serving.map_err(StartError::Worker)?);
    }
    server.pid_file = pid_file;
    if let Some(mut running) = predecessor {
        running.retire()?;
        server.own_files();
    }
    server.report_start();
    let outcome = runtime.block_on(server.serve(&mut requests));
    let outcome = outcome.map(|successor| {
        if let Some(successor) = successor {
            runtime.block_on(server.leave_to(successor));
        }
    });
    let drained = runtime.block_on(server.drain(&mut requests));
    runtime.block_on(server.end(drained, &mut requests));
    drop(commands);
    // What was counted, now that nothing more is.
    statistics::report();
    outcome
}

/// Writes the pid file, if one is configured.
fn pid_file(config: &Config) -> Result<Option<PidFile>, PidFileError> {
    config.pid_file.as_deref().map(PidFile::create).transpose()
}

/// The control socket: that of the running proxy, if this one takes over and has it at the same path, or a new one.
#[cfg(unix)]
fn control_socket(
    passed: Option<UnixListener>,
    predecessor: Option<&Predecessor>,
    listeners: &Listeners,
    config: &Config,
) -> Result<Option<ControlSocket>, StartError> {
    match predecessor.and_then(|running| takeover::control_socket(passed, running, config)) {
        Some(socket) => socket.map(Some).map_err(StartError::Worker),
        None => {
            let port = listeners.first_port();
            Ok(ControlSocket::open(&config.server.control_socket, port)?)
        }
    }
}

/// Becomes the configured user, now that everything that may need root is bound and read.
fn drop_privileges(generation: &Generation, listeners: &Listeners) -> Result<(), StartError> {
    let Some(identity) = &generation.identity else {
        return Ok(());
    };
    ownership::give(&generation.config, identity);
    let assumed = listeners.give_to(identity).and_then(|()| identity.assume());
    assumed.map_err(|source| StartError::Identity {
        user: identity.shown().to_owned(),
        source,
    })?;
    tracing::info!("running as user {}", identity.shown());
    ownership::report_directories(&generation.config, identity);
    Ok(())
}

/// Logs warnings about a new generation, and its plugins.
fn announce(generation: &Generation) {
    if generation.config.compatibility.relaxes_all() {
        tracing::warn!(
            "compatibility: malformed responses of all hosts are repaired and forwarded; to limit this, list the \
             hosts in relaxed_hosts"
        );
    }
    for name in generation.plugin_names() {
        tracing::info!("Loaded plugin {name}");
    }
}

/// The running proxy, as the thread that waits for signals uses it.
struct Server {
    workers: usize,
    notifier: Notifier,
    /// Another process serves in place of this one.
    is_replaced: bool,
    pid_file: Option<PidFile>,
    #[cfg(unix)]
    control: Option<ServedSocket>,
    /// `None` without a watchdog.
    heartbeats: Option<Heartbeats>,
    /// The number of workers that have not ended.
    running: usize,
    generations: Generations,
    sockets: Arc<Sockets>,
    /// Takes connections from workers that are stuck in a plugin. `None` with a single worker.
    handover: Option<Arc<Handover>>,
    observer: Arc<Observer>,
    stage: watch::Sender<ShutdownStage>,
    overview: Rc<Overview>,
    certificate_files: CertificateFiles,
    endings: mpsc::UnboundedReceiver<io::Result<Tally>>,
    /// Reports which generation workers use.
    switched: mpsc::UnboundedReceiver<Switched>,
    /// Reports what draining workers have in flight.
    drain_reports: mpsc::UnboundedReceiver<DrainReport>,
    log: LogSink,
}

impl Server {
    /// Starts the workers, and waits until all of them accept connections.
    fn start(
        generation: Arc<Generation>,
        source: ConfigSource,
        listeners: Listeners,
        log: LogSink,
        notifier: Notifier,
    ) -> Result<Self, StartError> {
        let workers = generation.config.num_workers.get();
        let watchdog = notifier.watchdog();
        let (heartbeats, heartbeat) = watchdog
            .map(|limit| Heartbeats::new(workers, limit))
            .unzip();
        let sockets = Arc::clone(&listeners.sockets);
        let handover =
            (workers > 1).then(|| Arc::new(Handover::new(Arc::clone(&sockets), generation.number)));
        let observer = Arc::new(Observer::new(workers, handover.clone()));
        let (stage, _) = watch::channel(ShutdownStage::Serving);
        let report_to: Vec<watch::Sender<ReportTo>> =
            (0..workers).map(|_| watch::Sender::new(None)).collect();
        let reporters: Vec<_> = report_to.iter().map(watch::Sender::subscribe).collect();
        let overview = Overview::new(&generation.config.log, stage.subscribe(), report_to);
        let (ended, endings) = mpsc::unbounded_channel();
        let (switched, switches) = mpsc::unbounded_channel();
        let (drain_reports, reports) = mpsc::unbounded_channel();
        let generations = Generations::new(
            Arc::clone(&generation),
            source,
            log.clone(),
            Arc::clone(&observer),
            listeners,
        );
        let mut server = Self {
            workers,
            notifier,
            is_replaced: false,
            pid_file: None,
            #[cfg(unix)]
            control: None,
            heartbeats,
            running: workers,
            generations,
            sockets,
            handover,
            observer,
            stage,
            overview: Rc::new(overview),
            certificate_files: CertificateFiles::new(generation::certificate_files(
                &generation.config,
            )),
            endings,
            switched: switches,
            drain_reports: reports,
            log,
        };
        let (ready, ready_workers) = std::sync::mpsc::channel();
        for (number, report_to) in reporters.into_iter().enumerate() {
            let start = WorkerStart {
                number,
                sockets: Arc::clone(&server.sockets),
                handover: server.handover.clone(),
                generations: server.generations.subscribe(),
                switched: switched.clone(),
                drain_reports: drain_reports.clone(),
                heartbeat: heartbeat.clone(),
                log: server.log.clone(),
                stage: server.stage.subscribe(),
                report_to,
                ready: Some(ready.clone()),
            };
            start_worker(start, ended.clone()).map_err(StartError::Worker)?;
        }
        drop((ended, switched, drain_reports, ready));
        if ready_workers.iter().take(workers).count() < workers {
            return Err(StartError::Worker(first_failure(&mut server.endings)));
        }
        server.observer.follow(&generation);
        Ok(server)
    }

    /// Waits for a request to end the proxy, or for a worker that fails. Reloads meanwhile.
    async fn serve(&mut self, requests: &mut Requests) -> Result<Option<Successor>, StartError> {
        // It goes on while other things happen: with a timer for each of them, reloads in a row would keep all generations.
        let mut check_unused = tokio::time::interval(CHECK_UNUSED);
        check_unused.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let has_replaced = self.generations.has_replaced();
            self.overview.note(self.generations.status());
            tokio::select! {
                request = requests.next() => match request {
                    Request::Reload(requester) => {
                        self.notifier.reloading();
                        self.generations.reload(requester);
                        self.notify_reloaded();
                    }
                    Request::ReopenLog(requester) => {
                        requester.done(match self.reopen_logs() {
                            true => "the log files are being opened again; if that fails, the log shows why",
                            false => "the logs go to standard output: nothing to open again",
                        });
                    }
                    Request::End(name) => {
                        tracing::info!("Shutting down {} workers ({name})", self.workers);
                        return Ok(None);
                    }
                    Request::OfferSockets(to) => self.offer_sockets(&to),
                    Request::Retire(successor) => return Ok(Some(successor)),
                },
                reloaded = self.generations.reloaded() => {
                    if let Some(generation) = reloaded {
                        self.overview.set_listeners(&self.generations.listeners.shown());
                        banner::log_warnings(&generation, &self.generations.listeners.bound());
                        self.observer.follow(&generation);
                        self.overview.set_log(&generation.config.log);
                        let files = generation::certificate_files(&generation.config);
                        self.certificate_files.watch(files);
                    }
                    self.notify_reloaded();
                }
                changed = self.certificate_files.changed() => self.generations.renew(changed),
                stuck = next_heartbeat(&mut self.heartbeats) => self.notify_alive(&stuck),
                Some(switched) = self.switched.recv() => self.generations.switched(switched, self.workers),
                _ = check_unused.tick(), if has_replaced => {
                    self.generations.end_unused();
                }
                Some(ending) = self.endings.recv() => {
                    self.running -= 1;
                    return ending.map(|_| None).map_err(|error| {
                        tracing::error!(%error, "a worker failed: shutting down");
                        StartError::Worker(error)
                    });
                }
            }
        }
    }

    /// Tells the operator and the service manager that the proxy serves.
    fn report_start(&self) {
        // Its warnings come first: who waits for the last line of the start has seen them.
        banner::show(
            &self.generations.current(),
            &self.generations.listeners.bound(),
            &self.log,
        );
        tracing::info!("Started {} workers", self.workers);
        let addresses = self.generations.listeners.shown();
        for address in &addresses {
            tracing::info!("Started server on {address}");
        }
        self.overview.set_listeners(&addresses);
        self.notify_ready();
    }

    /// Notifies the service manager that the proxy serves.
    fn notify_ready(&self) {
        let (number, workers) = (self.generations.number(), self.workers);
        let addresses = self.generations.listeners.shown().join(", ");
        self.notifier.ready(&format!(
            "Serving on {addresses}; {workers} workers, generation {number}"
        ));
    }

    /// The same, unless a reload is running.
    fn notify_reloaded(&self) {
        if !self.generations.is_reloading() {
            self.notify_ready();
        }
    }

    /// Notifies the service manager that all workers make progress, unless some are stuck.
    fn notify_alive(&self, stuck: &[usize]) {
        if stuck.is_empty() {
            return self.notifier.alive();
        }
        tracing::error!(
            workers = ?stuck,
            "workers are stuck: not notifying the watchdog of the service manager, which may restart the proxy"
        );
    }

    /// Opens the log and the access log again, after they have been rotated; `false`: neither goes to a file.
    fn reopen_logs(&self) -> bool {
        let is_log_reopened = self.log.reopen();
        let is_reopened = self.generations.current().access_log.reopen() || is_log_reopened;
        if !is_reopened {
            tracing::info!("the log is not reopened: it does not go to a file");
        }
        is_reopened
    }

    /// Passes on the sockets to a process that is about to replace this one.
    fn offer_sockets(&self, to: &mpsc::UnboundedSender<Vec<Offered>>) {
        let generation = self.generations.current();
        let offered = self
            .generations
            .listeners
            .offer(&generation)
            .and_then(|mut offered| {
                if let Some(control) = &self.control {
                    offered.push(control.offer()?);
                }
                Ok(offered)
            });
        match offered {
            // The process may have left.
            Ok(offered) => _ = to.send(offered),
            Err(error) => tracing::error!(%error, "takeover: cannot pass on the sockets"),
        }
    }

    /// Leaves everything that only one process can have to the one that serves now.
    async fn leave_to(&mut self, mut successor: Successor) {
        tracing::info!(
            "takeover: {} serves now: draining {} workers",
            Process(successor.pid),
            self.workers
        );
        self.is_replaced = true;
        self.enter(ShutdownStage::Retiring);
        self.generations.listeners.leave_files();
        if let Some(file) = self.pid_file.take() {
            file.leave();
        }
        if let Some(control) = self.control.take() {
            control.leave();
        }
        self.notifier.hand_over(successor.pid);
        successor.requester.done("it accepts no more connections");
        // This process may end at once, but not before it has answered.
        let answered = async { while successor.answered.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(STOP_LIMIT, answered).await;
    }

    /// Makes the files that the replaced process has left this process's. A failure does not end this process, which
    /// serves already.
    fn own_files(&mut self) {
        let generation = self.generations.current();
        self.generations.listeners.own_files(&generation);
        if let Some(control) = &mut self.control
            && let Err(error) = control.own()
        {
            tracing::error!(%error, "clients of the control socket take this process for the replaced one");
        }
        match pid_file(&generation.config) {
            Ok(file) => self.pid_file = file,
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// Drains the workers, and aborts what does not end in time.
    async fn drain(&mut self, requests: &mut Requests) -> Drained {
        self.generations.abandon();
        let limit = self.generations.drain_timeout();
        self.notifier.stopping(limit);
        self.enter(match self.is_replaced {
            true => ShutdownStage::Retiring,
            false => ShutdownStage::Draining,
        });
        let stage = &self.stage;
        let drain = Drain::new(
            self.workers,
            &mut self.running,
            &mut self.endings,
            &mut self.drain_reports,
            &self.notifier,
        );
        drain.run(limit, requests, stage).await
    }

    /// Ends the plugins, unless a worker still uses them.
    async fn end(self, drained: Drained, requests: &mut Requests) {
        let limit = match drained {
            Drained::Complete => END_LIMIT,
            Drained::Aborted => STOP_LIMIT,
            Drained::Stuck => return std::mem::forget(self),
        };
        // Workers drop their generation when they have drained.
        let remaining = self.generations.into_remaining();
        end_plugins(|| remaining.end(), requests, limit).await;
    }

    fn enter(&self, stage: ShutdownStage) {
        // The kernel refuses connections once the workers have closed theirs.
        self.sockets.close();
        if let Some(handover) = &self.handover {
            handover.close();
        }
        self.stage.send_replace(stage);
    }
}

/// Waits for the next moment to notify the watchdog; returns the workers that are stuck. Cancel safe.
async fn next_heartbeat(heartbeats: &mut Option<Heartbeats>) -> Vec<usize> {
    match heartbeats {
        Some(heartbeats) => heartbeats.next().await,
        None => std::future::pending().await,
    }
}

/// Ends a replaced generation on a thread of its own, because its plugins may take any time.
fn end_in_background(generation: Generation) {
    let end = move || {
        let _visible = Visible::new(Role::Background);
        generation.end();
    };
    if let Err(error) = thread::Builder::new().name("end".to_owned()).spawn(end) {
        tracing::error!(%error, "cannot start a thread to release a replaced generation");
    }
}

/// Names the plugins that keep the process from ending.
fn report_stuck_plugins(limit: Duration) {
    for call in marks::calls_under_way() {
        let (plugin, hook) = (call.plugin().name(), call.place().name());
        tracing::warn!(
            plugin,
            hook,
            "a plugin did not stop within {limit:?}: not waiting for it"
        );
    }
}

/// Runs `end`, code of plugins that may never return, on a thread of its own, within the limit.
async fn end_plugins(
    end: impl FnOnce() + Send + 'static,
    requests: &mut Requests,
    limit: Duration,
) {
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
        name = requests.next_end() => tracing::warn!("second {name}: not waiting for plugins to stop"),
        () = tokio::time::sleep(limit) => report_stuck_plugins(limit),
    }
}

fn start_worker(
    mut start: WorkerStart,
    ended: mpsc::UnboundedSender<io::Result<Tally>>,
) -> io::Result<()> {
    let name = format!("worker-{}", start.number);
    thread::Builder::new().name(name).spawn(move || {
        let result = restart::run_again(start.number, || worker::run(&mut start), Instant::now);
        // It holds a generation, which the server ends once all workers have ended.
        drop(start);
        // Nobody receives it if the process is ending.
        let _ = ended.send(result);
    })?;
    Ok(())
}

/// Why a worker ended before it was ready.
fn first_failure(endings: &mut mpsc::UnboundedReceiver<io::Result<Tally>>) -> io::Error {
    let failure = std::iter::from_fn(|| endings.blocking_recv()).find_map(Result::err);
    failure.unwrap_or_else(|| io::Error::other("it stopped before it was ready"))
}
