//! The schemas of single values.
//!
//! They accept whatever the parser of the type accepts. What a pattern cannot express, such as the upper limit of `64K`,
//! they accept as well.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::value::{
    Bounded, Bytes, FieldText, FileMode, FileName, ForeignProtocol, HeaderName, Hostname, LogLevel,
    MAX_SECONDS, NameServer, Pseudonym, Seconds, SecondsOrZero, TrustedNetwork, UrlPath,
};
use super::super::{
    AccessFormat, AccessLogFile, BasicAuth, DirectRule, HostPattern, LogFormat, Share,
};

/// One or more pairs of a number and a unit, or a bare number of seconds.
const DURATION: &str = concat!(
    r"^\s*(\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?",
    r"|([0-9]+(\.[0-9]+)?\s*(h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?|ms|msecs?|millis|milliseconds?",
    r"|us|µs|usecs?|micros|microseconds?|ns|nsecs?|nanos|nanoseconds?|d|days?|w|weeks?)\s*,?\s*)+)\s*$"
);

/// The text of a size: bytes, or with a suffix.
const SIZE: &str = r"^\s*[0-9]+([KkMmGg]([Ii][Bb])?)?\s*$";

const HOST_PATTERN: &str = r"^(\*|(\*?\.)?[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?)$";

/// Types that are strings, with the pattern of their texts.
macro_rules! string_schemas {
    ($($type:ty: $pattern:expr),* $(,)?) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    )*};
}

string_schemas! {
    AccessFormat: r"^(default|combined|squid|json)$|\{",
    AccessLogFile: "",
    DirectRule: format!(r"{HOST_PATTERN}|^[0-9.]+/[0-9]{{1,2}}$|^<[Ll][Oo][Cc][Aa][Ll]>$"),
    FieldText: "^[ -~]*$",
    FileMode: "^0?[0-7]{3}$",
    FileName: r"^([^/\\.]|\.[^/\\.]|\.\.[^/\\])[^/\\]*$",
    ForeignProtocol: "^[!-~]{1,255}$",
    HeaderName: r"^\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*$",
    HostPattern: HOST_PATTERN,
    Hostname: r"^(\[[A-Za-z0-9._:%-]+\]|[A-Za-z0-9._:%-]+)$",
    LogFormat: r"^(default|json)$|%\(message\)",
    NameServer: r"^([0-9.]+(:[0-9]{1,5})?|[0-9A-Fa-f:.]+|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})$",
    Pseudonym: "^[!#$%&'*+.^_`|~0-9A-Za-z:-]+$",
    TrustedNetwork: r"^([0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?$",
    UrlPath: r#"^/[!-"$->@-~]*$"#,
}

impl<const MIN: usize, const MAX: usize> JsonSchema for Bounded<MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Bounded_{MIN}_{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
}

impl<const MIN: usize, const MAX: usize> JsonSchema for Bytes<MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Bytes_{MIN}_{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": MIN,
            "maximum": MAX,
            "pattern": SIZE,
        })
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["number", "string"], "exclusiveMinimum": 0, "maximum": 1})
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "exclusiveMinimum": 0,
            "maximum": MAX_SECONDS,
            "pattern": DURATION,
            // More than zero.
            "allOf": [{"pattern": "[1-9]"}],
        })
    }
}

impl JsonSchema for SecondsOrZero {
    fn schema_name() -> Cow<'static, str> {
        "SecondsOrZero".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "minimum": 0,
            "maximum": MAX_SECONDS,
            "pattern": DURATION,
        })
    }
}

impl JsonSchema for BasicAuth {
    fn schema_name() -> Cow<'static, str> {
        "BasicAuth".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[^:]+:",
            "writeOnly": true,
            "x-secret": true,
        })
    }
}

impl JsonSchema for LogLevel {
    fn schema_name() -> Cow<'static, str> {
        "LogLevel".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = LogLevel::NAMES.map(|(name, _)| name);
        json_schema!({
            "type": "string",
            // The names first: editors offer them.
            "anyOf": [
                {"enum": names},
                {"pattern": format!(r"^\s*({})\s*$", names.map(beginnings).join("|"))},
            ],
        })
    }
}

/// A pattern for the beginnings of a word, in upper and lower case.
fn beginnings(word: &str) -> String {
    let letter = |letter: char| format!("[{letter}{}]", letter.to_ascii_lowercase());
    let mut letters = word.chars().rev().map(letter);
    let last = letters.next().unwrap_or_default();
    letters.fold(last, |rest, letter| format!("{letter}({rest})?"))
}
