//! Tolerance for peers that violate the protocol.

use schemars::JsonSchema;
use serde::Deserialize;

use super::HostPattern;

/// How responses that violate the grammar of HTTP/1.1 are treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompatibilityConfig {
    /// For all hosts. Default [`ResponseSyntax::Strict`].
    pub responses: ResponseSyntax,
    /// Hosts whose responses are read as [`ResponseSyntax::Relaxed`] whatever the rest is. Default: none.
    pub relaxed_hosts: Vec<HostPattern>,
}

/// What is done with a response head that breaks the grammar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResponseSyntax {
    /// It is repaired as far as RFC 9112 lets a proxy do so; otherwise 502.
    #[default]
    Strict,
    /// More is repaired, but a response whose end is ambiguous still becomes a 502.
    Relaxed,
}

impl CompatibilityConfig {
    /// Whether responses of `host`, in its canonical form, are parsed as relaxed.
    pub fn is_relaxed(&self, host: &str) -> bool {
        self.responses == ResponseSyntax::Relaxed
            || self
                .relaxed_hosts
                .iter()
                .any(|pattern| pattern.matches(host))
    }

    /// Whether this applies to all hosts.
    pub fn relaxes_all(&self) -> bool {
        self.responses == ResponseSyntax::Relaxed
            || self.relaxed_hosts.contains(&HostPattern::all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_relaxed_by_a_pattern_or_with_all_hosts() {
        let of = |responses, patterns: &[&str]| CompatibilityConfig {
            responses,
            relaxed_hosts: patterns
                .iter()
                .map(|pattern| HostPattern::parse(pattern).unwrap())
                .collect(),
        };
        let named = of(ResponseSyntax::Strict, &[".old.example", "192.0.2.1"]);
        for (host, expected) in [
            ("old.example", true),
            ("a.old.example", true),
            ("192.0.2.1", true),
            ("older.example", false),
            ("192.0.2.11", false),
        ] {
            assert_eq!(named.is_relaxed(host), expected, "{host}");
        }
        assert!(!named.relaxes_all());
        for all in [
            of(ResponseSyntax::Relaxed, &[]),
            of(ResponseSyntax::Strict, &["a", "*"]),
        ] {
            assert!(all.relaxes_all() && all.is_relaxed("a.test"));
        }
        let none = CompatibilityConfig::default();
        assert!(!none.relaxes_all() && !none.is_relaxed("a.test"));
    }
}
