//! The plugin's table. Without one, exchanges are recorded into `proxy.har` where the proxy was started.

use plugin_api::Error;
use serde::Deserialize;
use std::path::PathBuf;

/// Most exchanges that may wait; their places are allocated at the start.
const MAX_QUEUE_LEN: usize = 65536;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The archive; one that this plugin has written is continued.
    pub(crate) file: PathBuf,
    /// Most bytes kept of a response's content; what is longer is cut off and marked. 0 keeps none.
    pub(crate) max_body: usize,
    /// Fields whose values are replaced by `[redacted]`, in requests and responses.
    pub(crate) redact_fields: Vec<String>,
    /// Exchanges that may wait for the disk; further ones are not recorded, and counted.
    pub(crate) queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        let redacted = [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
        ];
        Self {
            file: PathBuf::from("proxy.har"),
            max_body: 1024 * 1024,
            redact_fields: redacted.map(str::to_owned).to_vec(),
            queue: 64,
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
                "queue: must be between 1 and {MAX_QUEUE_LEN} exchanges"
            ))),
        }
    }
}
