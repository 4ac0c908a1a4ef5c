//! A parent proxy: its address, protocol and credentials.
//!
//! Parsed from a URL such as `http://user:password@proxy:3128`, and checked once. The credentials are never displayed.

use std::borrow::Cow;
use std::fmt;

use plugin_contract::{Authority, AuthorityInvalid};

use crate::config::BasicAuth;

/// Longest user name and password of SOCKS5, in bytes (RFC 1929 §2).
const MAX_SOCKS_CREDENTIAL: usize = 255;

/// A proxy that connects or forwards on our behalf.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Parent {
    scheme: ParentScheme,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
    /// The value of `Proxy-Authorization`, for a parent that speaks HTTP.
    authorization: Option<Vec<u8>>,
}

/// The protocol of a parent proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ParentScheme {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS version 5.
    Socks5,
}

/// The credentials for a parent proxy. Never displayed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// What is wrong with the URL of a parent proxy. The message does not contain the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParentError {
    /// The scheme is not supported.
    #[error("does not begin with http://, https://, socks5:// or socks5h://")]
    SchemeUnsupported,
    /// The host or the port is invalid.
    #[error("has {0}")]
    AuthorityInvalid(AuthorityInvalid),
    /// The URL has more after the port.
    #[error("has a path, a query or a fragment")]
    PathUnexpected,
    /// The user name or the password is invalid.
    #[error("has an invalid user name or password; write special characters as %XX")]
    CredentialsInvalid,
}

impl Parent {
    /// Parses a URL. The default ports are 80, 443 and 1080.
    ///
    /// # Errors
    /// The URL is not that of a proxy.
    pub(crate) fn parse(url: &str) -> Result<Self, ParentError> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or(ParentError::SchemeUnsupported)?;
        let scheme = ParentScheme::parse(scheme).ok_or(ParentError::SchemeUnsupported)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !matches!(path, "" | "/") {
            return Err(ParentError::PathUnexpected);
        }
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, authority),
        };
        let Authority { host, port } =
            Authority::parse(authority).map_err(ParentError::AuthorityInvalid)?;
        let credentials = match userinfo {
            Some(userinfo) => Some(Credentials::parse(userinfo, scheme)?),
            None => None,
        };
        let authorization = match &credentials {
            Some(credentials) if scheme != ParentScheme::Socks5 => Some(credentials.basic()?),
            _ => None,
        };
        Ok(Self {
            scheme,
            host: host.into_owned(),
            port: port.unwrap_or_else(|| scheme.default_port()),
            credentials,
            authorization,
        })
    }

    pub(crate) fn scheme(&self) -> ParentScheme {
        self.scheme
    }

    /// A name or an IP literal in its canonical form.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The value of `Proxy-Authorization`, if it speaks HTTP and there are credentials.
    pub(super) fn authorization(&self) -> Option<&[u8]> {
        self.authorization.as_deref()
    }
}

impl ParentScheme {
    /// `socks5h` means elsewhere that the SOCKS5 proxy resolves names; here it always does.
    fn parse(scheme: &str) -> Option<Self> {
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        match () {
            () if is("http") => Some(Self::Http),
            () if is("https") => Some(Self::Https),
            () if is("socks5") || is("socks5h") => Some(Self::Socks5),
            () => None,
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 => 1080,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
        }
    }
}

impl Credentials {
    fn parse(userinfo: &str, scheme: ParentScheme) -> Result<Self, ParentError> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let decode = |text| percent_decoded(text).ok_or(ParentError::CredentialsInvalid);
        let (user, password) = (decode(user)?, decode(password)?);
        let is_too_long = |text: &str| text.len() > MAX_SOCKS_CREDENTIAL;
        let is_refused = match scheme {
            // The first colon ends the user name (RFC 7617 §2).
            ParentScheme::Http | ParentScheme::Https => user.contains(':'),
            ParentScheme::Socks5 => is_too_long(&user) || is_too_long(&password),
        };
        if user.is_empty() || is_refused {
            return Err(ParentError::CredentialsInvalid);
        }
        Ok(Self { user, password })
    }

    fn basic(&self) -> Result<Vec<u8>, ParentError> {
        BasicAuth::new(&format!("{}:{}", self.user, self.password))
            .map(|basic| basic.field_value())
            .map_err(|_| ParentError::CredentialsInvalid)
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, behind @ ..] = rest else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = Authority {
            host: Cow::Borrowed(&self.host),
            port: Some(self.port),
        };
        write!(f, "{}://{authority}", self.scheme.as_str())
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parent({self})")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_refused(url: &str, error: ParentError) {
        assert_eq!(Parent::parse(url), Err(error), "{url}");
    }

    #[test]
    fn a_url_has_the_protocol_and_the_address_of_the_parent() {
        for (url, shown) in [
            ("http://Proxy:3128", "http://proxy:3128"),
            ("http://proxy", "http://proxy:80"),
            ("http://proxy:/", "http://proxy:80"),
            ("HTTPS://proxy/", "https://proxy:443"),
            ("socks5://10.0.0.1", "socks5://10.0.0.1:1080"),
            ("socks5h://a_b.c-d.:9", "socks5://a_b.c-d:9"),
            ("http://[2001:DB8::1]:3128/", "http://[2001:db8::1]:3128"),
            ("http://[::1]", "http://[::1]:80"),
            ("http://u:p@[::1]:8", "http://[::1]:8"),
        ] {
            let parent = Parent::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(parent.to_string(), shown);
        }
        assert_eq!(Parent::parse("http://[::1]").unwrap().host(), "::1");
    }

    #[test]
    fn credentials_are_decoded_and_sent() {
        let parent = Parent::parse("http://us%65r:p%40s:s@p").unwrap();
        let credentials = parent.credentials().unwrap();
        assert_eq!(credentials.user, "user");
        assert_eq!(credentials.password, "p@s:s");
        let expected = BasicAuth::new("user:p@s:s").unwrap();
        assert!(expected.matches(parent.authorization().unwrap()));
        let socks = Parent::parse("socks5://u:%C3%A4@p").unwrap();
        assert_eq!(socks.credentials().unwrap().password, "ä");
        assert_eq!(socks.authorization(), None);
        let without_password = Parent::parse("http://u@p").unwrap();
        assert_eq!(without_password.credentials().unwrap().password, "");
    }

    #[test]
    fn a_password_is_never_displayed() {
        let parent = Parent::parse("http://user:hidden@proxy:1").unwrap();
        for shown in [
            parent.to_string(),
            format!("{parent:?}"),
            format!("{:?}", parent.credentials()),
        ] {
            assert!(
                !shown.contains("hidden") && !shown.contains("aGlkZGVu"),
                "{shown}"
            );
        }
    }

    #[test]
    fn an_invalid_url_is_refused_with_its_reason() {
        use ParentError::*;
        for url in ["", "proxy:3128", "ftp://p", "socks4://p", "//p"] {
            assert_refused(url, SchemeUnsupported);
        }
        for url in [
            "http://",
            "http://:80",
            "http://a b",
            "http://[::1",
            "http://[127.0.0.1]",
            "http://::1",
            "http://127.1",
            "http://1.2.3.4.5",
            "http://[::1]x",
            "http://.a",
            "http://u:p@",
            "http://ä",
        ] {
            assert_refused(
                url,
                AuthorityInvalid(plugin_contract::AuthorityInvalid::Host),
            );
        }
        for url in [
            "http://a:0",
            "http://a:+1",
            "http://a:65536",
            "http://a:b",
            "http://a:1:2",
        ] {
            assert_refused(
                url,
                AuthorityInvalid(plugin_contract::AuthorityInvalid::Port),
            );
        }
        for url in ["http://a/b", "http://a?b", "http://a:1/#", "http://a/b@c"] {
            assert_refused(url, PathUnexpected);
        }
        for url in [
            "http://@a",
            "http://:p@a",
            "http://a%3Ab:p@a",
            "http://u:%zz@a",
            "http://u:%1@a",
            "http://u:%ff@a",
            "http://u:%0a@a",
            "http://u:%@a",
        ] {
            assert_refused(url, CredentialsInvalid);
        }
        assert_refused(
            &format!("socks5://{}:p@a", "u".repeat(256)),
            CredentialsInvalid,
        );
    }
}
