//! A certificate to show and its private key, from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::KeyPairFiles;

/// A file does not hold what it is for.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .path.display())]
pub(crate) struct KeyPairError {
    path: PathBuf,
    reason: String,
}

/// # Errors
/// A file cannot be read or holds something else, or the key is not the certificate's.
pub(super) fn read(
    files: &KeyPairFiles,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, KeyPairError> {
    let certificate = |reason| KeyPairError::new(&files.cert_file, reason);
    let key = |reason| KeyPairError::new(&files.key_file, reason);
    let pem = std::fs::read(&files.cert_file).map_err(|error| certificate(error.to_string()))?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(certificate("has no certificate in PEM format".to_owned()));
    }
    let pem = std::fs::read(&files.key_file).map_err(|error| key(error.to_string()))?;
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound => key("has no private key in PEM format".to_owned()),
        error => key(error.to_string()),
    })?;
    CertifiedKey::from_der(chain, der, provider)
        .map(Arc::new)
        .map_err(|error| key(format!("cannot be the certificate's key: {error}")))
}

impl KeyPairError {
    fn new(path: &Path, reason: String) -> Self {
        Self {
            path: path.to_owned(),
            reason,
        }
    }
}
