//! Host patterns in settings.

use std::borrow::Cow;
use std::net::IpAddr;

use plugin_api::canonical_host;
use serde::Deserialize;

use super::ValueError;

/// `example.com`, `*.example.com` (its subdomains, not itself), `.example.com` (both), `*` (all hosts), or an IP
/// literal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern(PatternForm);

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternForm {
    All,
    /// In its canonical form.
    Exact(String),
    /// The dot and the domain after it, in canonical form.
    Below(String),
    /// Like `Below`, and the domain itself.
    Within(String),
}

impl HostPattern {
    /// # Errors
    /// The text is not a host pattern.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let form = if text == "*" {
            PatternForm::All
        } else if let Some(domain) = text.strip_prefix("*.") {
            PatternForm::Below(suffix(domain)?)
        } else if let Some(domain) = text.strip_prefix('.') {
            PatternForm::Within(suffix(domain)?)
        } else {
            PatternForm::Exact(canonical(text)?)
        };
        Ok(Self(form))
    }

    /// All hosts.
    pub fn all() -> Self {
        Self(PatternForm::All)
    }

    /// Whether `host`, in its canonical form, matches.
    pub fn matches(&self, host: &str) -> bool {
        match &self.0 {
            PatternForm::All => true,
            PatternForm::Exact(name) => host == name,
            PatternForm::Below(suffix) => {
                host.len() > suffix.len() && host.ends_with(suffix.as_str())
            }
            PatternForm::Within(suffix) => host.ends_with(suffix.as_str()) || host == &suffix[1..],
        }
    }
}

fn canonical(host: &str) -> Result<String, ValueError> {
    canonical_host(host)
        .map(Cow::into_owned)
        .map_err(|_| ValueError::NotAHostPattern)
}

/// `.` and a domain; an address has no subdomains.
fn suffix(domain: &str) -> Result<String, ValueError> {
    let domain = canonical(domain)?;
    match domain.parse::<IpAddr>() {
        Ok(_) => Err(ValueError::NotAHostPattern),
        Err(_) => Ok(format!(".{domain}")),
    }
}

impl TryFrom<String> for HostPattern {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_hosts_it_names() {
        for (pattern, hosts, others) in [
            ("*", &["a", "::1"][..], &[][..]),
            (
                "Example.com",
                &["example.com"],
                &["www.example.com", "xexample.com"],
            ),
            (
                "*.example.com",
                &["a.example.com", "a.b.example.com"],
                &["example.com", "xexample.com", ".example.com"],
            ),
            (
                ".example.com",
                &["example.com", "a.example.com"],
                &["xexample.com"],
            ),
            ("[::1]", &["::1"], &["::2"]),
            ("127.0.0.1", &["127.0.0.1"], &["127.0.0.11"]),
            ("[::FFFF:7f00:1]", &["127.0.0.1"], &["127.0.0.11"]),
            ("2001:DB8:0::1", &["2001:db8::1"], &[]),
            ("Example.com.", &["example.com"], &[]),
            ("*.Example.com.", &["a.example.com"], &[]),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            for host in hosts {
                assert!(parsed.matches(host), "{pattern} {host}");
            }
            for host in others {
                assert!(!parsed.matches(host), "{pattern} {host}");
            }
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            "*.",
            "a b",
            "http://a/",
            "a*",
            "*a",
            "a..",
            "a:80",
            "127.1",
            "*.0.0.1",
            ".::1",
            "*.*.a",
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }
}
