//! The plugin's table. Without one, what is posted becomes a small JSON document.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Requests with these methods are changed; case matters.
    pub(crate) methods: Vec<String>,
    /// The content they get, as text.
    pub(crate) body: String,
    /// The Content-Type they get.
    pub(crate) content_type: String,
    /// The longest content that is replaced, in bytes; a longer one is answered 413. Default 1 MiB.
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
