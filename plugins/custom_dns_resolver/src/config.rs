//! The settings of the plugin. By default, every name is resolved by the resolver of the system.

use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Addresses by name, in the order in which they are tried. `*.domain` matches all names below the domain, `*` all
    /// names.
    pub(crate) hosts: HashMap<String, Vec<IpAddr>>,
    /// A file in the format of `/etc/hosts`, read once at startup; `hosts` takes precedence.
    pub(crate) hosts_file: Option<PathBuf>,
    /// Source address for connections to all hosts that are names.
    pub(crate) source: Option<IpAddr>,
    /// Whether all other names are resolved by the system (getaddrinfo, hence `/etc/nsswitch.conf`) or by the proxy.
    pub(crate) system: bool,
    /// Time for which an answer of the system is cached, in seconds; 0 disables the cache.
    pub(crate) system_ttl: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts: HashMap::new(),
            hosts_file: None,
            source: None,
            system: true,
            system_ttl: 60,
        }
    }
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
