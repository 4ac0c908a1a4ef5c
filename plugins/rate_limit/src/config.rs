//! The settings of the plugin. By default, every client may send a hundred requests a minute.

use plugin_api::Error;
use serde::Deserialize;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// How requests are grouped for counting.
    pub(crate) per: Per,
    /// Average number of requests that are served in a window; 1 to 1,000,000.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000)))]
    pub(crate) requests: u32,
    /// Length of the window in seconds; 1 to 86,400 (a day).
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400)))]
    pub(crate) window_seconds: u32,
    /// Maximum burst of requests after an idle period; 1 to 1,000,000. Default: `requests`.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000)))]
    pub(crate) burst: Option<u32>,
    /// Maximum number of tracked clients, hosts or pairs; above it, the one that has been idle for the longest is
    /// removed and starts again. 1 to 16,777,216, at roughly 200 bytes each.
    #[cfg_attr(test, schemars(range(min = 1, max = 16_777_216)))]
    pub(crate) max_keys: usize,
    /// Deny nothing, but show in the access log what would be denied.
    pub(crate) report_only: bool,
}

/// How requests are grouped for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Per {
    /// By client address, or by IPv6 network with a prefix of 64 bits.
    Client,
    /// By upstream host, for all clients together.
    Host,
    /// By client and upstream host.
    ClientAndHost,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            per: Per::Client,
            requests: 100,
            window_seconds: 60,
            burst: None,
            max_keys: 65536,
            report_only: false,
        }
    }
}

impl Config {
    /// # Errors
    /// A number is out of range; the error contains its key.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (key, value, last) in [
            ("requests", self.requests as usize, 1_000_000),
            ("window_seconds", self.window_seconds as usize, 86_400),
            ("burst", self.burst() as usize, 1_000_000),
            ("max_keys", self.max_keys, 1 << 24),
        ] {
            if !(1..=last).contains(&value) {
                return Err(Error::new(format!(
                    "{key}: {value} is not from 1 to {last}"
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.requests)
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
