//! The processes of this machine, as far as they may be looked at (proc_pid_fd(5)).
//!
//! Of other users' processes, and of those in another PID namespace, the descriptors are not visible: they seem to
//! hold no sockets. A process that ends while it is looked at seems so, too.

use std::fs;
use std::path::{Path, PathBuf};

/// A process.
pub(crate) struct Process {
    directory: PathBuf,
}

/// All processes, youngest first: who asks has often just been started.
pub(crate) fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut ids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids.into_iter().rev().map(|id| Process {
        directory: Path::new("/proc").join(id.to_string()),
    })
}

impl Process {
    /// The inodes of the sockets it holds.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = u64> {
        let entries = fs::read_dir(self.directory.join("fd")).into_iter();
        entries.flatten().flatten().filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?;
            inode.strip_suffix(']')?.parse().ok()
        })
    }

    /// The name of its program, at most 15 bytes of it.
    pub(crate) fn name(&self) -> Option<String> {
        let name = fs::read(self.directory.join("comm")).ok()?;
        Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
    }
}
