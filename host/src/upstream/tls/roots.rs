//! Trusted CAs: those of the system and those of the configuration.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::{key_pair, pem_text, plain_file};

/// The programs of openssl refuse servers for such a certificate, too.
const DISTRUSTED: &str = "contains a TRUSTED CERTIFICATE whose trust settings do not allow servers; remove the \
                          settings with openssl x509 -in FILE -out COPY";

/// The certificates of the configuration.
#[derive(Debug)]
pub(super) struct ExtraRoots {
    pub(super) store: RootCertStore,
    /// The same, as they were read: a server may use one of them as its own certificate.
    pub(super) certificates: Arc<[CertificateDer<'static>]>,
}

/// A file of extra trust roots cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .path.display())]
pub(crate) struct CaFileError {
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) reason: io::Error,
}

/// The certificates of PEM files.
///
/// # Errors
/// A file cannot be read, or has no certificate that can be a trust root.
pub(super) fn read(files: &[PathBuf]) -> Result<ExtraRoots, CaFileError> {
    let mut store = RootCertStore::empty();
    let mut certificates = Vec::new();
    for path in files {
        let added = add_file(&mut store, &mut certificates, path);
        added.map_err(|reason| CaFileError {
            path: path.clone(),
            reason,
        })?;
    }
    Ok(ExtraRoots {
        store,
        certificates: certificates.into(),
    })
}

/// Adds those that the system trusts. Reads files, so it must not run on a worker's thread.
pub(super) fn add_system_roots(roots: &mut RootCertStore) {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read some trusted certificates of the system");
    }
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(
        added,
        ignored,
        "read the trusted certificates of the system"
    );
    if roots.is_empty() {
        tracing::warn!(
            "the system has no trusted certificates: no https upstream will be accepted"
        );
    }
}

fn add_file(
    store: &mut RootCertStore,
    certificates: &mut Vec<CertificateDer<'static>>,
    path: &Path,
) -> io::Result<()> {
    let file = plain_file::read_named(path)?;
    let len = certificates.len();
    for section in pem_text::certificates(&file).map_err(io::Error::other)? {
        if !section.may_vouch_for_servers {
            return Err(io::Error::other(DISTRUSTED));
        }
        store
            .add(section.certificate.clone())
            .map_err(io::Error::other)?;
        certificates.push(section.certificate);
    }
    if certificates.len() == len {
        return Err(io::Error::other("contains no certificate in PEM format"));
    }
    key_pair::warn_of_dates(path, &certificates[len..]);
    Ok(())
}
