//! Sets of hosts: names, domains, addresses and networks.
//!
//! Names are compared as in DNS, ignoring case and a final dot. A name is never resolved: it is in no network, whatever
//! its address.

use plugin_api::{Error, canonical_address, canonical_host};
use std::collections::HashSet;
use std::net::IpAddr;

/// Hosts by pattern.
pub(crate) struct HostSet {
    holds_all: bool,
    names: HashSet<String>,
    /// Domains whose subdomains match, without the leading `*.`.
    domains: HashSet<String>,
    networks: Vec<Network>,
}

impl HostSet {
    /// The hosts that match `patterns`; `key` is their key in the configuration.
    ///
    /// # Errors
    /// A pattern that no host can match.
    pub(crate) fn new(key: &str, patterns: &[String]) -> Result<Self, Error> {
        let mut set = Self {
            holds_all: false,
            names: HashSet::new(),
            domains: HashSet::new(),
            networks: Vec::new(),
        };
        for pattern in patterns {
            set.add(pattern).ok_or_else(|| {
                Error::new(format!(
                    "{key}: `{pattern}` is not a name, `*.domain`, address or network"
                ))
            })?;
        }
        Ok(set)
    }

    fn add(&mut self, pattern: &str) -> Option<()> {
        if let Some(network) = Network::parse(pattern) {
            self.networks.push(network);
            return Some(());
        }
        if pattern == "*" {
            self.holds_all = true;
            return Some(());
        }
        let (domain, is_below) = match pattern.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (pattern, false),
        };
        let name = canonical_host(domain).ok()?.into_owned();
        // A single address is a network, which has been parsed already.
        if name.parse::<IpAddr>().is_ok() {
            return None;
        }
        match is_below {
            true => self.domains.insert(name),
            false => self.names.insert(name),
        };
        Some(())
    }

    /// Whether `host`, in its canonical form, matches.
    pub(crate) fn contains(&self, host: &str) -> bool {
        if self.holds_all {
            return true;
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.networks.iter().any(|network| network.contains(ip));
        }
        self.names.contains(host) || domains_of(host).any(|domain| self.domains.contains(domain))
    }
}

/// The domains that contain `host`, the nearest first.
fn domains_of(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').map(|(dot, _)| &host[dot + 1..])
}

/// Addresses with a common prefix.
struct Network {
    first: IpAddr,
    prefix_len: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (first, prefix_len) = match text.split_once('/') {
            Some((first, len)) => (first, Some(len.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let first = first.trim_start_matches('[').trim_end_matches(']');
        let first: IpAddr = first.parse().ok()?;
        let width: u32 = if first.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix_len.unwrap_or(width);
        match (first.to_canonical(), prefix_len.checked_sub(96)) {
            _ if prefix_len > width => None,
            _ if prefix_len == width => Some(Self::of(canonical_address(first))),
            // A part of the IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2).
            (v4 @ IpAddr::V4(_), Some(prefix_len)) if width == 128 => Some(Self {
                first: v4,
                prefix_len,
            }),
            _ => Some(Self { first, prefix_len }),
        }
    }

    /// The network of a single address.
    fn of(first: IpAddr) -> Self {
        let prefix_len = if first.is_ipv4() { 32 } else { 128 };
        Self { first, prefix_len }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match (self.first, ip.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                let differing = u32::from(first) ^ u32::from(ip);
                differing.leading_zeros() >= self.prefix_len
            }
            (IpAddr::V6(first), IpAddr::V6(ip)) => {
                let differing = u128::from(first) ^ u128::from(ip);
                differing.leading_zeros() >= self.prefix_len
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HostSet;
    use plugin_api::Error;

    fn set(patterns: &[&str]) -> Result<HostSet, Error> {
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        HostSet::new("bypass", &patterns)
    }

    #[test]
    fn matches_names_domains_addresses_and_networks() {
        let hosts = set(&[
            "localhost",
            "*.Local",
            "10.0.0.0/8",
            "192.0.2.1",
            "::ffff:c633:6401",
            "::ffff:203.0.113.0/120",
            "::1",
            "fc00::/7",
        ])
        .unwrap();
        for host in [
            "localhost",
            "a.local",
            "b.a.local",
            "10.255.0.1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.9",
            "::1",
            "fdff::1",
        ] {
            assert!(hosts.contains(host), "{host}");
        }
        for host in [
            "local",
            "alocal",
            "a.localhost",
            "11.0.0.1",
            "192.0.2.2",
            "::2",
            "fe00::1",
            "",
            ".",
        ] {
            assert!(!hosts.contains(host), "{host}");
        }
    }

    #[test]
    fn a_star_matches_everything_and_a_network_may_be_everything() {
        assert!(set(&["*"]).unwrap().contains("a.example"));
        assert!(set(&["0.0.0.0/0"]).unwrap().contains("192.0.2.1"));
        assert!(!set(&["0.0.0.0/0"]).unwrap().contains("a.example"));
    }

    #[test]
    fn refuses_patterns_that_match_no_host() {
        for pattern in [
            "",
            "*.",
            "a b",
            "http://a",
            "a*.example",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "10.0.0/8",
            "10.0.0.256",
            "::1/129",
        ] {
            assert!(set(&[pattern]).is_err(), "{pattern}");
        }
    }
}
