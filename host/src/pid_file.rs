//! The file with the process id of the proxy.
//!
//! It exists as long as its `PidFile`, and is locked as long. A file from an earlier run is overwritten, unless that
//! still runs: then it is locked. A file that a later run has put in its place is not removed. Anything that is not a regular file, such as a symbolic link, is neither written to nor
//! removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use crate::plain_file;

/// Longer than any process id, in bytes.
const MAX_LEN: u64 = 64;

/// Removes the file when it is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Holds the lock.
    file: File,
    /// Another process uses it from now on.
    is_left: bool,
}

/// Why the pid file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("pid file {}: {source}; {}specify another file with --pid-file", .path.display(), .remedy)]
pub struct PidFileError {
    path: PathBuf,
    source: io::Error,
    remedy: &'static str,
}

impl PidFile {
    /// Writes the id of this process, in decimal and without a line end.
    ///
    /// # Errors
    /// The system's error, or the path is not a regular file.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        let file = write(path).map_err(|source| PidFileError {
            path: path.to_owned(),
            remedy: match source.kind() {
                io::ErrorKind::Other => "remove it, or ",
                io::ErrorKind::WouldBlock => "stop that process, or ",
                _ => "",
            },
            source,
        })?;
        Ok(PidFile {
            path: path.to_owned(),
            file,
            is_left: false,
        })
    }

    /// Leaves the file to the process that replaces this one: it can be created there, and is not removed here.
    pub fn leave(mut self) {
        self.is_left = true;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let ours = process::id().to_string();
        if plain_file::read(&self.path, MAX_LEN).is_ok_and(|pid| pid == ours.as_bytes()) {
            // An empty file, where it cannot be removed, names no process that later has the same number.
            if fs::remove_file(&self.path).is_err() {
                let _ = self.file.set_len(0);
            }
        }
    }
}

fn write(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let mut file = plain_file::open(&mut options, path)?;
    lock(&file, path)?;
    file.set_len(0)?;
    file.write_all(process::id().to_string().as_bytes())?;
    Ok(file)
}

/// Takes the lock that a running proxy has on its file. It ends with the process, however that ends.
#[cfg(unix)]
fn lock(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{FlockOperation, flock};
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let pid = plain_file::read(path, MAX_LEN).unwrap_or_default();
            let pid = String::from_utf8_lossy(&pid);
            let reason = format!("belongs to the running process {}", pid.trim());
            Err(io::Error::new(io::ErrorKind::WouldBlock, reason))
        }
        // Some file systems have no locks.
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn lock(_file: &File, _path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;

    fn path(name: &str) -> PathBuf {
        env::temp_dir().join(format!("proxy-{}-{name}", process::id()))
    }

    #[test]
    fn holds_the_process_id_while_it_lives() {
        let path = path("lives");
        fs::write(&path, "1").unwrap();
        let file = PidFile::create(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            process::id().to_string()
        );
        drop(file);
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn follows_no_symbolic_link() {
        let (victim, link) = (path("victim"), path("link"));
        fs::write(&victim, "original").unwrap();
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        let error = PidFile::create(&link).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "link: is a symbolic link; remove it, or specify another file with --pid-file"
            ),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&victim).unwrap(), "original");
        fs::remove_file(victim).unwrap();
        fs::remove_file(link).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn leaves_the_file_of_a_running_process_alone() {
        let path = path("running");
        let running = PidFile::create(&path).unwrap();
        let error = PidFile::create(&path).unwrap_err().to_string();
        let reason = format!(
            "belongs to the running process {}; stop that process, or specify another file with --pid-file",
            process::id()
        );
        assert!(error.ends_with(&reason), "{error}");
        assert!(path.exists());
        drop(running);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_left_remains_and_can_be_used() {
        let path = path("left");
        PidFile::create(&path).unwrap().leave();
        assert!(path.exists());
        drop(PidFile::create(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn leaves_a_later_runs_file_alone() {
        let path = path("later");
        let file = PidFile::create(&path).unwrap();
        fs::write(&path, "1").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn names_the_file_that_cannot_be_written() {
        let error = PidFile::create(Path::new("/nonexistent/pid"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "pid file /nonexistent/pid: No such file or directory (os error 2); specify another file with --pid-file"
        );
    }
}
