//! The settings of the plugin. By default, no client is denied.

use plugin_api::Error;
use serde::Deserialize;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Addresses and prefixes of the clients to serve; if empty, all clients are served.
    #[cfg_attr(
        test,
        schemars(inner(regex(pattern = "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")))
    )]
    pub(crate) allow: Vec<String>,
    /// Addresses and prefixes of clients to deny; overrides `allow`.
    #[cfg_attr(
        test,
        schemars(inner(regex(pattern = "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")))
    )]
    pub(crate) deny: Vec<String>,
    /// Status code of the answer, 400 to 599.
    #[cfg_attr(test, schemars(range(min = 400, max = 599)))]
    pub(crate) status: u16,
    /// Reason phrase of the answer; if empty, the standard one for the status.
    pub(crate) reason: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            status: 418,
            reason: "I'm a tea pot".to_owned(),
        }
    }
}

impl Config {
    /// # Errors
    /// A status outside 400 to 599, or a reason with control characters.
    pub(crate) fn check_answer(&self) -> Result<(), Error> {
        if !(400..=599).contains(&self.status) {
            let status = self.status;
            return Err(Error::new(format!(
                "status: {status} is not from 400 to 599"
            )));
        }
        if self.reason.chars().any(char::is_control) {
            return Err(Error::new("reason: contains a control character"));
        }
        Ok(())
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
