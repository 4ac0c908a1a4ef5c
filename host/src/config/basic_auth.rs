//! The credential that clients must present, if one is configured (RFC 7617).
//!
//! Stores only its encoded form. It is compared in constant time and never printed. `connection` decides which requests
//! need it, and answers 407.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

/// A user and a password, as `--basic-auth user:password` gives them.
#[derive(Clone)]
pub struct BasicAuth {
    user: String,
    /// Base64 of `user:password`.
    encoded: Vec<u8>,
}

/// Why a credential cannot be used. Never shows the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BasicAuthError {
    /// There is no colon between user and password.
    #[error("has no colon; write user:password")]
    ColonMissing,
    /// The user is empty.
    #[error("has no user name before the colon; write user:password")]
    UserEmpty,
    /// RFC 7617 §2 forbids control characters.
    #[error("contains a control character")]
    ControlCharacter,
}

impl BasicAuth {
    /// Parses `user:password`; the password may be empty and may contain colons.
    ///
    /// # Errors
    /// The text is not a credential; the error does not repeat it.
    pub fn new(credential: &str) -> Result<Self, BasicAuthError> {
        let (user, _) = credential
            .split_once(':')
            .ok_or(BasicAuthError::ColonMissing)?;
        if user.is_empty() {
            return Err(BasicAuthError::UserEmpty);
        }
        if credential.chars().any(char::is_control) {
            return Err(BasicAuthError::ControlCharacter);
        }
        Ok(BasicAuth {
            user: user.to_owned(),
            encoded: base64(credential.as_bytes()),
        })
    }

    /// The user name.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The value of a `Proxy-Authorization` field with this credential.
    pub(crate) fn field_value(&self) -> Vec<u8> {
        [b"Basic ", self.encoded.as_slice()].concat()
    }

    /// The value of a `Proxy-Authorization` field with what a client has sent; `None`: the user contains a colon, for which
    /// the field has no form.
    pub(crate) fn field_value_of(user: &[u8], password: &[u8]) -> Option<Vec<u8>> {
        let encoded = base64(&[user, b":", password].concat());
        (!user.contains(&b':')).then(|| [b"Basic ", encoded.as_slice()].concat())
    }

    /// Whether the value of a `Proxy-Authorization` field matches this credential. The time taken depends on nothing
    /// but its length.
    pub fn matches(&self, header_value: &[u8]) -> bool {
        let Some((scheme, credential)) = header_value.split_at_checked("basic".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"basic")
            && credential.first() == Some(&b' ')
            && bool::from(self.encoded.ct_eq(credential.trim_ascii()))
    }
}

impl FromStr for BasicAuth {
    type Err = BasicAuthError;

    fn from_str(credential: &str) -> Result<Self, BasicAuthError> {
        BasicAuth::new(credential)
    }
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BasicAuth(..)")
    }
}

/// Base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> Vec<u8> {
    STANDARD.encode(bytes).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_the_vectors_of_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded.as_bytes());
        }
    }

    #[test]
    fn accepts_the_credential_with_the_scheme_in_any_case() {
        let auth = BasicAuth::new("Aladdin:open sesame").unwrap();
        assert!(auth.matches(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert!(auth.matches(b"bASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    }

    #[test]
    fn refuses_everything_else() {
        let auth = BasicAuth::new("user:pass").unwrap();
        for value in [
            &b""[..],
            b"Basic",
            b"Basic ",
            b"BasicdXNlcjpwYXNz",
            b"Bearer dXNlcjpwYXNz",
            b"Basic dXNlcjpwYXN0",
            b"Basic dXNlcjpwYXNzdXNlcjpwYXNz",
            b"Basic user:pass",
        ] {
            assert!(!auth.matches(value), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn names_what_is_wrong_with_a_credential() {
        assert_eq!(
            BasicAuth::new("user").err(),
            Some(BasicAuthError::ColonMissing)
        );
        assert_eq!(
            BasicAuth::new(":pass").err(),
            Some(BasicAuthError::UserEmpty)
        );
        assert_eq!(
            BasicAuth::new("user:a\nb").err(),
            Some(BasicAuthError::ControlCharacter)
        );
        assert!(BasicAuth::new("user:").is_ok());
    }

    #[test]
    fn never_shows_the_credential() {
        assert_eq!(
            format!("{:?}", BasicAuth::new("user:pass").unwrap()),
            "BasicAuth(..)"
        );
    }
}
