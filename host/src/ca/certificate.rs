//! Reads a certificate, to describe it for people and to encode it for clients.
//!
//! Control characters in its names are replaced, so that the description can be printed anywhere. Whether the CA can be
//! used for signing is not checked here.

use std::fmt;
use std::path::Path;
use std::{fs, io};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::pem_text::{self, PemFault};

/// One certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    der: Vec<u8>,
    subject: String,
    name: String,
    not_before: Timestamp,
    not_after: Timestamp,
    key: String,
    is_ca: bool,
    fingerprint: [u8; 32],
}

/// Why a certificate cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// The PEM is malformed.
    #[error(transparent)]
    Damaged(PemFault),
    /// The file has no CERTIFICATE section.
    #[error("contains no certificate in PEM format (-----BEGIN CERTIFICATE-----)")]
    NotPem,
    /// The section is not a certificate.
    #[error("the certificate cannot be parsed")]
    Malformed,
}

impl Certificate {
    /// Reads the first certificate of a PEM file.
    pub(super) fn read(path: &Path) -> Result<Self, CertificateError> {
        let file = fs::read(path).map_err(CertificateError::Unreadable)?;
        let sections = pem_text::certificates(&file).map_err(CertificateError::Damaged)?;
        let first = sections.first().ok_or(CertificateError::NotPem)?;
        Self::from_der(&first.certificate)
    }

    /// Parses a certificate in DER.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |_| CertificateError::Malformed;
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let subject = printable(&parsed.subject().to_string());
        let time = |seconds| Timestamp::from_second(seconds).map_err(malformed);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, der).as_ref());
        Ok(Certificate {
            der: der.to_vec(),
            name: name(parsed.subject()).unwrap_or_else(|| subject.clone()),
            subject,
            not_before: time(parsed.validity().not_before.timestamp())?,
            not_after: time(parsed.validity().not_after.timestamp())?,
            key: key(parsed.public_key()),
            is_ca: parsed.is_ca(),
            fingerprint,
        })
    }

    /// The common name, or else the whole subject.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The kind and size of its public key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The last second of its validity.
    pub(super) fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// SHA-256 of the certificate.
    pub(super) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// [`fingerprint`](Self::fingerprint) as clients show it.
    pub(super) fn fingerprint_text(&self) -> String {
        self.fingerprint.map(|byte| format!("{byte:02X}")).join(":")
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(super) fn pem(&self) -> String {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new("CERTIFICATE", self.der.clone()), config)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expired = if self.not_after < Timestamp::now() {
            " (expired)"
        } else {
            ""
        };
        let use_ = if self.is_ca {
            "CA"
        } else {
            "server or client, not a CA"
        };
        writeln!(f, "Subject:     {}", self.subject)?;
        writeln!(f, "Valid from:  {}", date(self.not_before))?;
        writeln!(f, "Valid until: {}{expired}", date(self.not_after))?;
        writeln!(f, "Use:         {use_}")?;
        writeln!(f, "Key:         {}", self.key)?;
        writeln!(f, "SHA-256:     {}", self.fingerprint_text())
    }
}

/// A time for people.
pub(super) fn date(time: Timestamp) -> String {
    time.strftime("%F %T UTC").to_string()
}

fn name(subject: &X509Name<'_>) -> Option<String> {
    subject
        .iter_common_name()
        .chain(subject.iter_organization())
        .find_map(|attribute| attribute.as_str().ok())
        .map(printable)
        .filter(|name| !name.trim().is_empty())
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> String {
    let curve = || {
        let parameters = info.algorithm.parameters.as_ref()?;
        Some(parameters.as_oid().ok()?.to_id_string())
    };
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {} bits", key.key_size()),
        Ok(PublicKey::EC(_)) => match curve().as_deref() {
            Some("1.2.840.10045.3.1.7") => "ECDSA P-256".to_owned(),
            Some("1.3.132.0.34") => "ECDSA P-384".to_owned(),
            Some("1.3.132.0.35") => "ECDSA P-521".to_owned(),
            _ => "ECDSA".to_owned(),
        },
        _ => match info.algorithm.algorithm.to_id_string().as_str() {
            "1.3.101.112" => "Ed25519".to_owned(),
            oid => format!("algorithm {oid}"),
        },
    }
}

fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
pub(super) mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P384_SHA384,
        PKCS_ED25519, PKCS_RSA_SHA256,
    };

    /// A certificate with this subject.
    pub(in crate::ca) fn named(subject: &[(DnType, &str)]) -> Certificate {
        with_key(subject, &KeyPair::generate().unwrap())
    }

    fn with_key(subject: &[(DnType, &str)], key: &KeyPair) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        Certificate::from_der(params.self_signed(key).unwrap().der()).unwrap()
    }

    #[test]
    fn keys_are_named_by_kind_and_size() {
        for (algorithm, words) in [
            (&PKCS_ECDSA_P384_SHA384, "ECDSA P-384"),
            (&PKCS_ED25519, "Ed25519"),
            (&PKCS_RSA_SHA256, "RSA 2048 bits"),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(with_key(&[], &key).key(), words);
        }
    }

    #[test]
    fn the_common_name_stands_for_the_subject() {
        let certificate = named(&[
            (DnType::CountryName, "US"),
            (DnType::OrganizationName, "Firm"),
            (DnType::CommonName, "Büro"),
        ]);
        assert_eq!(certificate.name(), "Büro");
        assert_eq!(certificate.subject, "C=US, O=Firm, CN=Büro");
        assert_eq!(named(&[(DnType::OrganizationName, "Firm")]).name(), "Firm");
        assert_eq!(named(&[(DnType::CountryName, "US")]).name(), "C=US");
        assert_eq!(named(&[]).name(), "");
    }

    #[test]
    fn names_cannot_control_a_terminal() {
        let certificate = named(&[(DnType::CommonName, "a\u{1b}[2Jb\nSHA-256: 00")]);
        assert_eq!(certificate.name(), "a\u{fffd}[2Jb\u{fffd}SHA-256: 00");
        assert_eq!(certificate.to_string().lines().count(), 6);
    }

    #[test]
    fn pem_holds_the_same_bytes() {
        let certificate = named(&[(DnType::CommonName, "x")]);
        let pem = certificate.pem();
        let again = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(&*again, certificate.der());
        assert!(pem.ends_with("-----END CERTIFICATE-----\n") && !pem.contains('\r'));
    }

    #[test]
    fn every_prefix_of_a_certificate_is_malformed() {
        let certificate = named(&[(DnType::CommonName, "x")]);
        for len in 0..certificate.der().len() {
            let cut = Certificate::from_der(&certificate.der()[..len]);
            assert!(matches!(cut, Err(CertificateError::Malformed)), "{len}");
        }
        let longer = [certificate.der(), &[0]].concat();
        assert!(Certificate::from_der(&longer).is_err());
    }

    #[test]
    fn a_foreign_ca_is_shown() {
        let made = crate::interception::fixtures::RSA_CA;
        let der = CertificateDer::from_pem_slice(made.as_bytes()).unwrap();
        let shown = Certificate::from_der(&der).unwrap();
        assert_eq!(shown.pem(), made);
        // openssl x509 -noout -fingerprint -sha256
        assert_eq!(
            shown.fingerprint_text(),
            "3C:C5:70:19:6E:01:D6:E7:55:62:A2:33:11:AA:EF:C5:0C:56:18:A1:1F:58:99:57:58:07:71:AD:02:D8:7B:C9"
        );
    }
}
