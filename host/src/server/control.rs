//! Serves the clients of the control socket, on the runtime of the thread that waits for signals.
//!
//! Only processes of the proxy's own user and of root are served. Requests have a maximum length and a time limit, and
//! so has a client that does not read its answer. The status is answered here; other commands are requests to the
//! server, like signals.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{interval, timeout};

use super::overview::{self, Overview};
use super::requester::Requester;
use super::requests::{Offered, Request, Successor};
use crate::control::message::{
    Answer, Command, MAX_REQUEST_LEN, OfferedSocket, OfferedSockets, Refusal, RequestError,
    TAKEOVER_LIMIT,
};
use crate::control::socket::ControlSocket;
use crate::control::status::WorkerState;
use crate::descriptors::{self, MAX_DESCRIPTORS};

/// Clients that are served at once; further ones are refused.
const MAX_CLIENTS: usize = 16;

/// How long a client may take to send a request, or to accept a line of its answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);

/// How often a waiting client hears what is happening, so that one that has left is noticed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait after a client could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket on which clients are accepted.
pub(super) struct ServedSocket {
    socket: ControlSocket,
    accepting: AbortHandle,
}

impl ServedSocket {
    /// The socket, for a process that replaces this one.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(super) fn offer(&self) -> io::Result<Offered> {
        Ok(Offered {
            name: OfferedSocket::Control,
            descriptor: Arc::new(self.socket.listener()?.into()),
        })
    }

    /// Makes a socket that the replaced process has left this process's.
    ///
    /// # Errors
    /// See [`ControlSocket::own`].
    pub(super) fn own(&mut self) -> io::Result<()> {
        self.socket.own()
    }

    /// Leaves the socket to that process. Clients that are connected are still served.
    pub(super) fn leave(self) {
        self.accepting.abort();
        self.socket.leave();
    }
}

/// What clients can reach.
pub(super) struct Control {
    overview: Rc<Overview>,
    requests: mpsc::UnboundedSender<Request>,
    clients: Cell<usize>,
    /// Clients that have been offered the sockets and have not said yet whether they serve: at most one, because several
    /// that begin to serve would give the files and addresses away from under each other.
    successors: Cell<usize>,
}

impl Control {
    pub(super) fn new(
        overview: Rc<Overview>,
        requests: mpsc::UnboundedSender<Request>,
    ) -> Rc<Self> {
        Rc::new(Self {
            overview,
            requests,
            clients: Cell::new(0),
            successors: Cell::new(0),
        })
    }

    /// Serves clients from now on, as tasks of the runtime. Must be called inside a local runtime.
    ///
    /// # Errors
    /// The socket cannot be used by the runtime.
    pub(super) fn serve(self: Rc<Self>, socket: ControlSocket) -> io::Result<ServedSocket> {
        let listener = UnixListener::from_std(socket.listener()?)?;
        let accepting = tokio::task::spawn_local(self.accept(listener)).abort_handle();
        Ok(ServedSocket { socket, accepting })
    }

    async fn accept(self: Rc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((client, _)) => {
                    let control = Rc::clone(&self);
                    tokio::task::spawn_local(async move { control.client(client).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept clients of the control socket: retrying");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn client(&self, client: UnixStream) {
        let _counted = Counted::new(&self.clients);
        let mut client = Client {
            stream: client,
            received: Vec::new(),
        };
        let refusal = match self.refusal(&client.stream) {
            Some(refusal) => refusal,
            None => match self.answer_all(&mut client).await {
                Err(error) => error.to_string(),
                Ok(()) => return,
            },
        };
        // The client may have left.
        let _ = client.send(&Answer::Failed(Refusal::of(refusal))).await;
    }

    /// Why a client is not served.
    fn refusal(&self, client: &UnixStream) -> Option<String> {
        let own = rustix::process::geteuid().as_raw();
        match client.peer_cred() {
            Ok(peer) if peer.uid() == own || peer.uid() == 0 => {}
            Ok(peer) => {
                let user = peer.uid();
                tracing::warn!(user, "a client of the control socket is refused");
                return Some(format!(
                    "user {user} may not use this socket, only user {own} and root"
                ));
            }
            Err(error) => return Some(format!("the system does not name your user: {error}")),
        }
        let is_one_too_many = self.clients.get() > MAX_CLIENTS;
        is_one_too_many.then(|| format!("{MAX_CLIENTS} clients are being served; try again"))
    }

    /// Answers request after request, until the client leaves.
    async fn answer_all(&self, client: &mut Client) -> Result<(), RequestError> {
        while let Some(line) = client.request().await? {
            let sent = match Command::parse(&line)? {
                Command::Status => {
                    let status = Box::new(self.overview.status().await);
                    client.send(&Answer::Status(status)).await
                }
                Command::Stop => self.stop(client).await,
                Command::TakeOver => self.hand_over(client).await,
                Command::TakenOver => {
                    let reason = "the sockets have not been requested";
                    client.send(&Answer::Failed(Refusal::of(reason))).await
                }
                Command::Reload => self.request(client, "proxy reload", Request::Reload).await,
                Command::Reopen => {
                    self.request(client, "proxy reopen", Request::ReopenLog)
                        .await
                }
            };
            if sent.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Requests something of the server, and passes on what it answers.
    async fn request(
        &self,
        client: &mut Client,
        command: &'static str,
        request: impl FnOnce(Requester) -> Request,
    ) -> io::Result<()> {
        let (send, mut answers) = mpsc::unbounded_channel();
        // If the server is gone, no answer arrives.
        let _ = self.requests.send(request(Requester::Client {
            command,
            answers: send,
        }));
        let mut last = Answer::Progress("waiting for the proxy".to_owned());
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.reset();
        while !last.is_last() {
            last = tokio::select! {
                answer = answers.recv() => answer.unwrap_or_else(|| {
                    Answer::Failed(Refusal::of("the proxy is shutting down"))
                }),
                _ = ticks.tick() => last,
            };
            client.send(&last).await?;
        }
        Ok(())
    }

    /// Passes on the listening sockets, and leaves serving to the new process once that serves.
    async fn hand_over(&self, client: &mut Client) -> io::Result<()> {
        let pid = client.stream.peer_cred().ok().and_then(|peer| peer.pid());
        let process = Process(pid);
        if self.successors.get() > 0 {
            let refusal = Refusal::of(
                "another process is taking over now; try again once that one serves or has ended",
            );
            return client.send(&Answer::Failed(refusal)).await;
        }
        let _counted = Counted::new(&self.successors);
        let (send, mut offers) = mpsc::unbounded_channel();
        let _ = self.requests.send(Request::OfferSockets(send));
        let Some(sockets) = offers.recv().await else {
            let refusal = Refusal::of(
                "it cannot pass on its sockets now: it is shutting down, or out of descriptors",
            );
            return client.send(&Answer::Failed(refusal)).await;
        };
        tracing::info!("takeover: passing {} sockets to {process}", sockets.len());
        let passed = client.send_sockets(&sockets).await;
        drop(sockets);
        let next = match passed {
            Ok(()) => timeout(TAKEOVER_LIMIT, client.line())
                .await
                .unwrap_or(Ok(None)),
            Err(_) => Ok(None),
        };
        let is_serving =
            matches!(next, Ok(Some(line)) if Command::parse(&line) == Ok(Command::TakenOver));
        if !is_serving {
            tracing::warn!("takeover: {process} did not begin to serve: this process goes on");
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // Dropped once the answer has been sent.
        let (_answering, answered) = watch::channel(());
        let retire = |requester| {
            Request::Retire(Successor {
                pid,
                requester,
                answered,
            })
        };
        self.request(client, "takeover", retire).await
    }

    /// Ends the proxy; reports what it still waits for, until the end of the process closes the connection.
    async fn stop(&self, client: &mut Client) -> io::Result<()> {
        let _ = self.requests.send(Request::End("proxy stop"));
        let mut ticks = interval(PROGRESS_INTERVAL);
        loop {
            ticks.tick().await;
            let workers = self.overview.workers().await;
            let running = workers
                .iter()
                .filter(|worker| worker.state != WorkerState::Ended)
                .count();
            let text = match running {
                0 => "waiting for plugins to end".to_owned(),
                _ => format!("draining: {}; workers: {running}", overview::sum(&workers)),
            };
            client.send(&Answer::Progress(text)).await?;
        }
    }
}

/// A client, and what has been received of its next requests.
struct Client {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Client {
    /// The next request, with its line end. `None`: the client has left, or has sent nothing in time.
    async fn request(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        let line = timeout(CLIENT_LIMIT, self.line()).await;
        line.unwrap_or(Ok(None))
    }

    async fn line(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.received) {
                let rest = self.received.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.received, rest)));
            }
            let room = MAX_REQUEST_LEN - self.received.len();
            if room == 0 {
                return Err(RequestError::TooLong);
            }
            let mut limited = (&mut self.stream).take(room as u64);
            match limited.read_buf(&mut self.received).await {
                Ok(0) | Err(_) if self.received.is_empty() => return Ok(None),
                Ok(0) | Err(_) => return Err(RequestError::Incomplete),
                Ok(_) => {}
            }
        }
    }

    /// Sends lines with sockets.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    async fn send_sockets(&mut self, sockets: &[Offered]) -> io::Result<()> {
        let mut batches = sockets.chunks(MAX_DESCRIPTORS).peekable();
        while let Some(batch) = batches.next() {
            let line = Answer::Sockets(OfferedSockets {
                sockets: batch.iter().map(|socket| socket.name.clone()).collect(),
                is_last: batches.peek().is_none(),
            })
            .to_line();
            let passed: Vec<_> = batch
                .iter()
                .map(|socket| socket.descriptor.as_fd())
                .collect();
            let send = || descriptors::send(&self.stream, &line, &passed);
            let sending = self.stream.async_io(Interest::WRITABLE, send);
            let sent = timeout(CLIENT_LIMIT, sending).await??;
            timeout(CLIENT_LIMIT, self.stream.write_all(&line[sent..])).await??;
        }
        Ok(())
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The client has left, or does not read.
    async fn send(&mut self, answer: &Answer) -> io::Result<()> {
        let line = answer.to_line();
        timeout(CLIENT_LIMIT, self.stream.write_all(&line)).await?
    }
}

/// A process as the log names it.
pub(super) struct Process(pub(super) Option<i32>);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// Counts a client while it exists.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
