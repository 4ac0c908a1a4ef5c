//! Parses a plugin's configuration table, from TOML text to the author's type.
//!
//! Errors are one line with the key, so that the operator finds the mistake in the file.

use crate::{Error, Filter};
use serde::de::DeserializeOwned;

/// Creates a filter from the text of its table.
pub(crate) fn configure<F: Filter>(text: &str) -> Result<F, Error> {
    F::new(read(text)?)
}

/// Parses the text of a table.
pub(crate) fn read<C: DeserializeOwned>(text: &str) -> Result<C, Error> {
    toml::from_str(text).map_err(|error| Error::new(reason(text, &error)))
}

fn reason(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', "; ");
    match error.span().and_then(|span| key_before(text, span.start)) {
        Some(key) => format!("{key}: {message}"),
        None => message,
    }
}

/// The key on the line of the value at `position`; `None` if there is something else before it.
fn key_before(text: &str, position: usize) -> Option<&str> {
    let before = text.get(..position)?;
    let line = before.rsplit('\n').next()?;
    let (key, _) = line.split_once('=')?;
    Some(key.trim())
}

#[cfg(test)]
mod tests {
    use super::reason;
    use serde::Deserialize;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Config {
        hosts: Vec<String>,
        #[serde(default)]
        port: u16,
    }

    fn refused(text: &str) -> String {
        reason(text, &toml::from_str::<Config>(text).unwrap_err())
    }

    #[test]
    fn reports_key_and_reason_in_one_line() {
        for (text, expected) in [
            (
                "hosts = ['a', 5]\nport = 1",
                "hosts: invalid type: integer `5`, expected a string",
            ),
            (
                "hosts = []\nport = 'x'",
                "port: invalid type: string \"x\", expected u16",
            ),
            (
                "hosts = []\nprot = 1",
                "unknown field `prot`, expected `hosts` or `port`",
            ),
            ("port = 1", "missing field `hosts`"),
        ] {
            assert_eq!(refused(text), expected);
        }
        assert!(!refused("hosts = [").contains('\n'));
    }
}
