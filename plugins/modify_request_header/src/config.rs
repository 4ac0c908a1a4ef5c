//! The settings of the plugin. By default, requests get a field with the version of this plugin.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`. Fields are removed first, then set, then appended; within each, in the order of names.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Values by name; existing fields of that name are replaced. Replaces the default table.
    #[cfg_attr(test, schemars(extend("writeOnly" = true, "x-secret" = true)))]
    pub(crate) set: BTreeMap<String, String>,
    /// Values by name, each added after the existing fields.
    #[cfg_attr(test, schemars(extend("writeOnly" = true, "x-secret" = true)))]
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
