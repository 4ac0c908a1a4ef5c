//! Copies the issuer's name into a certificate, byte by byte as in the CA's own certificate.
//!
//! This is the one field that rcgen cannot write. Verifiers compare names byte by byte, but rcgen decodes and
//! re-encodes them: it keeps one value per attribute type, so that `DC=example, DC=com` loses one, and it rejects RDNs
//! with several attributes, T61String in Latin-1, NumericString and attributes that are not strings. x509-cert keeps
//! more of them, but sorts the attributes of an RDN, and rejects UniversalString and long object identifiers. Therefore
//! rcgen writes a certificate with an empty issuer and an empty signature, and this file replaces both.

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, BitString, FromDer, Sequence, ToDer};

/// The index of the issuer in TBSCertificate: after version, serial number and signature algorithm.
const ISSUER: usize = 3;

/// A certificate before it is signed.
#[derive(Debug)]
pub(super) struct Unsigned {
    /// TBSCertificate.
    pub(super) to_be_signed: Vec<u8>,
    algorithm: Vec<u8>,
}

impl Unsigned {
    /// Replaces the issuer of `certificate`. `None` if it is not a certificate.
    pub(super) fn issued_by(name: &[u8], certificate: &[u8]) -> Option<Self> {
        let [to_be_signed, algorithm, _] = elements(certificate)?[..] else {
            return None;
        };
        let mut fields = elements(to_be_signed)?;
        *fields.get_mut(ISSUER)? = name;
        Some(Self {
            to_be_signed: sequence(&fields)?,
            algorithm: algorithm.to_vec(),
        })
    }

    /// Adds the signature.
    pub(super) fn signed(&self, signature: &[u8]) -> Option<CertificateDer<'static>> {
        let signature = BitString::new(0, signature).to_der_vec().ok()?;
        let certificate = sequence(&[&self.to_be_signed, &self.algorithm, &signature])?;
        Some(CertificateDer::from(certificate))
    }
}

/// The elements of a sequence, each with its tag and length.
fn elements(sequence: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, sequence) = Any::from_der(sequence).ok()?;
    let mut content = sequence.data;
    // TBSCertificate has ten fields, three of them optional.
    let mut elements = Vec::with_capacity(10);
    while !content.is_empty() {
        let (rest, _) = Any::from_der(content).ok()?;
        elements.push(&content[..content.len() - rest.len()]);
        content = rest;
    }
    Some(elements)
}

fn sequence(elements: &[&[u8]]) -> Option<Vec<u8>> {
    Sequence::new(elements.concat().into()).to_der_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::certificate::X509Certificate;

    /// Names in DER whose bytes rcgen or x509-cert would change, and the empty name.
    const NAMES: [&[u8]; 9] = [
        // OU=a, OU=b
        b"\x30\x18\x31\x0a\x30\x08\x06\x03\x55\x04\x0b\x0c\x01a\x31\x0a\x30\x08\x06\x03\x55\x04\x0b\x0c\x01b",
        // O=y + CN=x, not in DER order
        b"\x30\x16\x31\x14\x30\x08\x06\x03\x55\x04\x0a\x0c\x01y\x30\x08\x06\x03\x55\x04\x03\x0c\x01x",
        // O=y + O=y
        b"\x30\x16\x31\x14\x30\x08\x06\x03\x55\x04\x0a\x0c\x01y\x30\x08\x06\x03\x55\x04\x0a\x0c\x01y",
        // T61String in Latin-1
        b"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x0a\x14\x01\xe9",
        // UniversalString
        b"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x0a\x1c\x04\0\0\0A",
        // PrintableString with a forbidden character
        b"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x0a\x13\x01@",
        // UTF8String that is not UTF-8
        b"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01\xff",
        // x500UniqueIdentifier, a bit string
        b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x2d\x03\x02\0\x05",
        // The empty name
        b"\x30\0",
    ];

    fn certificate() -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.self_signed(&key).unwrap()
    }

    #[test]
    fn no_byte_of_the_issuers_name_changes() {
        let certificate = certificate();
        let (_, before) = X509Certificate::from_der(certificate.der()).unwrap();
        for name in NAMES {
            let unsigned = Unsigned::issued_by(name, certificate.der()).unwrap();
            let signed = unsigned.signed(b"signature").unwrap();
            let (rest, after) = X509Certificate::from_der(&signed).unwrap();
            assert!(rest.is_empty());
            assert_eq!(after.issuer().as_raw(), name);
            assert_eq!(after.tbs_certificate.as_ref(), unsigned.to_be_signed);
            assert_eq!(after.signature_value.data.as_ref(), b"signature");
            assert_eq!(after.signature_algorithm, before.signature_algorithm);
            assert_eq!(after.raw_serial(), before.raw_serial());
            assert_eq!(after.validity(), before.validity());
            assert_eq!(after.subject().as_raw(), before.subject().as_raw());
            assert_eq!(after.public_key().raw, before.public_key().raw);
            assert_eq!(after.extensions(), before.extensions());
        }
    }

    #[test]
    fn every_prefix_of_a_certificate_is_refused() {
        let certificate = certificate();
        for len in 0..certificate.der().len() {
            assert!(Unsigned::issued_by(b"\x30\0", &certificate.der()[..len]).is_none());
        }
    }
}
