//! The CA that signs certificates for intercepted hosts.
//!
//! All certificates share one key, so that creating one costs one signature. They satisfy browsers and strict
//! verifiers: one subjectAltName, which is the host and not a wildcard; a random serial number; a validity of less than
//! 200 days that begins in the past, because clocks differ, and ends before the CA's. The operator may use any CA; the
//! name and the key identifier from its certificate are copied byte by byte. `certificates` stores the results.

mod permitted_hosts;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::SignatureAlgorithm;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use self::permitted_hosts::PermittedHosts;
use super::subject::{Subject, SubjectInvalid};
use super::template::{CertificateTemplate, key_id};
use crate::config::InterceptionConfig;
use crate::key_pair::{self, KeyPairError, KeyPairFault};

/// How far in the past a certificate's validity begins, for clients whose clocks are slow.
const BACKDATED: SignedDuration = SignedDuration::from_hours(2 * 24);
/// How long a certificate is valid after its creation. Together with `BACKDATED`, it stays below the 200 days that
/// browsers allow.
const LIFETIME: SignedDuration = SignedDuration::from_hours(197 * 24);

/// The signature scheme for each kind of CA key.
static SIGNATURES: [(SignatureScheme, &SignatureAlgorithm); 5] = [
    (
        SignatureScheme::ECDSA_NISTP256_SHA256,
        &rcgen::PKCS_ECDSA_P256_SHA256,
    ),
    (
        SignatureScheme::ECDSA_NISTP384_SHA384,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    ),
    (
        SignatureScheme::ECDSA_NISTP521_SHA512,
        &rcgen::PKCS_ECDSA_P521_SHA512,
    ),
    (SignatureScheme::RSA_PKCS1_SHA256, &rcgen::PKCS_RSA_SHA256),
    (SignatureScheme::ED25519, &rcgen::PKCS_ED25519),
];

/// The kinds of keys that browsers accept in server certificates.
const FIT_FOR_HOSTS: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];

/// The CA, and the key of all certificates it signs.
#[derive(Debug)]
pub struct Ca {
    certificate: CertificateDer<'static>,
    /// The certificates that a client needs in addition to the CA it trusts; none if that is this CA.
    intermediates: Vec<CertificateDer<'static>>,
    not_after: Timestamp,
    permitted_hosts: PermittedHosts,
    signer: Box<dyn Signer>,
    leaf_key: Arc<dyn SigningKey>,
    template: CertificateTemplate,
    /// This CA as the only trust anchor, to recognise what it signed.
    itself: RootCertStore,
    provider: Arc<CryptoProvider>,
}

/// A newly signed certificate.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The certificate, then the certificates that lead to a self-signed CA.
    pub chain: Vec<CertificateDer<'static>>,
    pub(super) not_after: Timestamp,
}

/// Why a certificate cannot be created.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MintError {
    /// The host is invalid.
    #[error(transparent)]
    HostInvalid(#[from] SubjectInvalid),
    /// The CA has expired.
    #[error("the CA certificate expired on {0}")]
    CaExpired(String),
    /// It cannot be encoded.
    #[error("the certificate cannot be written: {0}")]
    Encoding(#[from] rcgen::Error),
    /// The system provides no random numbers, or the key does not sign.
    #[error("signing failed: {0}")]
    Signing(rustls::Error),
    /// The signing job panicked.
    #[error("creating the certificate failed unexpectedly")]
    Stopped,
}

/// Why a stored certificate is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnusableCertificate {
    #[error("{0}")]
    Malformed(String),
    #[error("it is not a valid certificate of this CA for this host: {0}")]
    NotOurs(rustls::Error),
    #[error("it has a different key")]
    OtherKey,
    #[error("it expires soon, on {0}")]
    Ending(String),
}

impl Ca {
    /// Reads the CA's certificate, its key, and the key of the certificates it will sign.
    ///
    /// # Errors
    /// A file cannot be used; the error says which, and why.
    pub fn load(config: &InterceptionConfig) -> Result<Self, KeyPairError> {
        let pair = key_pair::read(&config.ca)?;
        let (signer, signs_by) = SIGNATURES
            .into_iter()
            .find_map(|(scheme, algorithm)| Some((pair.key.choose_scheme(&[scheme])?, algorithm)))
            .ok_or_else(|| KeyPairFault::KeyUnsupported.of(&config.ca.key_file))?;
        // The first one, if it has expired, prevents the start.
        let others = pair.cert.get(1..).unwrap_or_default();
        key_pair::warn_of_dates(&config.ca.cert_file, others);
        let leaf_key = key_pair::read_key(&config.signing_key_file)?;
        if leaf_key.choose_scheme(&FIT_FOR_HOSTS).is_none() {
            return Err(KeyPairFault::KeyUnfitForHosts.of(&config.signing_key_file));
        }
        let path = &config.ca.cert_file;
        let ca = Self::new(&pair, signer, signs_by, leaf_key).map_err(|fault| fault.of(path))?;
        if let Some(limits) = ca.permitted_hosts.limits() {
            let file = path.display();
            tracing::warn!(
                "{file}: the name constraints of the CA allow certificates for some hosts only: {limits}; TLS with \
                 other hosts is relayed without decryption"
            );
        }
        Ok(ca)
    }

    fn new(
        pair: &CertifiedKey,
        signer: Box<dyn Signer>,
        signs_by: &'static SignatureAlgorithm,
        leaf_key: Arc<dyn SigningKey>,
    ) -> Result<Self, KeyPairFault> {
        let certificate = pair.cert.first().ok_or(KeyPairFault::NoCertificate)?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(malformed)?;
        let permitted_hosts = PermittedHosts::of(&pair.cert)?;
        check_is_in_date(&parsed, Timestamp::now())?;
        let mut itself = RootCertStore::empty();
        itself.add(certificate.clone()).map_err(malformed)?;
        let key_id = own_key_id(&parsed)
            .unwrap_or_else(|| key_id(&parsed.public_key().subject_public_key.data));
        let name = parsed.subject().as_raw();
        let template = CertificateTemplate::new(name, &key_id, signs_by, leaf_key.as_ref())
            .map_err(malformed)?;
        let intermediates = pair.cert.iter().filter(|sent| !is_self_issued(sent));
        Ok(Self {
            certificate: certificate.clone(),
            intermediates: intermediates.cloned().collect(),
            not_after: timestamp(parsed.validity().not_after),
            permitted_hosts,
            signer,
            leaf_key,
            template,
            itself,
            provider: Arc::new(default_provider()),
        })
    }

    /// The CA's certificate in DER.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Whether the CA's name constraints permit this host. Clients would refuse any other certificate.
    pub(super) fn may_sign_for(&self, host: &str) -> bool {
        !self.permitted_hosts.are_limited()
            || Subject::of(host).is_ok_and(|subject| self.permitted_hosts.include(&subject))
    }

    /// Signs a certificate for a host name or an address. Takes as long as a signature with the CA's key.
    ///
    /// # Errors
    /// The host cannot be in a certificate, or the CA has expired.
    pub fn mint(&self, host: &str) -> Result<Minted, MintError> {
        self.mint_for(&Subject::of(host)?, Timestamp::now())
    }

    pub(super) fn mint_for(&self, subject: &Subject, now: Timestamp) -> Result<Minted, MintError> {
        if self.not_after <= now {
            return Err(MintError::CaExpired(self.not_after.to_string()));
        }
        let not_after = now
            .saturating_add(LIFETIME)
            .map_or(self.not_after, |end| end.min(self.not_after));
        let not_before = now.saturating_sub(BACKDATED).unwrap_or(now);
        let unsigned = self
            .template
            .unsigned(subject, &self.serial()?, not_before, not_after)?;
        let signature = self
            .signer
            .sign(&unsigned.to_be_signed)
            .map_err(MintError::Signing)?;
        let certificate = unsigned
            .signed(&signature)
            .ok_or(rcgen::Error::CouldNotParseCertificate)?;
        let mut chain = Vec::with_capacity(1 + self.intermediates.len());
        chain.push(certificate);
        chain.extend_from_slice(&self.intermediates);
        Ok(Minted { chain, not_after })
    }

    /// 158 random bits: positive, 20 octets long, in the shortest encoding (RFC 5280 §4.1.2.2).
    fn serial(&self) -> Result<[u8; 20], MintError> {
        let mut serial = [0; 20];
        self.provider
            .secure_random
            .fill(&mut serial)
            .map_err(|error| MintError::Signing(error.into()))?;
        serial[0] = serial[0] & 0x7f | 0x40;
        Ok(serial)
    }

    /// Checks a certificate that this CA, or an earlier one, has signed; returns its end of validity.
    ///
    /// It is verified as a client would do it, so that no stored file makes the proxy serve a certificate that clients
    /// refuse.
    pub(super) fn recognise(
        &self,
        certificate: CertificateDer<'static>,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Minted, UnusableCertificate> {
        let not_after = {
            let (_, parsed) = X509Certificate::from_der(&certificate)
                .map_err(|error| UnusableCertificate::Malformed(error.to_string()))?;
            if parsed.public_key().raw != self.template.public_key() {
                return Err(UnusableCertificate::OtherKey);
            }
            timestamp(parsed.validity().not_after)
        };
        let server_name = subject
            .server_name()
            .map_err(|error| UnusableCertificate::Malformed(error.to_string()))?;
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let WebPkiSupportedAlgorithms { all, .. } = self.provider.signature_verification_algorithms;
        let end_entity =
            ParsedCertificate::try_from(&certificate).map_err(UnusableCertificate::NotOurs)?;
        verify_server_cert_signed_by_trust_anchor(
            &end_entity,
            &self.itself,
            &[],
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            all,
        )
        .and_then(|()| verify_server_name(&end_entity, &server_name))
        .map_err(UnusableCertificate::NotOurs)?;
        if self.renew_at(not_after) <= now {
            return Err(UnusableCertificate::Ending(not_after.to_string()));
        }
        let mut chain = vec![certificate];
        chain.extend_from_slice(&self.intermediates);
        Ok(Minted { chain, not_after })
    }

    /// When a certificate is replaced: a day before it ends, unless a new one would end no later.
    pub(super) fn renew_at(&self, not_after: Timestamp) -> Timestamp {
        if not_after >= self.not_after {
            return self.not_after;
        }
        let day = SignedDuration::from_hours(24);
        not_after.saturating_sub(day).unwrap_or(not_after)
    }

    /// The private key of all certificates.
    pub(super) fn leaf_key(&self) -> &Arc<dyn SigningKey> {
        &self.leaf_key
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }
}

/// A certificate in PEM.
pub(super) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", certificate.to_vec()), config)
}

fn check_is_in_date(certificate: &X509Certificate<'_>, now: Timestamp) -> Result<(), KeyPairFault> {
    let not_before = timestamp(certificate.validity().not_before);
    let not_after = timestamp(certificate.validity().not_after);
    if now < not_before {
        return Err(KeyPairFault::NotYetValid(not_before.to_string()));
    }
    if not_after <= now {
        return Err(KeyPairFault::Expired(not_after.to_string()));
    }
    Ok(())
}

fn malformed(error: impl fmt::Display) -> KeyPairFault {
    KeyPairFault::CertificateMalformed(error.to_string())
}

/// Whether this is the certificate of a CA.
pub(super) fn is_ca(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.is_ca())
}

/// Such certificates are not sent, because a client that trusts one has it.
fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
}

/// subjectKeyIdentifier; read from the certificate, because there are several ways to compute it.
fn own_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

/// Certificates without an end are valid until 9999-12-31, which exceeds a `Timestamp`.
fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_second(time.timestamp()).unwrap_or(if time.timestamp() < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

#[cfg(test)]
mod tests;
