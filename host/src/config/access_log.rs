//! The access log: where its lines go.

use std::path::PathBuf;
use std::str::FromStr;

use super::ValueError;

/// The access log: one line per exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Where the lines go. Default: the log.
    pub file: AccessLogFile,
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
}
