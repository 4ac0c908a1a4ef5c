//! The plugin's table, and the list of rules it leads to. Without one, a few hosts of advertisements are blocked.

use plugin_api::Error;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Rules in the order in which they are tried.
    rules: Option<Vec<RuleConfig>>,
    /// A JSON list of further rules; relative to the directory in which the proxy is started.
    file: Option<PathBuf>,
}

/// One rule, in `proxy.toml` as well as in the file; proxy.py's names of the keys are understood, too.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    /// Searched for anywhere in host and path, unless it anchors itself.
    pub(crate) regex: String,
    /// What the rule is for; shown in the access log.
    #[serde(default)]
    pub(crate) notes: String,
    /// Status code of the answer, 400 to 599.
    #[serde(default = "default_status", alias = "status_code")]
    pub(crate) status: u16,
    /// Reason phrase of the answer; when empty, the usual one for the status.
    #[serde(default = "default_reason", alias = "reason_phrase")]
    pub(crate) reason: String,
}

fn default_status() -> u16 {
    404
}

fn default_reason() -> String {
    "Blocked".to_owned()
}

/// Expressions with their notes, for a table that names neither rules nor a file.
const SAMPLE: [(&str, &str); 8] = [
    (
        r"^(.+\.)?doubleclick\.net(/|$)",
        "Google advertisements and their counters",
    ),
    (
        r"^tpc\.googlesyndication\.com/simgad/",
        "Google image advertisements",
    ),
    (
        r"^pagead2\.googlesyndication\.com(/|$)",
        "Google AdSense scripts",
    ),
    (r"^(.+\.)?adnxs\.com(/|$)", "Xandr advertisement exchange"),
    (
        r"^(.+\.)?amazon-adsystem\.com(/|$)",
        "Amazon advertisements",
    ),
    (
        r"^(.+\.)?(taboola|outbrain)\.com(/|$)",
        "Sponsored links below articles",
    ),
    (
        r"^(.+\.)?scorecardresearch\.com(/|$)",
        "Audience measurement",
    ),
    (
        r"^www\.google-analytics\.com/(collect|g/collect)",
        "Google Analytics beacons",
    ),
];

impl Config {
    /// The rules of the table, then those of the file; the sample if the table names neither.
    ///
    /// # Errors
    /// A file that cannot be read, or is no list of rules.
    pub(crate) fn into_rules(self) -> Result<Vec<RuleConfig>, Error> {
        if self.rules.is_none() && self.file.is_none() {
            return Ok(sample());
        }
        let mut rules = self.rules.unwrap_or_default();
        if let Some(path) = self.file {
            rules.extend(read(&path)?);
        }
        Ok(rules)
    }
}

fn sample() -> Vec<RuleConfig> {
    let rule = |(regex, notes): (&str, &str)| RuleConfig {
        regex: regex.to_owned(),
        notes: notes.to_owned(),
        status: default_status(),
        reason: default_reason(),
    };
    SAMPLE.map(rule).into()
}

fn read(path: &Path) -> Result<Vec<RuleConfig>, Error> {
    let named = |reason: String| Error::new(format!("file: {}: {reason}", path.display()));
    let text = fs::read(path).map_err(|error| named(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| named(error.to_string()))
}
