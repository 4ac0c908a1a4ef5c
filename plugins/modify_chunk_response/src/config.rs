//! The settings of the plugin. By default, the new content is four words.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The new content: these texts, one line each.
    pub(crate) chunks: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let words = ["modify", "chunk", "response", "plugin"];
        Self {
            chunks: words.map(str::to_owned).to_vec(),
        }
    }
}
