//! Hosts that clients connect to without the proxy.

use std::net::Ipv4Addr;
use std::str::FromStr;

use plugin_api::canonical_host;
use serde::Deserialize;

use super::HostPattern;

/// A host pattern as everywhere in the configuration, `<local>` for names without a dot, or an IPv4 network such as
/// `10.0.0.0/8`, which is about hosts that are written as addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DirectRule(pub(crate) Form);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Names without a dot.
    Local,
    /// Address and mask; the bits that are not in the mask are 0.
    Network(Ipv4Addr, Ipv4Addr),
    All,
    /// In lower case, an IPv6 address without brackets and in the spelling of browsers.
    Exact(String),
    /// The dot and what follows it, in lower case.
    Below(String),
    /// As `Below`, and the name itself.
    Within(String),
}

/// The text does not say which hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a host pattern; write example.com, .example.com, *.example.com, an IP address, 10.0.0.0/8, <local> or *"
)]
pub struct RuleError;

impl FromStr for DirectRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.eq_ignore_ascii_case("<local>") {
            return Ok(DirectRule(Form::Local));
        }
        if let Some((address, len)) = text.split_once('/') {
            return network(address, len).map(DirectRule).ok_or(RuleError);
        }
        HostPattern::parse(text).map_err(|_| RuleError)?;
        host(text).map(DirectRule).ok_or(RuleError)
    }
}

/// The form of what [`HostPattern`] accepts; the same means the same.
fn host(pattern: &str) -> Option<Form> {
    let canonical = |host| canonical_host(host).ok();
    Some(if pattern == "*" {
        Form::All
    } else if let Some(domain) = pattern.strip_prefix("*.") {
        Form::Below(format!(".{}", canonical(domain)?))
    } else if let Some(domain) = pattern.strip_prefix('.') {
        Form::Within(format!(".{}", canonical(domain)?))
    } else {
        Form::Exact(canonical(pattern)?.into_owned())
    })
}

fn network(address: &str, len: &str) -> Option<Form> {
    let address: Ipv4Addr = address.parse().ok()?;
    let is_decimal = len.bytes().all(|byte| byte.is_ascii_digit());
    let len: u32 = len.parse().ok().filter(|len| is_decimal && *len <= 32)?;
    let mask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - len).unwrap_or(0));
    Some(Form::Network(address & mask, mask))
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

    fn form(text: &str) -> Form {
        text.parse::<DirectRule>()
            .unwrap_or_else(|_| panic!("{text} is refused"))
            .0
    }

    #[test]
    fn rules_are_host_patterns_and_more() {
        for (text, expected) in [
            ("*", Form::All),
            ("<local>", Form::Local),
            ("<LOCAL>", Form::Local),
            ("Example.com", Form::Exact("example.com".into())),
            ("example.com.", Form::Exact("example.com".into())),
            ("*.Example.com", Form::Below(".example.com".into())),
            (".Example.com", Form::Within(".example.com".into())),
            ("192.0.2.1", Form::Exact("192.0.2.1".into())),
            ("[2001:DB8:0::1]", Form::Exact("2001:db8::1".into())),
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
            let network = Form::Network(Ipv4Addr::from(address), Ipv4Addr::from(mask));
            assert_eq!(form(text), network, "{text}");
        }
    }

    #[test]
    fn what_says_no_host_is_refused() {
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
