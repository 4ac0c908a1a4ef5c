//! The settings of the plugin. By default, tunnels to httpbin.org are not intercepted.

use serde::Deserialize;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Hosts that are never intercepted; `*.example.com` matches all subdomains of `example.com`.
    #[cfg_attr(test, schemars(inner(regex(pattern = r"^[^\s/]+$"))))]
    pub(crate) exclude: Vec<String>,
    /// If not empty, all other hosts are not intercepted either.
    #[cfg_attr(test, schemars(inner(regex(pattern = r"^[^\s/]+$"))))]
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
