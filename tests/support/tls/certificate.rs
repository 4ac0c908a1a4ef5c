//! A certificate as a peer received it, parsed by another implementation than the proxy's.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The contents of an end certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Its names; IP addresses as text.
    pub(crate) names: Vec<String>,
    /// Its IP addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Subject and issuer, as bytes: names are compared in their encoding.
    pub(crate) subject: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    /// The validity, from its first to its last second.
    pub(crate) lifetime: Duration,
    /// The encoded serial number.
    pub(crate) serial: Vec<u8>,
    /// Whether it may sign others.
    pub(crate) is_ca: bool,
}

impl Shown {
    /// Reads a file of PEM.
    pub(crate) fn of_file(path: &Path) -> Shown {
        Shown::of(&CertificateDer::from_pem_file(path).expect("a certificate in PEM"))
    }

    /// Reads `der`.
    pub(crate) fn of(der: &[u8]) -> Shown {
        let (_, certificate) = X509Certificate::from_der(der).expect("a certificate in DER");
        let mut names = Vec::new();
        let mut addresses = Vec::new();
        let alternatives = certificate
            .subject_alternative_name()
            .expect("at most one list of names");
        for name in alternatives
            .iter()
            .flat_map(|list| &list.value.general_names)
        {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let address = address_of(bytes);
                    names.push(address.to_string());
                    addresses.push(address);
                }
                other => names.push(format!("{other:?}")),
            }
        }
        let validity = certificate.validity();
        let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
        Shown {
            names,
            addresses,
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            lifetime: Duration::from_secs(u64::try_from(seconds).expect("an end after the start")),
            serial: certificate.raw_serial().to_vec(),
            is_ca: certificate.is_ca(),
        }
    }
}

fn address_of(bytes: &[u8]) -> IpAddr {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or(sixteen).expect("four or sixteen bytes")
}
