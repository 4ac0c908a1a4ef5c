//! The layout of access log lines: presets, and templates such as `{client_ip} "{request}" {status}`.
//!
//! A template is checked here, at the start. It also says how each value has to be escaped: neither quotes nor the byte
//! that follows a field in the template can stand in its value, so that a value can neither end its field nor the line.

use std::str::FromStr;

use super::suggestion::closest;

/// How the line of an exchange is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// A line of the log: `<client> - <method> <server><path> - <status> - <bytes> - <duration>`.
    Default,
    /// squid's native format.
    Squid,
    /// A JSON object with all fields.
    Json,
    /// Text with fields.
    Template(Vec<AccessPart>),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessPart {
    /// Text that every line has.
    Literal(String),
    /// A value of the exchange.
    Field(AccessField, Escape),
}

/// What is escaped in a value, besides quotes, backslashes and what is not printable ASCII.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Escape {
    /// The field is in quotes, so a space does not end it.
    pub is_quoted: bool,
    /// The byte that follows the field.
    pub end: Option<u8>,
}

macro_rules! fields {
    ($($variant:ident $name:literal $doc:literal),* $(,)?) => {
        /// A value of an exchange.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum AccessField {
            $(#[doc = $doc] $variant,)*
            /// `http_NAME`: the request's header of this name, in lower case, with `_` for `-`.
            RequestHeader(String),
            /// `field_NAME`: the value that a plugin has added under this name.
            PluginField(String),
        }

        impl AccessField {
            /// The names of all fields that are not families, and the fields.
            pub const ALL: &[(&str, AccessField)] = &[$(($name, AccessField::$variant)),*];
        }
    };
}

fields! {
    Time "time" "Local time at the end of the exchange, as in the log.",
    TimeLocal "time_local" "The same as `27/Sep/2019:12:44:02 +0200`.",
    TimeIso8601 "time_iso8601" "The same as `2019-09-27T12:44:02.212+02:00`.",
    TimeEpoch "time_epoch" "The same in seconds since 1970, with milliseconds.",
    Pid "pid" "The id of the process.",
    RequestId "request_id" "A random number of the process and the number of the exchange.",
    ConnectionId "connection_id" "The number of the client connection in the process.",
    Client "client" "Address and port of the client.",
    ClientIp "client_ip" "Address of the client.",
    ClientPort "client_port" "Port of the client.",
    User "user" "The authenticated user.",
    Request "request" "Method, URL and version.",
    Method "method" "The method.",
    Url "url" "The URL, or host and port of a CONNECT.",
    Scheme "scheme" "`http` or `https`.",
    Host "host" "The requested host.",
    Port "port" "The requested port.",
    Path "path" "Path and query.",
    Version "version" "`HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.",
    Status "status" "The status that the client got.",
    BytesSent "bytes_sent" "Bytes sent to the client.",
    BytesReceived "bytes_received" "Bytes received from the client.",
    ContentType "content_type" "The `Content-Type` of the upstream's response.",
    Upstream "upstream" "Host and port of the server.",
    UpstreamAddress "upstream_address" "Address and port of the upstream connection.",
    UpstreamReused "upstream_reused" "Whether the upstream connection existed before.",
    DurationMs "duration_ms" "From the first byte of the request to the end.",
    HeadMs "head_ms" "Until the head of the request was complete.",
    PluginsMs "plugins_ms" "From then until plugins had accepted the request.",
    ResolveMs "resolve_ms" "Resolving the name for a new connection.",
    ConnectMs "connect_ms" "Establishing a new connection.",
    TlsMs "tls_ms" "The TLS handshake on it.",
    WaitMs "wait_ms" "From the end of the request to the first byte of the response.",
    FirstByteMs "first_byte_ms" "From the first byte of the request to that of the response.",
    AnsweredBy "answered_by" "`upstream`, `proxy` or `plugin`.",
    Verdicts "verdicts" "What plugins decided: NAME`:answered`, `:closed` or `:failed`.",
    PluginFields "plugin_fields" "All values that plugins have added.",
    Cache "cache" "What a plugin that caches has added as `cache`, such as `hit`.",
    Intercepted "intercepted" "`yes` inside an intercepted tunnel; for CONNECT, the outcome.",
    Error "error" "Why the exchange failed: an error type of RFC 9209, or why it was cut off.",
    Note "note" "The note of the default format.",
    TlsVersion "tls_version" "The version of TLS with the client.",
    TlsCipher "tls_cipher" "Its cipher suite.",
    TlsProtocol "tls_protocol" "The protocol that was agreed on by ALPN.",
    TlsServerName "tls_server_name" "The server name that the client asked for.",
}

/// Headers whose values are secrets.
const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

const COMBINED: &str = "{client_ip} - {user} [{time_local}] \"{request}\" {status} {bytes_sent} \
                        \"{http_referer}\" \"{http_user_agent}\"";

const PRESETS: [&str; 4] = ["default", "combined", "squid", "json"];

/// Why a text is no layout of access log lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessFormatError {
    /// Neither a preset nor a template.
    #[error("is not a format; write {}", choices(.meant))]
    NoField {
        /// The preset that may have been meant.
        meant: Option<&'static str>,
    },
    /// A field that does not exist.
    #[error("`{{{name}}}` is not a field{}", remedy(.meant))]
    UnknownField {
        /// As written.
        name: String,
        /// The field that may have been meant.
        meant: Option<&'static str>,
    },
    /// A field with a secret.
    #[error("`{{{0}}}` is never logged: it may contain credentials")]
    Secret(String),
    /// A brace without its partner.
    #[error("`{0}`: write {{name}} for a field, and {{{{ and }}}} for braces")]
    Brace(String),
}

fn choices(meant: &Option<&'static str>) -> String {
    match meant {
        Some(preset) => format!("{preset}?"),
        None => format!(
            "{}, or a template with fields such as {{status}}",
            PRESETS.join(", ")
        ),
    }
}

fn remedy(meant: &Option<&'static str>) -> String {
    match meant {
        Some(name) => format!("; did you mean {{{name}}}?"),
        None => format!("; the fields are {}", names().join(", ")),
    }
}

fn names() -> Vec<&'static str> {
    AccessField::ALL.iter().map(|(name, _)| *name).collect()
}

impl FromStr for AccessFormat {
    type Err = AccessFormatError;

    fn from_str(text: &str) -> Result<Self, AccessFormatError> {
        match text {
            "default" => Ok(Self::Default),
            "squid" => Ok(Self::Squid),
            "json" => Ok(Self::Json),
            "combined" => template(COMBINED).map(Self::Template),
            text => template(text).map(Self::Template),
        }
    }
}

fn template(text: &str) -> Result<Vec<AccessPart>, AccessFormatError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        push_literal(&rest[..at], &mut parts);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
            push_literal(&rest[..1], &mut parts);
            rest = behind;
            continue;
        }
        let brace = || AccessFormatError::Brace(rest.chars().take(20).collect());
        let named = rest.strip_prefix('{').ok_or_else(brace)?;
        let (name, behind) = named.split_once('}').ok_or_else(brace)?;
        parts.push(AccessPart::Field(field(name)?, Escape::default()));
        rest = behind;
    }
    push_literal(rest, &mut parts);
    if !parts
        .iter()
        .any(|part| matches!(part, AccessPart::Field(..)))
    {
        return Err(AccessFormatError::NoField {
            meant: closest(text, &PRESETS),
        });
    }
    settle_escapes(&mut parts);
    Ok(parts)
}

fn field(name: &str) -> Result<AccessField, AccessFormatError> {
    if let Some((_, field)) = AccessField::ALL.iter().find(|(known, _)| *known == name) {
        return Ok(field.clone());
    }
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        !name.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if let Some(header) = name.strip_prefix("http_").filter(|header| is_name(header)) {
        let header = header.to_ascii_lowercase().replace('_', "-");
        return match SECRET_HEADERS.contains(&header.as_str()) {
            true => Err(AccessFormatError::Secret(name.to_owned())),
            false => Ok(AccessField::RequestHeader(header)),
        };
    }
    if let Some(field) = name.strip_prefix("field_").filter(|field| is_name(field)) {
        return Ok(AccessField::PluginField(field.to_owned()));
    }
    Err(AccessFormatError::UnknownField {
        name: name.to_owned(),
        meant: closest(name, &names()),
    })
}

/// Appends text. A line end would make two lines of one.
fn push_literal(text: &str, parts: &mut Vec<AccessPart>) {
    let text = text.replace(['\r', '\n'], " ");
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(AccessPart::Literal(before)) => before.push_str(&text),
        _ => parts.push(AccessPart::Literal(text)),
    }
}

/// Decides for each field what is escaped in its value.
fn settle_escapes(parts: &mut [AccessPart]) {
    let mut end = None;
    for part in parts.iter_mut().rev() {
        match part {
            AccessPart::Literal(text) => end = text.bytes().next(),
            AccessPart::Field(_, escape) => escape.end = end,
        }
    }
    let mut is_quoted = false;
    for part in parts {
        match part {
            AccessPart::Literal(text) => {
                is_quoted ^= text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1;
            }
            AccessPart::Field(_, escape) => escape.is_quoted = is_quoted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<AccessFormat>().unwrap_err().to_string()
    }

    #[test]
    fn presets_are_words() {
        assert_eq!("default".parse(), Ok(AccessFormat::Default));
        assert_eq!("squid".parse(), Ok(AccessFormat::Squid));
        assert_eq!("json".parse(), Ok(AccessFormat::Json));
        assert_eq!("combined".parse::<AccessFormat>(), COMBINED.parse());
    }

    #[test]
    fn a_template_says_what_its_values_must_not_contain() {
        let Ok(AccessFormat::Template(parts)) =
            "{{{method}}}|\"{url} {http_user_agent}\"{field_x}".parse()
        else {
            panic!("it is a template")
        };
        let escape = |is_quoted, end| Escape { is_quoted, end };
        let literal = |text: &str| AccessPart::Literal(text.to_owned());
        assert_eq!(
            parts,
            [
                literal("{"),
                AccessPart::Field(AccessField::Method, escape(false, Some(b'}'))),
                literal("}|\""),
                AccessPart::Field(AccessField::Url, escape(true, Some(b' '))),
                literal(" "),
                AccessPart::Field(
                    AccessField::RequestHeader("user-agent".to_owned()),
                    escape(true, Some(b'"'))
                ),
                literal("\""),
                AccessPart::Field(
                    AccessField::PluginField("x".to_owned()),
                    escape(false, None)
                ),
            ]
        );
    }

    #[test]
    fn what_is_no_format_is_refused_with_a_remedy() {
        for (text, reason) in [
            ("combine", "is not a format; write combined?"),
            (
                "zzzzzzz",
                "is not a format; write default, combined, squid, json, or a template with fields such as {status}",
            ),
            (
                "{statsu}",
                "`{statsu}` is not a field; did you mean {status}?",
            ),
            (
                "{http_cookie}",
                "`{http_cookie}` is never logged: it may contain credentials",
            ),
            (
                "{http_Proxy_Authorization}",
                "`{http_Proxy_Authorization}` is never logged: it may contain credentials",
            ),
            (
                "{status",
                "`{status`: write {name} for a field, and {{ and }} for braces",
            ),
            (
                "status}",
                "`}`: write {name} for a field, and {{ and }} for braces",
            ),
        ] {
            assert_eq!(refused(text), reason, "{text}");
        }
        assert!(
            refused("{zzzzzzz}").starts_with("`{zzzzzzz}` is not a field; the fields are time, ")
        );
    }
}
