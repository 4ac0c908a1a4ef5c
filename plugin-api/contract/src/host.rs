//! The canonical form of a host, in which filters, lists and caches compare hosts.
//!
//! The proxy converts every host of a request to this form before a plugin sees it. A plugin has to convert hosts from
//! other sources, such as its configuration. Nothing is resolved here: a name and its address are different hosts.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The text is not a host: it is neither a name nor an address, or resolvers would interpret it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostInvalid;

impl fmt::Display for HostInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither a host name nor an address")
    }
}

impl std::error::Error for HostInvalid {}

/// The canonical form of a host, without a port: two texts that name the same host have the same canonical form.
///
/// | in | out |
/// |---|---|
/// | a name in any case, with or without one final dot | lower case, no final dot |
/// | IPv4, four decimal numbers | as it is; `0.0.0.0` is `127.0.0.1`, where a connection to it leads |
/// | IPv6 in any spelling, with or without brackets | RFC 5952, no brackets; `::` is `::1` |
/// | IPv4 inside IPv6 (`::ffff:192.0.2.1`, `::ffff:c000:201`) | that IPv4 address, which is what is connected to |
///
/// The deprecated form `::192.0.2.1` (RFC 4291 §2.5.5.1) stays IPv6: no system connects it to IPv4. Text that is
/// canonical already is borrowed, so checking it allocates nothing.
///
/// ```
/// # use plugin_contract as plugin_api;
/// use plugin_api::canonical_host;
///
/// assert_eq!(canonical_host("API.Example.com.")?, "api.example.com");
/// assert_eq!(canonical_host("[::FFFF:7f00:1]")?, "127.0.0.1");
/// assert!(canonical_host("127.1").is_err() && canonical_host("a.example:80").is_err());
/// # Ok::<(), plugin_api::HostInvalid>(())
/// ```
/// # Errors
/// All other texts, which the proxy refuses in requests as well: an empty text or label, a port, user information,
/// spaces, percent-encoding, zones, numbers that some resolver takes for an address (`127.1`, `0x7f000001`,
/// `0177.0.0.1`), and names that are not ASCII (write those as `xn--…`).
pub fn canonical_host(host: &str) -> Result<Cow<'_, str>, HostInvalid> {
    if !is_host(host) {
        return Err(HostInvalid);
    }
    let bare = without_brackets(host).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return Ok(spelt(bare, canonical_address(address)));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    Ok(match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    })
}

/// Whether a text is a host, in its canonical form or another: whether [`canonical_host`] accepts it.
#[inline]
pub fn is_host(host: &str) -> bool {
    match without_brackets(host) {
        Some(bare) => is_address::<Ipv6Addr>(bare),
        None if is_name(host) => !ends_in_number(host) || is_address::<Ipv4Addr>(host),
        None => is_address::<Ipv6Addr>(host),
    }
}

/// The address that a connection to `address` leads to: the IPv4 address of a mapped one (RFC 4291 §2.5.5.2), and
/// loopback for the unspecified address, which is what systems connect to.
pub fn canonical_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

fn spelt(text: &str, address: IpAddr) -> Cow<'_, str> {
    let spelling = address.to_string();
    match spelling == text {
        true => Cow::Borrowed(text),
        false => Cow::Owned(spelling),
    }
}

fn without_brackets(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

fn is_address<A: FromStr>(text: &str) -> bool {
    text.parse::<A>().is_ok()
}

/// Checks the labels; some resolvers would treat a name with an empty label as another spelling. One final dot is
/// allowed.
fn is_name(host: &str) -> bool {
    let mut before = b'.';
    let are_labels = host.bytes().all(|byte| {
        let may_stand = match byte {
            b'.' => before != b'.',
            _ => byte.is_ascii_alphanumeric() || b"_-".contains(&byte),
        };
        before = byte;
        may_stand
    });
    are_labels && !host.is_empty()
}

/// Whether some resolver would take the name for an IPv4 address (WHATWG URL §3.5, "ends in a number").
fn ends_in_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
    let dot = host.iter().rposition(|&byte| byte == b'.');
    let label = &host[dot.map_or(0, |dot| dot + 1)..];
    match label {
        [b'0', b'x' | b'X', hex @ ..] => hex.iter().all(u8::is_ascii_hexdigit),
        _ => !label.is_empty() && label.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::{HostInvalid, canonical_host, is_host};
    use std::borrow::Cow;

    #[test]
    fn a_host_has_one_form() {
        for (expected, spellings) in [
            (
                "ads.example",
                &["ads.example", "ADS.Example", "ads.example.", "Ads.EXAMPLE."][..],
            ),
            ("a_b.c-d", &["a_b.c-d", "A_B.C-D."]),
            ("xn--bcher-kva.example", &["XN--Bcher-KVA.example."]),
            ("localhost", &["localhost", "LOCALHOST."]),
            (
                "127.0.0.1",
                &[
                    "127.0.0.1",
                    "::ffff:127.0.0.1",
                    "[::ffff:127.0.0.1]",
                    "::ffff:7f00:1",
                    "[::FFFF:7F00:0001]",
                    "0:0:0:0:0:ffff:127.0.0.1",
                    "[0000:0000:0000:0000:0000:ffff:7f00:0001]",
                    "0::ffff:7f00:1",
                    "::0:ffff:127.0.0.1",
                    "0.0.0.0",
                    "::ffff:0.0.0.0",
                    "[::ffff:0:0]",
                ],
            ),
            (
                "::1",
                &[
                    "::1",
                    "[::1]",
                    "0:0:0:0:0:0:0:1",
                    "::0001",
                    "0::1",
                    "::",
                    "[::]",
                ],
            ),
            (
                "2001:db8::1",
                &[
                    "2001:db8::1",
                    "[2001:DB8::1]",
                    "2001:0db8:0:0::0001",
                    "2001:db8:0:0:0:0:0:1",
                ],
            ),
        ] {
            for spelling in spellings {
                assert_eq!(
                    canonical_host(spelling).as_deref(),
                    Ok(expected),
                    "{spelling}"
                );
            }
        }
    }

    #[test]
    fn the_deprecated_ipv4_compatible_form_is_ipv6() {
        let host = canonical_host("::127.0.0.1").unwrap();
        assert!(host.contains(':'));
        assert_eq!(canonical_host("::7f00:1").unwrap(), host);
    }

    #[test]
    fn canonical_text_is_unchanged_and_borrowed() {
        for host in ["a.example", "127.0.0.1", "2001:db8::1", "::1"] {
            assert!(matches!(canonical_host(host), Ok(Cow::Borrowed(same)) if same == host));
        }
    }

    #[test]
    fn invalid_hosts_are_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..",
            "a..b",
            ".a",
            "a b",
            " a",
            "a ",
            "a.example:80",
            "[::1]:80",
            "[a]",
            "[]",
            "[127.0.0.1]",
            "[::1",
            "::1]",
            "u@a.example",
            "http://a/",
            "a/",
            "a%2eb",
            "%31%32%37.0.0.1",
            "fe80::1%eth0",
            "[fe80::1%25eth0]",
            "v1.a]",
            "b\u{fc}cher.example",
            "127.1",
            "127.0.0.1.",
            "127.0.0.01",
            "127.000.000.001",
            "0177.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x",
            "a.0X1F",
            "256.0.0.1",
            "1.2.3.4.5",
            "a.1",
            "*",
            "*.a",
            "::ffff:127.1",
            "1::2::3",
        ] {
            assert_eq!(canonical_host(text), Err(HostInvalid), "{text}");
            assert!(!is_host(text), "{text}");
        }
    }
}
