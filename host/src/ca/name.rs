//! Names in certificates: the name of a CA, the hosts of a server.

use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;

/// The maximum length of a common name, in characters (RFC 5280 appendix A.1, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// The common name of a certificate's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonName(String);

/// Why a text cannot be in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Too long (RFC 5280 appendix A.1), or empty.
    #[error("must have 1 to 64 characters")]
    LengthInvalid,
    /// A control character, which no client would display.
    #[error("contains a control character")]
    ControlCharacter,
    /// Not a DNS name (RFC 1034 §3.5, RFC 6125 §6.4.3 for a star) or an address.
    #[error("is neither a host name nor an IP address")]
    NotAHost,
}

impl CommonName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommonName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.trim().is_empty() || text.chars().count() > COMMON_NAME_MAX {
            return Err(NameError::LengthInvalid);
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
        Ok(CommonName(text.to_owned()))
    }
}

/// The default name of a CA. Browsers confuse CAs with the same name, so it includes the machine and the time.
pub(super) fn of_new_ca() -> String {
    let uname = rustix::system::uname();
    new_ca(
        &uname.nodename().to_string_lossy(),
        &Timestamp::now().strftime("%F %T").to_string(),
    )
}

fn new_ca(host: &str, time: &str) -> String {
    let room = COMMON_NAME_MAX - "proxy CA  ".len() - time.len();
    let host: String = host
        .chars()
        .filter(|c| !c.is_control())
        .take(room)
        .collect();
    format!("proxy CA {host} {time}")
}

/// A host of a server certificate: an IP address, or a DNS name in lower case whose first label may be `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    text: String,
    ip: Option<IpAddr>,
}

impl HostName {
    /// The name, or the address without brackets.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, if it is one.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The form in a URL.
    pub(super) fn in_url(&self) -> String {
        match self.ip {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.text.clone(),
        }
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(HostName {
                text: ip.to_string(),
                ip: Some(ip),
            });
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let labels = name.strip_prefix("*.").unwrap_or(&name);
        // A name whose last label is a number is a mistyped address.
        let ends_in_number = labels
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() > 253 || ends_in_number || !labels.split('.').all(is_label) {
            return Err(NameError::NotAHost);
        }
        Ok(HostName {
            text: name,
            ip: None,
        })
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_form() {
        for (text, host, url) in [
            ("LOCALHOST", "localhost", "localhost"),
            ("example.com.", "example.com", "example.com"),
            ("*.Example.com", "*.example.com", "*.example.com"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("[::0:1]", "::1", "[::1]"),
        ] {
            let name: HostName = text.parse().unwrap();
            assert_eq!((name.as_str(), name.in_url().as_str()), (host, url));
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            "*",
            "a b",
            "a..b",
            "-a",
            "a-",
            "a.*.b",
            "é.example",
            "127.1",
            "1.2.3.256",
            "a:80",
            "[a]",
            &long,
        ] {
            assert_eq!(text.parse::<HostName>(), Err(NameError::NotAHost), "{text}");
        }
    }

    #[test]
    fn common_names_are_short_and_printable() {
        assert!("Mein Büro".parse::<CommonName>().is_ok());
        assert!("é".repeat(64).parse::<CommonName>().is_ok());
        for text in ["", "  ", &"é".repeat(65)] {
            assert_eq!(text.parse::<CommonName>(), Err(NameError::LengthInvalid));
        }
        assert_eq!(
            "a\nb".parse::<CommonName>(),
            Err(NameError::ControlCharacter)
        );
    }

    #[test]
    fn a_common_name_fits_for_every_host() {
        assert_eq!(
            new_ca("laptop", "2026-01-02 03:04:05"),
            "proxy CA laptop 2026-01-02 03:04:05"
        );
        for host in ["", &"h".repeat(64), &"é".repeat(64), "a\u{7}b"] {
            let name = new_ca(host, "2026-01-02 03:04:05");
            assert!(name.parse::<CommonName>().is_ok(), "{name}");
            assert!(name.ends_with("03:04:05"));
        }
        assert!(of_new_ca().parse::<CommonName>().is_ok());
    }
}
