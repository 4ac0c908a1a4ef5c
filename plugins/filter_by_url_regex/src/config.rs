//! The settings of the plugin, and the list of rules. By default, a few advertising hosts are blocked.

use plugin_api::Error;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Rules in the order in which they are tried.
    rules: Option<Vec<RuleConfig>>,
    /// A JSON file with further rules; relative to the directory in which the proxy is started.
    file: Option<PathBuf>,
}

/// A rule, in `proxy.toml` or in the file; the key names of proxy.py are accepted, too.
#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[cfg_attr(test, schemars(transform = tests::add_aliases))]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    /// Matched anywhere in host and path, unless it is anchored.
    pub(crate) regex: String,
    /// The purpose of the rule; shown in the access log.
    #[serde(default)]
    pub(crate) notes: String,
    /// Status code of the answer, 400 to 599.
    #[serde(default = "default_status", alias = "status_code")]
    #[cfg_attr(test, schemars(range(min = 400, max = 599)))]
    pub(crate) status: u16,
    /// Reason phrase of the answer; if empty, the standard one for the status.
    #[serde(default = "default_reason", alias = "reason_phrase")]
    pub(crate) reason: String,
}

fn default_status() -> u16 {
    404
}

fn default_reason() -> String {
    "Blocked".to_owned()
}

/// Default rules, used if the settings contain neither rules nor a file.
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
    /// The rules of the settings, then those of the file; the default rules if there are neither.
    ///
    /// # Errors
    /// The file cannot be read, or is not a list of rules.
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

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::testing::check_schema;

    /// The names that serde accepts as well.
    pub(super) fn add_aliases(schema: &mut schemars::Schema) {
        for (alias, name) in [("status_code", "status"), ("reason_phrase", "reason")] {
            let property = schema.pointer(&format!("/properties/{name}")).cloned();
            if let (Some(property), Some(properties)) = (property, schema.get_mut("properties")) {
                properties[alias] = property;
            }
        }
    }

    #[test]
    fn the_schema_is_that_of_the_settings() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json");
        check_schema::<Config>(SCHEMA, path);
    }
}
