//! The address at which clients connect to a proxy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest name (RFC 1035 §2.3.4), in bytes.
const NAME_MAX: usize = 253;

/// Host and port of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddress {
    /// A name in lower case, or an IP address without brackets.
    host: String,
    /// Not 0.
    port: u16,
}

/// Why a text is not the address of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No host, or one that clients cannot resolve.
    #[error("has no host that clients can reach; write HOST:PORT, with IPv6 addresses in brackets")]
    HostInvalid,
    /// No port, or 0.
    #[error("has no port from 1 to 65535; write HOST:PORT, with IPv6 addresses in brackets")]
    PortInvalid,
}

impl ProxyAddress {
    /// `host` is a name, or an IP address without brackets.
    ///
    /// # Errors
    /// Clients cannot reach the host (such as an address with a zone), or the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        if port == 0 {
            return Err(AddressError::PortInvalid);
        }
        let host = match host.parse::<IpAddr>() {
            // In the canonical form, as browsers write it.
            Ok(ip) if !ip.is_unspecified() => ip.to_string(),
            Ok(_) => return Err(AddressError::HostInvalid),
            Err(_) => name(host).ok_or(AddressError::HostInvalid)?,
        };
        Ok(ProxyAddress { host, port })
    }

    /// The name in lower case, or the address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// The name in lower case, without the final dot. A name whose last label is a number is a mistyped address.
fn name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let ends_in_number = last.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = name.len() <= NAME_MAX && !ends_in_number && name.split('.').all(is_label);
    is_name.then_some(name)
}

impl FromStr for ProxyAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::PortInvalid)?;
        let is_decimal = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_decimal);
        let port = port.ok_or(AddressError::PortInvalid)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        match bracketed {
            Some(ip) if ip.parse::<Ipv6Addr>().is_ok() => Self::new(ip, port),
            // Without brackets, the last group of an IPv6 address would be taken for the port.
            None if !host.contains(':') => Self::new(host, port),
            _ => Err(AddressError::HostInvalid),
        }
    }
}

/// Formats the address as in a PAC file.
impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Whether only this machine can connect to `host`.
pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether a proxy on `host` listens on all addresses of this machine.
pub(super) fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>()
        .is_ok_and(|ip| ip.to_canonical() == Ipv4Addr::UNSPECIFIED || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        for (text, shown, host) in [
            ("Proxy.Example:8899", "proxy.example:8899", "proxy.example"),
            ("proxy_1.:1", "proxy_1:1", "proxy_1"),
            ("192.0.2.1:65535", "192.0.2.1:65535", "192.0.2.1"),
            ("[2001:DB8:0::1]:80", "[2001:db8::1]:80", "2001:db8::1"),
        ] {
            let address: ProxyAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.host(), host);
        }
    }

    #[test]
    fn unreachable_addresses_are_refused() {
        use AddressError::{HostInvalid, PortInvalid};
        let long = format!("{}:1", "a".repeat(254));
        for (text, error) in [
            ("", PortInvalid),
            ("proxy.example", PortInvalid),
            ("proxy.example:", PortInvalid),
            ("proxy.example:0", PortInvalid),
            ("proxy.example:65536", PortInvalid),
            ("proxy.example:+1", PortInvalid),
            ("[::1]", PortInvalid),
            (":1", HostInvalid),
            ("0.0.0.0:1", HostInvalid),
            ("[::]:1", HostInvalid),
            ("::1:8899", HostInvalid),
            ("[fe80::1%eth0]:1", HostInvalid),
            ("[proxy.example]:1", HostInvalid),
            ("http://proxy.example:1", HostInvalid),
            ("a;b:1", HostInvalid),
            ("a\"b:1", HostInvalid),
            ("a..b:1", HostInvalid),
            ("300.1.1.1:1", HostInvalid),
            (&long, HostInvalid),
        ] {
            assert_eq!(text.parse::<ProxyAddress>(), Err(error), "{text}");
        }
    }

    #[test]
    fn loopback_and_wildcards_are_recognised() {
        for host in [
            "localhost",
            "LOCALHOST",
            "::1",
            "127.1.2.3",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_loopback(host) && !is_wildcard(host), "{host}");
        }
        for host in ["::", "0.0.0.0", "::ffff:0.0.0.0"] {
            assert!(is_wildcard(host) && !is_loopback(host), "{host}");
        }
        for host in ["proxy.example", "192.0.2.1", "2001:db8::1"] {
            assert!(!is_wildcard(host) && !is_loopback(host), "{host}");
        }
    }
}
