//! Which hosts an entry of a rule means.
//!
//! Names are compared as DNS does, without regard to case and to the dot at the end. An address is never a name:
//! it is compared as a number, so that every spelling of it is the same.

use std::borrow::Cow;
use std::net::IpAddr;

/// The host of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// Exactly this name.
    Name(String),
    /// Every name that ends with this, which begins with a dot; the bare domain does not.
    Below(String),
    /// This address.
    Address(IpAddr),
}

impl HostPattern {
    /// Reads `api.example.com`, `*.example.com`, `192.0.2.1` or `[2001:db8::1]`; none for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (below, host) = match text.strip_prefix("*.") {
            Some(domain) => (true, Host::of(domain)),
            None => (false, Host::of(text)),
        };
        match host {
            Host::Address(address) if !below => Some(Self::Address(address)),
            Host::Name(name) if is_name(&name) && !ends_in_number(&name) => match below {
                true => Some(Self::Below(format!(".{name}"))),
                false => Some(Self::Name(name.into_owned())),
            },
            _ => None,
        }
    }

    /// Whether it means `host`.
    pub(crate) fn matches(&self, host: &Host<'_>) -> bool {
        match (self, host) {
            (Self::Name(wanted), Host::Name(name)) => wanted == name,
            (Self::Below(suffix), Host::Name(name)) => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|labels| !labels.is_empty()),
            (Self::Address(wanted), Host::Address(address)) => wanted == address,
            _ => false,
        }
    }
}

/// The host of an exchange.
#[derive(Debug)]
pub(crate) enum Host<'a> {
    Address(IpAddr),
    /// Lower case, without the dot at the end.
    Name(Cow<'a, str>),
}

impl<'a> Host<'a> {
    /// A host as it stands in a URL, with or without brackets.
    pub(crate) fn of(text: &'a str) -> Self {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            // ::ffff:192.0.2.1 is reached at 192.0.2.1.
            return Self::Address(address.to_canonical());
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Self::Name(Cow::Owned(name.to_ascii_lowercase())),
            false => Self::Name(Cow::Borrowed(name)),
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    name.split('.')
        .all(|label| !label.is_empty() && label.bytes().all(is_letter))
}

/// Whether some resolver would take the name for an address, as it does `127.1` and `0x7f.1`.
fn ends_in_number(name: &str) -> bool {
    let label = name.rsplit('.').next().unwrap_or(name);
    let (digits, is_digit): (&str, fn(&u8) -> bool) = match label.strip_prefix("0x") {
        Some(hex) => (hex, u8::is_ascii_hexdigit),
        None => (label, u8::is_ascii_digit),
    };
    digits.as_bytes().iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::{Host, HostPattern};

    fn matches(pattern: &str, host: &str) -> bool {
        HostPattern::parse(pattern)
            .unwrap()
            .matches(&Host::of(host))
    }

    #[test]
    fn compares_names_as_dns_does() {
        for host in ["api.example.com", "API.Example.COM", "api.example.com."] {
            assert!(matches("api.example.com", host), "{host}");
            assert!(matches("Api.example.com.", host), "{host}");
        }
        for host in [
            "example.com",
            "x.api.example.com",
            "api.example.com..",
            "api.example.co",
            "xapi.example.com",
            "api.example.com.evil.example",
            "",
        ] {
            assert!(!matches("api.example.com", host), "{host}");
        }
    }

    #[test]
    fn a_wildcard_means_names_below_and_not_the_domain_itself() {
        for host in ["a.example.com", "a.b.example.com", "A.EXAMPLE.com."] {
            assert!(matches("*.example.com", host), "{host}");
        }
        for host in ["example.com", ".example.com", "evilexample.com", "a.com"] {
            assert!(!matches("*.example.com", host), "{host}");
        }
    }

    #[test]
    fn an_address_is_no_name_and_has_many_spellings() {
        assert!(matches("192.0.2.1", "192.0.2.1"));
        assert!(matches("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(matches("[2001:db8::1]", "2001:0DB8:0::1"));
        assert!(!matches("*.example.com", "192.0.2.1"));
        assert!(!matches("192.0.2.1", "192.0.2.1.example"));
        assert!(!matches("a.example", "::1"));
    }

    #[test]
    fn refuses_what_no_host_can_equal() {
        for text in [
            "",
            ".",
            "*",
            "*.",
            "*.*.example",
            "a.*.example",
            "*.0.0.1",
            "*.192.0.2.1",
            "127.1",
            "0x7f000001",
            "a..b",
            "a.example:80",
            "http://a/",
            "u@a.example",
            "bücher.example",
        ] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
