//! The settings of the plugin. By default, nothing is replaced.

use serde::Deserialize;
use std::path::PathBuf;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
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
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnOtherHost {
    /// It is sent unchanged: it is worthless without the secret.
    Leave,
    /// The request is answered with 403.
    Refuse,
}

/// A secret. Contains its location, never its value.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretConfig {
    /// The text that clients send instead of the secret.
    #[cfg_attr(test, schemars(length(min = 4), regex(pattern = "^[!-~]+$")))]
    pub(crate) placeholder: String,
    /// The file that contains the secret; reloaded when it changes.
    pub(crate) file: Option<PathBuf>,
    /// The environment variable that contains the secret, instead of a file.
    pub(crate) env: Option<String>,
    /// The hosts to which the secret may be sent, without port.
    #[cfg_attr(test, schemars(length(min = 1), inner(regex(pattern = r"^[^\s/]+$"))))]
    pub(crate) hosts: Vec<String>,
    /// The header fields in which the placeholder is replaced. Default: all.
    #[cfg_attr(
        test,
        schemars(inner(regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")))
    )]
    pub(crate) fields: Option<Vec<String>>,
    /// Whether the placeholder is replaced in path and query, too.
    #[serde(default)]
    pub(crate) path: bool,
    /// Whether the secret may be sent over plain HTTP, where it can be read on the network path.
    #[serde(default)]
    pub(crate) allow_plain_http: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::testing::check_schema;

    #[test]
    fn the_schema_is_that_of_the_settings() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json");
        check_schema::<Config>(SCHEMA, path);
    }
}
