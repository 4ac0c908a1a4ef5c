//! The signals that the proxy handles.

use std::io;

use super::requester::Requester;
use super::requests::Request;

/// The signals that the proxy handles.
#[cfg(unix)]
pub(super) struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    user1: tokio::signal::unix::Signal,
    user2: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From now on, these signals do not end the process by default. Must be called inside a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal. Cancel safe.
    pub(super) async fn next(&mut self) -> Request {
        loop {
            return tokio::select! {
                _ = self.hangup.recv() => Request::Reload(Requester::Signal("SIGHUP")),
                _ = self.interrupt.recv() => Request::End("SIGINT"),
                _ = self.quit.recv() => Request::End("SIGQUIT"),
                _ = self.terminate.recv() => Request::End("SIGTERM"),
                _ = self.user1.recv() => Request::ReopenLog(Requester::Signal("SIGUSR1")),
                // Its default action would be to end the process.
                _ = self.user2.recv() => {
                    tracing::info!("SIGUSR2 is ignored: it has no meaning here");
                    continue;
                }
            };
        }
    }
}

/// Ctrl-C, on systems without signals.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Request {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Request::End("Ctrl-C"),
            Err(_) => std::future::pending().await,
        }
    }
}
