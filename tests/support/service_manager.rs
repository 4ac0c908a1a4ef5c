//! A service manager that receives notifications, as systemd does.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::HANG;

/// The socket of a service manager.
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    /// The value of NOTIFY_SOCKET.
    name: String,
}

impl ServiceManager {
    /// At a path.
    pub(crate) fn at_path() -> Self {
        // The path of a socket has at most 107 bytes.
        let path = std::env::temp_dir().join(unique("notify"));
        let socket = UnixDatagram::bind(&path).expect("the directory is ours");
        Self {
            socket,
            name: path.display().to_string(),
        }
    }

    /// With an abstract name.
    pub(crate) fn abstract_socket() -> Self {
        let name = unique("notify");
        let address = SocketAddr::from_abstract_name(&name).expect("the name is short");
        Self {
            socket: UnixDatagram::bind_addr(&address).expect("the name is unique"),
            name: format!("@{name}"),
        }
    }

    /// The value of NOTIFY_SOCKET.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The next notification, as its lines.
    pub(crate) fn next(&self) -> Vec<String> {
        self.within(HANG).expect("the proxy notifies in time")
    }

    /// The next notification that has this line.
    pub(crate) fn wait_for(&self, line: &str) -> Vec<String> {
        loop {
            let lines = self.next();
            if lines.iter().any(|has| has == line) {
                return lines;
            }
        }
    }

    /// The next notification, if one arrives within this time.
    pub(crate) fn within(&self, limit: Duration) -> Option<Vec<String>> {
        let mut message = [0; 4096];
        self.socket
            .set_read_timeout(Some(limit))
            .expect("the limit is positive");
        let len = self.socket.recv(&mut message).ok()?;
        let text = std::str::from_utf8(&message[..len]).expect("notifications are text");
        Some(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.name));
    }
}

/// A name that no other test has.
fn unique(what: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("proxy-tests-{what}-{}-{number}", std::process::id())
}
