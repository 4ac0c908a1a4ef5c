//! Makes the control socket, and removes it at the end.
//!
//! Only its user may connect: the mode is 0600 from the start, and a default directory has mode 0700. A socket that a
//! process left behind is replaced; one that a process listens on never is. While this is decided, the directory is
//! locked, so that of two proxies that start at once, one sees the other's socket.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::location;
use crate::config::ControlSocketConfig;

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 16;

/// How often the lock on the directory is tried, and how long to wait in between.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[error("control socket {}: {reason}; {remedy}", .path.display())]
pub struct ControlSocketError {
    path: PathBuf,
    reason: String,
    remedy: &'static str,
}

/// A listening control socket; removed when it is dropped, unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// Another process uses it, and removes the file.
    is_left: bool,
}

impl ControlSocket {
    /// The socket of a proxy whose first listener has this port. `None` if it is turned off, or if the default one cannot
    /// be made, which is logged.
    ///
    /// # Errors
    /// The configured socket cannot be made.
    pub(crate) fn open(
        config: &ControlSocketConfig,
        port: Option<u16>,
    ) -> Result<Option<Self>, ControlSocketError> {
        match config {
            ControlSocketConfig::Off => Ok(None),
            ControlSocketConfig::At(path) => Self::bind(path).map(Some),
            ControlSocketConfig::Default => match Self::bind_default(port) {
                Ok(socket) => Ok(Some(socket)),
                Err(reason) => {
                    tracing::warn!(
                        "{reason}: commands such as `proxy reload` cannot reach this proxy; signals still work"
                    );
                    Ok(None)
                }
            },
        }
    }

    fn bind_default(port: Option<u16>) -> Result<Self, String> {
        let dirs = location::default_dirs();
        let dir = dirs.first().ok_or(
            "no control socket: neither XDG_RUNTIME_DIR nor a home directory is known; \
             specify a path with --control-socket",
        )?;
        make_private(dir).map_err(|error| {
            format!(
                "no control socket: {}: {error}; specify a path with --control-socket",
                dir.display()
            )
        })?;
        let path = dir.join(location::file_name(port));
        Self::bind(&path).map_err(|error| error.to_string())
    }

    /// Listens at this path. A missing directory is created, for this user alone; not those above it.
    ///
    /// # Errors
    /// The path is in use, by a process or by another file, or the system's error.
    pub(crate) fn bind(path: &Path) -> Result<Self, ControlSocketError> {
        Self::try_bind(path).map_err(|Refused(reason, remedy)| ControlSocketError {
            path: path.to_owned(),
            reason,
            remedy,
        })
    }

    fn try_bind(path: &Path) -> Result<Self, Refused> {
        let address = SocketAddrUnix::new(path).map_err(|_| {
            let reason = "the path is longer than the 107 bytes that the system allows".to_owned();
            Refused(reason, "use a shorter path with --control-socket")
        })?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        if !dir.exists() {
            DirBuilder::new().mode(0o700).create(dir)?;
        }
        // Unlocked when it is dropped.
        let _locked = lock(dir)?;
        remove_stale(path, &address)?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // On Linux, the file gets the mode of the socket, so that it is never open to others.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &address)?;
        if cfg!(not(target_os = "linux")) {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        }
        rustix::net::listen(&socket, BACKLOG)?;
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            listener: socket.into(),
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            is_left: false,
        })
    }

    /// The socket at this path, which another process has opened and passed on. The file is that process's until
    /// [`own`](Self::own).
    ///
    /// # Errors
    /// There is no such file any more.
    pub(crate) fn adopt(listener: UnixListener, path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            is_left: true,
        })
    }

    /// Makes the socket this process's, which removes the file at its end. Clients that connect from now on see this
    /// process at the other end (SO_PEERCRED); before, they see the one that listened first.
    ///
    /// # Errors
    /// The system's error; the file is this process's nevertheless.
    pub(crate) fn own(&mut self) -> io::Result<()> {
        self.is_left = false;
        Ok(rustix::net::listen(&self.listener, BACKLOG)?)
    }

    /// Leaves the socket to the process that replaces this one: the file is not removed here.
    pub(crate) fn leave(mut self) {
        self.is_left = true;
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor of the listening socket, for a runtime.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            // If it cannot be removed, the next proxy replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why a path is not used, and what to do.
struct Refused(String, &'static str);

impl<E: Into<io::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(
            error.into().to_string(),
            "use another path with --control-socket",
        )
    }
}

/// Makes the directory, unless it exists; others may not use it.
fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::metadata(dir)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("the directory belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Locks a directory. Whoever cannot get the lock in time goes on without it: other programs may hold it as well.
fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
            // Some file systems have no locks.
            _ => break,
        }
    }
    Ok(file)
}

/// Removes the socket of a process that has ended.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), Refused> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !metadata.file_type().is_socket() {
        return Err(Refused(
            "a file that is not a socket has this name".to_owned(),
            "remove it, or use another path with --control-socket",
        ));
    }
    match listening_process(address) {
        Ok(None) => fs::remove_file(path).map_err(|error| {
            let reason = format!(
                "it was left by a process of user {} and cannot be replaced: {error}",
                metadata.uid()
            );
            Refused(
                reason,
                "remove it, or use another path with --control-socket",
            )
        }),
        Ok(Some(process)) => Err(Refused(
            format!("{process} listens on it"),
            "stop that process, or use another path with --control-socket",
        )),
        Err(error) => Err(Refused(
            format!("it belongs to user {}: {error}", metadata.uid()),
            "remove it, or use another path with --control-socket",
        )),
    }
}

/// The process that listens on a socket, for a message. `None` if it has ended.
fn listening_process(address: &SocketAddrUnix) -> io::Result<Option<String>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&probe, address) {
        Ok(()) => Ok(Some(described_peer(&probe))),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
        // Its clients wait to be accepted, or it is a socket of datagrams.
        Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Some("a running process".to_owned())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
fn described_peer(connected: &rustix::fd::OwnedFd) -> String {
    match rustix::net::sockopt::socket_peercred(connected) {
        Ok(peer) => format!(
            "the running process {} of user {}",
            peer.pid.as_raw_nonzero(),
            peer.uid.as_raw()
        ),
        Err(_) => "a running process".to_owned(),
    }
}

#[cfg(not(target_os = "linux"))]
fn described_peer(_: &rustix::fd::OwnedFd) -> String {
    "a running process".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interception::fixtures::Dir;
    use std::os::unix::net::UnixStream;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    fn refusal(path: &Path) -> String {
        ControlSocket::bind(path).unwrap_err().to_string()
    }

    #[test]
    fn only_its_user_may_use_it_and_it_is_removed_at_the_end() {
        let dir = Dir::new("control-made");
        let path = dir.path().join("run").join("x.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        drop(socket);
        assert!(!path.exists());
        // The directory of another one is not created.
        let error = refusal(&dir.path().join("a/b/x.sock"));
        assert!(
            error.ends_with("use another path with --control-socket"),
            "{error}"
        );
    }

    #[test]
    fn the_socket_of_a_process_that_has_ended_is_replaced() {
        let dir = Dir::new("control-stale");
        let path = dir.path().join("x.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = ControlSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_of_a_running_process_is_left_alone() {
        let dir = Dir::new("control-live");
        let path = dir.path().join("x.sock");
        let running = ControlSocket::bind(&path).unwrap();
        let error = refusal(&path);
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert!(
            error.contains("listens on it; stop that process"),
            "{error}"
        );
        // Its backlog being full does not matter.
        let _waiting: Vec<_> = (0..BACKLOG)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        assert!(refusal(&path).contains("listens on it"));
        drop(running);
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = Dir::new("control-file");
        let file = dir.file("file", "content");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        for path in [&file, &link, &dir.path().to_owned()] {
            let error = refusal(path);
            assert!(error.contains("a file that is not a socket"), "{error}");
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "content");
        let long = dir.path().join("x".repeat(200));
        assert!(refusal(&long).contains("107 bytes"));
    }

    #[test]
    fn an_adopted_socket_is_removed_only_by_its_owner() {
        let dir = Dir::new("control-adopted");
        let path = dir.path().join("x.sock");
        let running = ControlSocket::bind(&path).unwrap();
        let adopt = || ControlSocket::adopt(running.listener().unwrap(), &path).unwrap();
        drop(adopt());
        assert!(path.exists());
        let mut owned = adopt();
        owned.own().unwrap();
        drop(owned);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_of_a_successor_is_left_alone() {
        let dir = Dir::new("control-successor");
        let path = dir.path().join("x.sock");
        let first = ControlSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = ControlSocket::bind(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        drop(second);
    }
}
