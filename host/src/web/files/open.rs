//! The served directory and the files in it.
//!
//! The directory is held open, so that a name costs one look-up that cannot leave it; see `below.rs`. With requests
//! coming in, it is reopened once a second: builds and deployments replace the directory, and that must not require a
//! restart. While the directory is missing, there are no files. Errors are distinguished by the response for the
//! client; only those that an operator can fix are logged.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::below::{DirEntry, Directory, Subdirectory};
use crate::config::{StaticFilesConfig, Symlinks};
use crate::http1::push_hexadecimal;

/// The directory whose files are served, for all workers.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    symlinks: Symlinks,
    started_at: Instant,
    /// The second in which the directory was opened, counted from `started_at`.
    opened_in: AtomicU64,
    /// `None` while it is missing. Written once a second, read by every look-up.
    directory: RwLock<Option<Directory>>,
}

/// What a name refers to.
#[derive(Debug)]
pub(super) enum Found {
    File(OpenFile),
    Directory(Subdirectory),
}

/// A regular file, and its state when it was opened.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    /// In bytes.
    pub(super) len: u64,
    pub(super) modified: SystemTime,
    inode: u64,
}

/// Why a name cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// The name does not exist: 404.
    NotFound,
    /// A symbolic link leads outside the directory: 404.
    LeadsOut,
    /// A symbolic link that may not be followed, or too many links: 404.
    Link,
    /// A device, a pipe, a socket: 404.
    NotAFile,
    /// No permission to read it: 403.
    Forbidden,
    /// Out of file descriptors or memory: 503.
    Exhausted,
    /// I/O error: 500.
    Failed,
}

/// Why files cannot be served at all.
#[derive(Debug, thiserror::Error)]
#[error(
    "static files: {} cannot be opened ({source}); create this directory, or specify another one \
     (--static-server-dir, `dir` in [web_server.static_files])",
    dir.display()
)]
pub struct FilesError {
    dir: PathBuf,
    source: io::Error,
}

impl Root {
    pub(super) fn open(config: &StaticFilesConfig) -> Result<Self, FilesError> {
        let path = match &config.dir {
            Some(dir) => std::path::absolute(dir),
            None => default_dir(),
        };
        let fail = |dir: &Path, source| FilesError {
            dir: dir.to_owned(),
            source,
        };
        let named = config.dir.as_deref().unwrap_or(Path::new("public"));
        let path = path.map_err(|error| fail(named, error))?;
        let directory = match Directory::open(&path) {
            Ok(directory) => Some(directory),
            Err(error) if config.dir.is_none() => {
                tracing::warn!(
                    dir = %path.display(), %error,
                    "the directory of static files is missing: requests for files are answered with 404"
                );
                None
            }
            Err(error) => return Err(fail(&path, error)),
        };
        Ok(Self {
            path,
            symlinks: config.symlinks,
            started_at: Instant::now(),
            opened_in: AtomicU64::new(0),
            directory: RwLock::new(directory),
        })
    }

    /// Opens `name`, as resolved by `path.rs`.
    pub(super) fn look_up(&self, name: &[u8]) -> Result<Found, OpenError> {
        self.renew();
        let directory = self.directory.read();
        let directory = directory.unwrap_or_else(PoisonError::into_inner);
        let directory = directory.as_ref().ok_or(OpenError::NotFound)?;
        match directory.look_up(name, self.symlinks) {
            Ok(DirEntry::File(file, metadata)) => Ok(Found::File(OpenFile::new(file, &metadata))),
            Ok(DirEntry::Directory(directory)) => Ok(Found::Directory(directory)),
            Ok(DirEntry::Other) => Err(OpenError::NotAFile),
            Err(error) => Err(OpenError::report(&error)),
        }
    }

    /// Reopens the directory, at most once a second.
    fn renew(&self) {
        let second = self.started_at.elapsed().as_secs();
        // Two workers may both do it, which is harmless.
        if self.opened_in.load(Ordering::Relaxed) == second {
            return;
        }
        self.opened_in.store(second, Ordering::Relaxed);
        let opened = match Directory::open(&self.path) {
            Ok(directory) => Some(directory),
            Err(error) if OpenError::of(&error).is_absence() => None,
            // Keep the open directory, which may still work.
            Err(_) => return,
        };
        let is_there = opened.is_some();
        let mut directory = self
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let was_there = std::mem::replace(&mut *directory, opened).is_some();
        drop(directory);
        if was_there != is_there {
            let dir = self.path.display();
            match is_there {
                true => tracing::info!(%dir, "the directory of static files is available again"),
                false => tracing::warn!(%dir, "the directory of static files is missing"),
            }
        }
    }
}

/// `public` beside the executable.
fn default_dir() -> io::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let parent = executable.parent().unwrap_or(Path::new("."));
    Ok(parent.join("public"))
}

impl OpenFile {
    fn new(file: File, metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self {
            file,
            len: metadata.len(),
            modified: metadata.modified().unwrap_or(UNIX_EPOCH),
            inode,
        }
    }

    /// Writes what changes with the content: length, time and, for a replaced file, the inode.
    pub(super) fn write_fingerprint(&self, out: &mut Vec<u8>) {
        let (mark, since) = match self.modified.duration_since(UNIX_EPOCH) {
            Ok(since) => (&b"-"[..], since),
            Err(before) => (&b"-b"[..], before.duration()),
        };
        push_hexadecimal(out, self.len);
        out.extend_from_slice(mark);
        push_hexadecimal(out, since.as_secs());
        out.push(b'.');
        push_hexadecimal(out, since.subsec_nanos().into());
        out.push(b'-');
        push_hexadecimal(out, self.inode);
    }
}

impl OpenError {
    /// Converts the error; logs those that an operator can fix.
    pub(super) fn report(error: &io::Error) -> Self {
        let kind = Self::of(error);
        if matches!(kind, Self::Exhausted | Self::Failed) {
            tracing::warn!(%error, "a file or directory cannot be opened");
        }
        kind
    }

    /// Whether clients get a 404.
    pub(super) fn is_absence(self) -> bool {
        matches!(
            self,
            Self::NotFound | Self::LeadsOut | Self::Link | Self::NotAFile
        )
    }

    /// The reason, for the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "no such file",
            Self::LeadsOut => "a symbolic link leads outside the directory",
            Self::Link => {
                "symbolic links are not followed (web_server.static_files.symlinks), or too many were followed"
            }
            Self::NotAFile => "it is not a regular file",
            Self::Forbidden => "the system denies access to it",
            Self::Exhausted => "out of file descriptors or memory",
            Self::Failed => "an I/O error occurred",
        }
    }

    #[cfg(unix)]
    fn of(error: &io::Error) -> Self {
        use rustix::io::Errno;
        match Errno::from_io_error(error) {
            Some(Errno::XDEV) => Self::LeadsOut,
            Some(Errno::LOOP) => Self::Link,
            // Sockets, and devices without a driver.
            Some(Errno::NXIO | Errno::NODEV) => Self::NotAFile,
            Some(
                Errno::NOENT
                | Errno::NOTDIR
                // Names that the file system does not allow.
                | Errno::NAMETOOLONG
                | Errno::INVAL
                | Errno::ILSEQ
                | Errno::STALE,
            ) => Self::NotFound,
            Some(Errno::ACCESS | Errno::PERM) => Self::Forbidden,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => Self::Exhausted,
            _ => Self::Failed,
        }
    }

    #[cfg(not(unix))]
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            io::ErrorKind::OutOfMemory => Self::Exhausted,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::Site;
    use super::*;

    fn is_there(root: &Root, name: &str) -> bool {
        // As if a second had passed.
        root.opened_in.store(u64::MAX, Ordering::Relaxed);
        match root.look_up(name.as_bytes()) {
            Ok(found) => matches!(found, Found::File(_)),
            Err(error) => {
                assert_eq!(error, OpenError::NotFound);
                false
            }
        }
    }

    #[test]
    fn a_replaced_directory_is_served() {
        let site = Site::new("renewed");
        site.write("old", "x");
        let root = Root::open(&site.config()).unwrap();
        assert!(is_there(&root, "old"));
        std::fs::rename(site.root(), site.outside("aside")).unwrap();
        assert!(!is_there(&root, "old"));
        site.write("new", "x");
        assert!(is_there(&root, "new") && !is_there(&root, "old"));
    }

    #[test]
    fn a_configured_directory_must_exist() {
        let site = Site::new("missing");
        let config = StaticFilesConfig {
            dir: Some(site.outside("nowhere")),
            ..site.config()
        };
        let error = Root::open(&config).unwrap_err().to_string();
        assert!(error.contains("nowhere") && error.contains("--static-server-dir"));
        let file = StaticFilesConfig {
            dir: Some(site.write("file", "x")),
            ..site.config()
        };
        assert!(Root::open(&file).is_err());
    }

    #[test]
    fn the_default_directory_may_be_missing() {
        let site = Site::new("default");
        let config = StaticFilesConfig {
            dir: None,
            ..site.config()
        };
        let root = Root::open(&config).unwrap();
        assert_eq!(root.look_up(b"a").unwrap_err(), OpenError::NotFound);
    }

    #[test]
    fn a_fingerprint_changes_with_length_time_and_inode() {
        let site = Site::new("fingerprint");
        let root = Root::open(&site.config()).unwrap();
        let fingerprint = || match root.look_up(b"a").unwrap() {
            Found::File(file) => {
                let mut written = Vec::new();
                file.write_fingerprint(&mut written);
                written
            }
            Found::Directory(_) => panic!("a is a file"),
        };
        let path = site.write("a", "one");
        let first = fingerprint();
        assert_eq!(first, fingerprint());
        site.write("a", "three");
        let second = fingerprint();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let replacement = site.write("b", "other");
        let set = |path, time| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        };
        set(&replacement, modified);
        std::fs::rename(&replacement, &path).unwrap();
        let third = fingerprint();
        set(&path, UNIX_EPOCH - std::time::Duration::from_nanos(1));
        let fourth = fingerprint();
        let all = std::collections::HashSet::from([first, second, third, fourth]);
        assert_eq!(all.len(), 4);
    }
}
