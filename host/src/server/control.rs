//! Serves the clients of the control socket, on the runtime of the thread that waits for signals.
//!
//! Only processes of the proxy's own user and of root are served. Requests have a maximum length and a time limit, and
//! so has a client that does not read its answer. The status is answered here; other commands are requests to the
//! server, like signals.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use super::overview::{self, Overview};
use super::requester::Requester;
use super::requests::Request;
use crate::control::message::{Answer, Command, MAX_REQUEST_LEN, Refusal, RequestError};
use crate::control::socket::ControlSocket;
use crate::control::status::WorkerState;

/// Clients that are served at once; further ones are refused.
const MAX_CLIENTS: usize = 16;

/// How long a client may take to send a request, or to accept a line of its answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);

/// How often a waiting client hears what is happening, so that one that has left is noticed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait after a client could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients can reach.
pub(super) struct Control {
    overview: Rc<Overview>,
    requests: mpsc::UnboundedSender<Request>,
    clients: Cell<usize>,
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
        })
    }

    /// Serves clients from now on, as tasks of the runtime. Must be called inside a local runtime.
    ///
    /// # Errors
    /// The socket cannot be used by the runtime.
    pub(super) fn serve(self: Rc<Self>, socket: &ControlSocket) -> io::Result<()> {
        let listener = UnixListener::from_std(socket.listener()?)?;
        tokio::task::spawn_local(self.accept(listener));
        Ok(())
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

    /// Sends a line.
    ///
    /// # Errors
    /// The client has left, or does not read.
    async fn send(&mut self, answer: &Answer) -> io::Result<()> {
        let line = answer.to_line();
        timeout(CLIENT_LIMIT, self.stream.write_all(&line)).await?
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
