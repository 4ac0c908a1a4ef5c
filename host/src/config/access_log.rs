//! The access log: where its lines go, how they are laid out, and which exchanges have one.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AccessFormat, ValueError};

/// The access log: one line per exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogConfig {
    /// Where the lines go. Default: the log.
    pub file: AccessLogFile,
    /// How lines are laid out. Default: [`AccessFormat::Json`] if lines of the log are JSON, otherwise
    /// [`AccessFormat::Default`].
    pub format: AccessFormat,
    /// The share of exchanges that have a line, above 0, at most 1; failures have one always. Default 1.
    pub sample: f64,
    /// Exchanges have a line if one of these holds. Empty, the default: all have one.
    pub when: Vec<AccessCondition>,
    /// From when on an exchange is slow. Default 1 s.
    pub slow_after: Duration,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            file: AccessLogFile::default(),
            format: AccessFormat::Default,
            sample: 1.0,
            when: Vec::new(),
            slow_after: Duration::from_secs(1),
        }
    }
}

/// When an exchange has a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessCondition {
    /// It failed: the status is 500 or more, or there is no complete response.
    Errors,
    /// The proxy or a plugin refused it: with 4xx, or by closing the connection.
    Refused,
    /// It took as long as [`AccessLogConfig::slow_after`].
    Slow,
}

/// Where the lines of the access log go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFile {
    /// Into the log, if its level is INFO or lower.
    #[default]
    Log,
    /// Nowhere.
    Off,
    /// To standard output.
    StandardOutput,
    /// Into a file of their own.
    File(PathBuf),
}

impl FromStr for AccessLogFile {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(match text {
            "" | "off" => Self::Off,
            "-" => Self::StandardOutput,
            path => Self::File(path.into()),
        })
    }
}

/// A share of exchanges: above 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl TryFrom<f64> for Share {
    type Error = ValueError;

    fn try_from(share: f64) -> Result<Self, ValueError> {
        match share > 0.0 && share <= 1.0 {
            true => Ok(Self(share)),
            false => Err(ValueError::NotAShare),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_words_are_no_file() {
        for (text, file) in [
            ("", AccessLogFile::Off),
            ("off", AccessLogFile::Off),
            ("-", AccessLogFile::StandardOutput),
            ("./off", AccessLogFile::File("./off".into())),
            ("access.log", AccessLogFile::File("access.log".into())),
        ] {
            assert_eq!(text.parse(), Ok(file), "{text}");
        }
    }

    #[test]
    fn a_share_is_above_zero_and_at_most_one() {
        for share in [1.0, 0.5, f64::MIN_POSITIVE] {
            assert_eq!(Share::try_from(share), Ok(Share(share)));
        }
        for share in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
            assert_eq!(
                Share::try_from(share),
                Err(ValueError::NotAShare),
                "{share}"
            );
        }
    }
}
