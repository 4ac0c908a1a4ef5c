//! The plugin's table. Without one, the nine links of the default lead to their sites.

use serde::Deserialize;
use std::collections::HashMap;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Destinations by short name; a table given here takes the place of the default one.
    pub(crate) links: HashMap<String, String>,
    /// What happens to a short name that is not in the table.
    pub(crate) unknown: Unknown,
}

/// What happens to a short name that leads nowhere.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unknown {
    /// It is answered 404.
    NotFound,
    /// It is a host like any other, as in networks that have hosts of one word.
    Forward,
}

const LINKS: [(&str, &str); 9] = [
    ("a", "amazon.com"),
    ("i", "instagram.com"),
    ("l", "linkedin.com"),
    ("f", "facebook.com"),
    ("g", "google.com"),
    ("t", "twitter.com"),
    ("w", "web.whatsapp.com"),
    ("y", "youtube.com"),
    ("proxy", "localhost:8899"),
];

impl Default for Config {
    fn default() -> Self {
        let links = LINKS.map(|(name, destination)| (name.to_owned(), destination.to_owned()));
        Self {
            links: HashMap::from(links),
            unknown: Unknown::NotFound,
        }
    }
}
