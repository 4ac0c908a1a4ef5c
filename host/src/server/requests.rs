//! What the operator requests: by signals, and by commands that arrive through the control socket.

use std::io;

use tokio::sync::mpsc;

use super::requester::Requester;
use super::signals::Signals;

/// What the operator requests.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// To reload configuration, certificates and plugins: SIGHUP, `proxy reload`.
    Reload(Requester),
    /// To reopen the log file, after it has been rotated: SIGUSR1, `proxy reopen`.
    ReopenLog(Requester),
    /// To end; the name of the signal or command.
    End(&'static str),
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
                Request::End(name) => return name,
            }
        }
    }
}
