//! Verifies certificates that webpki cannot parse or verify.
//!
//! A host in `insecure_hosts` may show any certificate, and a certificate that is trusted directly may be of X.509
//! version 1, have a short key or an unknown critical extension. The peer must still own it: the signature of the
//! handshake is verified with the certificate's key. Only the key is parsed here, and for trusted certificates name and
//! validity, so that no other part of a certificate can cause a failure.
//!
//! RSA keys of lengths that aws-lc-rs refuses are used with the arithmetic here. It handles no secrets, and a short key
//! is weak regardless of the code.

use std::net::IpAddr;

use aws_lc_rs::digest::{Algorithm, Digest, SHA256, SHA384, SHA512, digest};
use num_bigint::BigUint;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::asn1_rs::{Any, FromBer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// rsaEncryption (RFC 3279 §2.3.1), as the content of an object identifier.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// The lengths of RSA keys that aws-lc-rs supports, in bits of the modulus.
const USUAL_RSA_BITS: std::ops::RangeInclusive<u64> = 2048..=8192;
/// The lengths of RSA keys that are supported here: the time for one signature grows with the square of the length.
const RSA_BITS: std::ops::RangeInclusive<u64> = 512..=16_384;
/// The longest public exponent, in bits; all in use have 2 to 17.
const MAX_EXPONENT_BITS: u64 = 33;

/// The version of TLS, as far as signatures differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

/// Whether the handshake was signed with the certificate's key.
///
/// # Errors
/// It was not, or there is no such key or signature.
pub(super) fn verify_signature(
    version: Version,
    certificate: &CertificateDer<'_>,
    message: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let key = PublicKey::of(certificate)
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let scheme = signed.scheme;
    if let Some(rsa) = key.unusual_rsa() {
        let is_valid = RsaScheme::of(scheme, version)
            .is_some_and(|scheme| rsa.has_signed(scheme, message, signed.signature()));
        return is_valid.then_some(()).ok_or_else(bad_signature);
    }
    let mapping = algorithms
        .mapping
        .iter()
        .find(|(known, _)| *known == scheme);
    let (_, candidates) = mapping.ok_or_else(bad_signature)?;
    let candidates = match version {
        Version::Tls12 => candidates,
        // In TLS 1.3 a scheme includes the curve, and PKCS #1 is for certificates only (RFC 8446 §4.2.3).
        Version::Tls13 if is_pkcs1(scheme) => return Err(bad_signature()),
        Version::Tls13 => &candidates[..candidates.len().min(1)],
    };
    let is_valid = candidates.iter().any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == key.algorithm
            && algorithm
                .verify_signature(key.bits, message, signed.signature())
                .is_ok()
    });
    is_valid.then_some(()).ok_or_else(bad_signature)
}

/// Whether the certificate is valid now.
pub(super) fn verify_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = parsed(certificate)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

/// Whether the certificate is for `name`: by its alternative names, or by its common name if it has none, as those of
/// version 1 cannot (RFC 6125 §6.4.4).
pub(super) fn verify_name(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), Error> {
    let parsed = parsed(certificate)?;
    let alternatives = parsed
        .subject_alternative_name()
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let address = match name {
        ServerName::IpAddress(address) => Some(IpAddr::from(*address)),
        _ => None,
    };
    let host = name.to_str();
    let is_for_it = match alternatives {
        Some(alternatives) => alternatives
            .value
            .general_names
            .iter()
            .any(|name| match name {
                GeneralName::DNSName(pattern) => address.is_none() && fits(pattern, &host),
                GeneralName::IPAddress(bytes) => address.is_some_and(|address| match address {
                    IpAddr::V4(address) => *bytes == address.octets(),
                    IpAddr::V6(address) => *bytes == address.octets(),
                }),
                _ => false,
            }),
        None => parsed.subject().iter_common_name().any(|common| {
            common.as_str().is_ok_and(|common| match address {
                Some(address) => common.parse() == Ok(address),
                None => fits(common, &host),
            })
        }),
    };
    is_for_it
        .then_some(())
        .ok_or(Error::InvalidCertificate(CertificateError::NotValidForName))
}

/// Whether `pattern` is `host`, or a star for its first label (RFC 6125 §6.4.3).
fn fits(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((_, below))) => {
            domain.contains('.') && domain.eq_ignore_ascii_case(below)
        }
        _ => false,
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}

fn bad_signature() -> Error {
    Error::InvalidCertificate(CertificateError::BadSignature)
}

/// The key of a certificate.
struct PublicKey<'a> {
    /// The content of the AlgorithmIdentifier, as `public_key_alg_id` has it.
    algorithm: &'a [u8],
    bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Finds the key by its position (RFC 5280 §4.1), without parsing the rest of the certificate.
    fn of(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = Any::from_ber(certificate).ok()?;
        let (_, content) = Any::from_ber(certificate.data).ok()?;
        let mut rest = content.data;
        let version = next(&mut rest)?;
        // Missing in version 1; then this is the serial number.
        let is_version = version.header.is_contextspecific();
        // Before the key: serial number, signature, issuer, validity, subject.
        for _ in 0..if is_version { 5 } else { 4 } {
            next(&mut rest)?;
        }
        let mut info = next(&mut rest)?.data;
        let algorithm = next(&mut info)?.data;
        // The first octet counts unused bits, of which keys have none.
        let bits = next(&mut info)?.data.strip_prefix(&[0])?;
        Some(Self { algorithm, bits })
    }

    /// An RSA key that aws-lc-rs does not support.
    fn unusual_rsa(&self) -> Option<RsaKey> {
        let mut algorithm = self.algorithm;
        if next(&mut algorithm)?.data != RSA_ENCRYPTION {
            return None;
        }
        let mut numbers = Any::from_ber(self.bits).ok()?.1.data;
        let modulus = BigUint::from_bytes_be(next(&mut numbers)?.data);
        let exponent = BigUint::from_bytes_be(next(&mut numbers)?.data);
        (!USUAL_RSA_BITS.contains(&modulus.bits())).then_some(RsaKey { modulus, exponent })
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Any<'a>> {
    let (behind, element) = Any::from_ber(rest).ok()?;
    *rest = behind;
    Some(element)
}

fn is_pkcs1(scheme: SignatureScheme) -> bool {
    use SignatureScheme as Scheme;
    matches!(
        scheme,
        Scheme::RSA_PKCS1_SHA256 | Scheme::RSA_PKCS1_SHA384 | Scheme::RSA_PKCS1_SHA512
    )
}

/// How a message becomes the number that RSA signs (RFC 8017 §9).
#[derive(Clone, Copy)]
enum RsaScheme {
    /// With the beginning of DigestInfo.
    Pkcs1(&'static Algorithm, &'static [u8; 19]),
    /// With a salt as long as the digest (RFC 8446 §4.2.3).
    Pss(&'static Algorithm),
}

impl RsaScheme {
    fn of(scheme: SignatureScheme, version: Version) -> Option<Self> {
        use SignatureScheme as Scheme;
        if version == Version::Tls13 && is_pkcs1(scheme) {
            return None;
        }
        Some(match scheme {
            Scheme::RSA_PKCS1_SHA256 => Self::Pkcs1(
                &SHA256,
                b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
            ),
            Scheme::RSA_PKCS1_SHA384 => Self::Pkcs1(
                &SHA384,
                b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
            ),
            Scheme::RSA_PKCS1_SHA512 => Self::Pkcs1(
                &SHA512,
                b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
            ),
            Scheme::RSA_PSS_SHA256 => Self::Pss(&SHA256),
            Scheme::RSA_PSS_SHA384 => Self::Pss(&SHA384),
            Scheme::RSA_PSS_SHA512 => Self::Pss(&SHA512),
            _ => return None,
        })
    }
}

struct RsaKey {
    modulus: BigUint,
    exponent: BigUint,
}

impl RsaKey {
    fn has_signed(&self, scheme: RsaScheme, message: &[u8], signature: &[u8]) -> bool {
        let bits = self.modulus.bits();
        let number = BigUint::from_bytes_be(signature);
        let is_usable = RSA_BITS.contains(&bits)
            && self.modulus.bit(0)
            && self.exponent.bit(0)
            && (2..=MAX_EXPONENT_BITS).contains(&self.exponent.bits())
            && signature.len() as u64 == bits.div_ceil(8)
            && number < self.modulus;
        if !is_usable {
            return false;
        }
        let encoded = number.modpow(&self.exponent, &self.modulus).to_bytes_be();
        let mut padded = vec![0; signature.len() - encoded.len()];
        padded.extend_from_slice(&encoded);
        match scheme {
            RsaScheme::Pkcs1(algorithm, prefix) => {
                let digest = digest(algorithm, message);
                let digest = digest.as_ref();
                let Some(fill) = padded.len().checked_sub(3 + prefix.len() + digest.len()) else {
                    return false;
                };
                // At least eight octets (RFC 8017 §9.2).
                let fill_in = vec![0xff; fill];
                fill >= 8 && padded == [&[0, 1], &fill_in[..], &[0], prefix, digest].concat()
            }
            RsaScheme::Pss(algorithm) => is_pss(algorithm, message, &padded, bits),
        }
    }
}

/// EMSA-PSS-VERIFY (RFC 8017 §9.1.2) with a salt as long as the digest; `bits` are those of the modulus.
fn is_pss(algorithm: &'static Algorithm, message: &[u8], padded: &[u8], bits: u64) -> bool {
    let digest_len = algorithm.output_len();
    let encoded_bits = bits - 1;
    let Some(skipped) = padded.len().checked_sub(encoded_bits.div_ceil(8) as usize) else {
        return false;
    };
    let (zero, encoded) = padded.split_at(skipped);
    let Some(masked_len) = encoded.len().checked_sub(digest_len + 1) else {
        return false;
    };
    let (masked, rest) = encoded.split_at(masked_len);
    let Some((hash, [0xbc])) = rest.split_at_checked(digest_len) else {
        return false;
    };
    let unused_bits = (encoded.len() as u64 * 8 - encoded_bits) as u32;
    let used = 0xff_u8 >> unused_bits;
    let is_too_large = masked.first().is_some_and(|first| first & !used != 0);
    let Some(fill) = masked_len.checked_sub(digest_len + 1) else {
        return false;
    };
    if is_too_large || zero.iter().any(|byte| *byte != 0) {
        return false;
    }
    let mut block: Vec<u8> = masked
        .iter()
        .zip(mask(algorithm, hash))
        .map(|(a, b)| a ^ b)
        .collect();
    block[0] &= used;
    let (filled, salt) = block.split_at(fill + 1);
    let is_filled = filled[..fill].iter().all(|byte| *byte == 0) && filled[fill] == 1;
    let message_digest = digest(algorithm, message);
    let expected = digest(
        algorithm,
        &[&[0; 8], message_digest.as_ref(), salt].concat(),
    );
    is_filled && expected.as_ref() == hash
}

/// MGF1 (RFC 8017 §B.2.1), without an end.
fn mask(algorithm: &'static Algorithm, seed: &[u8]) -> impl Iterator<Item = u8> {
    (0_u32..).flat_map(move |counter| {
        let digest: Digest = digest(algorithm, &[seed, &counter.to_be_bytes()].concat());
        digest.as_ref().to_vec()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_itself_and_a_wildcard_one_label() {
        for (pattern, host, expected) in [
            ("localhost", "localhost", true),
            ("LocalHost", "localhost", true),
            ("*.a.test", "x.a.test", true),
            ("*.a.test", "a.test", false),
            ("*.a.test", "x.y.a.test", false),
            ("*.test", "a.test", false),
            ("*", "a", false),
            ("a.test", "b.test", false),
        ] {
            assert_eq!(fits(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn a_broken_certificate_has_no_key() {
        for der in [
            &b""[..],
            b"\x30",
            b"\x30\x00",
            b"\x30\x02\x30\x00",
            b"\x30\x80",
            &[0x30; 64],
        ] {
            assert!(PublicKey::of(&CertificateDer::from(der)).is_none());
        }
    }

    /// A key and signatures that openssl has made.
    mod made_by_openssl {
        use super::*;

        const MESSAGE: &[u8] = b"signed by openssl";

        fn key() -> RsaKey {
            let der = hex(include_str!("lenient/rsa-1024.hex"));
            let mut numbers = Any::from_ber(&der).unwrap().1.data;
            RsaKey {
                modulus: BigUint::from_bytes_be(next(&mut numbers).unwrap().data),
                exponent: BigUint::from_bytes_be(next(&mut numbers).unwrap().data),
            }
        }

        fn hex(text: &str) -> Vec<u8> {
            let digits: Vec<_> = text.trim().bytes().collect();
            let pairs = digits
                .chunks(2)
                .map(|pair| std::str::from_utf8(pair).unwrap());
            pairs
                .map(|pair| u8::from_str_radix(pair, 16).unwrap())
                .collect()
        }

        #[test]
        fn signatures_of_a_short_rsa_key_are_verified() {
            let scheme = |scheme| RsaScheme::of(scheme, Version::Tls12).unwrap();
            let other = scheme(SignatureScheme::RSA_PSS_SHA384);
            for (scheme, signature) in [
                (
                    SignatureScheme::RSA_PSS_SHA256,
                    include_str!("lenient/pss-sha256.hex"),
                ),
                (
                    SignatureScheme::RSA_PKCS1_SHA256,
                    include_str!("lenient/pkcs1-sha256.hex"),
                ),
                (
                    SignatureScheme::RSA_PKCS1_SHA512,
                    include_str!("lenient/pkcs1-sha512.hex"),
                ),
            ] {
                let scheme = RsaScheme::of(scheme, Version::Tls12).unwrap();
                let (key, signature) = (key(), hex(signature));
                assert!(key.has_signed(scheme, MESSAGE, &signature));
                assert!(!key.has_signed(scheme, b"something else", &signature));
                assert!(!key.has_signed(other, MESSAGE, &signature));
                assert!(!key.has_signed(scheme, MESSAGE, &signature[1..]));
                for place in 0..signature.len() {
                    let mut changed = signature.clone();
                    changed[place] ^= 1;
                    assert!(!key.has_signed(scheme, MESSAGE, &changed));
                }
            }
        }

        #[test]
        fn an_invalid_key_verifies_nothing() {
            let signature = hex(include_str!("lenient/pss-sha256.hex"));
            let scheme = RsaScheme::of(SignatureScheme::RSA_PSS_SHA256, Version::Tls13).unwrap();
            for (modulus, exponent) in [
                (BigUint::ZERO, BigUint::from(3_u8)),
                (BigUint::from(1_u8), BigUint::from(3_u8)),
                (key().modulus + 1_u8, key().exponent),
                (key().modulus, BigUint::ZERO),
                (key().modulus, BigUint::from(1_u8)),
                (key().modulus.clone(), key().modulus),
            ] {
                assert!(!RsaKey { modulus, exponent }.has_signed(scheme, MESSAGE, &signature));
            }
        }

        #[test]
        fn tls_1_3_signs_with_pss_only() {
            let scheme = SignatureScheme::RSA_PKCS1_SHA256;
            assert!(RsaScheme::of(scheme, Version::Tls13).is_none());
        }
    }
}
