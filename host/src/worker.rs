//! A worker: a thread, a single-threaded runtime, and everything its connections use.
//!
//! A worker accepts on its own listeners, and has its own upstream connections, deadlines, buffers and access log
//! batch. What workers share is immutable (a `Generation`) or rarely written: certificates, facts learned about hosts,
//! and the machine's files about names. Only the counters of connections and exchanges are written by all workers.
//!
//! `accept` has how it accepts connections and gives some away, `given` how it takes those of others, `drain` how it ends.
//!
//! A panic in the task of a connection loses that connection only. A panic in an essential task, such as the one that
//! accepts connections, ends the run of the worker: open connections are aborted and counted, and the worker can be
//! restarted with the same listeners.
//!
//! Each listener of the worker has a [`Current`] generation of its own, with its TLS and its plugins. The task that accepts
//! on a listener passes that on to `connection::begin` with each socket; a connection that the worker takes over from
//! another one has the id of its listener, by which its `Current` is found. `begin` finds the kind and the other settings
//! of the listener in `current.get().listener().config`.

mod accept;
mod drain;
mod given;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::balance::Balancer;
use crate::generation::{Current, Generation, WorkerGeneration, WorkerParts};
use crate::handover::Handover;
use crate::held;
use crate::in_flight::KindCounts;
use crate::listener::{AsyncListener, ListenerId, Sockets};
use crate::plugins::call::Visible;
use crate::plugins::marks::Role;
use crate::plugins::statistics;
use crate::telemetry::{self, LogSink};
use crate::upstream::{Connector, Learned};
use crate::worker_context::{AbortReason, Tally, WorkerContext};
pub(crate) use drain::{DrainReport, MAX_NAMED};

/// The maximum number of threads per worker for the proxy's blocking work, such as long content codings and the system
/// resolver; further work waits. Plugins have threads of their own.
const MAX_BLOCKING_THREADS: usize = 16;

/// Accepts connections, and holds what outlives them.
#[derive(Debug)]
struct Worker {
    context: Rc<WorkerContext>,
    learned: Rc<Learned>,
    number: usize,
    sockets: Arc<Sockets>,
    /// To pass connections to other workers. `None` with a single worker.
    others: Option<(Arc<Handover>, Balancer)>,
    /// What the listeners share in the current generation.
    parts: RefCell<WorkerParts>,
    /// The number of the current generation.
    generation: Cell<u64>,
    listeners: RefCell<Vec<OpenListener>>,
}

/// A listener on which a worker accepts.
#[derive(Debug)]
struct OpenListener {
    id: ListenerId,
    /// Used by all connections that it accepts.
    current: Rc<Current>,
    /// One for each address.
    accepting: Vec<Accepting>,
}

/// A socket on which a task accepts.
#[derive(Debug)]
struct Accepting {
    /// `None` once the listener is removed: the descriptor is closed at that moment, not when the task ends.
    socket: Rc<RefCell<Option<AsyncListener>>>,
    task: AbortHandle,
}

/// What a worker needs to start, or to restart after a panic.
#[derive(Debug)]
pub(crate) struct WorkerStart {
    pub(crate) number: usize,
    /// Each run duplicates the descriptors of the worker.
    pub(crate) sockets: Arc<Sockets>,
    /// Passes connections between workers. `None` with a single worker.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Switched {
    /// The number of the worker.
    pub(crate) worker: usize,
    /// The number of the generation.
    pub(crate) generation: u64,
    /// Why it cannot.
    pub(crate) problem: Option<String>,
}

/// How a worker shows that it makes progress: it answers each question with its number and that of the question.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) questions: watch::Receiver<u64>,
    pub(crate) answer: UnboundedSender<(usize, u64)>,
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
    /// Another process serves: accept nothing, and let each exchange be the last of its connection. Idle connections may
    /// still send a request, so that none is lost.
    Retiring,
    /// The same, and close idle connections.
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
    worker.open_listeners(start, &mut tasks)?;
    let (reporter, report_to) = (Rc::clone(worker), start.report_to.clone());
    tasks.spawn_local(reporter.report(report_to));
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
    let mut generations = start.generations.clone();
    let mut drained =
        std::pin::pin!(worker.drained(start.stage.clone(), start.drain_reports.clone()));
    loop {
        tokio::select! {
            panic = first_panic(&mut tasks) => resume_unwind(panic),
            () = &mut drained => return Ok(()),
            Ok(()) = generations.changed() => {
                let generation = Arc::clone(&generations.borrow_and_update());
                worker.switch(&generation, start, &mut tasks);
            }
        }
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
        let handover = start.handover.as_ref();
        let load = handover.map(|handover| (Arc::clone(handover.loads()), start.number));
        let context = WorkerContext::new(start.log.clone(), load);
        // A restarted worker may already have used the newest one.
        let has_changed = start.generations.has_changed().unwrap_or(false);
        let generation = Arc::clone(&start.generations.borrow_and_update());
        let number = generation.number;
        let learned = Learned::new(&generation.config, &context.deadlines);
        let parts = parts(&generation, start, &context, &learned, None)?;
        let worker = Self {
            context,
            learned,
            number: start.number,
            others: handover.map(|handover| {
                let balancer = Balancer::new(handover.loads(), start.number);
                (Arc::clone(handover), balancer)
            }),
            sockets: Arc::clone(&start.sockets),
            parts: RefCell::new(parts),
            generation: Cell::new(number),
            listeners: RefCell::default(),
        };
        worker.follow(&generation);
        worker.take_given(number);
        if has_changed {
            report_switched(&start.switched, start.number, number, None);
        }
        Ok(Rc::new(worker))
    }

    /// Switches to a new generation, and begins or ends to accept on the listeners that it adds or removes.
    fn switch(
        self: &Rc<Self>,
        generation: &Arc<Generation>,
        start: &WorkerStart,
        tasks: &mut JoinSet<()>,
    ) {
        self.take_given(generation.number);
        let before = Rc::clone(&self.parts.borrow().connector);
        let made = parts(
            generation,
            start,
            &self.context,
            &self.learned,
            Some(&before),
        );
        let opened = made.and_then(|made| {
            self.parts.replace(made);
            self.generation.set(generation.number);
            self.follow(generation);
            self.open_listeners(start, tasks)
        });
        let problem = opened.err().map(|error| {
            format!(
                "worker {} cannot switch to generation {}, it keeps generation {}: {error}",
                self.number,
                generation.number,
                self.generation.get()
            )
        });
        if let Some(problem) = &problem {
            tracing::error!("{problem}");
            self.take_given(self.generation.get());
        }
        report_switched(&start.switched, self.number, generation.number, problem);
    }

    /// Uses this generation for the listeners that there are, and drains the connections of those that it removes.
    fn follow(&self, generation: &Arc<Generation>) {
        self.context.switch_access_log(&generation.access_log);
        held::set_limit(generation.config.limits.max_buffer_total);
        self.learned.set_limits(&generation.config);
        let parts = self.parts.borrow();
        let mut listeners = self.listeners.borrow_mut();
        let mut before = std::mem::take(&mut *listeners);
        for (position, part) in generation.listeners.iter().enumerate() {
            let known = before.iter().position(|known| known.id == part.id);
            let known = known.map(|known| before.swap_remove(known));
            let current = known.as_ref().map(|known| &*known.current);
            let made = WorkerGeneration::new(generation, position, &parts, current);
            if position == 0 {
                made.install_caller();
            }
            listeners.push(match known {
                Some(known) => {
                    known.current.replace(made);
                    known
                }
                None => OpenListener {
                    id: part.id,
                    current: Current::new(made),
                    accepting: Vec::new(),
                },
            });
        }
        drop((parts, listeners));
        self.remove(before, generation);
    }

    /// Accepts nothing more on these listeners than what is queued already, and drains their connections.
    fn remove(&self, removed: Vec<OpenListener>, generation: &Generation) {
        let kept: Vec<ListenerId> = generation.listeners.iter().map(|part| part.id).collect();
        for accepting in removed.iter().flat_map(|removed| &removed.accepting) {
            drop(accepting.socket.take());
            accepting.task.abort();
        }
        for listener in self.sockets.take_removed(self.number, &kept) {
            let mut owners = removed.iter();
            let Some(owner) = owners.find(|owner| owner.id == listener.id) else {
                continue;
            };
            // Closing the socket resets the connections that the kernel has accepted on it.
            while let Ok(accepted) = listener.accept_queued() {
                self.adopt(accepted, &owner.current, None);
            }
        }
        if !removed.is_empty() {
            removed.iter().for_each(|removed| removed.current.remove());
            self.context.deadlines.wake_all();
        }
    }

    /// Reports on each request, and publishes what was counted of plugins.
    async fn report(
        self: Rc<Self>,
        mut report_to: watch::Receiver<Option<UnboundedSender<WorkerReport>>>,
    ) {
        while report_to.changed().await.is_ok() {
            let Some(report_to) = report_to.borrow_and_update().clone() else {
                continue;
            };
            statistics::publish();
            let report = WorkerReport {
                worker: self.number,
                connections: self.context.connections(),
                in_flight: self.context.in_flight.open(),
            };
            // Nobody may be waiting for it any more.
            let _ = report_to.send(report);
        }
    }
}

/// What the listeners of a worker share in this generation.
fn parts(
    generation: &Generation,
    start: &WorkerStart,
    worker: &Rc<WorkerContext>,
    learned: &Rc<Learned>,
    before: Option<&Connector>,
) -> io::Result<WorkerParts> {
    let (mut own_addresses, mut ports) = (Vec::new(), Vec::new());
    let is_current = |id: ListenerId| generation.listeners.iter().any(|part| part.id == id);
    start.sockets.each(start.number, |listener| {
        if is_current(listener.id)
            && let Ok(Some(address)) = listener.local_addr()
        {
            own_addresses.push(address);
            ports.push((listener.id, address.port()));
        }
    });
    Ok(WorkerParts {
        worker: Rc::clone(worker),
        connector: generation.connector(learned, own_addresses, before)?,
        ports: ports.into(),
    })
}

fn report_switched(
    switched: &UnboundedSender<Switched>,
    worker: usize,
    generation: u64,
    problem: Option<String>,
) {
    // The server may have ended.
    let _ = switched.send(Switched {
        worker,
        generation,
        problem,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Listener;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use crate::config::Config;
    use crate::generation;

    fn start(listener: std::net::TcpListener) -> (WorkerStart, watch::Sender<ShutdownStage>) {
        let (stage, stages) = watch::channel(ShutdownStage::Serving);
        let id = generation::build(Config::default(), None)
            .unwrap()
            .listeners[0]
            .id;
        let sockets = Sockets::new(1);
        sockets.add(vec![vec![Listener::tcp(id, listener).unwrap()]]);
        (start_of(0, Arc::new(sockets), None, stages), stage)
    }

    fn start_of(
        number: usize,
        sockets: Arc<Sockets>,
        handover: Option<Arc<Handover>>,
        stages: watch::Receiver<ShutdownStage>,
    ) -> WorkerStart {
        let generation = generation::build(Config::default(), None).unwrap();
        WorkerStart {
            number,
            sockets,
            handover,
            generations: watch::Sender::new(Arc::new(generation)).subscribe(),
            switched: tokio::sync::mpsc::unbounded_channel().0,
            drain_reports: tokio::sync::mpsc::unbounded_channel().0,
            heartbeat: None,
            log: LogSink::discard(),
            stage: stages,
            report_to: watch::Sender::new(None).subscribe(),
            ready: None,
        }
    }

    /// Opens connections that stay open, each to the listener of the worker that `to` names; how many each worker has.
    fn opened(workers: usize, to: impl Iterator<Item = usize>) -> Vec<usize> {
        let generation = generation::build(Config::default(), None).unwrap();
        let id = generation.listeners[0].id;
        let bind = |_| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let bound: Vec<_> = (0..workers).map(bind).collect();
        let address = |bound: &std::net::TcpListener| bound.local_addr().unwrap();
        let addresses: Vec<_> = bound.iter().map(address).collect();
        let sockets = Arc::new(Sockets::new(workers));
        let listener = |bound| vec![Listener::tcp(id, bound).unwrap()];
        sockets.add(bound.into_iter().map(listener).collect());
        let handover = Arc::new(Handover::new(Arc::clone(&sockets), generation.number));
        let (stage, stages) = watch::channel(ShutdownStage::Serving);
        let started = (0..workers).map(|number| {
            let handover = Some(Arc::clone(&handover));
            let mut start = start_of(number, Arc::clone(&sockets), handover, stages.clone());
            thread::spawn(move || run(&mut start).unwrap())
        });
        let started: Vec<_> = started.collect();
        let mut clients: Vec<_> = to
            .map(|worker| TcpStream::connect(addresses[worker]).unwrap())
            .collect();
        let loads = || -> Vec<usize> {
            let loads = handover.loads();
            (0..workers).map(|worker| loads.of(worker)).collect()
        };
        while loads().iter().sum::<usize>() < clients.len() {
            thread::yield_now();
        }
        let found = loads();
        for client in &mut clients {
            client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut response = String::new();
            client.read_to_string(&mut response).unwrap();
            assert!(response.starts_with("HTTP/1.1 "), "{response}");
        }
        drop(clients);
        handover.close();
        stage.send_replace(ShutdownStage::Draining);
        started
            .into_iter()
            .for_each(|worker| drop(worker.join().unwrap()));
        assert_eq!(loads().iter().sum::<usize>(), 0);
        found
    }

    #[test]
    fn connections_that_stay_open_are_spread_evenly_wherever_the_kernel_puts_them() {
        for (workers, connections) in [(2, 8), (2, 16), (3, 9), (4, 8), (4, 16)] {
            let even = vec![connections / workers; workers];
            let on_one = std::iter::repeat_n(0, connections);
            assert_eq!(opened(workers, on_one), even);
            let in_blocks = (0..connections).map(|number| number * workers / connections);
            let loads = opened(workers, in_blocks);
            // Workers that accept at the same moment may not see each other's connection.
            let is_even = loads.iter().all(|load| load.abs_diff(even[0]) <= 1);
            assert!(is_even, "{connections} on {workers} workers: {loads:?}");
        }
    }

    #[test]
    fn a_worker_that_has_panicked_serves_again_on_the_same_listeners() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (mut start, stage) = start(listener);
        let sockets = Arc::clone(&start.sockets);
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
        sockets.close();
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
