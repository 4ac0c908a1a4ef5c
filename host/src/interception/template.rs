//! The contents of a host's certificate (RFC 5280 §4.1), as rcgen writes them.
//!
//! Certificates of a CA differ in serial number, times and host; everything else is prepared once. rcgen cannot write
//! the issuer's name, see `issuer_name`. The caller checks whether the CA may sign, and until when.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, PublicKeyData, SerialNumber, SignatureAlgorithm,
    SubjectPublicKeyInfo,
};
use rustls::SignatureAlgorithm as KeyKind;
use rustls::sign::SigningKey;
use x509_parser::time::ASN1Time;

use super::issuer_name::Unsigned;
use super::subject::Subject;

/// The common part of all certificates of a CA.
#[derive(Debug)]
pub(super) struct CertificateTemplate {
    /// Basic constraints, key usages and key identifiers; no host, serial number or times.
    params: CertificateParams,
    issuer: Issuer<'static, DeferredSigner>,
    issuer_name: Vec<u8>,
    public_key: SubjectPublicKeyInfo,
}

impl CertificateTemplate {
    /// `ca_name` is in DER, as in the CA's certificate; `ca_key_id` is the identifier of its key.
    ///
    /// # Errors
    /// The public key cannot be read.
    pub(super) fn new(
        ca_name: &[u8],
        ca_key_id: &[u8],
        signs_by: &'static SignatureAlgorithm,
        leaf_key: &dyn SigningKey,
    ) -> Result<Self, String> {
        let public_key = leaf_key
            .public_key()
            .ok_or("the key hides its public half")?;
        let public_key =
            SubjectPublicKeyInfo::from_der(&public_key).map_err(|error| error.to_string())?;
        let mut issuer = without_names();
        issuer.key_identifier_method = KeyIdMethod::PreSpecified(ca_key_id.to_vec());
        Ok(Self {
            params: common_params(leaf_key.algorithm(), public_key.der_bytes()),
            issuer: Issuer::new(issuer, DeferredSigner(signs_by)),
            issuer_name: ca_name.to_vec(),
            public_key,
        })
    }

    /// The certificate of a host, ready to be signed.
    ///
    /// # Errors
    /// rcgen cannot encode it, which no valid host and time should cause.
    pub(super) fn unsigned(
        &self,
        subject: &Subject,
        serial: &[u8],
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Unsigned, rcgen::Error> {
        let mut params = self.params.clone();
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.not_before = asn1_time(not_before)?.to_datetime();
        params.not_after = asn1_time(not_after)?.to_datetime();
        // Without a common name, rcgen makes the alternative name critical (RFC 5280 §4.1.2.6).
        if let Some(name) = subject.common_name() {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names.push(subject.alt_name()?);
        let without_issuer = params.signed_by(&self.public_key, &self.issuer)?;
        Unsigned::issued_by(&self.issuer_name, without_issuer.der())
            .ok_or(rcgen::Error::CouldNotParseCertificate)
    }

    /// The SubjectPublicKeyInfo of every certificate.
    pub(super) fn public_key(&self) -> Vec<u8> {
        self.public_key.subject_public_key_info()
    }
}

/// The identifier of a public key, by RFC 7093 §2 (1).
pub(super) fn key_id(public_key: &[u8]) -> Vec<u8> {
    digest(&SHA256, public_key).as_ref()[..20].to_vec()
}

fn common_params(kind: KeyKind, public_key: &[u8]) -> CertificateParams {
    let mut params = without_names();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    // RSA keys are also used for the key exchange of TLS 1.2 (RFC 5280 §4.2.1.3).
    if kind == KeyKind::RSA {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_id(public_key));
    params
}

fn asn1_time(time: Timestamp) -> Result<ASN1Time, rcgen::Error> {
    ASN1Time::from_timestamp(time.as_second()).map_err(|_| rcgen::Error::Time)
}

fn without_names() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

/// Replaces the CA's key: rcgen's output still lacks its issuer, so a signature would be useless.
#[derive(Debug)]
struct DeferredSigner(&'static SignatureAlgorithm);

impl PublicKeyData for DeferredSigner {
    fn der_bytes(&self) -> &[u8] {
        &[]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0
    }
}

impl rcgen::SigningKey for DeferredSigner {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}
