//! The settings of the plugin. By default, Google is denied.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Hosts to deny, without port; subdomains are not included.
    pub(crate) hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts: vec!["google.com".to_owned(), "www.google.com".to_owned()],
        }
    }
}
