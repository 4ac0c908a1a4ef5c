//! The plugin's table. Without one, requests say which version of this plugin they came through.

use serde::Deserialize;
use std::collections::BTreeMap;

/// As written in `proxy.toml`. Fields are removed first, then set, then appended; in each, in the order of names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Values by name; one field of the name is left. A table given here takes the place of the default one.
    pub(crate) set: BTreeMap<String, String>,
    /// Values by name, each added behind the fields there are.
    pub(crate) append: BTreeMap<String, String>,
    /// Names whose fields are removed.
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
