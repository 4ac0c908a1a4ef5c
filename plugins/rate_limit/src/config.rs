//! The plugin's table. Without one, every client may ask a hundred times a minute.

use plugin_api::Error;
use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Whose requests are counted together.
    pub(crate) per: Per,
    /// Requests that are served within a window in the long run; 1 to 1,000,000.
    pub(crate) requests: u32,
    /// Length of that window in seconds; 1 to 86,400, a day.
    pub(crate) window_seconds: u32,
    /// Requests that are served at once after a rest; 1 to 1,000,000, `requests` by default.
    pub(crate) burst: Option<u32>,
    /// Clients, hosts or pairs that are remembered; past it, the one that has been idle for longest is forgotten and
    /// begins afresh. 1 to 16,777,216, at roughly 200 bytes each.
    pub(crate) max_keys: usize,
    /// Only says in the access log what would have been denied.
    pub(crate) report_only: bool,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Per {
    /// Those of one client address, or of one IPv6 network of length 64.
    Client,
    /// Those to one upstream host, whoever asks.
    Host,
    /// Those of one client to one host.
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
    /// A number out of its range, with its key.
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
