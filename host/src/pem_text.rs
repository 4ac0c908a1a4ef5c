//! PEM files, as other programs and editors write them (RFC 7468).
//!
//! Reads all certificates and keys from files of the operator. In addition to the RFC, a UTF-8 byte order mark is
//! skipped, and the labels `X509 CERTIFICATE` and `TRUSTED CERTIFICATE` are accepted: the latter is openssl's, with
//! trust settings after the certificate (X509_CERT_AUX). UTF-16 is reported as an error, because no label would be
//! found in it. Whether a certificate or a key is usable is not checked here.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::asn1_rs::{Any, FromBer, Tag};

/// Editors on Windows put it at the start of UTF-8 files.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The text before every label.
const BEGIN: &[u8] = b"-----BEGIN ";
/// Other labels of certificates, at the start and at the end of a section.
const OTHER_LABELS: [(&[u8], &[u8]); 4] = [
    (
        b"-----BEGIN X509 CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----",
    ),
    (
        b"-----END X509 CERTIFICATE-----",
        b"-----END CERTIFICATE-----",
    ),
    (
        b"-----BEGIN TRUSTED CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----",
    ),
    (
        b"-----END TRUSTED CERTIFICATE-----",
        b"-----END CERTIFICATE-----",
    ),
];

/// id-kp-serverAuth (RFC 5280 §4.2.1.12), as the content of an object identifier.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// anyExtendedKeyUsage.
const ANY_USE: &[u8] = &[0x55, 0x1d, 0x25, 0];

/// Why a file is not PEM.
#[derive(Debug, thiserror::Error)]
pub enum PemFault {
    /// It is UTF-16 text, in which no section is found.
    #[error("is encoded as UTF-16; save it as UTF-8")]
    Utf16,
    /// A section begins like PEM, but is malformed.
    #[error("is damaged ({0}); copy or export it again")]
    Damaged(#[from] pem::Error),
}

/// A certificate of a file.
#[derive(Debug)]
pub(crate) struct PemCertificate {
    pub(crate) certificate: CertificateDer<'static>,
    /// Whether its trust settings, if any, permit server certificates.
    pub(crate) may_vouch_for_servers: bool,
}

/// All certificates of a file, in order; empty if there is none.
///
/// # Errors
/// The file is not UTF-8 text, or a section is malformed.
pub(crate) fn certificates(file: &[u8]) -> Result<Vec<PemCertificate>, PemFault> {
    let text = plain(file)?;
    let mut sections = Vec::new();
    for der in CertificateDer::pem_slice_iter(&text) {
        sections.push(PemCertificate::of(der?));
    }
    Ok(sections)
}

/// All unencrypted private keys of a file, in order; empty if there is none.
///
/// # Errors
/// As [`certificates`].
pub(crate) fn private_keys(file: &[u8]) -> Result<Vec<PrivateKeyDer<'static>>, PemFault> {
    let text = plain(file)?;
    let keys: Result<Vec<_>, _> = PrivateKeyDer::pem_slice_iter(&text).collect();
    Ok(keys?)
}

/// The text with every section at the start of a line, under the label that the parser knows.
fn plain(file: &[u8]) -> Result<Vec<u8>, PemFault> {
    let is_utf16 = file.starts_with(b"\xff\xfe")
        || file.starts_with(b"\xfe\xff")
        || memchr::memmem::find(file, b"-\0-\0-\0").is_some();
    if is_utf16 {
        return Err(PemFault::Utf16);
    }
    let mut text = Vec::with_capacity(file.len());
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        // Files that were put together have one before each part.
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        // Nor does each part of such a file end its last line.
        match memchr::memmem::rfind(line, BEGIN) {
            Some(begin) if begin > 0 && line.starts_with(b"-----END ") => {
                push_line(&mut text, &line[..begin]);
                text.push(b'\n');
                push_line(&mut text, &line[begin..]);
            }
            _ => push_line(&mut text, line),
        }
    }
    Ok(text)
}

fn push_line(text: &mut Vec<u8>, line: &[u8]) {
    for (other, label) in OTHER_LABELS {
        if let Some(rest) = line.strip_prefix(other) {
            text.extend_from_slice(label);
            return text.extend_from_slice(rest);
        }
    }
    text.extend_from_slice(line);
}

impl PemCertificate {
    /// What follows a certificate are its trust settings.
    fn of(der: CertificateDer<'static>) -> Self {
        let settings = match Any::from_ber(&der) {
            Ok((settings, certificate)) if certificate.tag() == Tag::Sequence => settings,
            // A malformed certificate is reported where it is used.
            _ => &[],
        };
        if settings.is_empty() {
            return Self {
                certificate: der,
                may_vouch_for_servers: true,
            };
        }
        let certificate = &der[..der.len() - settings.len()];
        Self {
            certificate: CertificateDer::from(certificate).into_owned(),
            may_vouch_for_servers: allow_servers(settings),
        }
    }
}

/// Whether X509_CERT_AUX permits servers: `SEQUENCE { trust SEQUENCE OF OID OPTIONAL, reject [0] SEQUENCE OF OID
/// OPTIONAL, … }`. Rejected uses are not trusted; if any use is listed as trusted, only those are.
fn allow_servers(settings: &[u8]) -> bool {
    let Ok((_, settings)) = Any::from_ber(settings) else {
        return false;
    };
    let is_about_servers = |uses: &[u8]| {
        elements(uses).is_some_and(|uses| {
            let mut uses = uses.iter();
            uses.any(|usage| [SERVER_AUTH, ANY_USE].contains(&usage.data))
        })
    };
    let Some(elements) = elements(settings.data) else {
        return false;
    };
    elements.iter().all(|element| {
        let is_reject = element.header.is_contextspecific() && element.tag().0 == 0;
        let is_trust = element.header.is_universal() && element.tag() == Tag::Sequence;
        !(is_reject && is_about_servers(element.data))
            && (!is_trust || element.data.is_empty() || is_about_servers(element.data))
    })
}

fn elements(mut rest: &[u8]) -> Option<Vec<Any<'_>>> {
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (behind, element) = Any::from_ber(rest).ok()?;
        elements.push(element);
        rest = behind;
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interception::fixtures::{EC_CA, EC_CA_KEY_SEC1, RSA_CA};

    fn der(text: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
    }

    /// A certificate with these settings, as written by `openssl x509 -trustout`.
    fn trusted(settings: &[u8]) -> String {
        let both = [&der(EC_CA), settings].concat();
        ::pem::encode(&::pem::Pem::new("TRUSTED CERTIFICATE", both))
    }

    fn read(file: impl AsRef<[u8]>) -> Vec<CertificateDer<'static>> {
        let sections = certificates(file.as_ref()).unwrap();
        sections
            .into_iter()
            .map(|section| section.certificate)
            .collect()
    }

    #[test]
    fn certificates_are_read_under_each_label_and_behind_a_byte_order_mark() {
        let marked = format!("\u{feff}{EC_CA}");
        let old = EC_CA.replace(" CERTIFICATE-", " X509 CERTIFICATE-");
        let windows = EC_CA.replace('\n', "\r\n");
        let classic = EC_CA.replace('\n', "\r");
        for text in [&marked, &old, &windows, &classic, &trusted(b"\x30\0")] {
            assert_eq!(read(text), [der(EC_CA)], "{text}");
        }
        let text = format!("\u{feff}subject=x\r\n\u{feff}{windows}");
        assert_eq!(read(text), [der(EC_CA)]);
    }

    #[test]
    fn concatenated_parts_are_all_read() {
        let both = [der(EC_CA), der(RSA_CA)];
        assert_eq!(read(format!("{}{RSA_CA}", EC_CA.trim_end())), both);
        assert_eq!(read(format!("\u{feff}{EC_CA}\u{feff}{RSA_CA}")), both);
        assert_eq!(
            read(format!("{}\u{feff}{RSA_CA}", trusted(b"\x30\0"))),
            both
        );
    }

    #[test]
    fn keys_are_read_behind_a_byte_order_mark() {
        let marked = format!("\u{feff}{EC_CA_KEY_SEC1}");
        assert_eq!(private_keys(marked.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn utf16_is_named() {
        let little: Vec<u8> = EC_CA.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = EC_CA.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = [b"\xff\xfe", &little[..]].concat();
        for file in [little, big, marked] {
            assert!(matches!(certificates(&file), Err(PemFault::Utf16)));
            assert!(matches!(private_keys(&file), Err(PemFault::Utf16)));
        }
    }

    #[test]
    fn trust_settings_decide_whether_servers_are_trusted() {
        let server = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
        let email = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x04";
        let settings = |tag: u8, uses: &[&[u8]]| {
            let uses = uses.concat();
            let inner = [&[tag, uses.len() as u8], &uses[..]].concat();
            [&[0x30, inner.len() as u8], &inner[..]].concat()
        };
        let alias = b"\x30\x0a\x0c\x08an alias".to_vec();
        for (settings, expected) in [
            (alias, true),
            (settings(0x30, &[server]), true),
            (settings(0x30, &[email, server]), true),
            (settings(0x30, &[email]), false),
            (settings(0xa0, &[server]), false),
            (settings(0xa0, &[email]), true),
            (settings(0xa0, &[b"\x06\x04\x55\x1d\x25\x00"]), false),
            (b"\x30\x05".to_vec(), false),
        ] {
            let sections = certificates(trusted(&settings).as_bytes()).unwrap();
            assert_eq!(sections[0].certificate, der(EC_CA));
            assert_eq!(sections[0].may_vouch_for_servers, expected, "{settings:?}");
        }
    }
}
