//! The settings of the plugin. By default, exchanges are recorded in `proxy.har` in the directory in which the proxy
//! was started.

use plugin_api::Error;
use serde::Deserialize;
use std::path::PathBuf;

/// Maximum length of the queue; its memory is allocated at startup.
const MAX_QUEUE_LEN: usize = 65536;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The archive file; an existing archive of this plugin is extended.
    pub(crate) file: PathBuf,
    /// Maximum recorded content of a response, in bytes; longer content is truncated and marked. 0 records no content.
    pub(crate) max_body: usize,
    /// Fields whose values are replaced by `[redacted]`, in requests and responses.
    pub(crate) redact_fields: Vec<String>,
    /// Exchanges that may wait to be written; further ones are not recorded, but counted.
    #[cfg_attr(test, schemars(range(min = 1, max = 65_536)))]
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
    /// The length is out of range.
    pub(crate) fn queue_len(&self) -> Result<usize, Error> {
        match self.queue {
            len @ 1..=MAX_QUEUE_LEN => Ok(len),
            _ => Err(Error::new(format!(
                "queue: must be between 1 and {MAX_QUEUE_LEN} exchanges"
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
