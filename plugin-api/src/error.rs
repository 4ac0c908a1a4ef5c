//! Errors of hooks, and rejected edits.
//!
//! Only text crosses the boundary; that is why [`Error`] keeps no source, but the texts of the whole chain.

use crate::abi::edit;
use std::borrow::Cow;
use std::fmt;

/// Why a hook failed, for the log. The client gets 500 without this text.
///
/// `?` converts any standard error; [`Error::new`] creates one from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: Cow<'static, str>,
}

impl Error {
    /// An error with this message.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
        }
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// Hence `Error` itself cannot be a `std::error::Error`: the implementations would overlap.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(message)
    }
}

/// Why the proxy rejected an edit; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditError {
    /// The field name is not a token (RFC 9110 §5.6.2), or the host is invalid.
    BadName,
    /// The value contains control characters, or is out of range.
    BadValue,
    /// The field is set by the proxy: framing, Host, and connection-specific fields.
    HostOwned,
    /// This hook may not make this edit: it is too early or too late.
    Stale,
    /// A reason that this version does not support.
    Unknown,
}

impl EditError {
    pub(crate) fn check(code: u32) -> Result<(), Self> {
        match code {
            edit::OK => Ok(()),
            edit::BAD_NAME => Err(Self::BadName),
            edit::BAD_VALUE => Err(Self::BadValue),
            edit::HOST_OWNED => Err(Self::HostOwned),
            edit::STALE => Err(Self::Stale),
            _ => Err(Self::Unknown),
        }
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadName => "not a valid name",
            Self::BadValue => "not a valid value",
            Self::HostOwned => "the proxy itself sets this field",
            Self::Stale => "this hook may not change that",
            Self::Unknown => "the proxy refused the change",
        })
    }
}

impl std::error::Error for EditError {}

#[cfg(test)]
mod tests {
    use super::Error;
    use std::{fmt, io};

    #[derive(Debug)]
    struct Outer(io::Error);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot ask")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn keeps_the_text_of_every_cause() {
        let error = Error::from(Outer(io::Error::other("line is dead")));
        assert_eq!(error.message(), "cannot ask: line is dead");
    }
}
