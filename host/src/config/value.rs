//! The types of single settings, the same for the command line and `proxy.toml`.
//!
//! A value of these types is in range. Their errors are one clause that says what is valid; the caller adds the flag,
//! or file, line and key.

use plugin_contract::field::{is_token, is_token_byte};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer};

use super::{AccessFormat, AccessLogFile, BasicAuth, LogFormat, Share};

/// Why a setting has an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a decimal number.
    #[error("is not a number")]
    NotANumber,
    /// Neither a number of seconds nor a duration.
    #[error(
        "is not a duration; write seconds such as 10 or 0.5, or a duration such as 500ms, 10s or 5m"
    )]
    NotADuration,
    /// A duration that must be longer than zero.
    #[error("must be greater than 0 seconds")]
    NotPositive,
    /// A duration that must not be negative.
    #[error("must not be negative")]
    Negative,
    /// A duration longer than a year.
    #[error("must be at most {MAX_SECONDS} seconds")]
    TooLong,
    /// Not a number of bytes.
    #[error("is not a number of bytes; write one such as 65536, 64K or 1M")]
    NotALength,
    /// A number out of range.
    #[error("must be between {min} and {max}")]
    OutOfRange {
        /// The minimum.
        min: usize,
        /// The maximum.
        max: usize,
    },
    /// Not a field name (RFC 9110 §5.1).
    #[error("`{0}` is not a header name")]
    NotAHeaderName(String),
    /// Not a host to listen on.
    #[error("is not an address; use an IP literal such as ::1 or a name such as localhost")]
    NotAHost,
    /// Not the address of a name server.
    #[error("is not a name server; use an IP literal, with or without a port")]
    NotANameServer,
    /// Not a name for `Via` (RFC 9110 §7.6.3).
    #[error("is not a name for Via; use letters, digits, `.`, `-`, `_` and `:`")]
    NotAPseudonym,
    /// Not a share.
    #[error("is not a share; write a number above 0 and at most 1, such as 0.1")]
    NotAShare,
    /// Not a log level.
    #[error("is not a log level; use DEBUG, INFO, WARNING, ERROR or CRITICAL, or the first letter")]
    NotALogLevel,
    /// Not a host pattern.
    #[error(
        "is not a host pattern; write example.com, .example.com, *.example.com, an IP address or *"
    )]
    NotAHostPattern,
    /// Not a URL path.
    #[error("is not a path; write one such as / or /proxy.pac")]
    NotAUrlPath,
    /// Not a file name, or a path.
    #[error("is not a file name")]
    NotAFileName,
    /// Not a network.
    #[error("is not a network; write an IP address, or one such as 10.0.0.0/8")]
    NotANetwork,
    /// Not the permissions of a file.
    #[error("is not a file mode; write octal digits in quotes, such as \"0660\"")]
    NotAFileMode,
    /// Not a header value.
    #[error("is not a valid header value")]
    NotAFieldText,
    /// Not the name of a protocol in ALPN (RFC 7301), or one of HTTP.
    #[error("is not the ALPN name of a protocol other than HTTP; write one such as imap")]
    NotAForeignProtocol,
}

/// The longest duration: a year. It prevents overflow when added to a clock.
pub(super) const MAX_SECONDS: u32 = 365 * 24 * 60 * 60;

/// A duration longer than zero: a number of seconds, decimals allowed, or a text such as `500ms`, `10s` or `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

/// As [`Seconds`], but may be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SecondsOrZero(pub(super) Duration);

impl TryFrom<f64> for Seconds {
    type Error = ValueError;

    fn try_from(seconds: f64) -> Result<Self, ValueError> {
        match SecondsOrZero::try_from(seconds) {
            // Less than a nanosecond rounds to zero.
            Ok(SecondsOrZero(Duration::ZERO)) | Err(ValueError::Negative) => {
                Err(ValueError::NotPositive)
            }
            Ok(SecondsOrZero(duration)) => Ok(Seconds(duration)),
            Err(error) => Err(error),
        }
    }
}

impl TryFrom<f64> for SecondsOrZero {
    type Error = ValueError;

    fn try_from(seconds: f64) -> Result<Self, ValueError> {
        if seconds.is_nan() {
            return Err(ValueError::NotANumber);
        }
        if seconds < 0.0 {
            return Err(ValueError::Negative);
        }
        if seconds > f64::from(MAX_SECONDS) {
            return Err(ValueError::TooLong);
        }
        Duration::try_from_secs_f64(seconds)
            .map(SecondsOrZero)
            .map_err(|_| ValueError::TooLong)
    }
}

impl FromStr for SecondsOrZero {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        seconds(text)?.try_into()
    }
}

impl FromStr for Seconds {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        seconds(text)?.try_into()
    }
}

/// A number of seconds such as `0.5`, or a duration such as `500ms`, `10s`, `5m` or `1h 30m`, in seconds.
fn seconds(text: &str) -> Result<f64, ValueError> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    match text.parse::<jiff::SignedDuration>() {
        Ok(duration) => Ok(duration.as_secs_f64()),
        Err(_) => Err(ValueError::NotADuration),
    }
}

/// A number of bytes with bounds, with or without a suffix `K`, `M` or `G`, or `KiB`, `MiB` or `GiB` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes<const MIN: usize, const MAX: usize>(pub usize);

/// A number of bytes from 1 to 1 GiB.
pub type ByteLen = Bytes<1, { 1 << 30 }>;

impl<const MIN: usize, const MAX: usize> Bytes<MIN, MAX> {
    fn checked(len: Option<usize>) -> Result<Self, ValueError> {
        match len {
            Some(len) if (MIN..=MAX).contains(&len) => Ok(Bytes(len)),
            _ => Err(ValueError::OutOfRange { min: MIN, max: MAX }),
        }
    }
}

impl<const MIN: usize, const MAX: usize> FromStr for Bytes<MIN, MAX> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let end = text.find(|letter: char| !letter.is_ascii_digit());
        let (digits, suffix) = text.split_at(end.unwrap_or(text.len()));
        let shift = match suffix.to_ascii_uppercase().as_str() {
            "" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            _ => return Err(ValueError::NotALength),
        };
        if digits.is_empty() {
            return Err(ValueError::NotALength);
        }
        let number = digits.parse::<usize>().ok();
        Bytes::checked(number.and_then(|number| number.checked_mul(1 << shift)))
    }
}

/// A number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded<const MIN: usize, const MAX: usize>(pub usize);

impl<const MIN: usize, const MAX: usize> Bounded<MIN, MAX> {
    fn checked(number: i128) -> Result<Self, ValueError> {
        match usize::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Bounded(number)),
            _ => Err(ValueError::OutOfRange { min: MIN, max: MAX }),
        }
    }
}

impl<const MIN: usize, const MAX: usize> FromStr for Bounded<MIN, MAX> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.trim().parse::<i128>();
        Bounded::checked(number.map_err(|_| ValueError::NotANumber)?)
    }
}

/// The number of worker threads; 0 means the number of cores.
pub type WorkerCount = Bounded<0, 1024>;

/// A TCP port; 0 means any free port.
pub type Port = Bounded<0, 65_535>;

/// The number of open files.
pub type OpenFileLimit = Bounded<0, 1_073_741_824>;

/// Connections that may wait to be accepted; systems limit it, usually to 4096.
pub type Backlog = Bounded<0, 65_535>;

/// A field name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(pub String);

impl FromStr for HeaderName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.trim();
        if !is_token(name) {
            return Err(ValueError::NotAHeaderName(
                name.escape_default().to_string(),
            ));
        }
        Ok(HeaderName(name.to_ascii_lowercase()))
    }
}

/// Field names separated by commas, as in a flag; spaces and empty members are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderNames(pub Vec<HeaderName>);

impl FromStr for HeaderNames {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let names = text.split(',').filter(|name| !name.trim().is_empty());
        names
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(HeaderNames)
    }
}

/// An IP literal without brackets, or a host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(pub String);

impl FromStr for Hostname {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let unbracketed = text
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = unbracketed.unwrap_or(text);
        // The resolver checks the zone, as in `fe80::1%eth0`.
        let may_resolve = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if host.is_empty() || !host.bytes().all(may_resolve) {
            return Err(ValueError::NotAHost);
        }
        Ok(Hostname(host.to_owned()))
    }
}

/// The address of a name server; the port defaults to 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameServer(pub(super) SocketAddr);

impl FromStr for NameServer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let with_port = text.parse::<SocketAddr>();
        let address = with_port.or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, 53).into()));
        address
            .map(NameServer)
            .map_err(|_| ValueError::NotANameServer)
    }
}

/// The proxy's name in `Via`: a host with an optional port, or a pseudonym.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pseudonym(pub(super) String);

impl FromStr for Pseudonym {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let may_stand = |byte: u8| byte == b':' || is_token_byte(byte);
        if text.is_empty() || !text.bytes().all(may_stand) {
            return Err(ValueError::NotAPseudonym);
        }
        Ok(Pseudonym(text.to_owned()))
    }
}

/// The ALPN name (RFC 7301) of a protocol other than HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForeignProtocol(pub(super) String);

impl FromStr for ForeignProtocol {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.to_ascii_lowercase();
        let is_http = ["h2", "h2c", "h3", "http"].contains(&&*name) || name.starts_with("http/");
        let is_name = text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_http || !is_name || text.is_empty() || text.len() > usize::from(u8::MAX) {
            return Err(ValueError::NotAForeignProtocol);
        }
        Ok(ForeignProtocol(text.to_owned()))
    }
}

/// A URL path, without a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPath(pub String);

impl FromStr for UrlPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let may_stand = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
        if !text.starts_with('/') || !text.bytes().all(may_stand) {
            return Err(ValueError::NotAUrlPath);
        }
        Ok(UrlPath(text.to_owned()))
    }
}

/// A file name, without a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileName(pub(super) String);

impl FromStr for FileName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_name = !matches!(text, "" | "." | "..") && !text.contains(['/', '\\', '\0']);
        match is_name {
            true => Ok(FileName(text.to_owned())),
            false => Err(ValueError::NotAFileName),
        }
    }
}

/// A header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldText(pub(super) String);

impl FromStr for FieldText {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            true => Ok(FieldText(text.trim().to_owned())),
            false => Err(ValueError::NotAFieldText),
        }
    }
}

/// The permissions of a file: up to four octal digits, such as `0660`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_octal = (3..=4).contains(&text.len())
            && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        match u32::from_str_radix(text, 8) {
            Ok(mode) if is_octal && mode <= 0o777 => Ok(FileMode(mode)),
            _ => Err(ValueError::NotAFileMode),
        }
    }
}

/// A network that is trusted: addresses with the same first bits, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrustedNetwork(pub(super) IpNet);

impl FromStr for TrustedNetwork {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        address
            .or_else(|_| text.parse::<IpNet>().map(|network| network.trunc()))
            .map(TrustedNetwork)
            .map_err(|_| ValueError::NotANetwork)
    }
}

/// The lowest level of events to log, named as on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Includes decisions and their reasons.
    Debug,
    /// The access log, and the milestones of a run.
    #[default]
    Info,
    /// Violations of the protocol, and degraded operation.
    Warning,
    /// Events that require action.
    Error,
    /// The same as [`LogLevel::Error`], the highest level that the proxy uses.
    Critical,
}

impl LogLevel {
    /// What they are called in settings.
    pub(super) const NAMES: [(&str, LogLevel); 5] = [
        ("DEBUG", LogLevel::Debug),
        ("INFO", LogLevel::Info),
        ("WARNING", LogLevel::Warning),
        ("ERROR", LogLevel::Error),
        ("CRITICAL", LogLevel::Critical),
    ];
}

impl FromStr for LogLevel {
    type Err = ValueError;

    /// Parses a level or its first letters, such as `d` and `warn`, in any case.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let word = text.trim().to_ascii_uppercase();
        LogLevel::NAMES
            .into_iter()
            .find(|(name, _)| !word.is_empty() && name.starts_with(&word))
            .map(|(_, level)| level)
            .ok_or(ValueError::NotALogLevel)
    }
}

// ---- as written in proxy.toml

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seconds::try_from(number(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for SecondsOrZero {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecondsOrZero::try_from(number(deserializer)?).map_err(de::Error::custom)
    }
}

/// An integer or a float; TOML distinguishes them, but durations may be either.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::Integer(number) => Ok(number as f64),
        toml::Value::Float(number) => Ok(number),
        toml::Value::String(text) => seconds(&text).map_err(de::Error::custom),
        other => Err(de::Error::custom(format_args!(
            "expected a number of seconds, found {}",
            other.type_str()
        ))),
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Bytes<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Integer(len) => Bytes::checked(usize::try_from(len).ok()),
            toml::Value::String(text) => text.parse(),
            _ => Err(ValueError::NotALength),
        }
        .map_err(de::Error::custom)
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Integer(number) => {
                Bounded::checked(number.into()).map_err(de::Error::custom)
            }
            other => Err(de::Error::custom(format_args!(
                "expected a whole number, found {}",
                other.type_str()
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = match toml::Value::deserialize(deserializer)? {
            toml::Value::Integer(number) => Ok(number as f64),
            toml::Value::Float(number) => Ok(number),
            toml::Value::String(text) => text.trim().parse().map_err(|_| ValueError::NotAShare),
            _ => Err(ValueError::NotAShare),
        };
        share.and_then(Share::try_from).map_err(de::Error::custom)
    }
}

/// Types that are strings in `proxy.toml`, parsed like their flags.
macro_rules! deserialize_as_parsed {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

deserialize_as_parsed!(
    AccessFormat,
    AccessLogFile,
    BasicAuth,
    FieldText,
    FileMode,
    FileName,
    ForeignProtocol,
    HeaderName,
    Hostname,
    LogFormat,
    LogLevel,
    NameServer,
    Pseudonym,
    TrustedNetwork,
    UrlPath
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relayed_protocols_cannot_be_http() {
        for text in ["imap", "xmpp-client", "stun.turn", "acme-tls/1", "x"] {
            assert_eq!(text.parse(), Ok(ForeignProtocol(text.to_owned())));
        }
        for text in [
            "", "h2", "H2", "h2c", "http/1.1", "HTTP/0.9", "http/9", "h3", "a b",
        ] {
            let refused = Err(ValueError::NotAForeignProtocol);
            assert_eq!(text.parse::<ForeignProtocol>(), refused, "{text}");
        }
    }

    #[test]
    fn seconds_take_decimals_and_refuse_zero_negative_and_endless() {
        assert_eq!("2.5".parse(), Ok(Seconds(Duration::from_millis(2500))));
        for (text, error) in [
            ("0", ValueError::NotPositive),
            ("-1", ValueError::NotPositive),
            ("1e-30", ValueError::NotPositive),
            ("inf", ValueError::TooLong),
            ("1e300", ValueError::TooLong),
            ("nan", ValueError::NotANumber),
            ("ten", ValueError::NotADuration),
            ("", ValueError::NotADuration),
            ("5 apples", ValueError::NotADuration),
            ("-5s", ValueError::NotPositive),
            ("9000h", ValueError::TooLong),
        ] {
            assert_eq!(text.parse::<Seconds>(), Err(error), "{text}");
        }
    }

    #[test]
    fn durations_may_have_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1h 30m", 5_400_000),
            (" 2 s ", 2_000),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(text.parse(), Ok(Seconds(duration)), "{text}");
        }
    }

    #[test]
    fn byte_lengths_take_suffixes_and_refuse_zero_and_overflow() {
        for (text, len) in [
            ("1", 1),
            ("64K", 65536),
            ("1m", 1048576),
            ("1G", 1 << 30),
            ("2KiB", 2048),
            ("1mib", 1 << 20),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(len) as ByteLen), "{text}");
        }
        let out_of_range = ValueError::OutOfRange {
            min: 1,
            max: 1 << 30,
        };
        for text in [
            "0",
            "0K",
            "2G",
            "99999999999999999999",
            "18014398509481984K",
        ] {
            assert_eq!(text.parse::<ByteLen>(), Err(out_of_range.clone()), "{text}");
        }
        for text in ["", "K", "-1", "+5", "1.5M", "1MB", "ä"] {
            assert_eq!(
                text.parse::<ByteLen>(),
                Err(ValueError::NotALength),
                "{text}"
            );
        }
    }

    #[test]
    fn bounded_numbers_name_their_bounds() {
        let error = ValueError::OutOfRange { min: 1, max: 9 };
        for text in ["0", "10", "-1", "99999999999999999999"] {
            assert_eq!(text.parse::<Bounded<1, 9>>(), Err(error.clone()), "{text}");
        }
        assert_eq!(
            "-1".parse::<WorkerCount>(),
            Err(ValueError::OutOfRange { min: 0, max: 1024 })
        );
        assert_eq!("9".parse::<Bounded<1, 9>>(), Ok(Bounded(9)));
    }

    #[test]
    fn header_names_are_trimmed_and_lowered() {
        let names: HeaderNames = " Cookie, x-Trace ,,".parse().unwrap();
        assert_eq!(
            names.0,
            [
                HeaderName("cookie".to_owned()),
                HeaderName("x-trace".to_owned())
            ]
        );
        assert_eq!(
            "a b".parse::<HeaderNames>(),
            Err(ValueError::NotAHeaderName("a b".to_owned()))
        );
    }

    #[test]
    fn hosts_are_literals_or_names() {
        for (text, host) in [("::", "::"), ("[::1]", "::1"), ("localhost", "localhost")] {
            assert_eq!(text.parse(), Ok(Hostname(host.to_owned())));
        }
        for text in ["", "[]", "a b", "http://x", "x\n"] {
            assert_eq!(
                text.parse::<Hostname>(),
                Err(ValueError::NotAHost),
                "{text}"
            );
        }
    }

    #[test]
    fn name_servers_need_no_port() {
        for (text, address) in [
            ("9.9.9.9", "9.9.9.9:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(text.parse::<NameServer>().unwrap().0.to_string(), address);
        }
        assert_eq!(
            "dns.example".parse::<NameServer>(),
            Err(ValueError::NotANameServer)
        );
    }

    #[test]
    fn file_modes_are_octal() {
        for (text, mode) in [("0660", 0o660), ("600", 0o600), ("0777", 0o777)] {
            assert_eq!(text.parse(), Ok(FileMode(mode)));
        }
        for text in ["", "66", "0688", "1777", "00660", "+660", "rw-"] {
            assert_eq!(text.parse::<FileMode>(), Err(ValueError::NotAFileMode));
        }
    }

    #[test]
    fn networks_may_be_single_addresses() {
        for (text, network) in [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            let read = text.parse::<TrustedNetwork>().unwrap();
            assert_eq!(read.0.to_string(), network);
        }
        for text in ["", "a.example", "10.0.0.0/33", "10.0.0/8"] {
            let read = text.parse::<TrustedNetwork>();
            assert_eq!(read, Err(ValueError::NotANetwork), "{text}");
        }
    }

    #[test]
    fn log_levels_are_words_in_any_case_or_their_first_letters() {
        for (text, level) in [
            ("d", LogLevel::Debug),
            ("Info", LogLevel::Info),
            ("WARN", LogLevel::Warning),
            ("e", LogLevel::Error),
            ("critical", LogLevel::Critical),
        ] {
            assert_eq!(text.parse(), Ok(level), "{text}");
        }
        for text in ["", "verbose", "debugging", "trace"] {
            assert_eq!(
                text.parse::<LogLevel>(),
                Err(ValueError::NotALogLevel),
                "{text}"
            );
        }
    }
}
