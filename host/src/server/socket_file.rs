//! The file of a Unix socket on which the proxy listens.
//!
//! A file that a dead process has left is replaced; one on which a process listens is not. The file is removed with its
//! `SocketFile`, unless another one has taken its place.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

#[cfg(unix)]
use std::os::unix::{
    fs::{FileTypeExt, MetadataExt, PermissionsExt},
    net::{UnixListener, UnixStream},
};

/// Removes the file when it is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    #[cfg(unix)]
    identity: Option<(u64, u64)>,
    /// Another process uses it, and removes it.
    is_left: AtomicBool,
}

/// Why the proxy cannot listen on a Unix socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on the Unix socket {}: {source}; {remedy}", .path.display())]
pub struct SocketFileError {
    path: PathBuf,
    source: io::Error,
    remedy: &'static str,
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(unix)]
impl SocketFile {
    /// Listens at `path`; the file has the permissions `mode`.
    ///
    /// # Errors
    /// A process listens there, something else is there, or the file cannot be created.
    pub(super) fn bind(
        path: &Path,
        mode: u32,
        backlog: u32,
    ) -> Result<(UnixListener, Self), SocketFileError> {
        let bound = remove_stale(path).and_then(|()| bind(path, mode, backlog));
        let socket = bound.map_err(|source| SocketFileError {
            path: path.to_owned(),
            remedy: remedy(&source),
            source,
        })?;
        let file = Self {
            path: path.to_owned(),
            identity: identity(path),
            is_left: AtomicBool::new(false),
        };
        Ok((socket, file))
    }

    /// The file of a socket that another process has opened and passed on. It is that process's until [`own`](Self::own).
    pub(super) fn adopt(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(path),
            is_left: AtomicBool::new(true),
        }
    }

    /// Makes the file this process's, which removes it at its end.
    pub(super) fn own(&self) {
        self.is_left.store(false, Ordering::Relaxed);
    }

    /// Leaves the file to the process that replaces this one: it is not removed here.
    pub(super) fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// Changes the permissions of the file.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))
    }
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_left = self.is_left.load(Ordering::Relaxed);
        if !is_left && self.identity.is_some() && identity(&self.path) == self.identity {
            // What remains is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn bind(path: &Path, mode: u32, backlog: u32) -> io::Result<UnixListener> {
    use socket2::{Domain, SockAddr, Socket, Type};
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On Linux, the file never has more permissions than the socket at this time. Elsewhere, this fails.
    let _ = rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode));
    socket.bind(&SockAddr::unix(path)?)?;
    let listening = fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .and_then(|()| socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX)));
    if let Err(error) = listening {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(socket.into())
}

/// Removes a socket on which nobody listens.
#[cfg(unix)]
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        let reason = "a file that is not a socket exists there";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // If its queue is full, somebody listens, too.
        Ok(_) | Err(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop it, or use another path",
        io::ErrorKind::AlreadyExists => "remove it, or use another path",
        io::ErrorKind::NotFound => "create its directory, or use another path",
        io::ErrorKind::PermissionDenied => {
            "give the user of the proxy write permission on the directory, or use another path"
        }
        io::ErrorKind::InvalidInput => "use a path of at most 107 bytes",
        _ => "use another path",
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::env;

    fn path(name: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("proxy-{}-{name}.sock", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn refusal(path: &Path) -> String {
        SocketFile::bind(path, 0o600, 1).unwrap_err().to_string()
    }

    #[test]
    fn the_file_exists_with_its_permissions_while_the_proxy_listens() {
        let path = path("exists");
        let (socket, file) = SocketFile::bind(&path, 0o604, 1).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o604);
        UnixStream::connect(&path).unwrap();
        drop((socket, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_of_a_dead_process_is_replaced() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_socket, _file) = SocketFile::bind(&path, 0o600, 1).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_in_use_is_refused() {
        let path = path("used");
        let used = UnixListener::bind(&path).unwrap();
        let expected = format!(
            "cannot listen on the Unix socket {}: another process listens there; stop it, or use another path",
            path.display()
        );
        assert_eq!(refusal(&path), expected);
        drop(used);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn another_file_is_refused_and_left_alone() {
        let path = path("file");
        fs::write(&path, "x").unwrap();
        assert!(refusal(&path).contains("not a socket exists there; remove it"));
        assert_eq!(fs::read(&path).unwrap(), b"x");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_file_of_a_later_process_is_left_alone() {
        let path = path("later");
        let (_socket, file) = SocketFile::bind(&path, 0o600, 1).unwrap();
        fs::remove_file(&path).unwrap();
        let later = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop(later);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert!(refusal(&path).ends_with("use a path of at most 107 bytes"));
    }
}
