//! The directory that keeps certificates from one run of the proxy to the next.
//!
//! One PEM file per host, written beside its place and moved there, so that two proxies may share the directory. What
//! is read is not trusted: the authority checks it. A file of another purpose (a private key, an authority) is never
//! replaced. A directory that cannot be written costs a warning and nothing else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::authority;
use super::subject::Subject;

/// More than any certificate has, in bytes.
const MAX_FILE_LEN: u64 = 64 * 1024;

/// Certificates in files.
#[derive(Debug)]
pub(super) struct CertificateDir {
    path: PathBuf,
    warned: AtomicBool,
    /// Tells apart the files that are being written.
    written: AtomicU64,
}

/// What is kept for a host.
#[derive(Debug)]
pub(super) enum Kept {
    /// There is no file, or none that can be read.
    Nothing,
    /// A certificate, whatever it is worth.
    Certificate(CertificateDer<'static>),
    /// A file without a certificate, which may be replaced.
    Garbage,
    /// A file that is not ours.
    Foreign,
}

impl CertificateDir {
    /// Makes the directory if it is not there, for its owner alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.create(path)?;
        warn_of_others(path)?;
        Ok(Self {
            path: path.to_owned(),
            warned: AtomicBool::new(false),
            written: AtomicU64::new(0),
        })
    }

    /// Looks for the certificate of a host. Blocks.
    pub(super) fn read(&self, subject: &Subject) -> Kept {
        let mut text = Vec::new();
        let read = File::open(self.path.join(subject.file_name()))
            .and_then(|file| file.take(MAX_FILE_LEN).read_to_end(&mut text));
        match read {
            Ok(_) => what_is(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::Nothing,
            Err(error) => {
                let host = &**subject.host();
                tracing::debug!(host, %error, "cannot read a certificate that was kept");
                Kept::Nothing
            }
        }
    }

    /// Keeps the certificate of a host, in place of the one before. Blocks.
    pub(super) fn write(&self, subject: &Subject, certificate: &CertificateDer<'_>) {
        match self.replace(&subject.file_name(), &authority::to_pem(certificate)) {
            Ok(()) => self.warned.store(false, Ordering::Relaxed),
            Err(error) if !self.warned.swap(true, Ordering::Relaxed) => {
                let path = self.path.display();
                tracing::warn!(
                    "cannot keep certificates in {path}: {error}; they are made anew after a restart"
                );
            }
            Err(_) => {}
        }
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let draft = self.path.join(format!(".new-{}-{number}", process::id()));
        // Of an earlier process with our id that did not come to its end.
        let _ = fs::remove_file(&draft);
        let outcome = create_private(&draft)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&draft, self.path.join(name)));
        if outcome.is_err() {
            // It may not even be there.
            let _ = fs::remove_file(&draft);
        }
        outcome
    }
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

fn what_is(text: &[u8]) -> Kept {
    if memchr::memmem::find(text, b"PRIVATE KEY-----").is_some() {
        return Kept::Foreign;
    }
    match CertificateDer::from_pem_slice(text) {
        Ok(certificate) if authority::is_authority(&certificate) => Kept::Foreign,
        Ok(certificate) => Kept::Certificate(certificate),
        Err(_) => Kept::Garbage,
    }
}

/// Whoever writes there cannot forge certificates, but whoever reads there sees which hosts were visited.
#[cfg(unix)]
fn warn_of_others(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        tracing::warn!(
            "others may look into {path} (mode {mode:o}) and see which hosts were visited; chmod 700 {path}"
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn warn_of_others(_path: &Path) -> io::Result<()> {
    Ok(())
}
