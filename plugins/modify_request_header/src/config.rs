//! The settings of the plugin. By default, requests get a field with the version of this plugin.

use serde::Deserialize;
use std::collections::BTreeMap;

/// As written in `proxy.toml`. Fields are removed first, then set, then appended; within each, in the order of names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Values by name; existing fields of that name are replaced. Replaces the default table.
    pub(crate) set: BTreeMap<String, String>,
    /// Values by name, each added after the existing fields.
    pub(crate) append: BTreeMap<String, String>,
    /// Names of fields to remove.
    pub(crate) remove: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            set: BTreeMap::from([("x-proxy-version".to_owned(), version)]),
            append: BTreeMap::new(),
            remove: Vec::new(),
        }
    }
}
