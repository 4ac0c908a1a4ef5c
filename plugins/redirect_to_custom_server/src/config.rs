//! The plugin's table. Without one, requests go to port 8899 of this machine.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where all requests go: `host:port`.
    pub(crate) server: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: "localhost:8899".to_owned(),
        }
    }
}
