//! The settings of the plugin. By default, the text is a greeting from the man in the middle.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The new content of responses, as text.
    pub(crate) body: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body: "Hello from man in the middle".to_owned(),
        }
    }
}
