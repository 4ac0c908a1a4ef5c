//! The settings of the plugin. By default, nothing is allowed.

use plugin_api::Error;
use serde::Deserialize;
use std::path::PathBuf;

/// Maximum length of the queue; its memory is allocated at startup.
const MAX_QUEUE_LEN: usize = 1_000_000;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The rules; requests that match no rule are denied.
    pub(crate) allow: Vec<RuleConfig>,
    /// Deny nothing, but log what would be denied.
    pub(crate) report_only: bool,
    /// File to append a JSON line to for every decision. Default: no audit log.
    pub(crate) audit_log: Option<PathBuf>,
    /// Lines that may wait to be written to the audit log; further lines are dropped and counted.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000)))]
    pub(crate) queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            report_only: false,
            audit_log: None,
            queue: 4096,
        }
    }
}

impl Config {
    /// The length of the queue.
    ///
    /// # Errors
    /// The length is out of range.
    pub(crate) fn queue_len(&self) -> Result<usize, Error> {
        match self.queue {
            len @ 1..=MAX_QUEUE_LEN => Ok(len),
            _ => Err(Error::new(format!(
                "queue: must be between 1 and {MAX_QUEUE_LEN} lines"
            ))),
        }
    }
}

/// A rule, which matches when all of its keys match.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    /// A name, `*.` and a name for all of its subdomains, or an address.
    #[cfg_attr(test, schemars(regex(pattern = r"^[^\s/]+$")))]
    pub(crate) host: String,
    /// Ports. Default: 80 and 443.
    #[serde(default = "web_ports")]
    pub(crate) ports: Vec<u16>,
    /// Methods. Default: all.
    pub(crate) methods: Option<Vec<String>>,
    /// Paths without query, with a `*` at the end for a prefix. Default: all.
    #[cfg_attr(test, schemars(inner(regex(pattern = "^/"))))]
    pub(crate) paths: Option<Vec<String>>,
    /// Whether tunnels and upgraded connections, whose content is not visible, are allowed. Default: only if neither
    /// methods nor paths are given, because these could not be enforced.
    pub(crate) tunnels: Option<bool>,
}

fn web_ports() -> Vec<u16> {
    vec![80, 443]
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
