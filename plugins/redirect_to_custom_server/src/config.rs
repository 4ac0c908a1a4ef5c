//! The settings of the plugin. By default, requests are sent to port 8899 of this machine.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The server for all requests: `host:port`.
    pub(crate) server: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: "localhost:8899".to_owned(),
        }
    }
}
