//! `host[:port]`, as it stands in URLs and configurations.

use crate::host::canonical_host;
use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

/// The longest host name, in bytes, without a final dot. Longer ones do not fit into the 255 bytes that a name may have
/// in DNS messages (RFC 1035 §2.3.4).
pub const MAX_HOST_NAME_LEN: usize = 253;

/// A host and its port, if one is written (RFC 3986 §3.2, without user information).
///
/// Displayed as `host:port`, with brackets around an IPv6 address.
///
/// ```
/// # use plugin_contract as plugin_api;
/// use plugin_api::Authority;
///
/// let server = Authority::parse("[2001:DB8::1]:8899")?;
/// assert_eq!((&*server.host, server.port), ("2001:db8::1", Some(8899)));
/// assert_eq!(Authority::parse("API.Example.com")?.port, None);
/// # Ok::<(), plugin_api::AuthorityInvalid>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority<'t> {
    /// In its [canonical form](canonical_host); an IPv6 address has no brackets.
    pub host: Cow<'t, str>,
    /// From 1 to 65535; `None` if no port is written, or an empty one, which means the same.
    pub port: Option<u16>,
}

/// The text is not `host[:port]`. Does not repeat the text, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorityInvalid {
    /// The host is neither a name of at most [`MAX_HOST_NAME_LEN`] bytes nor an address, or it is an IPv6 address without
    /// brackets.
    Host,
    /// The port is not a decimal number from 1 to 65535.
    Port,
}

impl<'t> Authority<'t> {
    /// Reads `host` or `host:port`. An IPv6 address must be in brackets, because its last part could be a port.
    ///
    /// # Errors
    /// The host or the port is invalid, or something else is written before, between or after them.
    pub fn parse(text: &'t str) -> Result<Self, AuthorityInvalid> {
        let (host, port) = split(text).ok_or(AuthorityInvalid::Host)?;
        let host = canonical_host(host)
            .ok()
            .filter(|host| host.len() <= MAX_HOST_NAME_LEN)
            .ok_or(AuthorityInvalid::Host)?;
        let port = match port {
            "" => None,
            digits => Some(decimal(digits).ok_or(AuthorityInvalid::Port)?),
        };
        Ok(Self { host, port })
    }
}

/// The texts of host and port; the latter is empty if it is missing.
fn split(text: &str) -> Option<(&str, &str)> {
    let host_len = match text.starts_with('[') {
        true => text.find(']')? + 1,
        false if text.parse::<Ipv6Addr>().is_ok() => return None,
        false => text.find(':').unwrap_or(text.len()),
    };
    match text.split_at(host_len) {
        (host, "") => Some((host, "")),
        (host, port) => Some((host, port.strip_prefix(':')?)),
    }
}

/// `parse` alone would accept a plus sign.
fn decimal(text: &str) -> Option<u16> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_decimal && *port != 0)
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for AuthorityInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "no valid host; write IPv6 addresses in brackets",
            Self::Port => "a port that is not a number from 1 to 65535",
        })
    }
}

impl std::error::Error for AuthorityInvalid {}

#[cfg(test)]
mod tests {
    use super::{Authority, AuthorityInvalid, MAX_HOST_NAME_LEN};

    #[test]
    fn reads_a_host_and_its_port() {
        for (text, host, port, shown) in [
            ("a.example", "a.example", None, "a.example"),
            ("A.Example.:80", "a.example", Some(80), "a.example:80"),
            ("a_b.c-d:65535", "a_b.c-d", Some(65535), "a_b.c-d:65535"),
            ("a:", "a", None, "a"),
            ("a:0080", "a", Some(80), "a:80"),
            ("127.0.0.1:1", "127.0.0.1", Some(1), "127.0.0.1:1"),
            ("[::1]", "::1", None, "[::1]"),
            (
                "[2001:DB8:0::1]:8",
                "2001:db8::1",
                Some(8),
                "[2001:db8::1]:8",
            ),
            ("[::ffff:192.0.2.1]:8", "192.0.2.1", Some(8), "192.0.2.1:8"),
        ] {
            let authority = Authority::parse(text).unwrap();
            assert_eq!((&*authority.host, authority.port), (host, port), "{text}");
            assert_eq!(authority.to_string(), shown);
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            ":80",
            "a b",
            "a/",
            "u@a",
            "a.1",
            "127.1:80",
            "[127.0.0.1]:80",
            "[a]:80",
            "[::1",
            "[::1]80",
            "::1",
            "::1:80",
            "2001:db8::1:80",
            "b\u{fc}cher.example",
        ] {
            let refused = Authority::parse(text);
            assert_eq!(refused, Err(AuthorityInvalid::Host), "{text}");
        }
        for text in [
            "a:0", "a:+1", "a:-1", "a: 1", "a:65536", "a:b", "a:1:2", "[::1]:x", "http://a",
        ] {
            let refused = Authority::parse(text);
            assert_eq!(refused, Err(AuthorityInvalid::Port), "{text}");
        }
    }

    #[test]
    fn a_name_is_as_long_as_the_dns_allows() {
        let longest = format!("{}{}", "a.".repeat(126), "b");
        assert_eq!(longest.len(), MAX_HOST_NAME_LEN);
        for text in [
            longest.clone(),
            format!("{longest}."),
            format!("{longest}:80"),
        ] {
            assert_eq!(Authority::parse(&text).unwrap().host, longest);
        }
        let longer = format!("a{longest}");
        assert_eq!(Authority::parse(&longer), Err(AuthorityInvalid::Host));
    }
}
