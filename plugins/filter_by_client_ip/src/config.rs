//! The settings of the plugin. By default, no client is denied.

use plugin_api::Error;
use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Addresses and prefixes of the clients to serve; if empty, all clients are served.
    pub(crate) allow: Vec<String>,
    /// Addresses and prefixes of clients to deny; overrides `allow`.
    pub(crate) deny: Vec<String>,
    /// Status code of the answer, 400 to 599.
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
