//! A worker: a thread, a single-threaded runtime, and everything its connections use.
//!
//! A worker accepts on its own listeners, and has its own upstream connections, deadlines, buffers and access log
//! batch. What workers share is immutable (a `Generation`) or rarely written: certificates, facts learned about hosts,
//! and the machine's files about names. Only the counters of connections and exchanges are written by all workers.
//!
//! A panic in the task of a connection loses that connection only. A panic in an essential task, such as the one that
//! accepts connections, ends the run of the worker: open connections are aborted and counted, and the worker can be
//! restarted with the same listeners.

use std::any::Any;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection;
use crate::generation::{Current, Generation, WorkerGeneration};
use crate::handover::Handover;
use crate::held;
use crate::in_flight::{KindCounts, OpenExchange};
use crate::listener::{AsyncListener, Listener};
use crate::open_files;
use crate::plugins::call::Visible;
use crate::plugins::marks::Role;
use crate::plugins::statistics;
use crate::telemetry::{self, LogSink};
use crate::upstream::{Learned, pressure};
use crate::worker_context::{AbortReason, Tally, WorkerContext};

/// The number of long exchanges that a draining worker names.
pub(crate) const MAX_NAMED: usize = 10;

/// How often a draining worker looks whether everything has ended.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// The number of such steps between two reports.
const STEPS_PER_REPORT: u32 = 25;

/// How long a worker stops accepting when the process runs out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The maximum number of threads per worker for the proxy's blocking work, such as long content codings and the system
/// resolver; further work waits. Plugins have threads of their own.
const MAX_BLOCKING_THREADS: usize = 16;

/// Accepts connections, and holds what outlives them.
#[derive(Debug)]
struct Worker {
    context: Rc<WorkerContext>,
    learned: Rc<Learned>,
    current: Rc<Current>,
}

/// What a worker needs to start, or to restart after a panic.
#[derive(Debug)]
pub(crate) struct WorkerStart {
    pub(crate) number: usize,
    /// Each run duplicates the descriptors. Empty once the worker drains.
    pub(crate) listeners: Vec<Listener>,
    /// Connections of stuck workers. `None` with a single worker, or without plugins.
    pub(crate) handover: Option<Arc<Handover>>,
    /// The current generation, and each later one.
    pub(crate) generations: watch::Receiver<Arc<Generation>>,
    /// Receives each generation that the worker uses now, or cannot use.
    pub(crate) switched: UnboundedSender<Switched>,
    /// Receives what the worker has in flight while it drains.
    pub(crate) drain_reports: UnboundedSender<DrainReport>,
    /// `None` without a watchdog.
    pub(crate) heartbeat: Option<Heartbeat>,
    pub(crate) log: LogSink,
    /// The stage of the shutdown.
    pub(crate) stage: watch::Receiver<ShutdownStage>,
    /// Where to send a report, each time somebody wants one.
    pub(crate) report_to: watch::Receiver<Option<UnboundedSender<WorkerReport>>>,
    /// Sent once when the worker accepts connections; dropped without a message if it cannot.
    pub(crate) ready: Option<mpsc::Sender<()>>,
}

/// A worker uses a new generation, or cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switched {
    /// The number of the worker.
    pub(crate) worker: usize,
    /// The number of the generation.
    pub(crate) generation: u64,
}

/// How a worker shows that it makes progress: it answers each question with its number and that of the question.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) questions: watch::Receiver<u64>,
    pub(crate) answer: UnboundedSender<(usize, u64)>,
}

/// What a draining worker has in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DrainReport {
    /// The number of the worker.
    pub(crate) worker: usize,
    pub(crate) in_flight: KindCounts,
    /// In its first report, the oldest exchanges that end only if a peer ends them, at most [`MAX_NAMED`].
    pub(crate) oldest: Option<Vec<OpenExchange>>,
}

/// What a worker reports about itself on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerReport {
    /// The number of the worker.
    pub(crate) worker: usize,
    /// Open client connections.
    pub(crate) connections: usize,
    /// Open exchanges.
    pub(crate) in_flight: KindCounts,
}

/// How the run of a worker ended.
#[derive(Debug)]
pub(crate) enum WorkerEnd {
    /// As requested; with what became of its exchanges.
    Drained(Tally),
    /// By a panic; with its payload, and what was aborted.
    Panicked(Box<dyn Any + Send>, Tally),
}

/// The stage of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ShutdownStage {
    Serving,
    /// Finish exchanges in flight, accept nothing new.
    Draining,
    /// Abort exchanges in flight.
    Aborting,
}

/// Runs a worker on the calling thread until it has drained, is told to abort, or panics.
pub(crate) fn run(start: &mut WorkerStart) -> io::Result<WorkerEnd> {
    run_with(start, |_, _| ())
}

/// Runs a worker with additional essential tasks, which `spawn` adds.
fn run_with(
    start: &mut WorkerStart,
    spawn: impl FnOnce(&Rc<Worker>, &mut JoinSet<()>),
) -> io::Result<WorkerEnd> {
    let _visible = Visible::new(Role::Worker(start.number));
    telemetry::limit_repeats_of_this_thread();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build_local(tokio::runtime::LocalOptions::default())?;
    let worker = runtime.block_on(async { Worker::new(start) })?;
    let serving = serve(&worker, start, spawn);
    let served = catch_unwind(AssertUnwindSafe(|| runtime.block_on(serving)));
    if served.is_err() {
        worker.context.abort(AbortReason::Panic);
    }
    // Does not wait for blocking work, which nobody needs any more. Exchanges in flight end here, each with its line in
    // the log.
    runtime.shutdown_background();
    worker.context.flush_access_log();
    let tally = worker.context.tally();
    match served {
        Ok(result) => result.map(|()| WorkerEnd::Drained(tally)),
        Err(panic) => Ok(WorkerEnd::Panicked(panic, tally)),
    }
}

/// Serves until the worker has drained. Panics if an essential task does.
async fn serve(
    worker: &Rc<Worker>,
    start: &mut WorkerStart,
    spawn: impl FnOnce(&Rc<Worker>, &mut JoinSet<()>),
) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    spawn(worker, &mut tasks);
    let (context, learned) = (Rc::clone(&worker.context), Rc::clone(&worker.learned));
    tasks.spawn_local(async move {
        context.deadlines.run(|| learned.pool().sweep()).await;
    });
    let context = Rc::clone(&worker.context);
    tasks.spawn_local(async move { context.write_access_log().await });
    for listener in &start.listeners {
        let listener = listener.try_clone()?.into_async()?;
        tasks.spawn_local(Rc::clone(worker).accept(listener, start.stage.clone()));
    }
    let (generations, switched) = (start.generations.clone(), start.switched.clone());
    tasks.spawn_local(Rc::clone(worker).switch_generations(start.number, generations, switched));
    let (reporter, report_to) = (Rc::clone(worker), start.report_to.clone());
    tasks.spawn_local(reporter.report(start.number, report_to));
    if let Some(handover) = start.handover.clone() {
        let (taker, number, stage) = (Rc::clone(worker), start.number, start.stage.clone());
        tasks.spawn_local(async move { taker.take_over(&handover, number, stage).await });
    }
    if let Some(heartbeat) = start.heartbeat.clone() {
        tasks.spawn_local(answer_heartbeats(start.number, heartbeat));
    }
    if let Some(ready) = start.ready.take() {
        // The server may have given up because another worker failed.
        let _ = ready.send(());
    }
    tokio::select! {
        panic = first_panic(&mut tasks) => resume_unwind(panic),
        () = worker.drained(start) => Ok(()),
    }
}

async fn answer_heartbeats(worker: usize, mut heartbeat: Heartbeat) {
    while heartbeat.questions.changed().await.is_ok() {
        let number = *heartbeat.questions.borrow_and_update();
        // The server may have ended.
        let _ = heartbeat.answer.send((worker, number));
    }
}

/// The payload of the first of these tasks that panics. Pends until then.
async fn first_panic(tasks: &mut JoinSet<()>) -> Box<dyn Any + Send> {
    while let Some(ended) = tasks.join_next().await {
        if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
            return panic;
        }
    }
    pending().await
}

impl Worker {
    /// A worker for the calling thread.
    fn new(start: &mut WorkerStart) -> io::Result<Rc<Self>> {
        let context = WorkerContext::new(start.log.clone());
        let listeners = start.listeners.iter();
        let own_addresses = listeners
            .map(Listener::local_addr)
            .collect::<io::Result<_>>()?;
        // A restarted worker may already have used the newest one.
        let has_changed = start.generations.has_changed().unwrap_or(false);
        let generation = Arc::clone(&start.generations.borrow_and_update());
        let number = generation.number;
        let learned = Learned::new(&generation.config, &context.deadlines, own_addresses);
        let generation = WorkerGeneration::new(&generation, &context, &learned, None)?;
        let worker = Self {
            context,
            learned,
            current: Current::new(Rc::clone(&generation)),
        };
        worker.activate(generation);
        if has_changed {
            report_switched(&start.switched, start.number, number);
        }
        Ok(Rc::new(worker))
    }

    /// Switches to each new generation.
    async fn switch_generations(
        self: Rc<Self>,
        number: usize,
        mut generations: watch::Receiver<Arc<Generation>>,
        switched: UnboundedSender<Switched>,
    ) {
        while generations.changed().await.is_ok() {
            let generation = Arc::clone(&generations.borrow_and_update());
            let before = self.current.get();
            let made =
                WorkerGeneration::new(&generation, &self.context, &self.learned, Some(&*before));
            match made {
                Ok(made) => self.activate(made),
                Err(error) => tracing::error!(
                    %error,
                    "a worker cannot switch to generation {}: it keeps generation {}",
                    generation.number,
                    before.number
                ),
            }
            report_switched(&switched, number, generation.number);
        }
    }

    /// Reports on each request, and publishes what was counted of plugins.
    async fn report(
        self: Rc<Self>,
        number: usize,
        mut report_to: watch::Receiver<Option<UnboundedSender<WorkerReport>>>,
    ) {
        while report_to.changed().await.is_ok() {
            let Some(report_to) = report_to.borrow_and_update().clone() else {
                continue;
            };
            statistics::publish();
            let report = WorkerReport {
                worker: number,
                connections: self.context.connections(),
                in_flight: self.context.in_flight.open(),
            };
            // Nobody may be waiting for it any more.
            let _ = report_to.send(report);
        }
    }

    fn activate(&self, generation: Rc<WorkerGeneration>) {
        held::set_limit(generation.config.limits.max_buffer_total);
        self.learned.set_limits(&generation.config);
        generation.install_caller();
        self.current.replace(generation);
    }

    async fn accept(
        self: Rc<Self>,
        listener: AsyncListener,
        mut stage: watch::Receiver<ShutdownStage>,
    ) {
        let mut has_asked = false;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage >= ShutdownStage::Draining) => return,
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
                        && self.learned.pool().close_idle(pressure::RELIEF) > 0 => {}
                Err(error) if open_files::is_out_of_descriptors(&error) && !has_asked => {
                    has_asked = true;
                    pressure::request(pressure::RELIEF);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Err(error) => {
                    has_asked = false;
                    tracing::warn!(%error, "cannot accept connections: retrying");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves connections of stuck workers.
    async fn take_over(
        self: Rc<Self>,
        handover: &Handover,
        number: usize,
        mut stage: watch::Receiver<ShutdownStage>,
    ) {
        loop {
            let (socket, client) = tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage >= ShutdownStage::Draining) => return,
                accepted = handover.next(number) => accepted,
            };
            match TcpStream::from_std(socket) {
                Ok(socket) => self.begin(socket, client),
                Err(error) => {
                    tracing::warn!(%error, %client, "cannot take over a connection of a stuck worker")
                }
            }
            // One at a time, so that other workers get some.
            tokio::task::yield_now().await;
        }
    }

    fn begin(self: &Rc<Self>, socket: TcpStream, client: SocketAddr) {
        let generation = self.current.get();
        let config = &generation.config;
        let limit = config.limits.max_connections;
        if limit > 0 && self.context.connections() >= limit.div_ceil(config.num_workers.get()) {
            tracing::warn!(%client, limit, "too many connections: closing a new one");
            return;
        }
        let number = open_files::number_of(&socket);
        self.learned.pool().report_descriptor(number);
        let open_connection = self.context.open_connection();
        connection::begin(socket, client, &self.current, open_connection);
    }

    /// Waits for the order to drain, and then for the connections to end, or for the order to abort them.
    async fn drained(&self, start: &mut WorkerStart) {
        let stage = &mut start.stage;
        // An error means that the server has ended, which is an order too.
        let _ = stage
            .wait_for(|stage| *stage >= ShutdownStage::Draining)
            .await;
        // The kernel refuses connections once all listeners are closed.
        start.listeners.clear();
        let reports = &start.drain_reports;
        let oldest = self.context.in_flight.oldest(MAX_NAMED);
        self.report_in_flight(start.number, reports, Some(oldest));
        self.context.drain();
        self.learned.pool().clear();
        let ended = async {
            let mut steps = 0;
            while self.context.connections() > 0 {
                self.context.deadlines.wake_all();
                tokio::time::sleep(DRAIN_STEP).await;
                steps += 1;
                if steps % STEPS_PER_REPORT == 0 {
                    self.report_in_flight(start.number, reports, None);
                }
            }
            self.report_in_flight(start.number, reports, None);
        };
        let has_stopped = tokio::select! {
            biased;
            stopped = stage.wait_for(|stage| *stage >= ShutdownStage::Aborting) => stopped.is_ok(),
            () = ended => false,
        };
        if has_stopped {
            self.context.abort(AbortReason::Shutdown);
        }
    }
}

impl Worker {
    fn report_in_flight(
        &self,
        worker: usize,
        reports: &UnboundedSender<DrainReport>,
        oldest: Option<Vec<OpenExchange>>,
    ) {
        // The server may have ended.
        let _ = reports.send(DrainReport {
            worker,
            in_flight: self.context.in_flight.open(),
            oldest,
        });
    }
}

fn report_switched(switched: &UnboundedSender<Switched>, worker: usize, generation: u64) {
    // The server may have ended.
    let _ = switched.send(Switched { worker, generation });
}

/// Whether an error of accept(2) concerns only the connection.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use crate::config::Config;
    use crate::generation;

    fn start(listener: std::net::TcpListener) -> (WorkerStart, watch::Sender<ShutdownStage>) {
        let generation = generation::build(Config::default(), None).unwrap();
        let (stage, stages) = watch::channel(ShutdownStage::Serving);
        let start = WorkerStart {
            number: 0,
            listeners: vec![Listener::new(listener).unwrap()],
            handover: None,
            generations: watch::Sender::new(Arc::new(generation)).subscribe(),
            switched: tokio::sync::mpsc::unbounded_channel().0,
            drain_reports: tokio::sync::mpsc::unbounded_channel().0,
            heartbeat: None,
            log: LogSink::discard(),
            stage: stages,
            report_to: watch::Sender::new(None).subscribe(),
            ready: None,
        };
        (start, stage)
    }

    #[test]
    fn a_worker_that_has_panicked_serves_again_on_the_same_listeners() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (mut start, stage) = start(listener);
        let worker = thread::spawn(move || {
            let first = run_with(&mut start, |worker, tasks| {
                let context = Rc::clone(&worker.context);
                tasks.spawn_local(async move {
                    while context.connections() < 2 {
                        tokio::task::yield_now().await;
                    }
                    panic!("boom");
                });
            });
            (first.unwrap(), run(&mut start).unwrap())
        });
        let mut lost = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        for client in &mut lost {
            assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
        }
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 "), "{response}");
        stage.send_replace(ShutdownStage::Draining);
        let (first, second) = worker.join().unwrap();
        let WorkerEnd::Panicked(panic, tally) = first else {
            panic!("{first:?}");
        };
        assert_eq!(panic.downcast_ref(), Some(&"boom"));
        assert_eq!((tally.connections, tally.cut_off.total()), (2, 0));
        assert!(matches!(second, WorkerEnd::Drained(tally) if tally == Tally::default()));
        assert!(
            TcpStream::connect(address).is_err(),
            "a drained worker keeps no listener"
        );
    }

    #[test]
    fn a_panic_resets_a_response_that_ends_with_its_connection() {
        let origin = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/", origin.local_addr().unwrap());
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (mut start, _stage) = start(listener);
        let has_begun = Arc::new(AtomicBool::new(false));
        let may_panic = Arc::clone(&has_begun);
        let worker = thread::spawn(move || {
            run_with(&mut start, |_, tasks| {
                tasks.spawn_local(async move {
                    while !may_panic.load(Ordering::SeqCst) {
                        tokio::task::yield_now().await;
                    }
                    panic!("boom");
                });
            })
        });
        let mut client = TcpStream::connect(address).unwrap();
        write!(client, "GET {url} HTTP/1.0\r\n\r\n").unwrap();
        let (mut upstream, _) = origin.accept().unwrap();
        upstream.write_all(b"HTTP/1.1 200 OK\r\n\r\nbegun").unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"begun") {
            let mut part = [0; 512];
            let len = client.read(&mut part).unwrap();
            assert!(len > 0, "{received:?}");
            received.extend_from_slice(&part[..len]);
        }
        has_begun.store(true, Ordering::SeqCst);
        let end = client.read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
        assert!(matches!(
            worker.join().unwrap(),
            Ok(WorkerEnd::Panicked(..))
        ));
    }

    #[test]
    fn the_end_of_a_task_is_no_panic() {
        tokio::runtime::Builder::new_current_thread()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap()
            .block_on(async {
                let mut tasks = JoinSet::new();
                tasks.spawn_local(async {});
                tasks.spawn_local(pending());
                let aborted = tasks.spawn_local(pending());
                aborted.abort();
                tasks.spawn_local(async {
                    tokio::task::yield_now().await;
                    panic!("boom");
                });
                let panic = first_panic(&mut tasks).await;
                assert_eq!(panic.downcast_ref(), Some(&"boom"));
            });
    }
}
