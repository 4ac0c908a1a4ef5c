//! One worker: a thread, a single-threaded runtime, and everything its connections use.
//!
//! A worker accepts on its own listener, keeps its own upstream connections, deadlines and buffers, and writes its
//! own access log batch. What all workers share is immutable, a `Generation`; or written rarely: certificates, what was
//! learnt about hosts, and what the machine's files say about names. Only the counts of connections and exchanges are
//! written by all.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::connection;
use crate::generation::{Current, Generation, WorkerGeneration};
use crate::handover::Handover;
use crate::held;
use crate::open_files;
use crate::plugins::call::{Role, Visible};
use crate::telemetry::{self, LogSink};
use crate::upstream::{Learned, pressure};
use crate::worker_context::{Cut, WorkerContext};

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

/// What a worker is started with.
#[derive(Debug)]
pub(crate) struct WorkerStart {
    pub(crate) number: usize,
    pub(crate) listeners: Vec<std::net::TcpListener>,
    /// Connections of workers that are stuck. None where there is no other worker, or nothing to be stuck in.
    pub(crate) handover: Option<Arc<Handover>>,
    /// What is in force, and whatever will be.
    pub(crate) generations: watch::Receiver<Arc<Generation>>,
    /// Told the number of each generation that the worker has changed over to, or cannot.
    pub(crate) followed: UnboundedSender<u64>,
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

/// Runs a worker on the calling thread until it has drained, or is told to give up what is under way.
pub(crate) fn run(mut start: WorkerStart) -> io::Result<Cut> {
    let _visible = Visible::new(Role::Worker(start.number));
    telemetry::bound_repeats_of_this_thread();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build_local(tokio::runtime::LocalOptions::default())?;
    let worker = runtime.block_on(async { Worker::new(&mut start) })?;
    let result = runtime.block_on(serve(Rc::clone(&worker), start));
    // Blocking work that nobody waits for any more does not keep the process. Exchanges that are still under way end
    // here, each with its line in the log.
    runtime.shutdown_background();
    worker.context.flush_access_log();
    result.map(|()| worker.context.cut())
}

async fn serve(worker: Rc<Worker>, start: WorkerStart) -> io::Result<()> {
    let (context, learned) = (Rc::clone(&worker.context), Rc::clone(&worker.learned));
    tokio::task::spawn_local(async move {
        context.deadlines.run(|| learned.pool().sweep()).await;
    });
    let context = Rc::clone(&worker.context);
    tokio::task::spawn_local(async move { context.write_access_log().await });
    for listener in start.listeners {
        let listener = TcpListener::from_std(listener)?;
        let acceptor = Rc::clone(&worker);
        let stage = start.stage.clone();
        tokio::task::spawn_local(async move { acceptor.accept(listener, stage).await });
    }
    let follower = Rc::clone(&worker);
    tokio::task::spawn_local(follower.follow(start.generations, start.followed));
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

impl Worker {
    /// A worker that belongs to the calling thread.
    fn new(start: &mut WorkerStart) -> io::Result<Rc<Self>> {
        let context = WorkerContext::new(start.log.clone());
        let listeners = start.listeners.iter();
        let own_addresses = listeners
            .map(std::net::TcpListener::local_addr)
            .collect::<io::Result<_>>()?;
        let generation = Arc::clone(&start.generations.borrow_and_update());
        let learned = Learned::new(&generation.config, &context.deadlines, own_addresses);
        let generation = WorkerGeneration::new(&generation, &context, &learned, None)?;
        let worker = Self {
            context,
            learned,
            current: Current::new(Rc::clone(&generation)),
        };
        worker.put_in_force(generation);
        Ok(Rc::new(worker))
    }

    /// Changes over to each new generation.
    async fn follow(
        self: Rc<Self>,
        mut generations: watch::Receiver<Arc<Generation>>,
        followed: UnboundedSender<u64>,
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
            // The server may have gone.
            let _ = followed.send(generation.number);
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
    async fn drained(&self, mut stage: watch::Receiver<Stage>) {
        // An error means that the server is gone, which is an order too.
        let _ = stage.wait_for(|stage| *stage >= Stage::Draining).await;
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
            self.context.stop();
        }
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
