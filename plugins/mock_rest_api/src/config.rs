//! The settings of the plugin. By default, `api.example.com` lists its two users.

use serde::Deserialize;
use std::collections::HashMap;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The host of the API, without port.
    #[cfg_attr(test, schemars(regex(pattern = r"^[^\s/]+$")))]
    pub(crate) host: String,
    /// Answers by path; replaces the default table.
    pub(crate) routes: HashMap<String, MockAnswer>,
}

/// The answer to one path.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct MockAnswer {
    /// Status code, 200 to 599.
    #[serde(default = "default_status")]
    #[cfg_attr(test, schemars(range(min = 200, max = 599)))]
    pub(crate) status: u16,
    /// JSON text, sent as it is written.
    pub(crate) json: String,
}

fn default_status() -> u16 {
    200
}

const USERS: &str = concat!(
    r#"{"count": 2, "next": null, "previous": null, "results": ["#,
    r#"{"email": "you@example.com", "groups": [], "#,
    r#""url": "api.example.com/v1/users/1/", "username": "admin"}, "#,
    r#"{"email": "someone@example.com", "groups": [], "#,
    r#""url": "api.example.com/v1/users/2/", "username": "admin"}]}"#,
);

impl Default for Config {
    fn default() -> Self {
        let users = MockAnswer {
            status: default_status(),
            json: USERS.to_owned(),
        };
        Self {
            host: "api.example.com".to_owned(),
            routes: HashMap::from([("/v1/users/".to_owned(), users)]),
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
