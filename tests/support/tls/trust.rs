//! The certificates that a client of a test trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::{Offer, Pki};

/// The certificates that a client trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those of the proxy's CA.
    Proxy,
    /// Those of the origins' CA, as for a client that does not know the proxy.
    Origins,
    /// All: for a client that only inspects certificates.
    Anyone,
}

impl Trust {
    pub(super) fn config(self, pki: &Pki, offer: Offer) -> Arc<ClientConfig> {
        let root = match self {
            Trust::Proxy => Some(pki.proxy_roots()),
            Trust::Origins => Some(pki.origin_roots()),
            Trust::Anyone => None,
        };
        believing(root, offer)
    }
}

/// Those of the CA in this file.
pub(super) fn config_by(file: &Path, offer: Offer) -> Arc<ClientConfig> {
    let root = CertificateDer::from_pem_file(file).expect("a certificate in PEM");
    believing(Some(root), offer)
}

fn believing(root: Option<CertificateDer<'static>>, offer: Offer) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for the default versions");
    let builder = match root {
        Some(root) => {
            let mut roots = RootCertStore::empty();
            roots.add(root).expect("a CA is a root");
            builder.with_root_certificates(roots)
        }
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAll(provider()))),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = offer.names();
    Arc::new(config)
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Accepts every certificate whose key the peer has.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The ClientHello for `host`, in one TLS record.
pub(crate) fn client_hello(pki: &Pki, host: &str) -> Vec<u8> {
    let name = ServerName::try_from(host.to_owned()).expect("a host of a test");
    let config = Trust::Anyone.config(pki, Offer::Both);
    let mut session = ClientConnection::new(config, name).expect("a sound configuration");
    let mut hello = Vec::new();
    session
        .write_tls(&mut hello)
        .expect("memory takes everything");
    hello
}
