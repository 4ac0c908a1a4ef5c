//! The settings of the plugin.

use plugin_api::Error;
use serde::Deserialize;
use std::time::Duration;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Maximum time that the first request of a connection waits for the name, in milliseconds, 1 to 2000; after that,
    /// the request continues, and the program of its connection remains unknown.
    #[cfg_attr(test, schemars(range(min = 1, max = 2000)))]
    max_wait_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_wait_ms: 200 }
    }
}

impl Config {
    /// # Errors
    /// The wait is 0, or too close to the limit of the proxy for a hook.
    pub(crate) fn max_wait(&self) -> Result<Duration, Error> {
        match self.max_wait_ms {
            wait @ 1..=2000 => Ok(Duration::from_millis(wait)),
            wait => Err(Error::new(format!(
                "max_wait_ms: {wait} is not from 1 to 2000"
            ))),
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
