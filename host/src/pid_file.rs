//! The file that tells others which process the proxy is.
//!
//! It exists as long as its `PidFile`. A file of that name from an earlier run is replaced; one that a later
//! run has put in its place is left alone. Whether the process in it still lives is left to the reader.

use std::path::{Path, PathBuf};
use std::{fs, io, process};

/// Removes the file when it is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

/// The pid file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("pid file {}: {source}; choose another with --pid-file", .path.display())]
pub struct PidFileError {
    path: PathBuf,
    source: io::Error,
}

impl PidFile {
    /// Writes the id of this process, in decimal and without a line end.
    ///
    /// # Errors
    /// The system refuses to write the file.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        fs::write(path, process::id().to_string()).map_err(|source| PidFileError {
            path: path.to_owned(),
            source,
        })?;
        Ok(PidFile {
            path: path.to_owned(),
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|pid| pid == process::id().to_string()) {
            // A file that cannot be removed names a process that is gone; nobody is left to act on it.
            let _ = fs::remove_file(&self.path);
        }
    }
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
            "pid file /nonexistent/pid: No such file or directory (os error 2); \
             choose another with --pid-file"
        );
    }
}
