//! The signals that the proxy handles.

use std::io;

/// The signal that reloads configuration, certificates and plugins.
pub(super) const RELOAD: &str = "SIGHUP";

/// The signals that the proxy handles.
#[cfg(unix)]
pub(super) struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From now on, these signals do not end the process by default. Must be called inside a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal. Cancel safe.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.hangup.recv() => RELOAD,
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

impl Signals {
    /// Waits for the next signal that ends the proxy. Cancel safe.
    pub(super) async fn next_end(&mut self) -> &'static str {
        loop {
            match self.next().await {
                RELOAD => tracing::info!("{RELOAD}: shutting down, not reloading"),
                signal => return signal,
            }
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
    pub(super) async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => std::future::pending().await,
        }
    }
}
