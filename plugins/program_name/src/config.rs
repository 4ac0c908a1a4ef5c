//! The plugin's table.

use plugin_api::Error;
use serde::Deserialize;
use std::time::Duration;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Longest that the first request of a connection waits for the name, in milliseconds, 1 to 2000; past it the
    /// request goes on and the program of its connection stays unknown.
    max_wait_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_wait_ms: 200 }
    }
}

impl Config {
    /// # Errors
    /// A wait that is none, or that comes near the proxy's own limit for a hook.
    pub(crate) fn max_wait(&self) -> Result<Duration, Error> {
        match self.max_wait_ms {
            wait @ 1..=2000 => Ok(Duration::from_millis(wait)),
            wait => Err(Error::new(format!(
                "max_wait_ms: {wait} is not from 1 to 2000"
            ))),
        }
    }
}
