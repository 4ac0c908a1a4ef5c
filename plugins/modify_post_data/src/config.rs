//! The settings of the plugin. By default, the new content is a small JSON document.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Methods of the requests to change; case-sensitive.
    pub(crate) methods: Vec<String>,
    /// The new content, as text.
    pub(crate) body: String,
    /// The new Content-Type.
    pub(crate) content_type: String,
    /// Maximum length of the content to replace, in bytes; above it, the request is answered with 413. Default 1 MiB.
    pub(crate) max_body: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            methods: vec!["POST".to_owned()],
            body: r#"{"key": "modified"}"#.to_owned(),
            content_type: "application/json".to_owned(),
            max_body: 1024 * 1024,
        }
    }
}
