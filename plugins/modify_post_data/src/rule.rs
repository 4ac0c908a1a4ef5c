//! Which requests get new content, and which of their fields describe the old one.

use crate::config::Config;
use plugin_api::{Error, is_field_value, is_token};

/// Fields that describe the old content: its coding, digests and range.
pub(crate) const OF_THE_OLD_CONTENT: [&str; 6] = [
    "Content-Encoding",
    "Content-MD5",
    "Content-Digest",
    "Digest",
    "Repr-Digest",
    "Content-Range",
];

/// The replacement, and the requests it applies to.
pub(crate) struct Replacement {
    methods: Vec<String>,
    pub(crate) body: String,
    pub(crate) content_type: String,
    pub(crate) max_body: u64,
}

impl Replacement {
    /// Checks the settings.
    ///
    /// # Errors
    /// An invalid method or Content-Type, or a limit of 0.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::new(reason));
        if let Some(method) = config.methods.iter().find(|method| !is_token(method)) {
            return wrong(format!("methods: `{method}` is not a method"));
        }
        if config.content_type.is_empty() || !is_field_value(&config.content_type) {
            let content_type = config.content_type.escape_debug();
            return wrong(format!(
                "content_type: `{content_type}` is not a media type"
            ));
        }
        if config.max_body == 0 {
            return wrong("max_body: 0 would refuse every request with content".to_owned());
        }
        Ok(Self {
            methods: config.methods,
            body: config.body,
            content_type: config.content_type,
            max_body: config.max_body,
        })
    }

    /// Whether it applies to requests with this method.
    pub(crate) fn is_for(&self, method: &str) -> bool {
        self.methods.iter().any(|chosen| chosen == method)
    }
}

#[cfg(test)]
mod tests {
    use super::Replacement;
    use crate::config::Config;

    #[test]
    fn is_for_the_methods_as_written() {
        let replacement = Replacement::new(Config::default()).ok().unwrap();
        assert!(replacement.is_for("POST"));
        for method in ["post", "PUT", "GET", ""] {
            assert!(!replacement.is_for(method), "{method}");
        }
    }
}
