//! Fixtures for tests of interception: CAs created by openssl, directories, and handshakes in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, io, process};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use crate::config::{InterceptionConfig, KeyPairFiles};

/// `openssl req -x509 -newkey rsa:2048 -subj /C=US/ST=CA/O=…/OU=…/OU=…/CN=…/emailAddress=…`: UTF8String, PrintableString
/// and IA5String, a repeated attribute.
pub(crate) const RSA_CA: &str = include_str!("fixtures/openssl-rsa-ca.pem");
pub(crate) const RSA_CA_KEY: &str = include_str!("fixtures/openssl-rsa-ca-key.pem");
/// `openssl rsa -traditional`
pub(crate) const RSA_CA_KEY_PKCS1: &str = include_str!("fixtures/openssl-rsa-ca-key-pkcs1.pem");
/// With `string_mask = nombstr`: T61String; one RDN of two attributes; no subjectKeyIdentifier.
pub(crate) const EC_CA: &str = include_str!("fixtures/openssl-ec-ca.pem");
/// `openssl ecparam -genkey`, with its parameters in a section of their own.
pub(crate) const EC_CA_KEY_SEC1: &str = include_str!("fixtures/openssl-ec-ca-key-sec1.pem");
/// `openssl genrsa -traditional`
pub(crate) const RSA_SIGNING_KEY: &str = include_str!("fixtures/signing-key-pkcs1.pem");
/// `openssl pkey -aes256`
pub(crate) const KEY_ENCRYPTED_PKCS8: &str = include_str!("fixtures/key-encrypted-pkcs8.pem");
/// `openssl ec -aes256`
pub(crate) const KEY_ENCRYPTED_SEC1: &str = include_str!("fixtures/key-encrypted-sec1.pem");

/// A directory that is removed with the test.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("proxy-{}-{name}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The three files of a CA, as text.
#[derive(Clone)]
pub(crate) struct CaFiles {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) signing_key: String,
}

impl CaFiles {
    pub(crate) fn made_by(certificate: &str, key: &str, signing_key: &str) -> Self {
        Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            signing_key: signing_key.to_owned(),
        }
    }

    /// ECDSA P-256 keys.
    pub(crate) fn new() -> Self {
        Self::valid_for(Duration::from_secs(3650 * 86_400))
    }

    /// ECDSA P-256 keys; expires after `life`.
    pub(crate) fn valid_for(life: Duration) -> Self {
        let mut params = ca_params();
        params.not_after = (std::time::SystemTime::now() + life).into();
        Self::from_params(&params, &KeyPair::generate().unwrap())
    }

    pub(crate) fn from_params(params: &CertificateParams, key: &KeyPair) -> Self {
        Self {
            certificate: params.self_signed(key).unwrap().pem(),
            key: key.serialize_pem(),
            signing_key: KeyPair::generate().unwrap().serialize_pem(),
        }
    }

    pub(crate) fn config(&self, dir: &Dir) -> InterceptionConfig {
        InterceptionConfig {
            ca: KeyPairFiles {
                cert_file: dir.file("ca-cert.pem", &self.certificate),
                key_file: dir.file("ca-key.pem", &self.key),
            },
            signing_key_file: dir.file("ca-signing-key.pem", &self.signing_key),
            cert_dir: dir.path().join("certificates"),
            include: Vec::new(),
            exclude: Vec::new(),
            insecure_hosts: Vec::new(),
            allow_fronting: Vec::new(),
            rejected_for: Duration::ZERO,
            cached_certificates: 16,
            unknown: crate::config::UnknownProtocol::Relay,
            relay_protocols: Vec::new(),
            kept_certificates: 10_000,
            kept_certificates_len: 64 << 20,
        }
    }
}

pub(crate) fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "a CA");
    params
}

/// A client that trusts this CA and supports these versions.
pub(crate) fn client(
    ca: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Both ends of a connection in memory.
pub(crate) struct Connected {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

/// Runs a handshake until neither side has anything to send, tickets included.
pub(crate) fn handshake(
    client: &Arc<ClientConfig>,
    name: &str,
    server: &Arc<ServerConfig>,
) -> Result<Connected, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut ends = Connected {
        client: ClientConnection::new(Arc::clone(client), name)?,
        server: ServerConnection::new(Arc::clone(server))?,
    };
    while ends.client.wants_write() || ends.server.wants_write() {
        let mut wire = Vec::new();
        ends.client.write_tls(&mut wire).unwrap();
        read_all(&wire, |rest| ends.server.read_tls(rest));
        ends.server.process_new_packets()?;
        let mut wire = Vec::new();
        while ends.server.wants_write() {
            ends.server.write_tls(&mut wire).unwrap();
        }
        read_all(&wire, |rest| ends.client.read_tls(rest));
        ends.client.process_new_packets()?;
    }
    assert!(!ends.client.is_handshaking() && !ends.server.is_handshaking());
    Ok(ends)
}

fn read_all(mut wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> io::Result<usize>) {
    while !wire.is_empty() {
        read(&mut wire).unwrap();
    }
}
