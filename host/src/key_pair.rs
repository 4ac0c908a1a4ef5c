//! Certificates and private keys from PEM files, for the listener, for client certificates and for the CA.
//!
//! The result is usable: the key is of a type that rustls supports, there is exactly one, and it matches its
//! certificate. Every error names the file and says what to do. A key that others may read causes a warning, and so
//! does a certificate outside its validity period. The name in the certificate is not checked here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::config::KeyPairFiles;
use crate::pem_text::{self, PemFault};
use crate::plain_file;

/// Why a file with certificates or a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", .path.display())]
pub struct KeyPairError {
    /// The file, as configured.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub fault: KeyPairFault,
}

/// What is wrong with a file with certificates or a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairFault {
    /// The file cannot be read.
    #[error("{0}; check the path, and that the user of the proxy may read the file")]
    Unreadable(io::Error),
    /// It is not valid PEM.
    #[error(transparent)]
    NotPem(#[from] PemFault),
    /// It contains no certificate.
    #[error(
        "contains no certificate in PEM format; use the file with -----BEGIN CERTIFICATE-----, or convert yours with \
         openssl x509 -inform der"
    )]
    NoCertificate,
    /// A certificate in it is malformed.
    #[error("contains a certificate that cannot be parsed ({0}); copy or export it again")]
    CertificateMalformed(String),
    /// It contains no private key.
    #[error(
        "contains no private key in PEM format; use the file with -----BEGIN PRIVATE KEY-----, or convert yours with \
         openssl pkey -inform der"
    )]
    NoKey,
    /// It contains several private keys.
    #[error("contains {0} private keys; keep only the key of the certificate")]
    SeveralKeys(usize),
    /// The key needs a passphrase.
    #[error(
        "contains an encrypted private key, and the proxy cannot prompt for its passphrase; use a decrypted copy, \
         made with openssl pkey -in FILE -out COPY"
    )]
    KeyEncrypted,
    /// The key is of an unsupported kind, too short or damaged.
    #[error(
        "contains an unsupported private key; use RSA with 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or \
         Ed25519"
    )]
    KeyUnsupported,
    /// The key does not match the certificate.
    #[error("is not the key of the certificate in {}; use two files that were created together", .0.display())]
    KeyMismatch(PathBuf),
    /// The certificate may not sign others.
    #[error(
        "is not a CA certificate (basicConstraints without CA:TRUE); create one with proxy ca init"
    )]
    NotACa,
    /// The key usage of the CA's certificate does not include signing certificates.
    #[error(
        "is a certificate that may not sign others (keyUsage without keyCertSign); create one with proxy ca init"
    )]
    MayNotSign,
    /// The extended key usage of the CA's certificate does not include servers.
    #[error(
        "is a certificate that may not sign for servers (extendedKeyUsage without serverAuth); create one with proxy \
         ca init"
    )]
    NotForServers,
    /// A certificate above the CA's may not sign it.
    #[error(
        "contains a CA certificate whose issuer, {0}, may not sign others (basicConstraints without CA:TRUE, or \
         keyUsage without keyCertSign); create one with proxy ca init"
    )]
    IssuerMayNotSign(String),
    /// A certificate above the CA's does not permit server certificates.
    #[error(
        "contains a CA certificate whose issuer, {0}, may not sign for servers (extendedKeyUsage without \
         serverAuth); create one with proxy ca init"
    )]
    IssuerNotForServers(String),
    /// A certificate above the CA's does not permit as many CAs below it.
    #[error(
        "contains {below} CA certificates below {issuer}, whose path length allows {allowed}, so clients would \
         reject every signed certificate; create one with proxy ca init"
    )]
    PathTooLong {
        /// The issuer's name.
        issuer: String,
        /// The number of CAs that it permits below itself.
        allowed: u32,
        /// The actual number.
        below: u32,
    },
    /// The name constraints exclude every host.
    #[error(
        "contains a CA certificate whose name constraints exclude every host; create one with proxy ca init"
    )]
    NoHostLeft,
    /// The CA has expired.
    #[error("expired on {0}; create a new one with proxy ca init, and install it on the clients")]
    Expired(String),
    /// The CA is not valid yet.
    #[error("is not yet valid (valid from {0}); check the clock of this machine")]
    NotYetValid(String),
    /// Browsers do not accept certificates with such a key.
    #[error(
        "contains a private key that browsers do not accept in a certificate; use RSA, or ECDSA on P-256 or P-384"
    )]
    KeyUnfitForHosts,
}

impl KeyPairFault {
    /// The error for this file.
    pub(crate) fn of(self, path: &Path) -> KeyPairError {
        KeyPairError {
            path: path.to_owned(),
            fault: self,
        }
    }
}

/// Reads a certificate chain and its private key.
///
/// # Errors
/// Either file cannot be used, or they do not match.
pub fn read(files: &KeyPairFiles) -> Result<Arc<CertifiedKey>, KeyPairError> {
    let chain = read_certificates(&files.cert_file)?;
    let key = read_key(&files.key_file)?;
    if !is_key_of(key.as_ref(), &chain).map_err(|fault| fault.of(&files.cert_file))? {
        return Err(KeyPairFault::KeyMismatch(files.cert_file.clone()).of(&files.key_file));
    }
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// Whether the key matches the first certificate, whatever its version: webpki parses version 3 only.
fn is_key_of(key: &dyn SigningKey, chain: &[CertificateDer<'_>]) -> Result<bool, KeyPairFault> {
    let certificate = chain.first().ok_or(KeyPairFault::NoCertificate)?;
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| KeyPairFault::CertificateMalformed(error.to_string()))?;
    let public_key = key.public_key().ok_or(KeyPairFault::KeyUnsupported)?;
    Ok(parsed.public_key().raw == public_key.as_ref())
}

/// Reads all certificates of a file, at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeyPairError> {
    let file = read_file(path)?;
    let sections =
        pem_text::certificates(&file).map_err(|fault| KeyPairFault::from(fault).of(path))?;
    if sections.is_empty() {
        return Err(KeyPairFault::NoCertificate.of(path));
    }
    let certificates = sections.into_iter().map(|section| section.certificate);
    Ok(certificates.collect())
}

/// Reads the single private key of a file.
pub(crate) fn read_key(path: &Path) -> Result<Arc<dyn SigningKey>, KeyPairError> {
    let file = read_file(path)?;
    warn_of_readers(path);
    if is_encrypted(&file) {
        return Err(KeyPairFault::KeyEncrypted.of(path));
    }
    let mut keys =
        pem_text::private_keys(&file).map_err(|fault| KeyPairFault::from(fault).of(path))?;
    match (keys.pop(), keys.len()) {
        (None, _) => Err(KeyPairFault::NoKey.of(path)),
        (Some(key), 0) => {
            any_supported_type(&key).map_err(|_| KeyPairFault::KeyUnsupported.of(path))
        }
        (Some(_), others) => Err(KeyPairFault::SeveralKeys(others + 1).of(path)),
    }
}

/// Warns of certificates that have expired or are not valid yet, because clients do not accept them.
pub(crate) fn warn_of_dates(path: &Path, certificates: &[CertificateDer<'_>]) {
    let now = Timestamp::now().as_second();
    for certificate in certificates {
        // A malformed certificate is reported where it is used.
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            continue;
        };
        let validity = parsed.validity();
        let (begin, end) = (validity.not_before, validity.not_after);
        let file = path.display();
        if now < begin.timestamp() {
            let begin = date(begin.timestamp());
            tracing::warn!(
                "{file} contains a certificate that is not yet valid (valid from {begin}); check the clock of this \
                 machine"
            );
        } else if now > end.timestamp() {
            let end = date(end.timestamp());
            tracing::warn!(
                "{file} contains a certificate that expired on {end}; replace it with a new one"
            );
        }
    }
}

fn date(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
}

/// Warns of a key that others may read. A key of root may be readable by a group, which the proxy may belong to.
#[cfg(unix)]
fn warn_of_readers(path: &Path) {
    use std::os::unix::fs::MetadataExt;

    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let is_for_our_group = metadata.uid() == 0 && !rustix::process::geteuid().is_root();
    let others = if is_for_our_group { 0o007 } else { 0o077 };
    let mode = metadata.mode() & 0o777;
    if metadata.is_file() && mode & others != 0 {
        let file = path.display();
        tracing::warn!(
            "other users can read or write the private key {file} (mode {mode:o}); run chmod 600 {file}"
        );
    }
}

#[cfg(not(unix))]
fn warn_of_readers(_path: &Path) {}

fn read_file(path: &Path) -> Result<Vec<u8>, KeyPairError> {
    plain_file::read_named(path).map_err(|error| KeyPairFault::Unreadable(error).of(path))
}

/// PKCS#8 has a label for it, the older formats a header (RFC 1421 §4.6.1.1).
fn is_encrypted(text: &[u8]) -> bool {
    [
        &b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..],
        b"Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|mark| memchr::memmem::find(text, mark).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interception::fixtures::{self, Dir};

    fn fault(certificate: &str, key: &str) -> String {
        let dir = Dir::new("key-pair");
        let files = KeyPairFiles {
            cert_file: dir.file("cert.pem", certificate),
            key_file: dir.file("key.pem", key),
        };
        let error = read(&files).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        let prefix = format!("{}/", dir.path().display());
        error.replace(&prefix, "")
    }

    #[test]
    fn keys_are_read_in_each_of_their_forms() {
        for (certificate, key) in [
            (fixtures::RSA_CA, fixtures::RSA_CA_KEY),
            (fixtures::RSA_CA, fixtures::RSA_CA_KEY_PKCS1),
            (fixtures::EC_CA, fixtures::EC_CA_KEY_SEC1),
        ] {
            let dir = Dir::new("key-forms");
            let pair = read(&KeyPairFiles {
                cert_file: dir.file("cert.pem", certificate),
                key_file: dir.file("key.pem", key),
            })
            .unwrap();
            assert_eq!(pair.cert.len(), 1);
        }
    }

    #[test]
    fn a_file_may_hold_chain_and_key() {
        let both = [
            fixtures::RSA_CA,
            fixtures::RSA_CA_KEY,
            fixtures::EC_CA,
            "more text",
        ]
        .concat();
        let dir = Dir::new("key-both");
        let path = dir.file("both.pem", &both);
        let pair = read(&KeyPairFiles {
            cert_file: path.clone(),
            key_file: path,
        })
        .unwrap();
        assert_eq!(pair.cert.len(), 2);
    }

    #[test]
    fn a_fault_names_its_file_and_what_to_do() {
        let (cert, key) = (fixtures::RSA_CA, fixtures::RSA_CA_KEY);
        let two_keys = [key, fixtures::EC_CA_KEY_SEC1].concat();
        let cut_off = &cert[..400];
        let not_base64 = cert.replace("MII", "M?I");
        let no_certificate =
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (certificate, key, expected) in [
            ("", key, "cert.pem: contains no certificate in PEM format"),
            (key, key, "cert.pem: contains no certificate in PEM format"),
            (cut_off, key, "cert.pem: is damaged"),
            (&not_base64, key, "cert.pem: is damaged"),
            (
                &no_certificate,
                key,
                "cert.pem: contains a certificate that cannot be parsed",
            ),
            (cert, cert, "key.pem: contains no private key in PEM format"),
            (
                cert,
                &two_keys,
                "key.pem: contains 2 private keys; keep only the key",
            ),
            (cert, no_key, "key.pem: contains an unsupported private key"),
            (
                cert,
                fixtures::EC_CA_KEY_SEC1,
                "key.pem: is not the key of the certificate in cert.pem",
            ),
            (
                cert,
                fixtures::KEY_ENCRYPTED_PKCS8,
                "key.pem: contains an encrypted private key",
            ),
            (
                cert,
                fixtures::KEY_ENCRYPTED_SEC1,
                "key.pem: contains an encrypted private key",
            ),
        ] {
            let fault = fault(certificate, key);
            assert!(fault.starts_with(expected), "{fault}");
            assert!(fault.contains("; "), "{fault}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = Dir::new("key-missing");
        let error = read(&KeyPairFiles {
            cert_file: dir.path().join("cert.pem"),
            key_file: dir.path().join("key.pem"),
        })
        .unwrap_err();
        assert_eq!(error.path, dir.path().join("cert.pem"));
        assert!(matches!(error.fault, KeyPairFault::Unreadable(_)));
    }
}
