//! The authority that signs for intercepted hosts.
//!
//! Every host's certificate has the same key, so that making one costs one signature. Certificates are what browsers
//! and strict verifiers want: one subjectAltName that is the host and no wildcard, a random serial, a life of less
//! than 200 days which begins in the past, as clocks differ, and never outlasts the authority's. The authority may be
//! of anybody's making; what it takes from its own certificate (name, key identifier) it repeats byte by byte.
//! Keeping what it signs is left to `certificates`.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, UnixTime, alg_id};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{RootCertStore, SignatureAlgorithm, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::der::{self, BIT_STRING, Criticality, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, SET};
use super::subject::{HostInvalid, Subject};
use crate::config::InterceptionConfig;
use crate::key_pair::{self, KeyPairError, KeyPairFault};

/// How long before it is made a certificate begins to be valid: clocks of clients that are behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(2 * 24);
/// How long a certificate is valid once it is made. Together with the time before, it stays below the 200 days that
/// browsers may ask of certificates.
const LIFETIME: SignedDuration = SignedDuration::from_hours(197 * 24);

/// How authorities sign; each kind of key has one scheme.
const SIGNATURES: [(SignatureScheme, AlgorithmIdentifier); 5] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, alg_id::ECDSA_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, alg_id::ECDSA_SHA384),
    (SignatureScheme::ECDSA_NISTP521_SHA512, alg_id::ECDSA_SHA512),
    (SignatureScheme::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA256),
    (SignatureScheme::ED25519, alg_id::ED25519),
];

/// With which keys browsers accept a server's certificate.
const FIT_FOR_HOSTS: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// The authority and the key of all certificates it signs.
#[derive(Debug)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    /// What a client needs besides the authority it trusts; nothing if that is ours.
    intermediates: Vec<CertificateDer<'static>>,
    /// The authority's name, as it stands in its certificate.
    name: Vec<u8>,
    not_after: Timestamp,
    signer: Box<dyn Signer>,
    /// The AlgorithmIdentifier of its signatures.
    signature_algorithm: Vec<u8>,
    /// What every certificate has but a host's own: constraints, usages and key identifiers.
    common_extensions: Vec<u8>,
    leaf_key: Arc<dyn SigningKey>,
    /// The SubjectPublicKeyInfo of every certificate.
    leaf_public_key: Vec<u8>,
    /// The authority alone, to recognise what it signed.
    itself: RootCertStore,
    provider: Arc<CryptoProvider>,
}

/// A certificate that was just signed.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The certificate itself, then whatever leads to a self-signed authority.
    pub chain: Vec<CertificateDer<'static>>,
    pub(super) not_after: Timestamp,
}

/// A certificate cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MintError {
    /// It would be for nobody.
    #[error(transparent)]
    HostInvalid(#[from] HostInvalid),
    /// The authority's time is over.
    #[error("the authority's certificate has expired on {0}")]
    AuthorityExpired(String),
    /// The system has no randomness, or the key does not sign.
    #[error("signing failed: {0}")]
    Signing(rustls::Error),
    /// The proxy is ending.
    #[error("the proxy is shutting down")]
    Stopped,
}

/// Why a certificate from disk is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("{0}")]
    Malformed(String),
    #[error("it is not by this authority for this host now: {0}")]
    NotOurs(rustls::Error),
    #[error("its key is another one")]
    OtherKey,
    #[error("it ends soon, on {0}")]
    Ending(String),
}

impl Authority {
    /// Reads the authority's certificate, its key, and the key of the certificates it will sign.
    ///
    /// # Errors
    /// A file cannot be used; the error says which, and why.
    pub fn load(config: &InterceptionConfig) -> Result<Self, KeyPairError> {
        let pair = key_pair::read(&config.authority)?;
        let leaf_key = key_pair::read_key(&config.signing_key_file)?;
        let unfit = || KeyPairFault::KeyUnfitForHosts.of(&config.signing_key_file);
        if leaf_key.choose_scheme(&FIT_FOR_HOSTS).is_none() {
            return Err(unfit());
        }
        let leaf_public_key = leaf_key.public_key().ok_or_else(unfit)?.to_vec();
        Self::new(&pair, leaf_key, leaf_public_key, Timestamp::now())
            .map_err(|fault| fault.of(&config.authority.cert_file))
    }

    fn new(
        pair: &CertifiedKey,
        leaf_key: Arc<dyn SigningKey>,
        leaf_public_key: Vec<u8>,
        now: Timestamp,
    ) -> Result<Self, KeyPairFault> {
        let malformed = |reason: String| KeyPairFault::CertificateMalformed(reason);
        let own = pair
            .cert
            .first()
            .ok_or(KeyPairFault::NoCertificate)?
            .clone();
        let (_, parsed) =
            X509Certificate::from_der(&own).map_err(|error| malformed(error.to_string()))?;
        check_may_sign(&parsed)?;
        let not_before = timestamp(parsed.validity().not_before);
        let not_after = timestamp(parsed.validity().not_after);
        if now < not_before {
            return Err(KeyPairFault::NotYetValid(not_before.to_string()));
        }
        if not_after <= now {
            return Err(KeyPairFault::Expired(not_after.to_string()));
        }
        let (signer, algorithm) = SIGNATURES
            .into_iter()
            .find_map(|(scheme, algorithm)| Some((pair.key.choose_scheme(&[scheme])?, algorithm)))
            .ok_or(KeyPairFault::KeyUnsupported)?;
        let mut itself = RootCertStore::empty();
        itself
            .add(own.clone())
            .map_err(|error| malformed(error.to_string()))?;
        let key_id = own_key_id(&parsed)
            .unwrap_or_else(|| key_id(&parsed.public_key().subject_public_key.data));
        let common_extensions = common_extensions(&leaf_public_key, leaf_key.algorithm(), &key_id)
            .map_err(malformed)?;
        Ok(Self {
            name: parsed.subject().as_raw().to_vec(),
            intermediates: pair
                .cert
                .iter()
                .filter(|certificate| !is_self_issued(certificate))
                .cloned()
                .collect(),
            not_after,
            signer,
            signature_algorithm: der::element(SEQUENCE, &[algorithm.as_ref()]),
            common_extensions,
            leaf_key,
            leaf_public_key,
            itself,
            provider: Arc::new(default_provider()),
            certificate: own,
        })
    }

    /// The authority's certificate in DER.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        to_pem(&self.certificate)
    }

    /// The SHA-256 digest of the authority's certificate, as tools show it: `AB:CD:…`.
    pub fn fingerprint(&self) -> String {
        let digest = digest(&SHA256, &self.certificate);
        let pairs: Vec<_> = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        pairs.join(":")
    }

    /// Signs a certificate for a host name or an address. Takes as long as a signature of the authority's key.
    ///
    /// # Errors
    /// No certificate can be for this host, or the authority cannot sign any more.
    pub fn mint(&self, host: &str) -> Result<Minted, MintError> {
        self.mint_for(&Subject::of(host)?, Timestamp::now())
    }

    pub(super) fn mint_for(&self, subject: &Subject, now: Timestamp) -> Result<Minted, MintError> {
        if self.not_after <= now {
            return Err(MintError::AuthorityExpired(self.not_after.to_string()));
        }
        let not_after = now
            .saturating_add(LIFETIME)
            .map_or(self.not_after, |end| end.min(self.not_after));
        let not_before = now.saturating_sub(BACKDATED).unwrap_or(now);
        let to_be_signed = self.to_be_signed(subject, not_before, not_after)?;
        let signature = self
            .signer
            .sign(&to_be_signed)
            .map_err(MintError::Signing)?;
        let certificate = der::element(
            SEQUENCE,
            &[
                &to_be_signed,
                &self.signature_algorithm,
                &bit_string(&signature),
            ],
        );
        let mut chain = Vec::with_capacity(1 + self.intermediates.len());
        chain.push(CertificateDer::from(certificate));
        chain.extend_from_slice(&self.intermediates);
        Ok(Minted { chain, not_after })
    }

    /// TBSCertificate of RFC 5280 §4.1.
    fn to_be_signed(
        &self,
        subject: &Subject,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Vec<u8>, MintError> {
        let version_3 = der::element(der::constructed(0), &[&[INTEGER, 1, 2]]);
        let serial = der::element(INTEGER, &[&self.serial()?]);
        let validity = der::element(SEQUENCE, &[&der::time(not_before), &der::time(not_after)]);
        let common_name = subject.common_name();
        let name = distinguished_name(common_name.as_deref());
        // RFC 5280 §4.1.2.6: critical if nothing else names the subject.
        let criticality = match common_name {
            Some(_) => Criticality::MayBeIgnored,
            None => Criticality::Critical,
        };
        let alt_name = der::extension(
            SUBJECT_ALT_NAME,
            criticality,
            &der::element(SEQUENCE, &[&subject.general_name()]),
        );
        let extensions = der::element(SEQUENCE, &[&alt_name, &self.common_extensions]);
        Ok(der::element(
            SEQUENCE,
            &[
                &version_3,
                &serial,
                &self.signature_algorithm,
                &self.name,
                &validity,
                &name,
                &self.leaf_public_key,
                &der::element(der::constructed(3), &[&extensions]),
            ],
        ))
    }

    /// 158 random bits: positive, of 20 octets, and in its shortest form (RFC 5280 §4.1.2.2).
    fn serial(&self) -> Result<[u8; 20], MintError> {
        let mut serial = [0; 20];
        self.provider
            .secure_random
            .fill(&mut serial)
            .map_err(|error| MintError::Signing(error.into()))?;
        serial[0] = serial[0] & 0x7f | 0x40;
        Ok(serial)
    }

    /// Checks a certificate that this authority, or an earlier one, has made, and tells when it ends.
    ///
    /// It is verified as a client would, so that no file makes the proxy serve what clients refuse.
    pub(super) fn recognise(
        &self,
        certificate: CertificateDer<'static>,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Minted, Unfit> {
        let not_after = {
            let (_, parsed) = X509Certificate::from_der(&certificate)
                .map_err(|error| Unfit::Malformed(error.to_string()))?;
            if parsed.public_key().raw != self.leaf_public_key {
                return Err(Unfit::OtherKey);
            }
            timestamp(parsed.validity().not_after)
        };
        let server_name = subject
            .server_name()
            .map_err(|error| Unfit::Malformed(error.to_string()))?;
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let WebPkiSupportedAlgorithms { all, .. } = self.provider.signature_verification_algorithms;
        let end_entity = ParsedCertificate::try_from(&certificate).map_err(Unfit::NotOurs)?;
        verify_server_cert_signed_by_trust_anchor(
            &end_entity,
            &self.itself,
            &[],
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
            all,
        )
        .and_then(|()| verify_server_name(&end_entity, &server_name))
        .map_err(Unfit::NotOurs)?;
        if self.renew_at(not_after) <= now {
            return Err(Unfit::Ending(not_after.to_string()));
        }
        let mut chain = vec![certificate];
        chain.extend_from_slice(&self.intermediates);
        Ok(Minted { chain, not_after })
    }

    /// When a certificate gives way to a new one: a day before it ends, unless a new one would end no later.
    pub(super) fn renew_at(&self, not_after: Timestamp) -> Timestamp {
        if not_after >= self.not_after {
            return self.not_after;
        }
        let day = SignedDuration::from_hours(24);
        not_after.saturating_sub(day).unwrap_or(not_after)
    }

    /// The private key of every certificate.
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

/// Whether anybody may sign certificates with this one (RFC 5280 §4.2.1.3, §4.2.1.9).
fn check_may_sign(certificate: &X509Certificate<'_>) -> Result<(), KeyPairFault> {
    let malformed = |error: x509_parser::error::X509Error| {
        KeyPairFault::CertificateMalformed(error.to_string())
    };
    let is_authority = certificate
        .basic_constraints()
        .map_err(malformed)?
        .is_some_and(|constraints| constraints.value.ca);
    if !is_authority {
        return Err(KeyPairFault::NotAnAuthority);
    }
    match certificate.key_usage().map_err(malformed)? {
        Some(usage) if !usage.value.key_cert_sign() => Err(KeyPairFault::MayNotSign),
        _ => Ok(()),
    }
}

/// Whether somebody handed us an authority's certificate, or one that cannot be read.
pub(super) fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| check_may_sign(&parsed).is_ok())
}

/// A client that trusts such a certificate has it.
fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
}

/// subjectKeyIdentifier: whoever made the authority may have computed it in any way.
fn own_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

/// The identifier of a public key after RFC 7093 §2 (1).
fn key_id(public_key: &[u8]) -> Vec<u8> {
    digest(&SHA256, public_key).as_ref()[..20].to_vec()
}

fn common_extensions(
    public_key_info: &[u8],
    algorithm: SignatureAlgorithm,
    authority_key_id: &[u8],
) -> Result<Vec<u8>, String> {
    use Criticality::{Critical, MayBeIgnored};
    let (_, parsed) =
        SubjectPublicKeyInfo::from_der(public_key_info).map_err(|error| error.to_string())?;
    // digitalSignature; RSA keys are also for the key exchange of TLS 1.2 (RFC 5280 §4.2.1.3).
    let usage: &[u8] = match algorithm {
        SignatureAlgorithm::RSA => &[BIT_STRING, 2, 5, 0xa0],
        _ => &[BIT_STRING, 2, 7, 0x80],
    };
    let server_auth = der::element(
        SEQUENCE,
        &[&der::element(OBJECT_IDENTIFIER, &[SERVER_AUTH])],
    );
    let own_id = der::element(
        der::OCTET_STRING,
        &[&key_id(&parsed.subject_public_key.data)],
    );
    let authority_id = der::element(
        SEQUENCE,
        &[&der::element(der::primitive(0), &[authority_key_id])],
    );
    // An empty one says that the subject is no authority.
    let constraints = der::element(SEQUENCE, &[]);
    Ok([
        der::extension(BASIC_CONSTRAINTS, Critical, &constraints),
        der::extension(KEY_USAGE, Critical, usage),
        der::extension(EXTENDED_KEY_USAGE, MayBeIgnored, &server_auth),
        der::extension(SUBJECT_KEY_IDENTIFIER, MayBeIgnored, &own_id),
        der::extension(AUTHORITY_KEY_IDENTIFIER, MayBeIgnored, &authority_id),
    ]
    .concat())
}

/// A name of one attribute, or the empty one.
fn distinguished_name(common_name: Option<&[u8]>) -> Vec<u8> {
    let Some(common_name) = common_name else {
        return der::element(SEQUENCE, &[]);
    };
    let attribute_type = der::element(OBJECT_IDENTIFIER, &[COMMON_NAME]);
    let attribute = der::element(SEQUENCE, &[&attribute_type, common_name]);
    der::element(SEQUENCE, &[&der::element(SET, &[&attribute])])
}

/// Whole octets: none of the bits in the last one is unused.
fn bit_string(octets: &[u8]) -> Vec<u8> {
    der::element(BIT_STRING, &[&[0], octets])
}

/// Certificates without an end say 9999-12-31, which is beyond what a `Timestamp` holds.
fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_second(time.timestamp()).unwrap_or(if time.timestamp() < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

#[cfg(test)]
mod tests;
