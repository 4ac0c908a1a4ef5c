//! Encodes a certificate in the format that a client needs.

use super::certificate::Certificate;
use super::command::Format;
use super::mobileconfig;

/// Encodes `certificate` as `format`.
pub(super) fn encode(certificate: &Certificate, format: Format) -> Vec<u8> {
    match format {
        Format::Pem => certificate.pem().into_bytes(),
        Format::Der => certificate.der().to_vec(),
        Format::Mobileconfig => mobileconfig::of(certificate).into_bytes(),
    }
}
