//! Verifies the certificate of an upstream.
//!
//! Uses webpki on every platform: it never accesses the network while a worker waits. Errors are made more precise for
//! the operator. Hosts that are not verified must still prove that they have the key of their certificate. The same
//! applies to a certificate that is trusted directly; it must be valid now and for the name, and nothing else is
//! checked.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use webpki::EndEntityCert;

use super::lenient::{self, Version};

/// Which certificates are accepted.
#[derive(Debug)]
pub(super) enum Trust {
    /// Those that are issued under one of these roots, and are valid now and for the name.
    Roots(Arc<RootCertStore>),
    /// Any.
    Anyone,
}

#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    /// Certificates that are trusted directly, also as server certificates: the usual commands create CA certificates
    /// (`openssl req -x509`) or certificates of X.509 version 1 (`openssl x509 -req`).
    known: Arc<[CertificateDer<'static>]>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why a certificate is not issued under a trusted root, if the reason is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrusted {
    #[error("is self-signed")]
    SelfSigned,
    #[error("leads to a root that is not trusted")]
    Root,
    #[error("is a CA certificate, not a server certificate")]
    CaCertificate,
}

impl Verifier {
    pub(super) fn new(
        trust: Trust,
        known: Arc<[CertificateDer<'static>]>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            trust,
            known,
            algorithms,
        }
    }

    /// The result of verifying a signature; if it is an error and the certificate is accepted anyway, verifies it again
    /// without webpki.
    fn or_lenient(
        &self,
        verified: Result<HandshakeSignatureValid, Error>,
        version: Version,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let is_lenient = || match &self.trust {
            Trust::Anyone => true,
            Trust::Roots(_) => self.known.contains(certificate),
        };
        match verified {
            Err(_) if is_lenient() => {
                lenient::verify_signature(version, certificate, message, signed, &self.algorithms)?;
                Ok(HandshakeSignatureValid::assertion())
            }
            verified => verified,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Roots(roots) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        if self.known.contains(end_entity) {
            lenient::verify_time(end_entity, now)?;
            match ParsedCertificate::try_from(end_entity) {
                Ok(certificate) => verify_server_name(&certificate, name)?,
                Err(_) => lenient::verify_name(end_entity, name)?,
            }
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            roots,
            intermediates,
            now,
            algorithms,
        )
        .map_err(|error| explain(error, end_entity, intermediates, roots))?;
        verify_server_name(&certificate, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls12_signature(message, certificate, signed, &self.algorithms);
        self.or_lenient(verified, Version::Tls12, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls13_signature(message, certificate, signed, &self.algorithms);
        self.or_lenient(verified, Version::Tls13, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Makes the error more precise, if possible.
fn explain(
    error: Error,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> Error {
    let is_root_known = || {
        EndEntityCert::try_from(end_entity).is_ok_and(|certificate| {
            let subject = certificate.subject();
            roots.roots.iter().any(|root| *root.subject == *subject)
        })
    };
    let reason = match &error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            if is_self_issued(end_entity) {
                Untrusted::SelfSigned
            } else if intermediates.last().is_some_and(is_self_issued) {
                Untrusted::Root
            } else {
                return error;
            }
        }
        // Self-signed server certificates are usually CA certificates.
        Error::InvalidCertificate(reason) if is_ca_certificate(reason) => {
            match is_self_issued(end_entity) && !is_root_known() {
                true => Untrusted::SelfSigned,
                false => Untrusted::CaCertificate,
            }
        }
        // A trusted root has the same name, and so was tried as the issuer.
        Error::InvalidCertificate(reason)
            if is_about_signature(reason) && is_self_issued(end_entity) =>
        {
            Untrusted::SelfSigned
        }
        _ => return error,
    };
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// Whether no issuer was found whose key verifies the signature.
fn is_about_signature(reason: &CertificateError) -> bool {
    matches!(
        reason,
        CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

/// Whether the certificate was refused because it is a CA certificate.
fn is_ca_certificate(reason: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(error)) = reason else {
        return false;
    };
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.issuer() == certificate.subject())
}
