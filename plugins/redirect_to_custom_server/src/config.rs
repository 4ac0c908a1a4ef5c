//! The settings of the plugin. By default, requests are sent to port 8899 of this machine.

use serde::Deserialize;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The server for all requests: `host:port`.
    #[cfg_attr(test, schemars(regex(pattern = r"^[^\s/@]+:[0-9]{1,5}$")))]
    pub(crate) server: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: "localhost:8899".to_owned(),
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
