//! Where lines are written: standard output, or a file.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::{
    fmt,
    io::{self, Write},
};

/// Where lines are written.
pub(super) enum Output {
    /// Without the buffer of [`io::stdout`], which does not tell how much of a failed write was written.
    #[cfg(unix)]
    Stdout(File),
    #[cfg(not(unix))]
    Stdout(io::Stdout),
    File(File),
    #[cfg(test)]
    Other(Box<dyn Write + Send>),
}

impl Output {
    /// Standard output.
    ///
    /// # Errors
    /// The process has no descriptor left.
    #[cfg(unix)]
    pub(super) fn standard_output() -> io::Result<Self> {
        use std::os::fd::AsFd;
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self::Stdout(descriptor.into()))
    }

    #[cfg(not(unix))]
    pub(super) fn standard_output() -> io::Result<Self> {
        Ok(Self::Stdout(io::stdout()))
    }

    /// Opens a file to append to, or creates it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.map(Self::File)
    }

    /// The file, or standard output if there is none.
    pub(super) fn open_or_standard_output(path: Option<&Path>) -> io::Result<Self> {
        path.map_or_else(Self::standard_output, Self::open)
    }

    /// The descriptor; it stays open as long as the destination.
    #[cfg(unix)]
    pub(super) fn descriptor(&self) -> Option<i32> {
        use std::os::fd::AsRawFd;
        match self {
            Self::Stdout(file) | Self::File(file) => Some(file.as_raw_fd()),
            #[cfg(test)]
            Self::Other(_) => None,
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
            #[cfg(test)]
            Self::Other(other) => other.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.flush(),
            #[cfg(test)]
            Self::Other(other) => other.flush(),
        }
    }
}
