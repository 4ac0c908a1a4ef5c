//! The processes of this machine, as far as they are accessible (proc_pid_fd(5)).
//!
//! The descriptors of other users' processes, and of those in another PID namespace, are not visible, so they seem to
//! have no sockets. The same applies to a process that ends meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

/// A process.
#[derive(Clone)]
pub(crate) struct Process {
    directory: PathBuf,
}

/// All processes, youngest first: the searched one has often just been started.
pub(crate) fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut ids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids.into_iter().rev().map(Process::of)
}

impl Process {
    /// The inodes of its sockets.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = u64> {
        let entries = fs::read_dir(self.directory.join("fd")).into_iter();
        entries.flatten().flatten().filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?;
            inode.strip_suffix(']')?.parse().ok()
        })
    }

    /// The process that opened the socket `inode`, which this one has: this one, unless it inherited it from its
    /// parent. Between fork(2) and execve(2), a program that starts another one has two processes.
    pub(crate) fn opener(&self, inode: u64) -> Self {
        let mut opener = self.clone();
        while let Some(parent) = opener.parent()
            && parent.sockets().any(|held| held == inode)
        {
            opener = parent;
        }
        opener
    }

    fn parent(&self) -> Option<Self> {
        let status = fs::read_to_string(self.directory.join("stat")).ok()?;
        // The name is in parentheses and may contain some (proc_pid_stat(5)); then follow a state and the parent's id.
        let (_, behind) = status.rsplit_once(')')?;
        let id: u32 = behind.split_ascii_whitespace().nth(1)?.parse().ok()?;
        (id > 0).then(|| Self::of(id))
    }

    fn of(id: u32) -> Self {
        Self {
            directory: Path::new("/proc").join(id.to_string()),
        }
    }

    /// The name of its program, cut to 15 bytes.
    pub(crate) fn name(&self) -> Option<String> {
        let name = fs::read(self.directory.join("comm")).ok()?;
        Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
    }
}
