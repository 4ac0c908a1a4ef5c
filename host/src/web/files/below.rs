//! Opens files inside a directory, and nothing outside.
//!
//! On Linux, openat2(2) with `RESOLVE_BENEATH` guarantees this, for all names and even if directories are moved
//! meanwhile, with one system call per file. Other Unixes, Linux before 5.6, and system call filters that do not know
//! openat2 walk down one directory at a time with openat(2) and `O_NOFOLLOW`; this is less code than the dozen crates
//! of `cap-std`. On other systems, the canonical path is compared, which a rename at the right moment can bypass;
//! there, `path.rs` is the only other check.
//!
//! Symbolic links are followed if they are relative and stay inside; the kernel treats an absolute link as leading
//! outside.

#[cfg(not(unix))]
pub(super) use portable::{Directory, Subdirectory, read_at};
#[cfg(unix)]
pub(super) use unix::{Directory, Subdirectory, read_at};

use std::fs::{File, Metadata};

/// What a name refers to.
#[derive(Debug)]
pub(super) enum DirEntry {
    File(File, Metadata),
    Directory(Subdirectory),
    /// A device or a pipe, which has no content.
    Other,
}

#[cfg(unix)]
mod unix {
    use std::collections::VecDeque;
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
    use rustix::io::Errno;

    use super::DirEntry;
    use crate::config::Symlinks;

    /// Links that are followed for one name, and the maximum depth of directories; the limit of Linux.
    const MAX_LINKS: u32 = 40;
    const MAX_DEPTH: usize = 128;

    /// `NONBLOCK`: opening a pipe must not block the worker; regular files are not affected. `NOCTTY`: opening a
    /// terminal must not make it the controlling one.
    const READ: OFlags = OFlags::RDONLY
        .union(OFlags::CLOEXEC)
        .union(OFlags::NONBLOCK)
        .union(OFlags::NOCTTY);

    /// A directory with files to open.
    #[derive(Debug)]
    pub(in super::super) struct Directory(OwnedFd);

    /// A directory found inside.
    #[derive(Debug)]
    pub(in super::super) struct Subdirectory(File);

    impl Directory {
        pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
            #[cfg(target_os = "linux")]
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            #[cfg(not(target_os = "linux"))]
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Self(openat(CWD, path, flags, Mode::empty())?))
        }

        /// Opens `name`, a relative path without `.` and `..`; an empty name is the directory itself.
        pub(in super::super) fn look_up(
            &self,
            name: &[u8],
            symlinks: Symlinks,
        ) -> io::Result<DirEntry> {
            let file = File::from(self.open_below(name, symlinks)?);
            let metadata = file.metadata()?;
            Ok(if metadata.is_file() {
                DirEntry::File(file, metadata)
            } else if metadata.is_dir() {
                DirEntry::Directory(Subdirectory(file))
            } else {
                DirEntry::Other
            })
        }

        fn open_below(&self, name: &[u8], symlinks: Symlinks) -> Result<OwnedFd, Errno> {
            let name = if name.is_empty() { b"." } else { name };
            #[cfg(target_os = "linux")]
            if linux::has_openat2() {
                return linux::open(self.0.as_fd(), name, symlinks);
            }
            self.walk(name, symlinks)
        }

        /// Like [`open_below`](Self::open_below), without openat2.
        pub(super) fn walk(&self, name: &[u8], symlinks: Symlinks) -> Result<OwnedFd, Errno> {
            if symlinks == Symlinks::All {
                return openat(&self.0, name, READ, Mode::empty());
            }
            let mut parents: Vec<OwnedFd> = Vec::new();
            let mut steps: VecDeque<Vec<u8>> = steps(name).collect();
            let mut links = 0;
            while let Some(step) = steps.pop_front() {
                if step == b".." {
                    parents.pop().ok_or(Errno::XDEV)?;
                    continue;
                }
                if parents.len() == MAX_DEPTH {
                    return Err(Errno::NAMETOOLONG);
                }
                let at = innermost(&self.0, &parents);
                let is_last = steps.is_empty();
                match open_step(at, &step, is_last) {
                    Ok(file) if is_last => return Ok(file),
                    Ok(parent) => parents.push(parent),
                    Err(error) => {
                        let target = link_target(at, &step, error)?;
                        links += 1;
                        if symlinks == Symlinks::None || links > MAX_LINKS {
                            return Err(Errno::LOOP);
                        }
                        if target.starts_with(b"/") {
                            return Err(Errno::XDEV);
                        }
                        let rest = std::mem::take(&mut steps);
                        steps = self::steps(&target).chain(rest).collect();
                    }
                }
            }
            openat(
                innermost(&self.0, &parents),
                c".",
                READ | OFlags::DIRECTORY,
                Mode::empty(),
            )
        }
    }

    impl Subdirectory {
        /// Up to `limit` names in the directory.
        pub(in super::super) fn names(&self, limit: usize) -> io::Result<Vec<Vec<u8>>> {
            let names = Dir::read_from(&self.0)?.take(limit.saturating_add(2));
            let mut names = names
                .map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec()))
                .collect::<Result<Vec<_>, _>>()?;
            names.retain(|name| !matches!(&name[..], b"." | b".."));
            names.truncate(limit);
            Ok(names)
        }
    }

    /// Reads at `offset`. May return less than fits into the buffer, even before the end of the file.
    pub(in super::super) fn read_at(
        file: &File,
        room: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        file.read_at(room, offset)
    }

    fn steps(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        path.split(|&byte| byte == b'/')
            .filter(|step| !matches!(*step, b"" | b"."))
            .map(<[u8]>::to_vec)
    }

    fn innermost<'a>(outermost: &'a OwnedFd, parents: &'a [OwnedFd]) -> BorrowedFd<'a> {
        parents.last().unwrap_or(outermost).as_fd()
    }

    fn open_step(at: BorrowedFd<'_>, step: &[u8], is_last: bool) -> Result<OwnedFd, Errno> {
        let kind = match is_last {
            true => OFlags::empty(),
            false => OFlags::DIRECTORY,
        };
        openat(at, step, READ | OFlags::NOFOLLOW | kind, Mode::empty())
    }

    /// The target of the link that could not be opened with `error`, or `error` if it is not about a link.
    fn link_target(at: BorrowedFd<'_>, step: &[u8], error: Errno) -> Result<Vec<u8>, Errno> {
        // Systems return different errors for a link. readlink fails with EINVAL if it is not one.
        if !matches!(error, Errno::LOOP | Errno::MLINK | Errno::NOTDIR) {
            return Err(error);
        }
        let target = readlinkat(at, step, Vec::new()).map_err(|_| error)?;
        Ok(target.into_bytes())
    }

    #[cfg(target_os = "linux")]
    mod linux {
        use std::os::fd::{BorrowedFd, OwnedFd};
        use std::sync::OnceLock;

        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
        use rustix::io::Errno;

        use super::READ;
        use crate::config::Symlinks;

        /// Attempts to open a name while directories on its path are being renamed.
        const TRIES: u32 = 16;

        /// System call filters report an unknown call as missing or as forbidden.
        pub(super) fn has_openat2() -> bool {
            static HAS_OPENAT2: OnceLock<bool> = OnceLock::new();
            *HAS_OPENAT2.get_or_init(|| {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let opened = openat2(CWD, c".", flags, Mode::empty(), ResolveFlags::BENEATH);
                !matches!(opened, Err(Errno::NOSYS | Errno::PERM))
            })
        }

        pub(super) fn open(
            at: BorrowedFd<'_>,
            name: &[u8],
            symlinks: Symlinks,
        ) -> Result<OwnedFd, Errno> {
            let resolve = ResolveFlags::NO_MAGICLINKS
                | match symlinks {
                    Symlinks::Inside => ResolveFlags::BENEATH,
                    Symlinks::None => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
                    Symlinks::All => ResolveFlags::empty(),
                };
            let mut tries = 1;
            loop {
                match openat2(at, name, READ, Mode::empty(), resolve) {
                    Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
                    result => return result,
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::os::unix::fs::symlink;

        use super::super::super::fixtures::Site;
        use super::*;

        /// The results of opening with openat2 and by walking.
        fn both(site: &Site, name: &str, symlinks: Symlinks) -> [Result<u64, Errno>; 2] {
            use std::os::unix::fs::MetadataExt;
            let directory = Directory::open(site.root()).unwrap();
            let inode = |file: OwnedFd| File::from(file).metadata().unwrap().ino();
            [
                directory.open_below(name.as_bytes(), symlinks).map(inode),
                directory.walk(name.as_bytes(), symlinks).map(inode),
            ]
        }

        #[test]
        fn links_lead_where_the_policy_allows() {
            let site = Site::new("links");
            site.write("a/b/file", "x");
            for (target, link) in [
                ("a/b/file", "direct"),
                ("a", "dir"),
                ("../b/file", "a/b/around"),
                ("b/../..", "a/top"),
                ("direct", "twice"),
                ("loop", "loop"),
                ("../secret", "out"),
                ("a/../../secret", "out2"),
                ("..", "parent"),
                ("/etc/passwd", "absolute"),
                ("nowhere", "dangling"),
            ] {
                symlink(target, site.root().join(link)).unwrap();
            }
            let [file, _] = both(&site, "a/b/file", Symlinks::None);
            let file = file.unwrap();
            let table = [
                ("a/b/file", Symlinks::Inside, Ok(file)),
                ("a/b/file", Symlinks::All, Ok(file)),
                ("direct", Symlinks::Inside, Ok(file)),
                ("dir/b/file", Symlinks::Inside, Ok(file)),
                ("a/b/around", Symlinks::Inside, Ok(file)),
                ("a/top/direct", Symlinks::Inside, Ok(file)),
                ("twice", Symlinks::Inside, Ok(file)),
                ("twice", Symlinks::All, Ok(file)),
                ("direct", Symlinks::None, Err(Errno::LOOP)),
                ("dir/b/file", Symlinks::None, Err(Errno::LOOP)),
                ("loop", Symlinks::Inside, Err(Errno::LOOP)),
                ("out", Symlinks::Inside, Err(Errno::XDEV)),
                ("out2", Symlinks::Inside, Err(Errno::XDEV)),
                ("parent", Symlinks::Inside, Err(Errno::XDEV)),
                ("parent/secret", Symlinks::Inside, Err(Errno::XDEV)),
                ("absolute", Symlinks::Inside, Err(Errno::XDEV)),
                ("dangling", Symlinks::Inside, Err(Errno::NOENT)),
                ("none/x", Symlinks::Inside, Err(Errno::NOENT)),
                ("a/b/file/x", Symlinks::Inside, Err(Errno::NOTDIR)),
            ];
            for (name, symlinks, expected) in table {
                assert_eq!(
                    both(&site, name, symlinks),
                    [expected, expected],
                    "{name} {symlinks:?}"
                );
            }
            let [by_kernel, on_foot] = both(&site, "out", Symlinks::All);
            assert!(by_kernel.is_ok() && by_kernel == on_foot);
            let [by_kernel, on_foot] = both(&site, "a/top", Symlinks::Inside);
            assert!(by_kernel.is_ok() && by_kernel == on_foot);
        }

        #[test]
        fn a_pipe_does_not_block_and_is_not_a_file() {
            let site = Site::new("pipe");
            let path = site.root().join("pipe");
            rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
            let directory = Directory::open(site.root()).unwrap();
            let opened = directory.look_up(b"pipe", Symlinks::Inside).unwrap();
            assert!(matches!(opened, DirEntry::Other));
        }
    }
}

#[cfg(not(unix))]
mod portable {
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    use super::DirEntry;
    use crate::config::Symlinks;

    /// A directory with files to open, as a canonical path.
    #[derive(Debug)]
    pub(in super::super) struct Directory(PathBuf);

    /// A directory found inside.
    #[derive(Debug)]
    pub(in super::super) struct Subdirectory(PathBuf);

    impl Directory {
        pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
            match fs::metadata(path)?.is_dir() {
                true => Ok(Self(fs::canonicalize(path)?)),
                false => Err(io::ErrorKind::NotADirectory.into()),
            }
        }

        /// Opens `name`, a relative path without `.` and `..`; an empty name is the directory itself.
        pub(in super::super) fn look_up(
            &self,
            name: &[u8],
            symlinks: Symlinks,
        ) -> io::Result<DirEntry> {
            let name = str::from_utf8(name).map_err(|_| io::ErrorKind::NotFound)?;
            let mut asked = self.0.clone();
            asked.extend(name.split('/').filter(|step| !step.is_empty()));
            let path = fs::canonicalize(&asked)?;
            let is_allowed = match symlinks {
                Symlinks::All => true,
                Symlinks::Inside => path.starts_with(&self.0),
                Symlinks::None => path == asked,
            };
            if !is_allowed {
                return Err(io::ErrorKind::NotFound.into());
            }
            if fs::metadata(&path)?.is_dir() {
                return Ok(DirEntry::Directory(Subdirectory(path)));
            }
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            Ok(match metadata.is_file() {
                true => DirEntry::File(file, metadata),
                false => DirEntry::Other,
            })
        }
    }

    impl Subdirectory {
        /// Up to `limit` names in the directory, those in UTF-8.
        pub(in super::super) fn names(&self, limit: usize) -> io::Result<Vec<Vec<u8>>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.0)?.take(limit) {
                if let Ok(name) = entry?.file_name().into_string() {
                    names.push(name.into_bytes());
                }
            }
            Ok(names)
        }
    }

    /// Reads at `offset`. May return less than fits into the buffer, even before the end of the file.
    pub(in super::super) fn read_at(
        mut file: &File,
        room: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        use std::io::{Read, Seek, SeekFrom};
        file.seek(SeekFrom::Start(offset))?;
        file.read(room)
    }
}
