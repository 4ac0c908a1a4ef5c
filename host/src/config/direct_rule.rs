//! Hosts that clients connect to without the proxy.

use std::net::Ipv4Addr;
use std::str::FromStr;

use plugin_api::canonical_host;
use serde::Deserialize;

use super::HostPattern;

/// A host pattern as elsewhere in the configuration, `<local>` for names without a dot, or an IPv4 network such as
/// `10.0.0.0/8`, which matches hosts written as addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DirectRule(pub(crate) RuleForm);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuleForm {
    /// Names without a dot.
    Local,
    /// Address and mask; bits outside the mask are 0.
    Network(Ipv4Addr, Ipv4Addr),
    All,
    /// In lower case; an IPv6 address without brackets, as browsers write it.
    Exact(String),
    /// The dot and the domain after it, in lower case.
    Below(String),
    /// Like `Below`, and the domain itself.
    Within(String),
}

/// The text is not a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a host pattern; write example.com, .example.com, *.example.com, an IP address, 10.0.0.0/8, <local> or *"
)]
pub struct RuleError;

impl FromStr for DirectRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.eq_ignore_ascii_case("<local>") {
            return Ok(DirectRule(RuleForm::Local));
        }
        if let Some((address, len)) = text.split_once('/') {
            return network(address, len).map(DirectRule).ok_or(RuleError);
        }
        HostPattern::parse(text).map_err(|_| RuleError)?;
        host(text).map(DirectRule).ok_or(RuleError)
    }
}

/// Parses the same patterns as [`HostPattern`], with the same meaning.
fn host(pattern: &str) -> Option<RuleForm> {
    let canonical = |host| canonical_host(host).ok();
    Some(if pattern == "*" {
        RuleForm::All
    } else if let Some(domain) = pattern.strip_prefix("*.") {
        RuleForm::Below(format!(".{}", canonical(domain)?))
    } else if let Some(domain) = pattern.strip_prefix('.') {
        RuleForm::Within(format!(".{}", canonical(domain)?))
    } else {
        RuleForm::Exact(canonical(pattern)?.into_owned())
    })
}

fn network(address: &str, len: &str) -> Option<RuleForm> {
    let address: Ipv4Addr = address.parse().ok()?;
    let is_decimal = len.bytes().all(|byte| byte.is_ascii_digit());
    let len: u32 = len.parse().ok().filter(|len| is_decimal && *len <= 32)?;
    let mask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - len).unwrap_or(0));
    Some(RuleForm::Network(address & mask, mask))
}

impl TryFrom<String> for DirectRule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> RuleForm {
        text.parse::<DirectRule>()
            .unwrap_or_else(|_| panic!("{text} is refused"))
            .0
    }

    #[test]
    fn rules_are_host_patterns_and_more() {
        for (text, expected) in [
            ("*", RuleForm::All),
            ("<local>", RuleForm::Local),
            ("<LOCAL>", RuleForm::Local),
            ("Example.com", RuleForm::Exact("example.com".into())),
            ("example.com.", RuleForm::Exact("example.com".into())),
            ("*.Example.com", RuleForm::Below(".example.com".into())),
            (".Example.com", RuleForm::Within(".example.com".into())),
            ("192.0.2.1", RuleForm::Exact("192.0.2.1".into())),
            ("[2001:DB8:0::1]", RuleForm::Exact("2001:db8::1".into())),
        ] {
            assert_eq!(form(text), expected, "{text}");
        }
    }

    #[test]
    fn networks_are_an_address_and_a_mask() {
        for (text, address, mask) in [
            ("10.0.0.0/8", [10, 0, 0, 0], [255, 0, 0, 0]),
            ("10.1.2.3/8", [10, 0, 0, 0], [255, 0, 0, 0]),
            ("172.16.0.0/12", [172, 16, 0, 0], [255, 240, 0, 0]),
            ("192.0.2.1/32", [192, 0, 2, 1], [255, 255, 255, 255]),
            ("0.0.0.0/0", [0, 0, 0, 0], [0, 0, 0, 0]),
        ] {
            let network = RuleForm::Network(Ipv4Addr::from(address), Ipv4Addr::from(mask));
            assert_eq!(form(text), network, "{text}");
        }
    }

    #[test]
    fn invalid_rules_are_refused() {
        for text in [
            "",
            ".",
            "*.",
            "a b",
            "a*",
            "<locals>",
            "http://a/",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "fe80::/10",
            "a/8",
            "\"",
            "\\",
        ] {
            assert_eq!(text.parse::<DirectRule>(), Err(RuleError), "{text}");
        }
    }
}
