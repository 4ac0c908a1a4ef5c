//! The certificates of a test: those that the proxy trusts, those that its clients trust, and others.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SigningKey,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::trust::provider;
use super::{Offer, ProxyClient, TlsOrigin};
use crate::support::{Proxy, ProxyCommand, Scratch};

type Ca = CertifiedIssuer<'static, KeyPair>;

/// CAs, and their files for the proxy.
pub(crate) struct Pki {
    /// Signs origins; `--ca-file`.
    origins: Ca,
    /// Signs the certificates of the proxy, for intercepted hosts and its listener.
    proxy: Ca,
    /// Signs client certificates, the proxy's among them.
    clients: Ca,
    /// Not trusted.
    stranger: Ca,
    /// A self-signed certificate of X.509 version 1.
    version_1: OnceLock<(CertificateDer<'static>, KeyPair)>,
    scratch: Scratch,
}

/// The certificate of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// `localhost`, 127.0.0.1 and ::1.
    Good,
    /// The same, until 2020.
    Expired,
    /// The same, from 2100.
    NotYetValid,
    /// `wrong.example`.
    WrongHost,
    /// The names of a valid one, self-signed.
    SelfSigned,
    /// The names of a valid one, signed by an unknown CA.
    Untrusted,
    /// `localhost` in the common name, self-signed, X.509 version 1.
    Version1,
    /// The names of a valid one, self-signed, with an unknown critical extension.
    UnknownExtension,
    /// Valid, for these names.
    Named(Vec<String>),
}

impl Identity {
    /// Those that must not be accepted, each with a word of the reason.
    pub(crate) const BAD: [(Identity, &'static str); 5] = [
        (Identity::Expired, "expired"),
        (Identity::NotYetValid, "not valid yet"),
        (Identity::WrongHost, "name"),
        (Identity::SelfSigned, "self-signed"),
        (Identity::Untrusted, "unknown"),
    ];
}

/// The certificate of a server, and the client certificates it requests.
pub(super) struct ServerSide {
    pub(super) identity: Identity,
    pub(super) offer: Offer,
    pub(super) asks_for_certificate: bool,
    pub(super) versions: &'static [&'static SupportedProtocolVersion],
}

impl Pki {
    /// New CAs.
    pub(crate) fn new() -> Pki {
        Pki {
            origins: ca("Origins' CA"),
            proxy: ca("Proxy's CA"),
            clients: ca("Clients' CA"),
            stranger: ca("Stranger"),
            version_1: OnceLock::new(),
            scratch: Scratch::new(),
        }
    }

    /// A proxy that trusts valid origins, and relays TLS.
    pub(crate) fn relaying(&self) -> ProxyCommand {
        let file = self.scratch.write("origins.pem", self.origins.pem());
        Proxy::command().args([OsString::from("--ca-file"), file.into()])
    }

    /// A proxy that trusts valid origins and intercepts TLS.
    pub(crate) fn intercepting(&self) -> ProxyCommand {
        self.relaying().args(self.interception())
    }

    /// The arguments that enable interception.
    pub(crate) fn interception(&self) -> Vec<OsString> {
        let directory = self.certificate_directory();
        let certificate = self.scratch.write("ca-cert.pem", self.proxy.pem());
        let key = self.key_file("ca-key.pem", self.proxy.key());
        let signing_key = self.scratch.path("ca-signing-key.pem");
        // A restarted proxy finds the key of its stored certificates.
        if !signing_key.exists() {
            self.key_file("ca-signing-key.pem", &new_key());
        }
        vec![
            "--ca-cert-file".into(),
            certificate.into(),
            "--ca-key-file".into(),
            key.into(),
            "--ca-signing-key-file".into(),
            signing_key.into(),
            "--ca-cert-dir".into(),
            directory.into(),
        ]
    }

    /// The directory for certificates of intercepted hosts.
    pub(crate) fn certificate_directory(&self) -> PathBuf {
        self.scratch.path("certificates")
    }

    /// The arguments that enable TLS on the proxy's listener, with a new certificate.
    pub(crate) fn listener(&self) -> Vec<OsString> {
        let (certificate, key) = self.listener_files();
        vec![
            "--cert-file".into(),
            certificate.into(),
            "--key-file".into(),
            key.into(),
        ]
    }

    /// Certificate and key of the listener, created anew in the same files by every call.
    pub(crate) fn listener_files(&self) -> (PathBuf, PathBuf) {
        self.listener_files_of(&Identity::Good)
    }

    /// The same, with another identity.
    pub(crate) fn listener_files_of(&self, identity: &Identity) -> (PathBuf, PathBuf) {
        let (leaf, key) = signed(identity, &self.proxy);
        let key = self.key_file("https-key.pem", &key);
        (self.scratch.write("https-cert.pem", pem(&leaf)), key)
    }

    /// A client certificate of the proxy, and its key.
    pub(crate) fn client_files(&self) -> (PathBuf, PathBuf) {
        let names = Identity::Named(vec!["the-proxy.example".into()]);
        let (leaf, key) = signed(&names, &self.clients);
        let key = self.key_file("client-key.pem", &key);
        (self.scratch.write("client-cert.pem", pem(&leaf)), key)
    }

    /// The certificate of [`Identity::Version1`] and its key.
    pub(crate) fn version_1_files(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.version_1();
        let key = self.key_file("version-1-key.pem", key);
        (self.scratch.write("version-1.pem", pem(certificate)), key)
    }

    fn version_1(&self) -> &(CertificateDer<'static>, KeyPair) {
        self.version_1.get_or_init(version_1)
    }

    /// A key without a certificate.
    pub(crate) fn other_key_file(&self) -> PathBuf {
        self.key_file("other-key.pem", &new_key())
    }

    /// A directory that is removed with the test.
    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The certificate of the proxy's CA.
    pub(crate) fn proxy_certificate(&self) -> Vec<u8> {
        self.proxy.der().to_vec()
    }

    /// A client of the proxy at this address that trusts the proxy's CA.
    pub(crate) fn client_at(&self, address: SocketAddr) -> ProxyClient<'_> {
        ProxyClient::new(self, address)
    }

    /// A client of `proxy` that trusts the proxy's CA.
    pub(crate) fn client(&self, proxy: &Proxy) -> ProxyClient<'_> {
        ProxyClient::new(self, proxy.address())
    }

    /// A valid origin with HTTP/2 and HTTP/1.1, to be configured before it is started.
    pub(crate) fn origin(&self) -> super::origin::OriginBuilder<'_> {
        TlsOrigin::plan(self)
    }

    pub(super) fn origin_roots(&self) -> CertificateDer<'static> {
        self.origins.der().clone()
    }

    pub(super) fn proxy_roots(&self) -> CertificateDer<'static> {
        self.proxy.der().clone()
    }

    pub(super) fn server_config(&self, side: &ServerSide) -> Arc<ServerConfig> {
        let (leaf, key) = match &side.identity {
            Identity::SelfSigned => self_signed(),
            Identity::Untrusted => signed(&Identity::Good, &self.stranger),
            Identity::Version1 => {
                let (certificate, key) = self.version_1();
                let key = KeyPair::try_from(key.serialize_der()).expect("its own key");
                (certificate.clone(), key)
            }
            Identity::UnknownExtension => unknown_extension(),
            identity => signed(identity, &self.origins),
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(side.versions)
            .expect("the provider has suites for these versions");
        let builder = if side.asks_for_certificate {
            let mut roots = RootCertStore::empty();
            roots
                .add(self.clients.der().clone())
                .expect("a CA is a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .allow_unauthenticated()
                .build()
                .expect("there is a root");
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        // rustls does not parse it then, so it may be of any version.
        let key = any_supported_type(&private(&key)).expect("a key that can sign");
        let shown = SingleCertAndKey::from(CertifiedKey::new(vec![leaf], key));
        let mut config = builder.with_cert_resolver(Arc::new(shown));
        config.alpn_protocols = side.offer.names();
        Arc::new(config)
    }

    fn key_file(&self, name: &str, key: &KeyPair) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.scratch.write(name, key.serialize_pem());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .expect("a scratch file is ours");
        path
    }
}

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new([]).expect("no name is no bad name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, new_key()).expect("a key can sign itself")
}

fn signed(identity: &Identity, issuer: &Ca) -> (CertificateDer<'static>, KeyPair) {
    let key = new_key();
    let leaf = params(identity)
        .signed_by(&key, issuer)
        .expect("a CA can sign");
    (leaf.der().clone(), key)
}

fn self_signed() -> (CertificateDer<'static>, KeyPair) {
    let key = new_key();
    let leaf = params(&Identity::Good)
        .self_signed(&key)
        .expect("a key can sign itself");
    (leaf.der().clone(), key)
}

fn unknown_extension() -> (CertificateDer<'static>, KeyPair) {
    let key = new_key();
    let mut params = params(&Identity::Good);
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    unknown.set_criticality(true);
    params.custom_extensions.push(unknown);
    let leaf = params.self_signed(&key).expect("a key can sign itself");
    (leaf.der().clone(), key)
}

/// As made by `openssl x509 -req` without extensions: without a version, which means version 1.
fn version_1() -> (CertificateDer<'static>, KeyPair) {
    let key = new_key();
    let algorithm = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    // CN=localhost
    let name = b"\x30\x14\x31\x12\x30\x10\x06\x03\x55\x04\x03\x0c\x09localhost";
    let validity = sequence(&[b"\x17\x0d200101000000Z", b"\x17\x0d490101000000Z"]);
    let public_key = key.subject_public_key_info();
    let content = sequence(&[
        b"\x02\x01\x01",
        algorithm,
        name,
        &validity,
        name,
        &public_key,
    ]);
    let signature = SigningKey::sign(&key, &content).expect("a key can sign");
    let bits = [&[3, signature.len() as u8 + 1, 0], &signature[..]].concat();
    let certificate = sequence(&[&content, algorithm, &bits]);
    (CertificateDer::from(certificate), key)
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = u16::try_from(content.len()).expect("a short certificate");
    let [high, low] = len.to_be_bytes();
    let mut element = match len {
        0..0x80 => vec![0x30, low],
        0x80..0x100 => vec![0x30, 0x81, low],
        _ => vec![0x30, 0x82, high, low],
    };
    element.extend(content);
    element
}

fn params(identity: &Identity) -> CertificateParams {
    let names = match identity {
        Identity::WrongHost => vec!["wrong.example".into()],
        Identity::Named(names) => names.clone(),
        _ => vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
    };
    let mut params = CertificateParams::new(names).expect("the names can be in a certificate");
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    match identity {
        Identity::Expired => {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        Identity::NotYetValid => params.not_before = date_time_ymd(2100, 1, 1),
        _ => {}
    }
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    key.serialize_der()
        .try_into()
        .expect("rcgen writes keys that rustls reads")
}

/// A certificate in PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    let lines: Vec<String> = super::web_socket::base64(der)
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}
