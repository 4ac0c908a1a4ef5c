//! What a CA may sign, according to the certificates of its chain (RFC 5280 §4.2.1).
//!
//! A CA whose server certificates every client would refuse is reported at startup, rather than by each client. What
//! the chain does not show, such as a root that is not in the file, is assumed to permit everything.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::super::subject::Subject;
use super::{CertificateDer, KeyPairFault, malformed};

/// The hosts for which a CA may sign, by its name constraints and those above it; all, if there are none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PermittedHosts(Vec<NameConstraints>);

/// The name constraints of a certificate that concern hosts.
#[derive(Debug, Default, PartialEq, Eq)]
struct NameConstraints {
    permitted: Subtrees,
    excluded: Subtrees,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Subtrees {
    /// In lower case. With a leading dot: subdomains only.
    names: Vec<String>,
    /// Addresses and masks.
    networks: Vec<Network>,
}

#[derive(Debug, PartialEq, Eq)]
struct Network {
    /// 8 octets for IPv4, 32 for IPv6 (RFC 5280 §4.2.1.10).
    octets: Vec<u8>,
}

impl PermittedHosts {
    /// What the first certificate may sign; `chain` contains those above it.
    ///
    /// # Errors
    /// It may not sign for servers, or not at all.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Result<Self, KeyPairFault> {
        let parsed: Result<Vec<_>, _> = chain
            .iter()
            .map(|der| X509Certificate::from_der(der).map(|(_, parsed)| parsed))
            .collect();
        let parsed = parsed.map_err(malformed)?;
        let ca = parsed.first().ok_or(KeyPairFault::NoCertificate)?;
        check_may_sign(ca)?;
        let mut permitted_hosts = Self::default();
        permitted_hosts.limit_by(ca)?;
        let mut current = ca;
        // The number of CAs below, without self-issued ones.
        let mut below = 0;
        for _ in 1..parsed.len() {
            if current.subject().as_raw() == current.issuer().as_raw() {
                break;
            }
            below += 1;
            let mut issuers = parsed.iter().filter(|issuer| {
                issuer.subject().as_raw() == current.issuer().as_raw()
                    && issuer.raw_serial() != current.raw_serial()
            });
            let Some(first) = issuers.clone().next() else {
                break;
            };
            // A CA may have several certificates; clients accept any path to a trusted one.
            let issuer = issuers
                .find(|issuer| check_issuer(issuer, below).is_ok())
                .unwrap_or(first);
            check_issuer(issuer, below)?;
            permitted_hosts.limit_by(issuer)?;
            current = issuer;
        }
        match permitted_hosts.leaves_any_host() {
            true => Ok(permitted_hosts),
            false => Err(KeyPairFault::NoHostLeft),
        }
    }

    /// Whether a certificate for this host is permitted.
    pub(super) fn include(&self, subject: &Subject) -> bool {
        self.0.iter().all(|constraints| constraints.allow(subject))
    }

    /// Whether there are hosts for which it may not sign.
    pub(super) fn are_limited(&self) -> bool {
        !self.0.is_empty()
    }

    /// The limits as text, for the operator; `None` if there are none.
    pub(super) fn limits(&self) -> Option<String> {
        let words: Vec<_> = self
            .0
            .iter()
            .filter_map(NameConstraints::in_words)
            .collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    fn limit_by(&mut self, certificate: &X509Certificate<'_>) -> Result<(), KeyPairFault> {
        let Some(constraints) = certificate.name_constraints().map_err(malformed)? else {
            return Ok(());
        };
        let subtrees = |subtrees: &Option<Vec<GeneralSubtree<'_>>>| {
            Subtrees::of(subtrees.as_deref().unwrap_or_default())
        };
        self.0.push(NameConstraints {
            permitted: subtrees(&constraints.value.permitted_subtrees),
            excluded: subtrees(&constraints.value.excluded_subtrees),
        });
        Ok(())
    }

    /// Whether any name or address is still permitted.
    fn leaves_any_host(&self) -> bool {
        let has_names = self.0.iter().all(NameConstraints::leave_names);
        let has_addresses = self.0.iter().all(NameConstraints::leave_addresses);
        has_names || has_addresses
    }
}

impl NameConstraints {
    fn allow(&self, subject: &Subject) -> bool {
        match subject.address() {
            Some(address) => {
                let fits =
                    |networks: &[Network]| networks.iter().any(|network| network.has(address));
                let permitted = &self.permitted.networks;
                (permitted.is_empty() || fits(permitted)) && !fits(&self.excluded.networks)
            }
            None => {
                let fits =
                    |names: &[String]| names.iter().any(|name| is_within(name, subject.host()));
                let permitted = &self.permitted.names;
                (permitted.is_empty() || fits(permitted)) && !fits(&self.excluded.names)
            }
        }
    }

    fn leave_names(&self) -> bool {
        let is_excluded = |name: &str| {
            let mut excluded = self.excluded.names.iter();
            excluded.any(|excluded| is_within(excluded, name.trim_start_matches('.')))
        };
        let is_everything = |name: &&String| name.trim_start_matches('.').is_empty();
        if self.excluded.names.iter().any(|name| is_everything(&name)) {
            return false;
        }
        let permitted = &self.permitted.names;
        permitted.is_empty() || permitted.iter().any(|name| !is_excluded(name))
    }

    fn leave_addresses(&self) -> bool {
        let excludes_all = |len: usize| {
            let mut excluded = self.excluded.networks.iter();
            excluded.any(|network| network.octets.len() == len && network.is_everything())
        };
        let permitted = &self.permitted.networks;
        let permits = |len: usize| {
            permitted.is_empty() || permitted.iter().any(|network| network.octets.len() == len)
        };
        [8, 32]
            .into_iter()
            .any(|len| permits(len) && !excludes_all(len))
    }

    fn in_words(&self) -> Option<String> {
        let list = |word: &str, subtrees: &Subtrees| {
            let names = subtrees.names.iter().map(|name| format!("{name:?}"));
            let networks = subtrees.networks.iter().map(|network| network.to_string());
            let all: Vec<_> = names.chain(networks).collect();
            (!all.is_empty()).then(|| format!("{word} {}", all.join(", ")))
        };
        let words: Vec<_> = [list("only", &self.permitted), list("not", &self.excluded)]
            .into_iter()
            .flatten()
            .collect();
        (!words.is_empty()).then(|| words.join(" and "))
    }
}

impl Subtrees {
    fn of(subtrees: &[GeneralSubtree<'_>]) -> Self {
        let mut found = Self::default();
        for subtree in subtrees {
            match subtree.base {
                GeneralName::DNSName(name) => found.names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(octets) if matches!(octets.len(), 8 | 32) => {
                    let octets = octets.to_vec();
                    found.networks.push(Network { octets });
                }
                // Mailboxes, directory names and others, which are not hosts.
                _ => {}
            }
        }
        found
    }
}

impl Network {
    fn has(&self, address: IpAddr) -> bool {
        let (network, mask) = self.octets.split_at(self.octets.len() / 2);
        let has = |address: &[u8]| {
            address.len() == mask.len()
                && (0..mask.len()).all(|place| (address[place] ^ network[place]) & mask[place] == 0)
        };
        match address {
            IpAddr::V4(address) => has(&address.octets()),
            IpAddr::V6(address) => has(&address.octets()),
        }
    }

    fn is_everything(&self) -> bool {
        let mask = &self.octets[self.octets.len() / 2..];
        mask.iter().all(|octet| *octet == 0)
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (network, mask) = self.octets.split_at(self.octets.len() / 2);
        let prefix: u32 = mask.iter().map(|octet| octet.count_ones()).sum();
        let four = <[u8; 4]>::try_from(network).map(IpAddr::from);
        let sixteen = <[u8; 16]>::try_from(network).map(IpAddr::from);
        match four.or(sixteen) {
            Ok(address) => write!(f, "{address}/{prefix}"),
            Err(_) => f.write_str("an unknown network"),
        }
    }
}

/// Whether `host` is at or below `name`; only below if `name` begins with a dot. Everything is below the empty name.
fn is_within(name: &str, host: &str) -> bool {
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => {
            name.is_empty()
                || host == name
                || host
                    .strip_suffix(name)
                    .is_some_and(|before| before.ends_with('.'))
        }
    }
}

/// Checks that this CA may sign server certificates.
fn check_may_sign(certificate: &X509Certificate<'_>) -> Result<(), KeyPairFault> {
    let is_ca = certificate
        .basic_constraints()
        .map_err(malformed)?
        .is_some_and(|constraints| constraints.value.ca);
    if !is_ca {
        return Err(KeyPairFault::NotACa);
    }
    match certificate.key_usage().map_err(malformed)? {
        Some(usage) if !usage.value.key_cert_sign() => return Err(KeyPairFault::MayNotSign),
        _ => {}
    }
    match is_for_servers(certificate)? {
        true => Ok(()),
        false => Err(KeyPairFault::NotForServers),
    }
}

fn is_for_servers(certificate: &X509Certificate<'_>) -> Result<bool, KeyPairFault> {
    let usage = certificate.extended_key_usage().map_err(malformed)?;
    Ok(usage.is_none_or(|usage| usage.value.server_auth || usage.value.any))
}

/// Checks that `issuer` permits this many CAs below it, including the signing one.
fn check_issuer(issuer: &X509Certificate<'_>, below: u32) -> Result<(), KeyPairFault> {
    let name = || issuer.subject().to_string();
    let Some(constraints) = issuer.basic_constraints().map_err(malformed)? else {
        // A root of version 1 has none of these extensions, and may be trusted nevertheless.
        return match issuer.version() == X509Version::V3 {
            true => Err(KeyPairFault::IssuerMayNotSign(name())),
            false => Ok(()),
        };
    };
    let usage = issuer.key_usage().map_err(malformed)?;
    if !constraints.value.ca || usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(KeyPairFault::IssuerMayNotSign(name()));
    }
    if let Some(allowed) = constraints.value.path_len_constraint
        && allowed < below
    {
        return Err(KeyPairFault::PathTooLong {
            issuer: name(),
            allowed,
            below,
        });
    }
    match is_for_servers(issuer)? {
        true => Ok(()),
        false => Err(KeyPairFault::IssuerNotForServers(name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subtrees(names: &[&str], networks: &[&[u8]]) -> Subtrees {
        Subtrees {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            networks: networks
                .iter()
                .map(|octets| Network {
                    octets: octets.to_vec(),
                })
                .collect(),
        }
    }

    fn permitted_hosts(permitted: Subtrees, excluded: Subtrees) -> PermittedHosts {
        PermittedHosts(vec![NameConstraints {
            permitted,
            excluded,
        }])
    }

    fn include(permitted_hosts: &PermittedHosts, host: &str) -> bool {
        permitted_hosts.include(&Subject::of(host).unwrap())
    }

    #[test]
    fn hosts_must_be_permitted_and_not_excluded() {
        let names = permitted_hosts(
            subtrees(&["corp.test", ".lab.test"], &[]),
            subtrees(&["secret.corp.test"], &[]),
        );
        for (host, expected) in [
            ("corp.test", true),
            ("a.corp.test", true),
            ("xcorp.test", false),
            ("lab.test", false),
            ("a.lab.test", true),
            ("secret.corp.test", false),
            ("a.secret.corp.test", false),
            ("example.com", false),
            // Addresses are not constrained.
            ("192.0.2.1", true),
        ] {
            assert_eq!(include(&names, host), expected, "{host}");
        }
        let networks = permitted_hosts(
            subtrees(&[], &[b"\x0a\0\0\0\xff\0\0\0"]),
            Subtrees::default(),
        );
        for (host, expected) in [
            ("10.1.2.3", true),
            ("11.1.2.3", false),
            ("::1", false),
            ("a.test", true),
        ] {
            assert_eq!(include(&networks, host), expected, "{host}");
        }
        assert_eq!(
            names.limits().unwrap(),
            r#"only "corp.test", ".lab.test" and not "secret.corp.test""#
        );
        assert_eq!(networks.limits().unwrap(), "only 10.0.0.0/8");
        assert_eq!(PermittedHosts::default().limits(), None);
    }

    #[test]
    fn constraints_that_permit_no_host_are_recognised() {
        let everywhere: [&[u8]; 2] = [&[0; 8], &[0; 32]];
        for (permitted, excluded, expected) in [
            (subtrees(&[], &[]), subtrees(&[], &[]), true),
            (subtrees(&[], &[]), subtrees(&[""], &everywhere), false),
            (subtrees(&[], &[]), subtrees(&["."], &everywhere), false),
            (subtrees(&[], &[]), subtrees(&[""], &[]), true),
            (subtrees(&[], &[]), subtrees(&["a.test"], &everywhere), true),
            (
                subtrees(&["a.test"], &[]),
                subtrees(&["test"], &everywhere),
                false,
            ),
            (
                subtrees(&["test"], &[]),
                subtrees(&["a.test"], &everywhere),
                true,
            ),
        ] {
            let permitted_hosts = permitted_hosts(permitted, excluded);
            assert_eq!(
                permitted_hosts.leaves_any_host(),
                expected,
                "{permitted_hosts:?}"
            );
        }
    }
}
