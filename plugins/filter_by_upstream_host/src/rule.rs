//! A list of hosts.
//!
//! Hosts are compared in their canonical form, as the proxy provides them.

use plugin_api::{Error, canonical_host};
use std::borrow::Cow;
use std::collections::HashSet;

/// Hosts, looked up by name or address.
pub(crate) struct HostList {
    hosts: HashSet<String>,
}

impl HostList {
    /// A list of `hosts`.
    ///
    /// # Errors
    /// An entry that is not a host, such as one with a port.
    pub(crate) fn new(hosts: &[String]) -> Result<Self, Error> {
        let checked = hosts.iter().map(|host| {
            canonical_host(host)
                .map(Cow::into_owned)
                .map_err(|_| Error::new(format!("hosts: `{host}` is not a host name")))
        });
        Ok(Self {
            hosts: checked.collect::<Result<_, _>>()?,
        })
    }

    /// Whether `host` is on the list.
    pub(crate) fn contains(&self, host: &str) -> bool {
        self.hosts.contains(host)
    }
}

#[cfg(test)]
mod tests {
    use super::HostList;

    fn list(hosts: &[&str]) -> Result<HostList, plugin_api::Error> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        HostList::new(&hosts)
    }

    #[test]
    fn an_entry_may_have_any_spelling() {
        let hosts = list(&["Google.com", "example.org.", "[::1]", "::ffff:c000:201"]).unwrap();
        for host in ["google.com", "example.org", "::1", "192.0.2.1"] {
            assert!(hosts.contains(host), "{host}");
        }
        for host in [
            "",
            ".",
            "www.google.com",
            "google.com..",
            "google.co",
            "::2",
        ] {
            assert!(!hosts.contains(host), "{host}");
        }
    }

    #[test]
    fn refuses_patterns_that_no_host_matches() {
        for entry in [
            "",
            ".",
            "a.example:80",
            "http://a/",
            "a b",
            "*.example",
            "bücher.example",
            "127.1",
            "a..b",
        ] {
            assert!(list(&[entry]).is_err(), "{entry}");
        }
    }
}
