//! Creates keys and certificates.
//!
//! Keys are ECDSA P-256: every client supports it, and signing takes microseconds. Certificates are valid from
//! yesterday, for clients whose clocks are slow. Nothing here accesses files.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, date_time_ymd,
};

use super::name::HostName;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate and its private key, both as PEM.
pub(super) struct PemPair {
    pub(super) certificate: String,
    /// PKCS#8.
    pub(super) key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// A name does not fit, or the key cannot sign.
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    /// What is to sign it is no CA.
    #[error("the certificate of the CA cannot be used ({0}); create one with `proxy ca init`")]
    Ca(rcgen::Error),
    /// The CA has no usable key.
    #[error("the private key of the CA cannot be used ({0}); create one with `proxy ca init`")]
    CaKey(rcgen::Error),
    /// The certificate has no usable key.
    #[error("the private key cannot be used ({0}); create one with `proxy ca self-signed`")]
    Key(rcgen::Error),
    /// The system provides no random numbers.
    #[error("no random numbers available")]
    Randomness,
}

/// A new private key in PEM (PKCS#8).
pub(super) fn key() -> Result<String, MakeError> {
    Ok(generate()?.serialize_pem())
}

/// A CA called `name`, which may sign server certificates but no further CA (RFC 5280 §4.2.1).
pub(super) fn ca(name: &str, days: u16) -> Result<PemPair, MakeError> {
    let mut params = valid_for(days)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    sign_itself(&params)
}

/// A self-signed server certificate for `hosts`: whoever trusts it trusts this server and nothing else.
pub(super) fn self_signed(hosts: &[HostName], days: u16) -> Result<PemPair, MakeError> {
    sign_itself(&server(hosts, days)?)
}

/// A server certificate for `hosts` and an existing key, signed by a CA; all three are PEM.
pub(super) fn signed(
    hosts: &[HostName],
    days: u16,
    key: &str,
    ca: &str,
    ca_key: &str,
) -> Result<String, MakeError> {
    let mut params = server(hosts, days)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let ca_key = KeyPair::from_pem(ca_key).map_err(MakeError::CaKey)?;
    let issuer = Issuer::from_ca_cert_pem(ca, ca_key).map_err(MakeError::Ca)?;
    let key = KeyPair::from_pem(key).map_err(MakeError::Key)?;
    Ok(params.signed_by(&key, &issuer)?.pem())
}

fn server(hosts: &[HostName], days: u16) -> Result<CertificateParams, MakeError> {
    let mut params = valid_for(days)?;
    if let Some(name) = hosts.iter().find(|host| host.as_str().len() <= 64) {
        let name = name.as_str();
        params.distinguished_name.push(DnType::CommonName, name);
    }
    for host in hosts {
        params.subject_alt_names.push(match host.ip() {
            Some(ip) => SanType::IpAddress(ip),
            None => SanType::DnsName(host.as_str().try_into()?),
        });
    }
    // No key usage: OpenSSL 1.1 does not accept a self-signed certificate without keyCertSign, and others refuse one
    // with keyCertSign that is not a CA.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    Ok(params)
}

fn valid_for(days: u16) -> Result<CertificateParams, MakeError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let at = |since_1970: Duration| date_time_ymd(1970, 1, 1) + since_1970;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = at(Duration::from_secs(now.as_secs()).saturating_sub(DAY));
    params.not_after = at(Duration::from_secs(now.as_secs()) + DAY * u32::from(days));
    params.serial_number = Some(serial_number()?);
    Ok(params)
}

/// Positive, 16 bytes, 126 of its bits random: Firefox refuses a second certificate with the same issuer and number.
fn serial_number() -> Result<SerialNumber, MakeError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| MakeError::Randomness)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn generate() -> Result<KeyPair, MakeError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn sign_itself(params: &CertificateParams) -> Result<PemPair, MakeError> {
    let key = generate()?;
    Ok(PemPair {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::certificate::Certificate;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use std::sync::Arc;
    use x509_parser::prelude::{FromDer, X509Certificate};

    fn der(made: &PemPair) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()
    }

    fn hosts(names: &[&str]) -> Vec<HostName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn is_accepted(leaf: &CertificateDer<'_>, root: CertificateDer<'static>, host: &str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let host = ServerName::try_from(host).unwrap();
        verifier
            .verify_server_cert(leaf, &[], &host, &[], UnixTime::now())
            .is_ok()
    }

    #[test]
    fn a_ca_may_sign_certificates_and_nothing_else() {
        let made = ca("proxy CA here", 3650).unwrap();
        let der = der(&made);
        let (rest, parsed) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = parsed.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert_eq!(usage.value.flags.count_ones(), 2);
        let has_key_id = parsed
            .iter_extensions()
            .any(|extension| extension.oid.to_id_string() == "2.5.29.14");
        assert!(has_key_id);
        assert_eq!(parsed.subject(), parsed.issuer());
        assert_eq!(parsed.subject().to_string(), "CN=proxy CA here");
        let days = (parsed.validity().not_after.timestamp()
            - parsed.validity().not_before.timestamp())
            / 86400;
        assert_eq!(days, 3651);
    }

    #[test]
    fn a_leaf_of_the_ca_is_accepted() {
        let made = ca("proxy CA here", 10).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "proxy CA here");
        let issuer = Issuer::new(params, KeyPair::from_pem(&made.key).unwrap());
        let leaf = CertificateParams::new(["example.com".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&generate().unwrap(), &issuer).unwrap();
        assert!(is_accepted(leaf.der(), der(&made), "example.com"));
        assert!(!is_accepted(leaf.der(), der(&made), "example.org"));
    }

    #[test]
    fn a_self_signed_certificate_is_accepted_for_its_hosts_only() {
        let made = self_signed(
            &hosts(&["localhost", "127.0.0.1", "::1", "*.lan.example"]),
            1,
        )
        .unwrap();
        for host in ["localhost", "127.0.0.1", "::1", "a.lan.example"] {
            assert!(is_accepted(&der(&made), der(&made), host), "{host}");
        }
        for host in ["example.com", "127.0.0.2", "lan.example"] {
            assert!(!is_accepted(&der(&made), der(&made), host), "{host}");
        }
    }

    #[test]
    fn a_self_signed_certificate_cannot_sign_others() {
        let made = self_signed(&hosts(&["localhost"]), 1).unwrap();
        let der = der(&made);
        let certificate = Certificate::from_der(&der).unwrap();
        assert!(certificate.to_string().contains("not a CA"));
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let constraints = parsed
            .iter_extensions()
            .find(|extension| extension.oid.to_id_string() == "2.5.29.19")
            .unwrap();
        assert!(constraints.critical);
        // DER omits the default FALSE.
        assert_eq!(constraints.value, [0x30, 0]);
    }

    #[test]
    fn a_host_name_may_be_longer_than_a_common_name() {
        let long = format!("{}.example.com", "a".repeat(60));
        let made = self_signed(&hosts(&[&long]), 1).unwrap();
        assert!(is_accepted(&der(&made), der(&made), &long));
    }

    #[test]
    fn keys_belong_to_their_certificates_and_are_new_every_time() {
        let (first, second) = (ca("same", 1).unwrap(), ca("same", 1).unwrap());
        for made in [&first, &second] {
            let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
            let pair = rustls::sign::CertifiedKey::new(vec![der(made)], key);
            pair.keys_match().unwrap();
        }
        assert_ne!(first.key, second.key);
        let [a, b] = [&first, &second].map(|made| {
            let der = der(made);
            let (_, parsed) = X509Certificate::from_der(&der).unwrap();
            parsed.raw_serial().to_vec()
        });
        assert_ne!(a, b);
        assert_eq!(a.len(), 16);
        assert!(a[0] & 0x80 == 0);
    }

    #[test]
    fn the_longest_validity_can_be_written() {
        assert!(ca("old", 36500).is_ok());
    }
}
