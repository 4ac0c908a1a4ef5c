//! The plugin's table. Without one, Google is denied.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Hosts to deny, without port; subdomains are other hosts.
    pub(crate) hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts: vec!["google.com".to_owned(), "www.google.com".to_owned()],
        }
    }
}
