//! Where a placeholder is replaced, and for which hosts.

use crate::config::SecretConfig;
use crate::secret::{Secret, SecretSource};
use plugin_api::{canonical_host, is_token};
use std::borrow::Cow;
use std::path::PathBuf;

/// The minimum length of a placeholder, in bytes: a shorter one could occur by accident.
const MIN_PLACEHOLDER_LEN: usize = 4;

/// A secret with its placeholder and its restrictions.
#[derive(Debug)]
pub(crate) struct Injection {
    placeholder: String,
    /// The placeholder as a client may have encoded it in a path; equal to it if nothing needs encoding.
    encoded_placeholder: String,
    source: SecretSource,
    pub(crate) secret: Secret,
    /// In canonical form.
    hosts: Vec<String>,
    /// In lower case; none: all fields.
    fields: Option<Vec<String>>,
    covers_path: bool,
    may_go_plain: bool,
}

/// The destination of a request.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// The requested host.
    pub(crate) target_host: &'a str,
    /// The host that is proven to be the upstream.
    pub(crate) upstream_host: &'a str,
    pub(crate) scheme: &'a str,
    pub(crate) method: &'a str,
}

/// Whether the secret may be sent to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendPermission {
    Granted,
    /// The host is not listed.
    OtherHost,
    /// It would be readable on the network path.
    PlainHttp,
}

impl Injection {
    /// Checks the table of a secret and reads the secret.
    ///
    /// # Errors
    /// The key and what is wrong with it, never the secret.
    pub(crate) fn new(config: SecretConfig) -> Result<Self, String> {
        let placeholder = checked_placeholder(config.placeholder)?;
        let source = match (config.file, config.env) {
            (Some(file), None) => SecretSource::File(file),
            (None, Some(env)) => SecretSource::Env(env),
            _ => return Err("needs either `file` or `env`".to_owned()),
        };
        if config.hosts.is_empty() {
            return Err("hosts: is empty, so the secret would never be sent".to_owned());
        }
        let hosts = config.hosts.iter().map(|host| checked_host(host));
        let fields = config.fields.as_deref().map(checked_fields).transpose()?;
        Ok(Self {
            encoded_placeholder: encode(&placeholder),
            placeholder,
            secret: Secret::read(&source)?,
            source,
            hosts: hosts.collect::<Result<_, _>>()?,
            fields,
            covers_path: config.path,
            may_go_plain: config.allow_plain_http,
        })
    }

    /// The file to watch.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match &self.source {
            SecretSource::File(path) => Some(path.clone()),
            SecretSource::Env(_) => None,
        }
    }

    /// Whether the placeholder is replaced in fields of this name.
    pub(crate) fn covers_field(&self, name: &str) -> bool {
        let Some(fields) = &self.fields else {
            return true;
        };
        fields.iter().any(|field| field.eq_ignore_ascii_case(name))
    }

    /// Whether a field value contains the placeholder.
    pub(crate) fn is_in_value(&self, value: &[u8]) -> bool {
        find(value, self.placeholder.as_bytes()).is_some()
    }

    /// Whether path and query contain the placeholder, and it is replaced there.
    pub(crate) fn is_in_path(&self, path: &str) -> bool {
        self.covers_path && self.first_in_path(path).is_some()
    }

    /// Whether the secret may be sent with this request.
    pub(crate) fn permission(&self, to: Destination<'_>) -> SendPermission {
        let is_named = |host: &str| self.hosts.iter().any(|named| named == host);
        match to.scheme {
            // An origin answers TRACE with the request itself, which the client can read.
            _ if to.method == "TRACE" => SendPermission::OtherHost,
            _ if !is_named(to.target_host) || !is_named(to.upstream_host) => {
                SendPermission::OtherHost
            }
            "https" => SendPermission::Granted,
            _ if self.may_go_plain => SendPermission::Granted,
            _ => SendPermission::PlainHttp,
        }
    }

    /// `value` with every placeholder replaced by the secret.
    pub(crate) fn in_value(&self, value: &[u8]) -> Vec<u8> {
        let secret = self.secret.value();
        let mut out = Vec::with_capacity(value.len() + secret.len());
        let mut rest = value;
        while let Some(at) = find(rest, self.placeholder.as_bytes()) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(secret.as_bytes());
            rest = &rest[at + self.placeholder.len()..];
        }
        out.extend_from_slice(rest);
        out
    }

    /// Path and query with every placeholder replaced by the secret, percent-encoded.
    pub(crate) fn in_path(&self, path: &str) -> String {
        let secret = encode(&self.secret.value());
        let mut out = String::with_capacity(path.len() + secret.len());
        let mut rest = path;
        while let Some((at, len)) = self.first_in_path(rest) {
            out.push_str(&rest[..at]);
            out.push_str(&secret);
            rest = &rest[at + len..];
        }
        out.push_str(rest);
        out
    }

    /// Position and length of the first placeholder, plain or percent-encoded.
    fn first_in_path(&self, path: &str) -> Option<(usize, usize)> {
        let spellings = [&self.placeholder, &self.encoded_placeholder];
        let found = spellings.into_iter().filter_map(|spelling| {
            let at = find_ignoring_case_of_hex(path.as_bytes(), spelling.as_bytes())?;
            Some((at, spelling.len()))
        });
        found.min()
    }
}

fn checked_placeholder(placeholder: String) -> Result<String, String> {
    let is_text = placeholder.bytes().all(|byte| byte.is_ascii_graphic());
    match placeholder.len() {
        len if len < MIN_PLACEHOLDER_LEN => Err(format!(
            "placeholder: must have at least {MIN_PLACEHOLDER_LEN} characters, so that it does not occur by accident"
        )),
        _ if !is_text => Err("placeholder: may contain only visible ASCII characters".to_owned()),
        _ => Ok(placeholder),
    }
}

fn checked_host(host: &str) -> Result<String, String> {
    canonical_host(host)
        .map(Cow::into_owned)
        .map_err(|_| format!("hosts: `{host}` is not a host name or an address"))
}

fn checked_fields(fields: &[String]) -> Result<Vec<String>, String> {
    match fields.iter().find(|name| !is_token(name)) {
        Some(name) => Err(format!("fields: `{name}` is not a field name")),
        None => Ok(fields.to_vec()),
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

/// Like `find`, ignoring the case of the digits of percent-encoded bytes.
fn find_ignoring_case_of_hex(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let is_same = |part: &[u8]| {
        let mut hex_left = 0;
        part.iter().zip(wanted).all(|(one, other)| {
            let is_hex = hex_left > 0;
            hex_left = if *other == b'%' {
                2
            } else {
                hex_left.max(1) - 1
            };
            one == other || (is_hex && one.eq_ignore_ascii_case(other))
        })
    };
    text.windows(wanted.len()).position(is_same)
}

#[cfg(test)]
mod tests {
    use super::{Destination, Injection, SendPermission};
    use crate::config::SecretConfig;

    fn config(placeholder: &str) -> SecretConfig {
        SecretConfig {
            placeholder: placeholder.to_owned(),
            file: None,
            // Cargo sets it for every test.
            env: Some("CARGO_PKG_NAME".to_owned()),
            hosts: vec!["Api.Example.".to_owned(), "::1".to_owned()],
            fields: None,
            path: true,
            allow_plain_http: false,
        }
    }

    fn injection() -> Injection {
        Injection::new(config("{{KEY}}")).unwrap()
    }

    #[test]
    fn replaces_every_placeholder_in_a_value() {
        let injection = injection();
        for (value, expected) in [
            ("Bearer {{KEY}}", "Bearer secret_inject"),
            ("{{KEY}}{{KEY}}", "secret_injectsecret_inject"),
            ("{{{KEY}}}", "{secret_inject}"),
            ("{{key}}", "{{key}}"),
            ("", ""),
        ] {
            let replaced = injection.in_value(value.as_bytes());
            assert_eq!(String::from_utf8(replaced).unwrap(), expected);
            assert_eq!(injection.is_in_value(value.as_bytes()), value != expected);
        }
    }

    #[test]
    fn finds_the_placeholder_in_a_path_however_it_is_encoded() {
        let injection = injection();
        for path in [
            "/a?k={{KEY}}&b",
            "/a?k=%7B%7BKEY%7D%7D&b",
            "/a?k=%7b%7BKEY%7d%7d&b",
        ] {
            assert!(injection.is_in_path(path), "{path}");
            assert_eq!(injection.in_path(path), "/a?k=secret_inject&b", "{path}");
        }
        assert!(!injection.is_in_path("/a?k=%7B%7Bkey%7D%7D"));
    }

    #[test]
    fn a_secret_cannot_change_the_structure_of_a_path() {
        assert_eq!(
            super::encode("a/../b?c&d#e f%"),
            "a%2F..%2Fb%3Fc%26d%23e%20f%25"
        );
    }

    #[test]
    fn both_the_target_and_the_upstream_must_be_listed() {
        let injection = injection();
        let ask = |target_host, upstream_host| {
            injection.permission(Destination {
                target_host,
                upstream_host,
                scheme: "https",
                method: "GET",
            })
        };
        assert_eq!(ask("api.example", "api.example"), SendPermission::Granted);
        assert_eq!(ask("api.example", "::1"), SendPermission::Granted);
        for (target, upstream) in [
            ("api.example", "evil.example"),
            ("evil.example", "api.example"),
            ("x.api.example", "api.example"),
            ("api.example.evil.example", "api.example.evil.example"),
        ] {
            assert_eq!(
                ask(target, upstream),
                SendPermission::OtherHost,
                "{target} {upstream}"
            );
        }
    }

    #[test]
    fn plain_http_and_trace_do_not_get_it() {
        let injection = injection();
        let ask = |scheme, method| {
            injection.permission(Destination {
                target_host: "api.example",
                upstream_host: "api.example",
                scheme,
                method,
            })
        };
        assert_eq!(ask("http", "GET"), SendPermission::PlainHttp);
        assert_eq!(ask("https", "TRACE"), SendPermission::OtherHost);
    }

    #[test]
    fn refuses_invalid_secret_settings() {
        let refused = |change: fn(&mut SecretConfig)| {
            let mut config = config("{{KEY}}");
            change(&mut config);
            Injection::new(config).unwrap_err()
        };
        assert!(
            refused(|config| config.placeholder = "k".to_owned())
                .starts_with("placeholder: must have at least 4")
        );
        assert!(
            refused(|config| config.placeholder = "{{ K }}".to_owned())
                .starts_with("placeholder: may contain")
        );
        assert_eq!(
            refused(|config| config.env = None),
            "needs either `file` or `env`"
        );
        assert_eq!(
            refused(|config| config.file = Some("/x".into())),
            "needs either `file` or `env`"
        );
        assert!(refused(|config| config.hosts.clear()).starts_with("hosts: is empty"));
        assert_eq!(
            refused(|config| config.hosts = vec!["a:80".to_owned()]),
            "hosts: `a:80` is not a host name or an address"
        );
        assert_eq!(
            refused(|config| config.fields = Some(vec!["a b".to_owned()])),
            "fields: `a b` is not a field name"
        );
    }
}
