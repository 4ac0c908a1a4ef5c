//! Start and end: load the plugins, bind, run the workers, and drain them when told to stop.
//!
//! Every worker binds the same addresses with SO_REUSEPORT, so that the kernel spreads connections and no worker waits
//! for another. SIGTERM and SIGINT drain: no new connection is taken, exchanges under way finish, idle connections
//! close. A second signal, or [`DRAIN_LIMIT`], cuts off what is still open, each exchange with its line in the log, and
//! ends the process within [`STOP_LIMIT`]. SIGHUP reloads what is in force, see `reload`. A worker that panics is
//! restarted, see `restart`.

mod listen;
mod observe;
mod panics;
mod reload;
mod restart;
mod signals;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::config::{Config, ConfigError};
use crate::generation::{self, Generation, Problems};
use crate::handover::Handover;
use crate::plugins::call::Visible;
use crate::plugins::marks::{self, Role};
use crate::plugins::statistics;
use crate::telemetry::LogSink;
use crate::worker::{self, Followed, Stage, WorkerStart};
use crate::worker_context::Cut;
use listen::{listen, shown};
use observe::Observer;
use reload::Generations;
use signals::{RELOAD, Signals};

/// How long exchanges may take to finish once the proxy has been told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How long workers may take to give up what is still open, once they have been told to.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// How often generations that have been replaced are looked at, whether anything still uses them.
const LOOK_FOR_UNUSED: Duration = Duration::from_millis(200);

/// How long plugins may take to end, and subscribers to hear the last events, once the workers have drained;
/// [`STOP_LIMIT`] if they were cut off.
const END_LIMIT: Duration = Duration::from_secs(5);

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

/// Where the configuration comes from, at each reload: read anew, with the flags of the start.
pub type ConfigSource = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Runs the proxy until a signal ends it. Blocks. `source` is asked at each reload.
///
/// # Errors
/// Nothing has been served when this fails at the start; see [`StartError`].
pub fn run(config: Config, source: ConfigSource, log: LogSink) -> Result<(), StartError> {
    panics::report();
    observe::prepare_start(&config);
    let generation = Arc::new(generation::build(config, None)?);
    announce(&generation);
    let (addresses, listeners) = listen(&generation.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Worker)?;
    let mut server = Server::start(generation, source, listeners, &log)?;
    drop(log);
    // Before anybody is told that the proxy runs: from then on a signal drains.
    let mut signals = {
        let _context = runtime.enter();
        Signals::listen().map_err(StartError::Worker)?
    };
    tracing::info!("Started {} workers", server.workers);
    for address in addresses {
        tracing::info!("Started server on {}", shown(address));
    }
    let outcome = runtime.block_on(server.serve(&mut signals));
    let drained = runtime.block_on(server.drain(&mut signals));
    let limit = match drained {
        Drained::Whole => END_LIMIT,
        Drained::Cut => STOP_LIMIT,
        // A worker still uses the plugins.
        Drained::Stuck => {
            std::mem::forget(server);
            statistics::tell();
            return outcome;
        }
    };
    // Workers have dropped theirs when they have drained.
    let left = server.generations.into_left();
    runtime.block_on(end_plugins(|| left.end(), &mut signals, limit));
    statistics::tell();
    outcome
}

/// Logs what an operator wants to know of a new generation.
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

/// The running proxy, as the thread sees it that waits for signals.
struct Server {
    workers: usize,
    /// How many workers have not ended.
    running: usize,
    generations: Generations,
    /// Connections of workers that are stuck in a plugin. None where there is no other worker.
    handover: Option<Arc<Handover>>,
    observer: Arc<Observer>,
    stage: watch::Sender<Stage>,
    endings: mpsc::UnboundedReceiver<io::Result<Cut>>,
    /// The generations that workers have changed over to.
    followed: mpsc::UnboundedReceiver<Followed>,
}

impl Server {
    /// Starts the workers, and waits until all of them take connections.
    fn start(
        generation: Arc<Generation>,
        source: ConfigSource,
        listeners: Vec<Vec<TcpListener>>,
        log: &LogSink,
    ) -> Result<Self, StartError> {
        let workers = listeners.len();
        let handover = match workers {
            1 => None,
            _ => Some(Handover::new(&listeners).map_err(StartError::Worker)?),
        };
        let handover = handover.map(Arc::new);
        let observer = Arc::new(Observer::new(workers, handover.clone()));
        let (stage, _) = watch::channel(Stage::Serving);
        let (ended, endings) = mpsc::unbounded_channel();
        let (followed, has_followed) = mpsc::unbounded_channel();
        let mut server = Self {
            workers,
            running: workers,
            generations: Generations::new(Arc::clone(&generation), source, Arc::clone(&observer)),
            handover,
            observer,
            stage,
            endings,
            followed: has_followed,
        };
        let (ready, ready_workers) = std::sync::mpsc::channel();
        for (number, listeners) in listeners.into_iter().enumerate() {
            let start = WorkerStart {
                number,
                listeners,
                handover: server.handover.clone(),
                generations: server.generations.subscribe(),
                followed: followed.clone(),
                log: log.clone(),
                stage: server.stage.subscribe(),
                ready: Some(ready.clone()),
            };
            start_worker(start, ended.clone()).map_err(StartError::Worker)?;
        }
        drop((ended, followed, ready));
        if ready_workers.iter().take(workers).count() < workers {
            return Err(StartError::Worker(first_failure(&mut server.endings)));
        }
        server.observer.follow(&generation);
        Ok(server)
    }

    /// Waits for a signal that ends the proxy, or for a worker that fails. Reloads meanwhile.
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), StartError> {
        loop {
            let has_replaced = self.generations.has_replaced();
            tokio::select! {
                signal = signals.next() => {
                    if signal == RELOAD {
                        self.generations.reload();
                        continue;
                    }
                    tracing::info!("Shutting down {} workers ({signal})", self.workers);
                    return Ok(());
                }
                reloaded = self.generations.reloaded() => {
                    if let Some(generation) = reloaded {
                        announce(&generation);
                        self.observer.follow(&generation);
                    }
                }
                Some(followed) = self.followed.recv() => self.generations.followed(followed, self.workers),
                () = tokio::time::sleep(LOOK_FOR_UNUSED), if has_replaced => {
                    self.generations.end_unused();
                }
                Some(ending) = self.endings.recv() => {
                    self.running -= 1;
                    return ending.map(drop).map_err(|error| {
                        tracing::error!(%error, "a worker failed: shutting down");
                        StartError::Worker(error)
                    });
                }
            }
        }
    }

    /// Drains the workers, and cuts off what does not end in time.
    async fn drain(&mut self, signals: &mut Signals) -> Drained {
        self.generations.tell_given_up();
        self.enter(Stage::Draining);
        let mut cut = Cut::default();
        tokio::select! {
            () = all_ended(&mut self.endings, &mut self.running, &mut cut) => return Drained::Whole,
            signal = signals.next_end() => tracing::warn!("second {signal}: aborting open exchanges"),
            () = tokio::time::sleep(DRAIN_LIMIT) => {
                tracing::warn!("some exchanges did not finish within {DRAIN_LIMIT:?}: aborting them");
            }
        }
        self.enter(Stage::Stopping);
        let stopped = all_ended(&mut self.endings, &mut self.running, &mut cut);
        let is_stopped = tokio::time::timeout(STOP_LIMIT, stopped).await.is_ok();
        let Cut {
            exchanges,
            connections,
        } = cut;
        tracing::warn!("Cut off {exchanges} exchanges and {connections} client connections");
        if !is_stopped {
            let running = self.running;
            tracing::warn!(
                "{running} workers did not stop within {STOP_LIMIT:?}: their open exchanges are not logged"
            );
            return Drained::Stuck;
        }
        Drained::Cut
    }

    fn enter(&self, stage: Stage) {
        if let Some(handover) = &self.handover {
            handover.close();
        }
        self.stage.send_replace(stage);
    }
}

/// Ends a generation that has been replaced, on a thread of its own: its plugins may take as long as they like.
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
        () = tokio::time::sleep(limit) => report_stuck_plugins(limit),
    }
}

fn start_worker(
    mut start: WorkerStart,
    ended: mpsc::UnboundedSender<io::Result<Cut>>,
) -> io::Result<()> {
    let name = format!("worker-{}", start.number);
    thread::Builder::new().name(name).spawn(move || {
        let result = restart::run_again(start.number, || worker::run(&mut start), Instant::now);
        // It holds what is in force, which the server ends once all workers have ended.
        drop(start);
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
