//! The plugin's table. Without one, nothing is allowed.

use plugin_api::Error;
use serde::Deserialize;
use std::path::PathBuf;

/// Most lines that may wait; their places are allocated at the start.
const MAX_QUEUE_LEN: usize = 1_000_000;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// What is allowed; what no rule allows is denied.
    pub(crate) allow: Vec<RuleConfig>,
    /// Denies nothing, and logs what would be denied.
    pub(crate) report_only: bool,
    /// File to append a line of JSON to for every decision; none is kept without it.
    pub(crate) audit_log: Option<PathBuf>,
    /// Lines that may wait for the audit log's disk; further ones are dropped and counted.
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
    /// It is no length a queue can have.
    pub(crate) fn queue_len(&self) -> Result<usize, Error> {
        match self.queue {
            len @ 1..=MAX_QUEUE_LEN => Ok(len),
            _ => Err(Error::new(format!(
                "queue: must be between 1 and {MAX_QUEUE_LEN} lines"
            ))),
        }
    }
}

/// One rule: all that it names has to fit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    /// A name, `*.` and a name for all names below it, or an address.
    pub(crate) host: String,
    /// Ports; those of http and https by default.
    #[serde(default = "web_ports")]
    pub(crate) ports: Vec<u16>,
    /// Methods; all by default.
    pub(crate) methods: Option<Vec<String>>,
    /// Paths without query, with a `*` at the end for all that begin so; all by default.
    pub(crate) paths: Option<Vec<String>>,
    /// Whether a connection may be opened whose content cannot be seen; by default only if neither methods nor
    /// paths are given, since they could not be enforced in it.
    pub(crate) tunnels: Option<bool>,
}

fn web_ports() -> Vec<u16> {
    vec![80, 443]
}
