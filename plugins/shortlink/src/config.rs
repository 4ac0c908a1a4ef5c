//! The settings of the plugin. By default, there are nine links to well-known sites.

use serde::Deserialize;
use std::collections::HashMap;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Destinations by short name; replaces the default table.
    pub(crate) links: HashMap<String, String>,
    /// What happens to a short name that is not in the table.
    pub(crate) unknown: Unknown,
}

/// What happens to an unknown short name.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unknown {
    /// It is answered with 404.
    NotFound,
    /// The request is forwarded, for networks with host names of one word.
    Forward,
}

const LINKS: [(&str, &str); 9] = [
    ("a", "amazon.com"),
    ("i", "instagram.com"),
    ("l", "linkedin.com"),
    ("f", "facebook.com"),
    ("g", "google.com"),
    ("t", "twitter.com"),
    ("w", "web.whatsapp.com"),
    ("y", "youtube.com"),
    ("proxy", "localhost:8899"),
];

impl Default for Config {
    fn default() -> Self {
        let links = LINKS.map(|(name, destination)| (name.to_owned(), destination.to_owned()));
        Self {
            links: HashMap::from(links),
            unknown: Unknown::NotFound,
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
