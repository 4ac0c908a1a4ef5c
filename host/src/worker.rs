//! One worker: a thread, a single-threaded runtime, and everything its connections use.
//!
//! A worker accepts on its own listener, keeps its own upstream connections, deadlines and buffers, and writes its
//! own access log batch. What all workers share is immutable, a `Generation`; or written rarely: certificates, what was
//! learnt about hosts, and what the machine's files say about names. Only the counts of connections and exchanges are
//! written by all.
//!
//! A panic in the task of a connection loses that connection alone. A panic in a task that the worker cannot do without,
//! such as the one that accepts, ends the run of the worker: what is open is given up and counted, and the worker can be
//! run again on the same listeners.

use std::any::Any;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection;
use crate::generation::{Current, Generation, WorkerGeneration};
use crate::handover::Handover;
use crate::held;
use crate::open_files;
use crate::plugins::call::Visible;
use crate::plugins::marks::Role;
use crate::telemetry::{self, LogSink};
use crate::upstream::{Learned, pressure};
use crate::worker_context::{Cut, GivesUp, WorkerContext};

/// How long accepting rests when the process has no descriptor or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The most threads for what blocks of the proxy's own, such as long content codings and name resolution by the system,
/// per worker; further work waits. Plugins have threads of their own.
const MAX_BLOCKING_THREADS: usize = 16;

/// Accepts connections, and keeps what outlives them.
#[derive(Debug)]
struct Worker {
    context: Rc<WorkerContext>,
    learned: Rc<Learned>,
    current: Rc<Current>,
}

/// What a worker is started with, and started again after a panic.
#[derive(Debug)]
pub(crate) struct WorkerStart {
    pub(crate) number: usize,
    /// Each run has descriptors of its own. Empty once the worker drains.
    pub(crate) listeners: Vec<std::net::TcpListener>,
    /// Connections of workers that are stuck. None where there is no other worker, or nothing to be stuck in.
    pub(crate) handover: Option<Arc<Handover>>,
    /// What is in force, and whatever will be.
    pub(crate) generations: watch::Receiver<Arc<Generation>>,
    /// Told each generation that the worker has changed over to, or cannot.
    pub(crate) followed: UnboundedSender<Followed>,
    pub(crate) log: LogSink,
    /// How far the end of the process has come.
    pub(crate) stage: watch::Receiver<Stage>,
    /// Told once when the worker takes connections, and gone then; dropped untold when it cannot.
    pub(crate) ready: Option<mpsc::Sender<()>>,
}

/// A worker has changed over to a generation, or cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    /// The number of the worker.
    pub(crate) worker: usize,
    /// The number of the generation.
    pub(crate) generation: u64,
}

/// How a run of a worker has ended.
#[derive(Debug)]
pub(crate) enum Run {
    /// As it was told to. What it has given up.
    Drained(Cut),
    /// By a panic: what it was raised with, and what has been given up.
    Panicked(Box<dyn Any + Send>, Cut),
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

/// Runs a worker on the calling thread until it has drained, is told to give up what is under way, or panics.
pub(crate) fn run(start: &mut WorkerStart) -> io::Result<Run> {
    run_with(start, |_, _| ())
}

/// Runs a worker that cannot do without the tasks that `spawn` adds, either.
fn run_with(
    start: &mut WorkerStart,
    spawn: impl FnOnce(&Rc<Worker>, &mut JoinSet<()>),
) -> io::Result<Run> {
    let _visible = Visible::new(Role::Worker(start.number));
    telemetry::bound_repeats_of_this_thread();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build_local(tokio::runtime::LocalOptions::default())?;
    let worker = runtime.block_on(async { Worker::new(start) })?;
    let serving = serve(&worker, start, spawn);
    let served = catch_unwind(AssertUnwindSafe(|| runtime.block_on(serving)));
    if served.is_err() {
        worker.context.give_up(GivesUp::Panic);
    }
    // Blocking work that nobody waits for any more does not keep the process. Exchanges that are still under way end
    // here, each with its line in the log.
    runtime.shutdown_background();
    worker.context.flush_access_log();
    let cut = worker.context.cut();
    match served {
        Ok(result) => result.map(|()| Run::Drained(cut)),
        Err(panic) => Ok(Run::Panicked(panic, cut)),
    }
}

/// Serves until the worker has drained. Panics when a task does that it cannot do without.
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
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        tasks.spawn_local(Rc::clone(worker).accept(listener, start.stage.clone()));
    }
    let (generations, followed) = (start.generations.clone(), start.followed.clone());
    tasks.spawn_local(Rc::clone(worker).follow(start.number, generations, followed));
    if let Some(handover) = start.handover.clone() {
        let (taker, number, stage) = (Rc::clone(worker), start.number, start.stage.clone());
        tasks.spawn_local(async move { taker.take_over(&handover, number, stage).await });
    }
    if let Some(ready) = start.ready.take() {
        // The server may have given up waiting because another worker failed.
        let _ = ready.send(());
    }
    tokio::select! {
        panic = first_panic(&mut tasks) => resume_unwind(panic),
        () = worker.drained(&mut start.stage, &mut start.listeners) => Ok(()),
    }
}

/// What the first of these tasks that panics does so with. Pends while none has.
async fn first_panic(tasks: &mut JoinSet<()>) -> Box<dyn Any + Send> {
    while let Some(ended) = tasks.join_next().await {
        if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
            return panic;
        }
    }
    pending().await
}

impl Worker {
    /// A worker that belongs to the calling thread.
    fn new(start: &mut WorkerStart) -> io::Result<Rc<Self>> {
        let context = WorkerContext::new(start.log.clone());
        let listeners = start.listeners.iter();
        let own_addresses = listeners
            .map(std::net::TcpListener::local_addr)
            .collect::<io::Result<_>>()?;
        // One that starts again may have changed over to a new one before, or may not.
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
        worker.put_in_force(generation);
        if has_changed {
            tell_followed(&start.followed, start.number, number);
        }
        Ok(Rc::new(worker))
    }

    /// Changes over to each new generation.
    async fn follow(
        self: Rc<Self>,
        number: usize,
        mut generations: watch::Receiver<Arc<Generation>>,
        followed: UnboundedSender<Followed>,
    ) {
        while generations.changed().await.is_ok() {
            let generation = Arc::clone(&generations.borrow_and_update());
            let before = self.current.get();
            let made =
                WorkerGeneration::new(&generation, &self.context, &self.learned, Some(&*before));
            match made {
                Ok(made) => self.put_in_force(made),
                Err(error) => tracing::error!(
                    %error,
                    "a worker cannot switch to generation {}: it keeps generation {}",
                    generation.number,
                    before.number
                ),
            }
            tell_followed(&followed, number, generation.number);
        }
    }

    fn put_in_force(&self, generation: Rc<WorkerGeneration>) {
        held::set_limit(generation.config.limits.max_buffer_total);
        self.learned.set_limits(&generation.config);
        generation.make_calls();
        self.current.replace(generation);
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
                        && self.learned.pool().give_up(pressure::RELIEF) > 0 => {}
                Err(error) if open_files::is_out_of_descriptors(&error) && !has_asked => {
                    has_asked = true;
                    pressure::ask(pressure::RELIEF);
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
        let generation = self.current.get();
        let config = &generation.config;
        let limit = config.limits.max_connections;
        if limit > 0 && self.context.connections() >= limit.div_ceil(config.num_workers.get()) {
            tracing::warn!(%client, limit, "too many connections: closing a new one");
            return;
        }
        let number = open_files::number_of(&socket);
        self.learned.pool().note_descriptor(number);
        let counted = self.context.count_connection();
        connection::begin(socket, client, &self.current, counted);
    }

    /// Waits for the order to drain, and then for the connections to end, or for the order to give them up.
    async fn drained(
        &self,
        stage: &mut watch::Receiver<Stage>,
        listeners: &mut Vec<std::net::TcpListener>,
    ) {
        // An error means that the server is gone, which is an order too.
        let _ = stage.wait_for(|stage| *stage >= Stage::Draining).await;
        // The kernel refuses connections once nobody has the listeners.
        listeners.clear();
        self.context.drain();
        self.learned.pool().clear();
        let ended = async {
            while self.context.connections() > 0 {
                self.context.deadlines.wake_all();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let has_stopped = tokio::select! {
            biased;
            stopped = stage.wait_for(|stage| *stage >= Stage::Stopping) => stopped.is_ok(),
            () = ended => false,
        };
        if has_stopped {
            self.context.give_up(GivesUp::Shutdown);
        }
    }
}

fn tell_followed(followed: &UnboundedSender<Followed>, worker: usize, generation: u64) {
    // The server may have gone.
    let _ = followed.send(Followed { worker, generation });
}

/// Errors of accept(2) that say something about the connection, not about us.
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

    fn start(listener: std::net::TcpListener) -> (WorkerStart, watch::Sender<Stage>) {
        listener.set_nonblocking(true).unwrap();
        let generation = generation::build(Config::default(), None).unwrap();
        let (stage, stages) = watch::channel(Stage::Serving);
        let start = WorkerStart {
            number: 0,
            listeners: vec![listener],
            handover: None,
            generations: watch::Sender::new(Arc::new(generation)).subscribe(),
            followed: tokio::sync::mpsc::unbounded_channel().0,
            log: LogSink::discard(),
            stage: stages,
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
        stage.send_replace(Stage::Draining);
        let (first, second) = worker.join().unwrap();
        let Run::Panicked(panic, cut) = first else {
            panic!("{first:?}");
        };
        assert_eq!(panic.downcast_ref(), Some(&"boom"));
        assert_eq!((cut.connections, cut.exchanges), (2, 0));
        assert!(matches!(second, Run::Drained(cut) if cut == Cut::default()));
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
        assert!(matches!(worker.join().unwrap(), Ok(Run::Panicked(..))));
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
