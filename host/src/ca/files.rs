//! Creating files, with private keys readable only by their owner.
//!
//! Either all files of a call are written or none. A file is created with its final mode. An existing file is never
//! modified: it is an error, or it is replaced by a rename.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

/// A file to write.
pub(super) struct NewFile<'a> {
    path: &'a Path,
    content: &'a [u8],
    access: FileMode,
}

impl<'a> NewFile<'a> {
    pub(super) fn new(path: &'a Path, content: &'a [u8], access: FileMode) -> Self {
        NewFile {
            path,
            content,
            access,
        }
    }

    /// The path where it is written before it replaces another file.
    fn temporary(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.new", process::id()));
        self.path.with_file_name(name)
    }
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileMode {
    /// Its owner only: mode 0600.
    Owner,
    /// Everyone: mode 0644, restricted by the umask.
    Everyone,
}

/// What to do with an existing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    Refuse,
    Replace,
}

impl Existing {
    /// From the flag `--force`.
    pub(super) fn from_force(force: bool) -> Self {
        if force {
            Existing::Replace
        } else {
            Existing::Refuse
        }
    }
}

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It exists.
    #[error("{} already exists; use --force to replace it", .0.display())]
    Exists(PathBuf),
    /// The system's error.
    #[error("cannot write {}: {}", .0.display(), .1)]
    Unwritable(PathBuf, io::Error),
}

/// Creates `dir` if it is missing, accessible by its owner only.
pub(super) fn make_dir(dir: &Path) -> Result<(), FileError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder
        .create(dir)
        .map_err(|error| FileError::Unwritable(dir.to_owned(), error))
}

/// Writes all of `files`, or none.
pub(super) fn write_all(files: &[NewFile<'_>], existing: Existing) -> Result<(), FileError> {
    if existing == Existing::Refuse
        && let Some(file) = files.iter().find(|file| exists(file.path))
    {
        return Err(FileError::Exists(file.path.to_owned()));
    }
    let mut begun = WrittenFiles(Vec::new());
    for file in files {
        let path = match existing {
            Existing::Refuse => file.path.to_owned(),
            Existing::Replace => file.temporary(),
        };
        begun.write(path, file)?;
    }
    if existing == Existing::Replace {
        for (file, temporary) in files.iter().zip(&begun.0) {
            fs::rename(temporary, file.path).map_err(|error| unwritable(file.path, error))?;
        }
    }
    begun.0.clear();
    Ok(())
}

/// The files written so far; removed when dropped.
struct WrittenFiles(Vec<PathBuf>);

impl WrittenFiles {
    fn write(&mut self, path: PathBuf, file: &NewFile<'_>) -> Result<(), FileError> {
        let mut opened = create(&path, file.access).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => FileError::Exists(path.clone()),
            _ => unwritable(file.path, error),
        })?;
        self.0.push(path);
        opened
            .write_all(file.content)
            .and_then(|()| opened.sync_all())
            .map_err(|error| unwritable(file.path, error))
    }
}

impl Drop for WrittenFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // The call has already failed and reports that.
            let _ = fs::remove_file(path);
        }
    }
}

/// Creates a new file. The mode is set at creation: setting it later would let others open the file in between.
fn create(path: &Path, access: FileMode) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(match access {
        FileMode::Owner => 0o600,
        FileMode::Everyone => 0o644,
    });
    #[cfg(not(unix))]
    let _ = access;
    options.open(path)
}

fn exists(path: &Path) -> bool {
    // A dangling symbolic link counts as existing.
    path.symlink_metadata().is_ok()
}

fn unwritable(path: &Path, error: io::Error) -> FileError {
    FileError::Unwritable(path.to_owned(), error)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::env;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = env::temp_dir().join(format!("proxy-ca-{}-{name}", process::id()));
            fs::create_dir_all(&dir).unwrap();
            Scratch(dir)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn nothing_is_written_if_one_file_exists() {
        let scratch = Scratch::new("exists");
        let (a, b) = (scratch.0.join("a"), scratch.0.join("b"));
        fs::write(&b, "old").unwrap();
        let files = [&a, &b].map(|path| NewFile::new(path, b"new", FileMode::Owner));
        let error = write_all(&files, Existing::Refuse).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} already exists; use --force to replace it", b.display())
        );
        assert_eq!(scratch.names(), ["b"]);
        assert_eq!(fs::read(&b).unwrap(), b"old");
    }

    #[test]
    fn a_failed_call_leaves_no_files() {
        let scratch = Scratch::new("half");
        let (a, b) = (scratch.0.join("a"), scratch.0.join("missing/b"));
        for existing in [Existing::Refuse, Existing::Replace] {
            let files = [&a, &b].map(|path| NewFile::new(path, b"new", FileMode::Owner));
            let error = write_all(&files, existing).unwrap_err();
            assert!(matches!(error, FileError::Unwritable(path, _) if path == b));
            assert!(scratch.names().is_empty());
        }
        let twice = [&a, &a].map(|path| NewFile::new(path, b"new", FileMode::Owner));
        assert!(write_all(&twice, Existing::Refuse).is_err());
        assert!(scratch.names().is_empty());
    }

    #[test]
    fn a_replaced_file_has_the_mode_of_a_new_one() {
        let scratch = Scratch::new("replace");
        let key = scratch.0.join("key");
        fs::write(&key, "old and longer").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
        let file = NewFile::new(&key, b"new", FileMode::Owner);
        write_all(&[file], Existing::Replace).unwrap();
        assert_eq!(
            (mode(&key), fs::read(&key).unwrap()),
            (0o600, b"new".to_vec())
        );
        assert_eq!(scratch.names(), ["key"]);
    }

    #[test]
    fn links_are_not_followed() {
        let scratch = Scratch::new("link");
        let (target, link) = (scratch.0.join("target"), scratch.0.join("link"));
        symlink(&target, &link).unwrap();
        let write = |existing| {
            let file = NewFile::new(&link, b"secret", FileMode::Owner);
            write_all(&[file], existing)
        };
        assert!(matches!(write(Existing::Refuse), Err(FileError::Exists(_))));
        write(Existing::Replace).unwrap();
        assert_eq!(scratch.names(), ["link"]);
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn a_new_directory_is_private_and_an_existing_one_is_unchanged() {
        let scratch = Scratch::new("dir");
        let dir = scratch.0.join("new");
        make_dir(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        make_dir(&dir).unwrap();
        assert_eq!(mode(&dir), 0o755);
    }
}
