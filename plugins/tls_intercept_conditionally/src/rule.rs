//! Which tunnels are not intercepted.
//!
//! A tunnel may have two names: its host, and the server name in its TLS. If one is an address, the other one may be
//! listed, so a list matches a tunnel if it contains either. A server name that is only the client's claim counts for
//! `include` alone, where it cannot prevent interception.

use crate::config::Config;
use plugin_api::{Error, canonical_host};
use std::net::IpAddr;

/// Decides by the names of a tunnel.
pub(crate) struct Exclusions {
    exclude: Vec<HostPattern>,
    include: Vec<HostPattern>,
}

impl Exclusions {
    /// Parses the settings.
    ///
    /// # Errors
    /// A pattern that no host can match, such as one with a port.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            exclude: patterns("exclude", &config.exclude)?,
            include: patterns("include", &config.include)?,
        })
    }

    /// Whether the tunnel to `host`, whose TLS has `server_name`, is not intercepted. `is_proven`: the server name is
    /// that of the upstream.
    pub(crate) fn keeps_closed(
        &self,
        host: &str,
        server_name: Option<&str>,
        is_proven: bool,
    ) -> bool {
        let is_on = |list: &[HostPattern], server_name: Option<&str>| {
            let names = || [Some(host), server_name].into_iter().flatten();
            list.iter()
                .any(|pattern| names().any(|name| pattern.matches(name)))
        };
        is_on(&self.exclude, server_name.filter(|_| is_proven))
            || (!self.include.is_empty() && !is_on(&self.include, server_name))
    }
}

fn patterns(key: &str, texts: &[String]) -> Result<Vec<HostPattern>, Error> {
    let parse = |text: &String| {
        let wrong = || Error::new(format!("{key}: `{text}` is neither a host nor `*.domain`"));
        HostPattern::parse(text).ok_or_else(wrong)
    };
    texts.iter().map(parse).collect()
}

/// Hosts in canonical form.
enum HostPattern {
    /// This host.
    Host(String),
    /// All subdomains of a domain; begins with the dot.
    Below(String),
}

impl HostPattern {
    fn parse(text: &str) -> Option<Self> {
        let Some(domain) = text.strip_prefix("*.") else {
            return Some(Self::Host(canonical_host(text).ok()?.into_owned()));
        };
        let domain = canonical_host(domain).ok()?;
        let is_address = domain.parse::<IpAddr>().is_ok();
        (!is_address).then(|| Self::Below(format!(".{domain}")))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Host(host) => name == host,
            Self::Below(domain) => name.len() > domain.len() && name.ends_with(domain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exclusions;
    use crate::config::Config;

    fn exclusions(exclude: &[&str], include: &[&str]) -> Result<Exclusions, plugin_api::Error> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Exclusions::new(&Config {
            exclude: owned(exclude),
            include: owned(include),
        })
    }

    #[test]
    fn a_pattern_is_a_host_or_all_below_a_domain() {
        let exclusions = exclusions(&["Bank.example.", "*.clinic.example", "[::1]"], &[]).unwrap();
        for (host, expected) in [
            ("bank.example", true),
            ("www.bank.example", false),
            ("clinic.example", false),
            ("a.b.clinic.example", true),
            ("notclinic.example", false),
            ("::1", true),
            ("", false),
        ] {
            assert_eq!(
                exclusions.keeps_closed(host, None, false),
                expected,
                "{host}"
            );
        }
    }

    #[test]
    fn either_name_of_a_tunnel_matches() {
        let exclusions = exclusions(&["bank.example"], &["*.corp.example"]).unwrap();
        for (host, server_name, expected) in [
            ("192.0.2.1", Some("bank.example"), true),
            ("bank.example", Some("a.corp.example"), true),
            ("192.0.2.1", Some("a.corp.example"), false),
            ("a.corp.example", None, false),
            ("192.0.2.1", None, true),
            ("b.example", Some("b.example"), true),
        ] {
            let closed = exclusions.keeps_closed(host, server_name, true);
            assert_eq!(closed, expected, "{host} {server_name:?}");
        }
    }

    #[test]
    fn a_claimed_name_excludes_nothing_but_may_be_included() {
        let excluding = exclusions(&["bank.example"], &[]).unwrap();
        assert!(!excluding.keeps_closed("192.0.2.1", Some("bank.example"), false));
        let including = exclusions(&[], &["*.corp.example"]).unwrap();
        assert!(!including.keeps_closed("192.0.2.1", Some("a.corp.example"), false));
        assert!(including.keeps_closed("192.0.2.1", Some("b.example"), false));
    }

    #[test]
    fn without_lists_nothing_is_excluded() {
        let exclusions = exclusions(&[], &[]).unwrap();
        assert!(!exclusions.keeps_closed("a.example", Some("a.example"), true));
    }

    #[test]
    fn refuses_patterns_that_no_host_matches() {
        for pattern in [
            "",
            "*",
            "*.",
            "a.*.example",
            "a.example:443",
            "https://a/",
            ".a",
        ] {
            assert!(exclusions(&[pattern], &[]).is_err(), "{pattern}");
            assert!(exclusions(&[], &[pattern]).is_err(), "{pattern}");
        }
    }
}
