//! Sets of hosts: names, domains, addresses and networks.
//!
//! Names are compared as DNS does, without regard to case and to a dot at the end. A name is never resolved: it is
//! in no network, whatever its address.

use plugin_api::Error;
use std::collections::HashSet;
use std::net::IpAddr;

/// Hosts by pattern.
pub(crate) struct HostSet {
    holds_all: bool,
    names: HashSet<String>,
    /// Domains whose names below them are meant, without the leading `*.`.
    domains: HashSet<String>,
    networks: Vec<Network>,
}

impl HostSet {
    /// The hosts that `patterns` mean; `key` is where they are written.
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
        let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
        let lower = pattern.to_ascii_lowercase();
        match lower.strip_prefix("*.") {
            Some(domain) if is_name(domain) => drop(self.domains.insert(domain.to_owned())),
            None if is_name(&lower) => drop(self.names.insert(lower)),
            _ => return None,
        }
        Some(())
    }

    /// Whether `host` is meant. The proxy gives hosts in lower case, IPv6 without brackets.
    pub(crate) fn contains(&self, host: &str) -> bool {
        if self.holds_all {
            return true;
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.networks.iter().any(|network| network.contains(ip));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        self.names.contains(host) || domains_of(host).any(|domain| self.domains.contains(domain))
    }
}

/// The domains that `host` is in, from the nearest up.
fn domains_of(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').map(|(dot, _)| &host[dot + 1..])
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    // What ends in a number would be an address, and this is none (WHATWG URL, "ends in a number").
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let last = text.rsplit('.').next().unwrap_or(text);
    !is_number(last) && !text.starts_with('.') && text.bytes().all(is_letter)
}

/// Addresses that begin alike.
struct Network {
    first: IpAddr,
    prefix_len: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (first, prefix_len) = match text.split_once('/') {
            Some((first, len)) => (first, Some(len.parse().ok()?)),
            None => (text, None),
        };
        let first = first.trim_start_matches('[').trim_end_matches(']');
        let first: IpAddr = first.parse().ok()?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix_len.unwrap_or(width);
        (prefix_len <= width).then_some(Self { first, prefix_len })
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
            "::1",
            "fc00::/7",
        ])
        .unwrap();
        for host in [
            "localhost",
            "localhost.",
            "a.local",
            "b.a.local",
            "10.255.0.1",
            "::ffff:10.0.0.1",
            "192.0.2.1",
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
    fn refuses_what_no_host_can_match() {
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
