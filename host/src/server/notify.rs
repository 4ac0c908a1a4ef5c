//! Notifications to a service manager, by the protocol of systemd (sd_notify(3)).
//!
//! Without the environment variable NOTIFY_SOCKET, nothing is sent. A notification that cannot be sent is a warning: the
//! proxy runs without its service manager, too. The crate `sd-notify` was considered: it knows no abstract sockets.

use std::time::Duration;

/// How much longer than `drain_timeout` the service manager should wait for the end of the process.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// Sends the state of the process to the service manager that has started it, if there is one.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<socket::NotifySocket>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment of the process has it.
    pub(super) fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| variable(name).and_then(|value| value.into_string().ok());
        Self {
            socket: variable("NOTIFY_SOCKET").and_then(|name| socket::NotifySocket::new(&name)),
            watchdog: watchdog(
                text("WATCHDOG_USEC").as_deref(),
                text("WATCHDOG_PID").as_deref(),
                std::process::id(),
            ),
        }
    }

    /// How often the service manager expects [`alive`](Self::alive) at least. `None`: it does not.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog)
    }

    /// The proxy serves; after a reload as well.
    pub(super) fn ready(&self, status: &str) {
        let pid = std::process::id();
        self.send(|| format!("READY=1\nMAINPID={pid}\n{}", status_line(status)));
    }

    /// A reload begins. [`ready`](Self::ready) ends it.
    pub(super) fn reloading(&self) {
        self.send(|| {
            let now = monotonic_microseconds();
            format!(
                "RELOADING=1\nMONOTONIC_USEC={now}\n{}",
                status_line("Reloading")
            )
        });
    }

    /// The proxy ends, which may take as long as `limit`.
    pub(super) fn stopping(&self, limit: Duration) {
        let patience = (limit + STOP_MARGIN).as_micros();
        let status = status_line("Stopping");
        self.send(|| format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={patience}\n{status}"));
    }

    /// Another process serves in place of this one, which notifies of nothing more.
    pub(super) fn hand_over(&mut self, to: Option<i32>) {
        if let Some(pid) = to {
            self.send(|| format!("MAINPID={pid}\n"));
        }
        self.socket = None;
    }

    /// Shows what the proxy does.
    pub(super) fn status(&self, status: &str) {
        self.send(|| status_line(status));
    }

    /// All workers make progress.
    pub(super) fn alive(&self) {
        self.send(|| "WATCHDOG=1\n".to_owned());
    }

    fn send(&self, message: impl FnOnce() -> String) {
        let Some(socket) = &self.socket else {
            return;
        };
        if let Err(error) = socket.send(&message()) {
            tracing::warn!(%error, "cannot notify the service manager at NOTIFY_SOCKET");
        }
    }
}

/// One line: a line end would begin another assignment.
fn status_line(status: &str) -> String {
    format!("STATUS={}\n", status.replace('\n', " "))
}

/// How often the service manager expects a notification, if the variables are for this process.
fn watchdog(microseconds: Option<&str>, for_process: Option<&str>, own: u32) -> Option<Duration> {
    let is_ours = for_process.is_none_or(|pid| pid.parse() == Ok(own));
    let microseconds: u64 = microseconds?.parse().ok()?;
    (is_ours && microseconds > 0).then(|| Duration::from_micros(microseconds))
}

#[cfg(unix)]
fn monotonic_microseconds() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[cfg(not(unix))]
fn monotonic_microseconds() -> i64 {
    0
}

#[cfg(unix)]
mod socket {
    use std::ffi::OsStr;
    use std::io;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Duration;

    /// How long a full queue of the service manager is waited for.
    const SEND_LIMIT: Duration = Duration::from_secs(1);

    /// The socket of the service manager, and ours.
    #[derive(Debug)]
    pub(super) struct NotifySocket {
        own: UnixDatagram,
        to: SocketAddr,
    }

    impl NotifySocket {
        /// `None`, with a warning, if it cannot be used.
        pub(super) fn new(name: &OsStr) -> Option<Self> {
            let opened = address(name).and_then(|to| {
                let own = UnixDatagram::unbound()?;
                own.set_write_timeout(Some(SEND_LIMIT))?;
                Ok(Self { own, to })
            });
            opened
                .inspect_err(|error| {
                    tracing::warn!(%error, socket = %name.display(), "cannot use NOTIFY_SOCKET");
                })
                .ok()
        }

        pub(super) fn send(&self, message: &str) -> io::Result<()> {
            self.own
                .send_to_addr(message.as_bytes(), &self.to)
                .map(drop)
        }
    }

    /// A path, or `@` and the name of an abstract socket.
    fn address(name: &OsStr) -> io::Result<SocketAddr> {
        match name.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(name),
            #[cfg(target_os = "linux")]
            [b'@', name @ ..] => {
                use std::os::linux::net::SocketAddrExt;
                SocketAddr::from_abstract_name(name)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither an absolute path nor `@` and an abstract name",
            )),
        }
    }
}

#[cfg(not(unix))]
mod socket {
    #[derive(Debug)]
    pub(super) enum NotifySocket {}

    impl NotifySocket {
        pub(super) fn new(_: &std::ffi::OsStr) -> Option<Self> {
            None
        }

        pub(super) fn send(&self, _: &str) -> std::io::Result<()> {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_one_process() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), Some("7"), 7), second);
        assert_eq!(watchdog(Some("1000000"), None, 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("8"), 7), None);
        assert_eq!(watchdog(Some("0"), None, 7), None);
        assert_eq!(watchdog(Some("soon"), None, 7), None);
        assert_eq!(watchdog(None, Some("7"), 7), None);
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(status_line("a\nREADY=1"), "STATUS=a READY=1\n");
    }
}
