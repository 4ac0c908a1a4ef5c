//! What the operator requests: by signals, and by commands that arrive through the control socket.

use std::io;
#[cfg(unix)]
use std::{os::fd::OwnedFd, sync::Arc};

use tokio::sync::{mpsc, watch};

use super::requester::Requester;
use super::signals::Signals;
#[cfg(unix)]
use crate::control::message::OfferedSocket;

/// What the operator requests.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// To reload configuration, certificates and plugins: SIGHUP, `proxy reload`.
    Reload(Requester),
    /// To reopen the log file, after it has been rotated: SIGUSR1, `proxy reopen`.
    ReopenLog(Requester),
    /// To pass on the listening sockets to a process that is about to serve in place of this one.
    #[cfg(unix)]
    OfferSockets(mpsc::UnboundedSender<Vec<Offered>>),
    /// To leave serving to that process, which accepts connections now.
    #[cfg(unix)]
    Retire(Successor),
    /// To end; the name of the signal or command.
    End(&'static str),
}

/// A socket that is passed on.
#[cfg(unix)]
#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) name: OfferedSocket,
    pub(super) descriptor: Arc<OwnedFd>,
}

/// The process that serves in place of this one.
#[cfg(unix)]
#[derive(Clone, Debug)]
pub(super) struct Successor {
    /// Its process id, if the system tells it.
    pub(super) pid: Option<i32>,
    pub(super) requester: Requester,
    /// Closed once the answer has been sent.
    pub(super) answered: watch::Receiver<()>,
}

/// Requests of all kinds, in the order in which they arrive.
pub(super) struct Requests {
    signals: Signals,
    commands: mpsc::UnboundedReceiver<Request>,
}

impl Requests {
    /// From now on, the signals that are handled do not end the process by default. Must be called inside a runtime.
    pub(super) fn listen(commands: mpsc::UnboundedReceiver<Request>) -> io::Result<Self> {
        Ok(Self {
            signals: Signals::listen()?,
            commands,
        })
    }

    /// Waits for the next request. Cancel safe.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            request = self.signals.next() => request,
            Some(request) = self.commands.recv() => request,
        }
    }

    /// Waits for the next request to end; refuses the others. Cancel safe.
    pub(super) async fn next_end(&mut self) -> &'static str {
        loop {
            match self.next().await {
                Request::Reload(requester) => {
                    tracing::info!("{requester}: shutting down, not reloading");
                    requester.refuse("not reloaded: the proxy is shutting down");
                }
                Request::ReopenLog(requester) => {
                    tracing::info!("{requester}: shutting down, not reopening the log");
                    requester.refuse("the log is not reopened: the proxy is shutting down");
                }
                #[cfg(unix)]
                Request::OfferSockets(to) => drop(to),
                #[cfg(unix)]
                Request::Retire(successor) => {
                    successor.requester.refuse("the proxy is shutting down");
                }
                Request::End(name) => return name,
            }
        }
    }
}
