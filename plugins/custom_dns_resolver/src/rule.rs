//! The table of addresses by name.
//!
//! Names are compared as in DNS, ignoring case and a final dot. An exact name takes precedence over `*.domain`, a
//! nearer domain over those above it.

use plugin_api::{Error, canonical_host};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

/// Addresses by name.
#[derive(Default)]
pub(crate) struct NameTable {
    names: HashMap<String, Vec<IpAddr>>,
    /// By the domain after `*.`; empty for `*`.
    domains: HashMap<String, Vec<IpAddr>>,
}

impl NameTable {
    /// The table in the configuration.
    ///
    /// # Errors
    /// An invalid name, a name without addresses, or a duplicate name.
    pub(crate) fn new(hosts: HashMap<String, Vec<IpAddr>>) -> Result<Self, Error> {
        let mut table = Self::default();
        for (pattern, addresses) in hosts {
            let refused = |reason| Error::new(format!("hosts: `{pattern}` {reason}"));
            if addresses.is_empty() {
                return Err(refused("has no address"));
            }
            let slot = table
                .slot(&pattern)
                .ok_or_else(|| refused("is neither a name nor `*.domain`"))?;
            match slot {
                Entry::Vacant(slot) => slot.insert(addresses),
                Entry::Occupied(_) => return Err(refused("is listed twice")),
            };
        }
        Ok(table)
    }

    /// Adds an address of a name from a hosts file; returns whether the name is valid.
    pub(crate) fn add(&mut self, name: &str, address: IpAddr) -> bool {
        let Some(name) = name_of(name) else {
            return false;
        };
        let addresses = self.names.entry(name).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        true
    }

    /// The addresses of `host`, in its canonical form; none if it is not in the table.
    pub(crate) fn addresses(&self, host: &str) -> Option<&[IpAddr]> {
        let domains = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
        let found = self.names.get(host).or_else(|| {
            let mut domains = domains.chain([""]);
            domains.find_map(|domain| self.domains.get(domain))
        });
        found.map(Vec::as_slice)
    }

    fn slot(&mut self, pattern: &str) -> Option<Entry<'_, String, Vec<IpAddr>>> {
        if pattern == "*" {
            return Some(self.domains.entry(String::new()));
        }
        match pattern.strip_prefix("*.") {
            Some(domain) => Some(self.domains.entry(name_of(domain)?)),
            None => Some(self.names.entry(name_of(pattern)?)),
        }
    }
}

/// The addresses that a socket bound to `source` can connect to. If there are none, all of them, so that the connection
/// error shows the reason.
pub(crate) fn reachable_from(source: IpAddr, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let is_alike = |address: &&IpAddr| address.is_ipv4() == source.is_ipv4();
    let alike: Vec<IpAddr> = addresses.iter().filter(is_alike).copied().collect();
    if alike.is_empty() {
        addresses.to_vec()
    } else {
        alike
    }
}

/// The canonical form of a name. Addresses are not names, because they are not resolved.
fn name_of(text: &str) -> Option<String> {
    let name = canonical_host(text).ok()?;
    name.parse::<IpAddr>().is_err().then(|| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::{NameTable, reachable_from};
    use plugin_api::Error;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn v4(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn table(names: &[&str]) -> Result<NameTable, Error> {
        let numbered = names.iter().zip(1..);
        NameTable::new(
            numbered
                .map(|(name, last)| ((*name).to_owned(), vec![v4(last)]))
                .collect(),
        )
    }

    #[test]
    fn the_most_specific_pattern_applies() {
        let table = table(&["a.dev.example", "*.dev.example", "*.Example.", "*"]).unwrap();
        for (host, last) in [
            ("a.dev.example", 1),
            ("b.dev.example", 2),
            ("c.b.dev.example", 2),
            ("x.a.dev.example", 2),
            ("dev.example", 3),
            ("example", 4),
            ("xdev.example", 3),
            ("other", 4),
        ] {
            assert_eq!(table.addresses(host), Some(&[v4(last)][..]), "{host}");
        }
    }

    #[test]
    fn an_unlisted_name_has_no_addresses() {
        let table = table(&["a.example", "*.b.example"]).unwrap();
        for host in ["b.example", "x.a.example", "example", "", "."] {
            assert_eq!(table.addresses(host), None, "{host}");
        }
    }

    #[test]
    fn addresses_of_a_file_accumulate() {
        let mut table = NameTable::default();
        assert!(table.add("A.example", v4(1)));
        assert!(table.add("a.example.", V6));
        assert!(table.add("a.example", v4(1)));
        assert!(!table.add("*.example", v4(1)));
        assert_eq!(table.addresses("a.example"), Some(&[v4(1), V6][..]));
    }

    #[test]
    fn refuses_invalid_hosts() {
        for name in [
            "",
            ".",
            "*.",
            "a b",
            "http://a",
            "a.*.b",
            "127.0.0.1",
            "::1",
            "a..b",
            "*.127.0.0.1",
        ] {
            assert!(table(&[name]).is_err(), "{name}");
        }
        assert!(table(&["a", "A."]).is_err(), "the same name twice");
    }

    #[test]
    fn a_source_reaches_its_own_family() {
        assert_eq!(reachable_from(v4(9), &[V6, v4(1)]), [v4(1)]);
        assert_eq!(reachable_from(V6, &[V6, v4(1)]), [V6]);
        assert_eq!(reachable_from(v4(9), &[V6]), [V6]);
    }
}
