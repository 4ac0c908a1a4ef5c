//! The subject of a certificate: the name of a CA, the hosts of a server.

use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;

/// The longest common name, in characters (RFC 5280 appendix A.1, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// The common name of a certificate's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonName(String);

/// The text cannot be in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// RFC 5280 appendix A.1.
    #[error("must have 1 to 64 characters")]
    LengthInvalid,
    /// No client would show it.
    #[error("contains a control character")]
    ControlCharacter,
    /// RFC 1034 §3.5, or RFC 6125 §6.4.3 with a star.
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

/// A name for a CA that nobody has named: browsers mistake two of the same name for one another, so it says
/// where and when it was made.
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

/// A host that a server certificate is for: an IP address, or a DNS name in lower case, perhaps with `*` as its first
/// label.
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

    /// Its address, if it is one.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// As it stands in a URL.
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
        // What ends in a number is a mistyped address, never a name.
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
    fn hosts_have_one_spelling() {
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
    fn a_name_of_its_own_fits_whatever_the_host_is_called() {
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
