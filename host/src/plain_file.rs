//! Opens only regular files, where others may have put something else.
//!
//! A symbolic link is not followed, so that it cannot make the proxy overwrite its target; a FIFO, a device or a socket
//! does not block. Files that the operator configures as log destination or as source (certificates, keys) are opened
//! as usual.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// Opens a file; an existing one keeps its content.
///
/// # Errors
/// What is there is a symbolic link or no regular file; or the system refuses.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = open_unfollowed(options, path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is not a regular file")),
    }
}

/// The content of a file of at most `max_len` bytes.
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
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        assert_eq!(
            read(&fifo, 7).unwrap_err().to_string(),
            "is not a regular file"
        );
        assert!(read(dir.path(), 7).is_err());
        let missing = read(&dir.path().join("missing"), 7).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
