//! The directory that stores certificates across restarts.
//!
//! One PEM file per host, written to a temporary file and renamed, so that two proxies may share the directory. Files
//! are not trusted: the CA checks them. Anything that is not a certificate of a host (a private key, a CA, a link, a
//! FIFO, a directory) is ignored, and never replaced or removed. If the directory cannot be written, only a warning is
//! logged.
//!
//! The number and the total size of files are limited: above either, the least recently used are removed. The directory
//! is listed once, when the first certificate is needed; existing files are ordered by their modification times, which
//! are set whenever they are read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use lru::LruCache;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::ca;
use super::subject::Subject;
use crate::plain_file;

/// The maximum size of a file, in bytes; certificates are smaller.
const MAX_FILE_LEN: u64 = 64 * 1024;

/// The extension of certificate files.
const EXTENSION: &str = ".pem";
/// The prefix of files that are being written.
const DRAFT: &str = ".new-";
/// The age from which such a file is considered abandoned.
const DRAFT_LIFETIME: Duration = Duration::from_secs(3600);

/// The maximum number of files removed at a time, so that a large directory delays nobody.
const REMOVED_AT_ONCE: usize = 64;

/// Limits on what is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct DirLimits {
    pub(super) files: usize,
    /// Total size in bytes.
    pub(super) len: u64,
}

/// The stored certificates.
#[derive(Debug)]
pub(super) struct CertificateDir {
    path: PathBuf,
    limits: DirLimits,
    /// `None` until the first use.
    listed: Mutex<Option<Listed>>,
    warned: AtomicBool,
    /// Distinguishes files that are being written.
    written: AtomicU64,
}

/// What the directory contains for a host.
#[derive(Debug)]
pub(super) enum StoredFile {
    /// No file, or an unreadable one.
    Missing,
    /// A certificate, not checked yet.
    Certificate(CertificateDer<'static>),
    /// A file without a certificate, which may be replaced.
    Garbage,
    /// Something that the proxy did not write.
    Foreign,
}

/// The files in the directory, as far as this process knows.
#[derive(Debug)]
struct Listed {
    /// Lengths by name.
    files: LruCache<String, u64>,
    len: u64,
}

impl CertificateDir {
    /// Creates the directory if it is missing, accessible by its owner only.
    pub(super) fn open(path: &Path, limits: DirLimits) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.create(path)?;
        warn_if_others_have_access(path)?;
        Ok(Self {
            path: path.to_owned(),
            limits,
            listed: Mutex::default(),
            warned: AtomicBool::new(false),
            written: AtomicU64::new(0),
        })
    }

    /// Reads the certificate of a host. Blocks.
    pub(super) fn read(&self, subject: &Subject) -> StoredFile {
        let name = subject.file_name();
        let path = self.path.join(&name);
        let read = match plain_file::read(&path, MAX_FILE_LEN) {
            Ok(text) => classify(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => StoredFile::Missing,
            Err(error) => {
                let host = &**subject.host();
                tracing::debug!(host, %error, "ignoring a file that is not a stored certificate");
                StoredFile::Foreign
            }
        };
        if matches!(read, StoredFile::Certificate(_)) {
            self.with_listed(|listed| listed.files.promote(&name));
            mark_used(&path);
        }
        read
    }

    /// Stores the certificate of a host, replacing the previous one. Blocks.
    pub(super) fn write(&self, subject: &Subject, certificate: &CertificateDer<'_>) {
        let (name, text) = (subject.file_name(), ca::to_pem(certificate));
        match self.replace(&name, &text) {
            Ok(()) => {
                self.warned.store(false, Ordering::Relaxed);
                self.with_listed(|listed| {
                    listed.add(name, text.len() as u64);
                    self.remove_oldest(listed);
                });
            }
            Err(error) if !self.warned.swap(true, Ordering::Relaxed) => {
                let path = self.path.display();
                tracing::warn!(
                    "cannot store certificates in {path}: {error}; they are created again after a restart"
                );
            }
            Err(_) => {}
        }
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let draft = self.path.join(format!("{DRAFT}{}-{number}", process::id()));
        // Left by an earlier process with the same id that was killed.
        let _ = fs::remove_file(&draft);
        let outcome = create_private(&draft)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&draft, self.path.join(name)));
        if outcome.is_err() {
            // It may not exist.
            let _ = fs::remove_file(&draft);
        }
        outcome
    }

    /// Removes files above the limits, a few at a time.
    fn remove_oldest(&self, listed: &mut Listed) {
        for _ in 0..REMOVED_AT_ONCE {
            let is_over = listed.files.len() > self.limits.files || listed.len > self.limits.len;
            // The most recent one has just been written.
            if !is_over || listed.files.len() == 1 {
                return;
            }
            let Some((name, len)) = listed.files.pop_lru() else {
                return;
            };
            listed.len -= len;
            let path = self.path.join(name);
            let text = plain_file::read(&path, MAX_FILE_LEN);
            if text.is_ok_and(|text| matches!(classify(&text), StoredFile::Certificate(_))) {
                // Another process may have removed it.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Calls `work` with the list of files. The first call lists the directory.
    fn with_listed<R>(&self, work: impl FnOnce(&mut Listed) -> R) -> R {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        work(listed.get_or_insert_with(|| Listed::of(&self.path)))
    }
}

impl Listed {
    fn of(directory: &Path) -> Self {
        let mut found = Vec::new();
        let now = SystemTime::now();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // For a link, the metadata of the link itself.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let age = now.duration_since(modified).unwrap_or_default();
            if !metadata.is_file() {
                continue;
            }
            if name.starts_with(DRAFT) && age > DRAFT_LIFETIME {
                let _ = fs::remove_file(entry.path());
            } else if name.ends_with(EXTENSION) && !name.starts_with('.') {
                found.push((modified, name, metadata.len()));
            }
        }
        found.sort_unstable();
        let mut listed = Self {
            files: LruCache::unbounded(),
            len: 0,
        };
        for (_, name, len) in found {
            listed.add(name, len);
        }
        listed
    }

    fn add(&mut self, name: String, len: u64) {
        let before = self.files.put(name, len).unwrap_or(0);
        self.len = self.len - before + len;
    }
}

/// Marks a file as recently used, for the next proxy that lists the directory.
fn mark_used(path: &Path) {
    let mut options = OpenOptions::new();
    // If this fails, the file is merely removed earlier.
    let _ = plain_file::open(options.append(true), path)
        .and_then(|file| file.set_modified(SystemTime::now()));
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

fn classify(text: &[u8]) -> StoredFile {
    if memchr::memmem::find(text, b"PRIVATE KEY-----").is_some() {
        return StoredFile::Foreign;
    }
    match CertificateDer::from_pem_slice(text) {
        Ok(certificate) if ca::is_ca(&certificate) => StoredFile::Foreign,
        Ok(certificate) => StoredFile::Certificate(certificate),
        Err(_) => StoredFile::Garbage,
    }
}

/// Warns if other users have access: they cannot forge certificates, but see which hosts were visited.
#[cfg(unix)]
fn warn_if_others_have_access(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        tracing::warn!(
            "other users can read {path} (mode {mode:o}) and see which hosts were visited; run chmod 700 {path}"
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn warn_if_others_have_access(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interception::fixtures::{Dir, RSA_CA, RSA_CA_KEY};

    fn subject(number: usize) -> Subject {
        Subject::of(&format!("h{number}.test")).unwrap()
    }

    fn names(dir: &Dir) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    /// A certificate of some host.
    fn certificate() -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["h.test".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn open(dir: &Dir, files: usize, len: u64) -> CertificateDir {
        CertificateDir::open(dir.path(), DirLimits { files, len }).unwrap()
    }

    #[test]
    fn the_least_recently_used_are_removed() {
        let dir = Dir::new("bounded");
        let certificate = certificate();
        let kept = open(&dir, 3, u64::MAX);
        for number in 0..3 {
            kept.write(&subject(number), &certificate);
        }
        assert!(matches!(kept.read(&subject(0)), StoredFile::Certificate(_)));
        kept.write(&subject(3), &certificate);
        assert_eq!(names(&dir), ["h0.test.pem", "h2.test.pem", "h3.test.pem"]);
        // The next process uses the modification times.
        for (name, age) in [
            ("h0.test.pem", 10),
            ("h2.test.pem", 30),
            ("h3.test.pem", 20),
        ] {
            let file = File::options().append(true).open(dir.path().join(name));
            let then = SystemTime::now() - Duration::from_secs(age);
            file.unwrap().set_modified(then).unwrap();
        }
        let kept = open(&dir, 3, u64::MAX);
        kept.write(&subject(4), &certificate);
        assert_eq!(names(&dir), ["h0.test.pem", "h3.test.pem", "h4.test.pem"]);
    }

    #[test]
    fn bytes_are_limited_and_a_large_directory_shrinks_gradually() {
        let dir = Dir::new("bytes");
        let certificate = certificate();
        let len = ca::to_pem(&certificate).len() as u64;
        let kept = open(&dir, usize::MAX, u64::MAX);
        for number in 0..REMOVED_AT_ONCE + 20 {
            kept.write(&subject(number), &certificate);
        }
        let kept = open(&dir, usize::MAX, 10 * len);
        kept.write(&subject(1000), &certificate);
        assert_eq!(names(&dir).len(), 21);
        kept.write(&subject(1001), &certificate);
        assert_eq!(names(&dir).len(), 10);
        assert!(matches!(
            kept.read(&subject(1001)),
            StoredFile::Certificate(_)
        ));
    }

    #[test]
    fn other_files_are_not_removed() {
        let dir = Dir::new("foreign");
        dir.file("ca.test.pem", RSA_CA);
        dir.file("key.test.pem", RSA_CA_KEY);
        dir.file("notes.txt", "text");
        let kept = open(&dir, 1, u64::MAX);
        for number in 0..3 {
            kept.write(&subject(number), &certificate());
        }
        assert_eq!(
            names(&dir),
            ["ca.test.pem", "h2.test.pem", "key.test.pem", "notes.txt"]
        );
    }

    #[cfg(unix)]
    #[test]
    fn other_than_regular_files_do_not_block() {
        use rustix::fs::{CWD, FileType, Mode};
        let dir = Dir::new("fifo");
        let path = |number: usize| dir.path().join(subject(number).file_name());
        rustix::fs::mknodat(CWD, path(0), FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::create_dir(path(1)).unwrap();
        let elsewhere = dir.file("elsewhere", RSA_CA);
        std::os::unix::fs::symlink(&elsewhere, path(2)).unwrap();
        dir.file("h3.test.pem", &"x".repeat(MAX_FILE_LEN as usize + 1));
        let kept = open(&dir, 10, u64::MAX);
        for number in 0..4 {
            assert!(
                matches!(kept.read(&subject(number)), StoredFile::Foreign),
                "{number}"
            );
        }
        assert!(matches!(kept.read(&subject(4)), StoredFile::Missing));
    }
}
