//! The settings of the plugin. By default, tunnels to httpbin.org are not intercepted.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Hosts that are never intercepted; `*.example.com` matches all subdomains of `example.com`.
    pub(crate) exclude: Vec<String>,
    /// If not empty, all other hosts are not intercepted either.
    pub(crate) include: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            exclude: vec!["httpbin.org".to_owned()],
            include: Vec::new(),
        }
    }
}
