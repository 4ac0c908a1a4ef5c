//! The settings of the plugin. By default, the new content is a small JSON document.

use serde::Deserialize;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Methods of the requests to change; case-sensitive.
    #[cfg_attr(
        test,
        schemars(inner(regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")))
    )]
    pub(crate) methods: Vec<String>,
    /// The new content, as text.
    pub(crate) body: String,
    /// The new Content-Type.
    pub(crate) content_type: String,
    /// Maximum length of the content to replace, in bytes; above it, the request is answered with 413. Default 1 MiB.
    pub(crate) max_body: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            methods: vec!["POST".to_owned()],
            body: r#"{"key": "modified"}"#.to_owned(),
            content_type: "application/json".to_owned(),
            max_body: 1024 * 1024,
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
