//! The user and the group that the proxy becomes once it has bound its listeners and read its files.
//!
//! A process of root opens what needs root: ports below 1024, keys, the log, the pid file. After that it serves as another
//! user, for good. What a reload reads or binds later is subject to that user's permissions.

#[cfg(unix)]
mod identity;

#[cfg(unix)]
pub(crate) use identity::{Identity, is_root};

/// Systems without such users.
#[cfg(not(unix))]
mod identity {
    use std::{io, path::Path};

    use super::PrivilegesError;
    use crate::config::ServerConfig;

    /// There is none.
    #[derive(Clone, Debug)]
    pub(crate) enum Identity {}

    impl Identity {
        pub(crate) fn configured(config: &ServerConfig) -> Result<Option<Self>, PrivilegesError> {
            match (&config.user, &config.group) {
                (None, None) => Ok(None),
                _ => Err(PrivilegesError::Unsupported),
            }
        }

        pub(crate) fn shown(&self) -> &str {
            match *self {}
        }

        pub(crate) fn own(&self, _path: &Path) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn assume(&self) -> io::Result<()> {
            match *self {}
        }
    }

    pub(crate) fn is_root() -> bool {
        false
    }
}

#[cfg(not(unix))]
pub(crate) use identity::{Identity, is_root};

/// Why the proxy cannot become another user.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    /// The system has no user or group of this name.
    #[error("{kind} `{name}` does not exist; use the name or number of one that does")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// As configured.
        name: String,
    },
    /// A group without a user.
    #[error("given without user; set both, or only user")]
    GroupAlone,
    /// The process is not one of root.
    #[error(
        "only root can become `{user}`; start the proxy as root or as that user, or remove the setting"
    )]
    NotRoot {
        /// As configured.
        user: String,
    },
    /// The system's databases of users cannot be read.
    #[error("cannot look up `{name}`: {reason}")]
    Lookup {
        /// As configured.
        name: String,
        /// The system's error.
        reason: String,
    },
    /// This system has no users in this sense.
    #[error("is not supported on this system; remove the setting")]
    Unsupported,
}

impl PrivilegesError {
    /// The setting at fault.
    pub(crate) fn setting(&self) -> &'static str {
        match self {
            Self::Unknown { kind: "group", .. } | Self::GroupAlone => "server.group",
            _ => "server.user",
        }
    }
}
