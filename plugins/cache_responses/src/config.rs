//! The settings of the plugin. By default, responses are written to the system directory for temporary files.

use plugin_api::Error;
use serde::Deserialize;
use std::env;
use std::path::PathBuf;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Directory for the files; must exist at startup.
    #[cfg_attr(test, schemars(extend("default" = null)))]
    pub(crate) directory: PathBuf,
    /// Prefix of the file names, before the host.
    #[cfg_attr(test, schemars(length(max = 64), regex(pattern = r"^[^/]*$")))]
    pub(crate) prefix: String,
    /// Maximum size of a file, in bytes; a file that would exceed it is removed. Default 64 MiB.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub(crate) max_file: u64,
    /// Maximum memory for data that waits to be written, in bytes; above it, files are abandoned, so that exchanges
    /// never wait. Default 16 MiB.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub(crate) max_waiting: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: env::temp_dir(),
            prefix: String::new(),
            max_file: 64 * 1024 * 1024,
            max_waiting: 16 * 1024 * 1024,
        }
    }
}

/// Longer than any sensible prefix, and short enough to leave room for the host in a file name.
const MAX_PREFIX_LEN: usize = 64;

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// The key and the reason.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.directory.is_dir() {
            let directory = self.directory.display();
            return Err(Error::new(format!(
                "directory: `{directory}` is not a directory"
            )));
        }
        let is_part_of_a_name = |c: char| c != '/' && !c.is_control();
        if self.prefix.len() > MAX_PREFIX_LEN || !self.prefix.chars().all(is_part_of_a_name) {
            let prefix = self.prefix.escape_debug();
            return Err(Error::new(format!(
                "prefix: `{prefix}` is not the beginning of a file name"
            )));
        }
        for (key, value) in [
            ("max_file", self.max_file),
            ("max_waiting", self.max_waiting),
        ] {
            if value == 0 {
                return Err(Error::new(format!("{key}: must be greater than 0")));
            }
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
