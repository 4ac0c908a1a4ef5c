//! The file with the ports on which the proxy listens, for scripts that start it on port 0.
//!
//! One port per line, in decimal, that of the first listener first. The file is written once the ports are bound, and
//! whole: a reader sees the old content or the new one. It is removed with its `PortFile`, unless another file has taken
//! its place. A Unix socket has no port.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use crate::plain_file;

/// Removes the file when it is dropped.
#[derive(Debug)]
pub(super) struct PortFile {
    path: PathBuf,
    content: String,
    /// Device and number of the file: a process that takes over writes the same ports to a file of its own.
    identity: Option<(u64, u64)>,
}

/// Why the port file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("port file {}: {source}; specify another file with --port-file", .path.display())]
pub struct PortFileError {
    path: PathBuf,
    source: io::Error,
}

impl PortFile {
    /// Writes the ports.
    ///
    /// # Errors
    /// The system's error, or the path is not that of a regular file.
    pub(super) fn write(path: &Path, ports: &[u16]) -> Result<Self, PortFileError> {
        let content: String = ports.iter().map(|port| format!("{port}\n")).collect();
        replace(path, &content).map_err(|source| PortFileError {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            content,
            identity: identity(path),
        })
    }
}

impl PortFile {
    /// Does not remove the file.
    pub(super) fn leave(mut self) {
        self.path.clear();
    }
}

impl Drop for PortFile {
    fn drop(&mut self) {
        let len = self.content.len() as u64;
        let is_ours = identity(&self.path) == self.identity
            && plain_file::read(&self.path, len)
                .is_ok_and(|content| content == self.content.as_bytes());
        if is_ours {
            // A file that remains names ports on which nobody listens.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_path: &Path) -> Option<(u64, u64)> {
    None
}

fn replace(path: &Path, content: &str) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|existing| !existing.is_file()) {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut draft = path.to_owned().into_os_string();
    draft.push(format!(".{}", process::id()));
    let draft = PathBuf::from(draft);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let written = plain_file::open(&mut options, &draft)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .and_then(|()| fs::rename(&draft, path));
    written.inspect_err(|_| drop(fs::remove_file(&draft)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;

    fn path(name: &str) -> PathBuf {
        env::temp_dir().join(format!("proxy-{}-ports-{name}", process::id()))
    }

    #[test]
    fn has_one_port_per_line_while_it_exists() {
        let path = path("lines");
        fs::write(&path, "from an earlier run, and longer than ours").unwrap();
        let file = PortFile::write(&path, &[8899, 1]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "8899\n1\n");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn another_proxys_file_is_left_alone() {
        let path = path("other");
        let file = PortFile::write(&path, &[1]).unwrap();
        fs::write(&path, "2\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
        let file = PortFile::write(&path, &[1]).unwrap();
        let successor = PortFile::write(&path, &[1]).unwrap();
        drop(file);
        assert!(path.exists());
        drop(successor);
        assert!(!path.exists());
    }

    #[test]
    fn names_the_file_that_cannot_be_written() {
        let refusal = |path: &Path| PortFile::write(path, &[1]).unwrap_err().to_string();
        assert_eq!(
            refusal(Path::new("/nonexistent/ports")),
            "port file /nonexistent/ports: No such file or directory (os error 2); specify another file with --port-file"
        );
        assert_eq!(
            refusal(&env::temp_dir()),
            format!(
                "port file {}: is not a regular file; specify another file with --port-file",
                env::temp_dir().display()
            )
        );
    }
}
