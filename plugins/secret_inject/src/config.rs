//! The settings of the plugin. By default, nothing is replaced.

use serde::Deserialize;
use std::path::PathBuf;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The secrets, their placeholders and their hosts.
    pub(crate) secrets: Vec<SecretConfig>,
    /// What happens to a request with a placeholder for a host that the secret is not for.
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

/// What happens to a placeholder in a request to another host.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnOtherHost {
    /// It is sent unchanged: it is worthless without the secret.
    Leave,
    /// The request is answered with 403.
    Refuse,
}

/// A secret. Contains its location, never its value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretConfig {
    /// The text that clients send instead of the secret.
    pub(crate) placeholder: String,
    /// The file that contains the secret; reloaded when it changes.
    pub(crate) file: Option<PathBuf>,
    /// The environment variable that contains the secret, instead of a file.
    pub(crate) env: Option<String>,
    /// The hosts to which the secret may be sent, without port.
    pub(crate) hosts: Vec<String>,
    /// The header fields in which the placeholder is replaced. Default: all.
    pub(crate) fields: Option<Vec<String>>,
    /// Whether the placeholder is replaced in path and query, too.
    #[serde(default)]
    pub(crate) path: bool,
    /// Whether the secret may be sent over plain HTTP, where it can be read on the network path.
    #[serde(default)]
    pub(crate) allow_plain_http: bool,
}
