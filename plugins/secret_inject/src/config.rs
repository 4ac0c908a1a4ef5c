//! The plugin's table. Without one, nothing is replaced.

use serde::Deserialize;
use std::path::PathBuf;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// What is replaced, by what, and toward whom.
    pub(crate) secrets: Vec<SecretConfig>,
    /// What happens to a request with a placeholder that goes to a host its secret is not for.
    pub(crate) on_other_host: OnOtherHost,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            on_other_host: OnOtherHost::Leave,
        }
    }
}

/// What happens to a placeholder that goes elsewhere.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnOtherHost {
    /// It is sent as it is: a text without value.
    Leave,
    /// The request is answered 403.
    Refuse,
}

/// One secret. Holds where it is found, never what it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretConfig {
    /// The text that clients send instead of the secret.
    pub(crate) placeholder: String,
    /// The file that holds the secret; read again when it changes.
    pub(crate) file: Option<PathBuf>,
    /// The environment variable that holds it, in place of a file.
    pub(crate) env: Option<String>,
    /// The hosts it is for, without port.
    pub(crate) hosts: Vec<String>,
    /// The fields in which the placeholder is replaced; all by default.
    pub(crate) fields: Option<Vec<String>>,
    /// Whether it is replaced in path and query, too.
    #[serde(default)]
    pub(crate) path: bool,
    /// Whether it may be sent where everyone on the way can read it.
    #[serde(default)]
    pub(crate) allow_plain_http: bool,
}
