//! Which hosts are on a list.
//!
//! Names are compared as DNS does: without regard to case, and with or without the dot at the end.

use plugin_api::Error;
use std::borrow::Cow;
use std::collections::HashSet;
use std::net::Ipv6Addr;

/// Hosts, looked up by name or address.
pub(crate) struct HostList {
    hosts: HashSet<String>,
}

impl HostList {
    /// A list of `hosts`.
    ///
    /// # Errors
    /// An entry that no host can equal, such as one with a port.
    pub(crate) fn new(hosts: &[String]) -> Result<Self, Error> {
        let checked = hosts.iter().map(|host| match is_host(bare(host)) {
            true => Ok(normal(host).into_owned()),
            false => Err(Error::new(format!("hosts: `{host}` is not a host name"))),
        });
        Ok(Self {
            hosts: checked.collect::<Result<_, _>>()?,
        })
    }

    /// Whether `host` is on the list.
    pub(crate) fn contains(&self, host: &str) -> bool {
        self.hosts.contains(&*normal(host))
    }
}

/// Lower case, without brackets and the dot at the end.
fn normal(host: &str) -> Cow<'_, str> {
    let host = bare(host);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

fn bare(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn is_host(host: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !host.is_empty() && host.bytes().all(is_letter);
    is_name || host.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::HostList;

    fn list(hosts: &[&str]) -> Result<HostList, plugin_api::Error> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        HostList::new(&hosts)
    }

    #[test]
    fn compares_names_as_dns_does() {
        let hosts = list(&["Google.com", "example.org.", "[::1]", "192.0.2.1"]).unwrap();
        for host in [
            "google.com",
            "GOOGLE.COM.",
            "example.org",
            "example.org.",
            "::1",
            "192.0.2.1",
        ] {
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
    fn refuses_what_no_host_can_equal() {
        for entry in [
            "",
            ".",
            "a.example:80",
            "http://a/",
            "a b",
            "*.example",
            "bücher.example",
        ] {
            assert!(list(&[entry]).is_err(), "{entry}");
        }
    }
}
