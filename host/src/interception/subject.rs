//! The subject of a certificate: a host, in the form in which it is signed and stored.
//!
//! Names are in lower case and without a final dot, addresses in their shortest form. There are no wildcards: a
//! certificate is valid for one host only. Its file is named after the host if that is safe; otherwise, if the name
//! could lead to another directory or collide with other files, after a digest.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::SanType;
use rustls::pki_types::{DnsName, ServerName};

/// The maximum length of a common name (RFC 5280 appendix A.1, ub-common-name).
const MAX_COMMON_NAME_LEN: usize = 64;

/// The host is neither a DNS name nor an address, so it cannot be in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate can be issued for the host {0:?}")]
pub struct SubjectInvalid(String);

/// A host that can be in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    host: Arc<str>,
    address: Option<IpAddr>,
}

impl Subject {
    /// Parses a host name or an address, which may have brackets.
    pub(super) fn of(host: &str) -> Result<Self, SubjectInvalid> {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self {
                host: address.to_string().into(),
                address: Some(address),
            });
        }
        let relative = host.strip_suffix('.').unwrap_or(host);
        // A name with two final dots would keep one.
        if relative.ends_with('.') || DnsName::try_from(relative).is_err() {
            return Err(SubjectInvalid(host.to_owned()));
        }
        Ok(Self {
            host: relative.to_ascii_lowercase().into(),
            address: None,
        })
    }

    /// The host in its canonical form.
    pub(super) fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// The host, if it is an address.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The name for a verifier.
    pub(super) fn server_name(&self) -> Result<ServerName<'static>, SubjectInvalid> {
        match self.address {
            Some(address) => Ok(ServerName::IpAddress(address.into())),
            None => ServerName::try_from(self.host.to_string())
                .map_err(|_| SubjectInvalid(self.host.to_string())),
        }
    }

    /// The common name, unless the host is too long for one. Only people read it.
    pub(super) fn common_name(&self) -> Option<&str> {
        (self.host.len() <= MAX_COMMON_NAME_LEN).then_some(&*self.host)
    }

    /// The single name of subjectAltName (RFC 5280 §4.2.1.6).
    pub(super) fn alt_name(&self) -> Result<SanType, rcgen::Error> {
        match self.address {
            Some(address) => Ok(SanType::IpAddress(address)),
            None => (*self.host).try_into().map(SanType::DnsName),
        }
    }

    /// The name of the file that stores the certificate.
    ///
    /// A host without a dot could collide with `ca-key.pem` and the like, so it uses a digest, too.
    pub(super) fn file_name(&self) -> String {
        // With `.pem` and without a path, it stays below the 255 bytes that file systems allow.
        let is_plain = self.host.len() <= 200
            && self.host.contains('.')
            && self
                .host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if is_plain || &*self.host == "localhost" {
            return format!("{}.pem", self.host);
        }
        let digest = digest(&SHA256, self.host.as_bytes());
        let mut name: String = digest.as_ref()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        name.push_str(".pem");
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form() {
        for (host, expected) in [
            ("example.com", "example.com"),
            ("WWW.Example.COM.", "www.example.com"),
            ("a_b.example", "a_b.example"),
            ("localhost", "localhost"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("[::1]", "::1"),
        ] {
            let subject = Subject::of(host).unwrap();
            assert_eq!(&**subject.host(), expected);
            assert!(subject.server_name().is_ok());
        }
    }

    #[test]
    fn hosts_unfit_for_certificates_are_refused() {
        let long_label = "a".repeat(64);
        let long_name = ["a"; 128].join(".");
        for host in [
            "",
            ".",
            "..",
            "a..",
            "*.example.com",
            "*",
            "a b",
            "a/../b",
            "../x",
            "a%2e",
            "exämple.com",
            "1.2.3",
            "fe80::1%eth0",
            "[a]",
            "a\0b",
            &long_label,
            &long_name,
        ] {
            assert!(Subject::of(host).is_err(), "{host}");
        }
    }

    #[test]
    fn files_are_named_after_hosts_if_that_is_safe() {
        for (host, expected) in [
            ("www.example.com", "www.example.com.pem"),
            ("192.0.2.1", "192.0.2.1.pem"),
            ("localhost", "localhost.pem"),
        ] {
            assert_eq!(Subject::of(host).unwrap().file_name(), expected);
        }
    }

    #[test]
    fn other_files_are_named_by_a_digest() {
        let label = "a".repeat(63);
        let long = [&label[..], &label, &label, "long.example"].join(".");
        let longer = [&label[..], &label, &label, "longer.example"].join(".");
        let names: Vec<_> = ["::1", "2001:db8::1", "ca-key", &long, &longer]
            .map(|host| Subject::of(host).unwrap().file_name())
            .into();
        for (number, name) in names.iter().enumerate() {
            assert_eq!(name.len(), 36, "{name}");
            assert!(!names[..number].contains(name), "{name}");
        }
        assert_eq!(Subject::of("[::1]").unwrap().file_name(), names[0]);
    }
}
