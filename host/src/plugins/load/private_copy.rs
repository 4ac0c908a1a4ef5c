//! The file that the system's loader maps: a copy, made by the proxy, of exactly the bytes that were checked.
//!
//! The loader maps a library's file for as long as the process lives, and pages of it are read at any time. So
//! overwriting that file (`cp new.so loaded.so`) changes or ends the running process, and the loader returns the old code
//! for a path that it has seen before. A copy that no other process can write to has neither problem. On Linux it is a sealed
//! file in memory with the library's name, which `/proc/PID/maps` shows; where there is none, or it may not be
//! executed, it is a file in a directory of the proxy's own, removed once it is loaded.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A copy of a library. Dropping it removes it; what has been mapped stays.
pub(super) struct PrivateCopy {
    path: PathBuf,
    storage: Storage,
}

/// Where the copy is.
enum Storage {
    #[cfg(target_os = "linux")]
    Memory(#[expect(dead_code, reason = "its number is in the path")] File),
    Directory(PathBuf),
}

impl PrivateCopy {
    /// A copy in memory that cannot be changed or truncated any more.
    ///
    /// # Errors
    /// The system has no such files, forbids to execute them, or has no memory or descriptor left.
    #[cfg(target_os = "linux")]
    pub(super) fn in_memory(name: &str, content: &[u8]) -> io::Result<Self> {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        use std::os::fd::AsRawFd;
        /// The kernel's own limit, in bytes.
        const MAX_NAME_LEN: usize = 249;
        let name = name.bytes().filter(|byte| *byte != 0);
        let name: Vec<u8> = name.take(MAX_NAME_LEN).collect();
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = match memfd_create(&name[..], flags | MemfdFlags::EXEC) {
            // Kernels before 6.3 do not know the flag; files in memory may be executed there.
            Err(rustix::io::Errno::INVAL) => memfd_create(&name[..], flags)?,
            made => made?,
        };
        let mut file = File::from(file);
        file.write_all(content)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        // By the process id, so that debuggers, which are other processes, find it by the same path.
        let number = file.as_raw_fd();
        let by_process = format!("/proc/{}/fd/{number}", std::process::id());
        let path = match fs::metadata(&by_process) {
            Ok(_) => by_process,
            Err(_) => format!("/proc/self/fd/{number}"),
        };
        fs::metadata(&path)?;
        Ok(Self {
            path: path.into(),
            storage: Storage::Memory(file),
        })
    }

    /// A copy in a new directory that only this user can enter, below the system's directory for temporary files.
    ///
    /// # Errors
    /// The directory or the file cannot be made.
    pub(super) fn on_disk(name: &str, content: &[u8]) -> io::Result<Self> {
        let directory = new_directory()?;
        let path = directory.join(name);
        let copy = Self {
            path,
            storage: Storage::Directory(directory),
        };
        let mut file = File::create_new(&copy.path)?;
        file.write_all(content)?;
        Ok(copy)
    }

    /// Where the loader finds it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The copy is mapped. One in memory stays open, so that its path means it for as long as the process lives: the
    /// loader, debuggers and backtraces go by that.
    pub(super) fn keep(self) {
        match &self.storage {
            #[cfg(target_os = "linux")]
            Storage::Memory(_) => std::mem::forget(self),
            Storage::Directory(_) => {}
        }
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        // Where a mapped file cannot be removed, the directory stays.
        if let Storage::Directory(directory) = &self.storage {
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_dir(directory);
        }
    }
}

/// A directory that did not exist before, with mode 0700.
fn new_directory() -> io::Result<PathBuf> {
    const TRIES: u32 = 100;
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let process = std::process::id();
    let mut refused = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..TRIES {
        let path = std::env::temp_dir().join(format!("proxy-libraries-{process}-{number}"));
        match builder.create(&path) {
            Ok(()) => return Ok(path),
            Err(error) => refused = error,
        }
        if refused.kind() != io::ErrorKind::AlreadyExists {
            break;
        }
    }
    Err(refused)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::PrivateCopy;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_copy_in_memory_cannot_be_changed_and_has_the_librarys_name() {
        let name = "libname-that-is-shown.so";
        let copy = PrivateCopy::in_memory(name, b"content").unwrap();
        assert_eq!(fs::read(copy.path()).unwrap(), b"content");
        let shown = fs::read_link(copy.path()).unwrap();
        assert!(shown.to_string_lossy().contains(name), "{shown:?}");
        let opened = fs::OpenOptions::new().write(true).open(copy.path());
        let changed = opened.and_then(|mut file| std::io::Write::write(&mut file, b"x"));
        assert!(changed.is_err());
        assert!(
            fs::write(copy.path(), b"").is_err() || fs::read(copy.path()).unwrap() == b"content"
        );
        let path = copy.path().to_owned();
        drop(copy);
        assert!(!path.exists(), "the descriptor is closed");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_name_of_any_length_is_taken() {
        for name in ["", "l\0ib", &"ü".repeat(300)] {
            assert!(PrivateCopy::in_memory(name, b"x").is_ok());
        }
    }

    #[test]
    fn a_copy_on_disk_is_nobody_elses_and_leaves_nothing() {
        let copy = PrivateCopy::on_disk("libx.so", b"content").unwrap();
        let other = PrivateCopy::on_disk("libx.so", b"other").unwrap();
        assert_eq!(fs::read(copy.path()).unwrap(), b"content");
        assert_eq!(fs::read(other.path()).unwrap(), b"other");
        let directory = copy.path().parent().unwrap().to_owned();
        let mode = fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        copy.keep();
        assert!(!directory.exists());
    }
}
