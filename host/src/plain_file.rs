//! Opens only regular files, in places where other users may put something else.
//!
//! A symbolic link is not followed, so that it cannot make the proxy overwrite its target; a FIFO, a device or a socket
//! does not block. A file that the operator configures as a source (the configuration, certificates, keys) may be a
//! symbolic link or a pipe, but does not block for long. The log destination is opened as usual.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long a pipe may provide no data.
const PIPE_PATIENCE: Duration = Duration::from_secs(5);

/// The interval between attempts to read such a pipe.
const PIPE_LOOK: Duration = Duration::from_millis(10);

/// The maximum length of a file that the operator names, in bytes.
const MAX_NAMED_LEN: usize = 64 << 20;

/// Opens a file; an existing one keeps its content.
///
/// # Errors
/// It is a symbolic link or not a regular file, or the system's error.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = open_unfollowed(options, path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is not a regular file")),
    }
}

/// Reads a file of at most `max_len` bytes.
///
/// # Errors
/// As [`open`]; or the file is longer.
pub(crate) fn read(path: &Path, max_len: u64) -> io::Result<Vec<u8>> {
    let file = open(OpenOptions::new().read(true), path)?;
    let mut content = Vec::new();
    file.take(max_len + 1).read_to_end(&mut content)?;
    match content.len() as u64 <= max_len {
        true => Ok(content),
        false => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// Reads a file that the operator names. Blocks while a pipe has an active writer, or may still get one.
///
/// # Errors
/// The system's error; a pipe has provided no data for [`PIPE_PATIENCE`]; or the content exceeds 64 MiB.
pub(crate) fn read_named(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NONBLOCK.bits() as i32,
    );
    let mut file = options.open(path)?;
    let is_pipe = is_pipe(&file)?;
    let mut content = Vec::new();
    let mut progress = Instant::now();
    loop {
        let len = content.len();
        let mut rest = Read::by_ref(&mut file).take((MAX_NAMED_LEN + 1 - len) as u64);
        let ended = rest.read_to_end(&mut content);
        if content.len() > MAX_NAMED_LEN {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        match ended {
            // An empty pipe has had no writer yet.
            Ok(_) if !is_pipe || !content.is_empty() => return Ok(content),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        if content.len() > len {
            progress = Instant::now();
        } else if progress.elapsed() > PIPE_PATIENCE {
            let reason = format!("nothing was written to it within {PIPE_PATIENCE:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
        }
        thread::sleep(PIPE_LOOK);
    }
}

#[cfg(unix)]
fn is_pipe(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileTypeExt;
    Ok(file.metadata()?.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_pipe(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(unix)]
fn open_unfollowed(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.custom_flags(flags.bits() as i32);
    options.open(path).map_err(|error| {
        let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        match is_link {
            true => io::Error::other("is a symbolic link"),
            false => error,
        }
    })
}

#[cfg(not(unix))]
fn open_unfollowed(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => Err(io::Error::other("is a symbolic link")),
        _ => options.open(path),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::interception::fixtures::Dir;
    use std::os::unix::fs::symlink;

    fn fifo_in(dir: &Dir) -> std::path::PathBuf {
        let path = dir.path().join("pipe");
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).expect("the directory is ours");
        path
    }

    #[test]
    fn files_named_by_the_operator_may_be_links_or_pipes() {
        let dir = Dir::new("named-file");
        let (link, pipe) = (dir.path().join("link"), fifo_in(&dir));
        symlink(dir.file("file", "content"), &link).unwrap();
        assert_eq!(read_named(&link).unwrap(), b"content");
        let long = "piped".repeat(100_000);
        let (to, written) = (pipe.clone(), long.clone());
        let writer = thread::spawn(move || std::fs::write(to, written));
        assert_eq!(read_named(&pipe).unwrap(), long.as_bytes());
        writer.join().unwrap().unwrap();
        assert!(read_named(dir.path()).is_err());
        assert_eq!(read_named(Path::new("/dev/null")).unwrap(), b"");
        let endless = read_named(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(endless.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let dir = Dir::new("plain-file");
        let file = dir.file("file", "content");
        assert_eq!(read(&file, 7).unwrap(), b"content");
        let too_long = read(&file, 6).unwrap_err();
        assert_eq!(too_long.kind(), io::ErrorKind::FileTooLarge);
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        let error = read(&link, 7).unwrap_err().to_string();
        assert_eq!(error, "is a symbolic link");
        let fifo = fifo_in(&dir);
        assert_eq!(
            read(&fifo, 7).unwrap_err().to_string(),
            "is not a regular file"
        );
        assert!(read(dir.path(), 7).is_err());
        let missing = read(&dir.path().join("missing"), 7).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
