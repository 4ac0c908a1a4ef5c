//! The plugin's table. Without one, every name is resolved as this system does.

use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Addresses by name, in the order they are tried. `*.domain` means all names below the domain, `*` all names.
    pub(crate) hosts: HashMap<String, Vec<IpAddr>>,
    /// A file in the format of `/etc/hosts`, read once at the start; `hosts` comes before it.
    pub(crate) hosts_file: Option<PathBuf>,
    /// The address of this machine to connect from, to whatever host has a name.
    pub(crate) source: Option<IpAddr>,
    /// Whether names that are in neither are resolved as this system does (getaddrinfo, hence `/etc/nsswitch.conf`),
    /// or are left to the proxy.
    pub(crate) system: bool,
    /// How long an answer of the system is kept, in seconds; 0 asks it for every exchange.
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
