//! How a worker accepts connections, and gives some to workers that have fewer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Accepting, ShutdownStage, Worker, WorkerStart};
use crate::balance::Counted;
use crate::connection;
use crate::generation::Current;
use crate::listener::{Accepted, AsyncListener, ListenerId};
use crate::open_files;
use crate::upstream::pressure;

/// How long a worker stops accepting when the process runs out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Worker {
    /// Accepts on the listeners on which it does not yet.
    pub(super) fn open_listeners(
        self: &Rc<Self>,
        start: &WorkerStart,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let mut opened = self.listeners.borrow_mut();
        let new = opened.iter().filter(|known| known.accepting.is_empty());
        let new: Vec<ListenerId> = new.map(|known| known.id).collect();
        if new.is_empty() {
            return Ok(());
        }
        for listener in self.sockets.of(self.number)? {
            let Some(open) = opened
                .iter_mut()
                .find(|open| open.id == listener.id && new.contains(&open.id))
            else {
                continue;
            };
            let (id, current, stage) = (open.id, Rc::clone(&open.current), start.stage.clone());
            let socket = Rc::new(RefCell::new(Some(listener.into_async()?)));
            let accept = Rc::clone(self).accept(Rc::clone(&socket), id, current, stage);
            let task = tasks.spawn_local(accept);
            open.accepting.push(Accepting { socket, task });
        }
        Ok(())
    }

    async fn accept(
        self: Rc<Self>,
        listener: Rc<RefCell<Option<AsyncListener>>>,
        id: ListenerId,
        current: Rc<Current>,
        mut stage: watch::Receiver<ShutdownStage>,
    ) {
        let mut has_asked = false;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage > ShutdownStage::Serving) => return,
                accepted = poll_fn(|cx| poll_accept(&listener, cx)) => accepted,
            };
            match accepted {
                Ok((socket, client)) => {
                    has_asked = false;
                    self.begin_or_give(socket, client, id, &current);
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

    /// Serves a connection, or gives it to a worker that has fewer.
    fn begin_or_give(
        &self,
        socket: TcpStream,
        client: SocketAddr,
        listener: ListenerId,
        current: &Rc<Current>,
    ) {
        let now = self.context.deadlines.now();
        let other = self.others.as_ref().and_then(|(handover, balancer)| {
            balancer
                .other_worker(now)
                .map(|counted| (handover, counted))
        });
        let Some((handover, counted)) = other else {
            return self.begin(socket, client, current, None);
        };
        // Leaves this worker's event loop.
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => {
                return tracing::warn!(%error, %client, "cannot give a connection to another worker");
            }
        };
        let accepted = Accepted {
            socket,
            client,
            listener,
        };
        if let Err(accepted) = handover.give(counted, accepted, self.generation.get()) {
            self.adopt(accepted, current, None);
        }
    }

    /// Accepts nothing more. Once all workers have done so, the kernel refuses connections, and another process may listen.
    pub(super) fn close_listeners(&self) {
        let listeners = self.listeners.borrow();
        for accepting in listeners.iter().flat_map(|open| &open.accepting) {
            drop(accepting.socket.take());
        }
    }

    /// Serves a connection that was accepted elsewhere than on the runtime of this worker.
    pub(super) fn adopt(
        &self,
        accepted: Accepted,
        current: &Rc<Current>,
        counted: Option<Counted>,
    ) {
        let client = accepted.client;
        match TcpStream::from_std(accepted.socket) {
            Ok(socket) => self.begin(socket, client, current, counted),
            Err(error) => tracing::warn!(%error, %client, "cannot serve an accepted connection"),
        }
    }

    /// Serves a connection, which may be `counted` as one of this worker already.
    fn begin(
        &self,
        socket: TcpStream,
        client: SocketAddr,
        current: &Rc<Current>,
        counted: Option<Counted>,
    ) {
        let generation = current.get();
        let config = &generation.config;
        let limit = config.limits.max_connections;
        if limit > 0 && self.context.connections() >= limit.div_ceil(config.num_workers.get()) {
            tracing::warn!(%client, limit, "too many connections: closing a new one");
            return;
        }
        let number = open_files::number_of(&socket);
        self.learned.pool().report_descriptor(number);
        let open_connection = self.context.open_connection(counted);
        connection::begin(socket, client, current, open_connection);
    }
}

/// The next connection of a listener; pending forever once it is removed.
fn poll_accept(
    listener: &RefCell<Option<AsyncListener>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    match &*listener.borrow() {
        Some(listener) => listener.poll_accept(cx),
        None => Poll::Pending,
    }
}

/// Whether an error of accept(2) concerns only the connection.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
