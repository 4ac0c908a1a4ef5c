//! The host patterns of rules.
//!
//! Hosts are compared in their canonical form, as the proxy provides them: names ignoring case and a final dot,
//! addresses in one form.

use plugin_api::canonical_host;
use std::net::IpAddr;

/// The host of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// Exactly this name or address.
    Exact(String),
    /// Every name that ends with this, which begins with a dot; not the domain itself.
    Below(String),
}

impl HostPattern {
    /// Parses `api.example.com`, `*.example.com`, `192.0.2.1` or `[2001:db8::1]`; none for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Some(domain) = text.strip_prefix("*.") else {
            return Some(Self::Exact(canonical_host(text).ok()?.into_owned()));
        };
        let domain = canonical_host(domain).ok()?;
        // An address has no subdomains.
        let is_address = domain.parse::<IpAddr>().is_ok();
        (!is_address).then(|| Self::Below(format!(".{domain}")))
    }

    /// Whether it matches `host`, which is in its canonical form.
    pub(crate) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == host,
            Self::Below(suffix) => host
                .strip_suffix(suffix.as_str())
                .is_some_and(|labels| !labels.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HostPattern;
    use plugin_api::canonical_host;

    fn matches(pattern: &str, host: &str) -> bool {
        let pattern = HostPattern::parse(pattern).unwrap();
        canonical_host(host).is_ok_and(|host| pattern.matches(&host))
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
    fn a_wildcard_matches_subdomains_only() {
        for host in ["a.example.com", "a.b.example.com", "A.EXAMPLE.com."] {
            assert!(matches("*.example.com", host), "{host}");
        }
        for host in ["example.com", ".example.com", "evilexample.com", "a.com"] {
            assert!(!matches("*.example.com", host), "{host}");
        }
    }

    #[test]
    fn an_address_matches_in_every_spelling() {
        assert!(matches("192.0.2.1", "192.0.2.1"));
        assert!(matches("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(matches("::ffff:c000:201", "192.0.2.1"));
        assert!(matches("[2001:db8::1]", "2001:0DB8:0::1"));
        assert!(!matches("*.example.com", "192.0.2.1"));
        assert!(!matches("192.0.2.1", "192.0.2.1.example"));
        assert!(!matches("a.example", "::1"));
    }

    #[test]
    fn refuses_patterns_that_no_host_matches() {
        for text in [
            "",
            ".",
            "*",
            "*.",
            "*.*.example",
            "a.*.example",
            "*.0.0.1",
            "*.192.0.2.1",
            "*.::1",
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
