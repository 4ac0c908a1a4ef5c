//! The PAC (proxy auto-configuration) file, which tells browsers when to use which proxy.
//!
//! [`Pac`] serves it, either from a file that may change while the proxy runs or from text in the configuration;
//! [`generate`] creates one from the configuration. The proxy never executes the text and sends it unchanged, so a
//! custom file may use anything that browsers support. The caller decides which requests are for it.

mod address;
pub mod command;
pub mod generate;
mod script;
mod source;

use std::time::Instant;

use plugin_api::abi::web::{protocol, syntax};

pub use self::address::{AddressError, ProxyAddress};
pub use self::source::PacError;

use self::source::{PacText, Source};
use crate::ca::page::PageReply;
use crate::config::PacConfig;
use crate::http1::RequestHead;
use crate::plugins::web::DeclaredRoute;

/// The path that browsers request if they discover the PAC file themselves (Web Proxy Auto-Discovery).
const WPAD_PATH: &str = "/wpad.dat";

/// How long clients may cache the file, in seconds: short, because an outdated file may name a proxy that no longer
/// exists.
const MAX_AGE: u32 = 300;

/// The PAC file that is served, shared by all workers.
#[derive(Debug)]
pub struct Pac {
    url_path: String,
    source: Source,
}

impl Pac {
    /// Finds out whether the setting is a file or the text itself, and reads the file.
    ///
    /// # Errors
    /// It is neither, the file cannot be read, or it exceeds 1 MiB.
    pub fn load(config: &PacConfig) -> Result<Self, PacError> {
        Ok(Pac {
            url_path: config.url_path.clone(),
            source: Source::find(&config.file_or_text)?,
        })
    }

    /// The paths where it is served, for all methods: [`answer`](Self::answer) refuses the wrong ones.
    pub(crate) fn routes(&self) -> Vec<DeclaredRoute> {
        let mut paths = vec![&*self.url_path];
        if self.url_path != WPAD_PATH {
            paths.push(WPAD_PATH);
        }
        let route = |(number, path): (u32, &str)| DeclaredRoute {
            number,
            protocols: protocol::HTTP | protocol::HTTPS,
            syntax: syntax::PATH,
            // Escapes the braces, which are special in a pattern.
            pattern: path.replace('{', "{{").replace('}', "}}"),
            methods: String::new(),
        };
        (0..).zip(paths).map(route).collect()
    }

    /// Answers a request for the file. Checks the file at most once a second, and reads it if it has changed.
    pub fn answer(&self, request: &RequestHead) -> PageReply {
        let served = self.source.current(Instant::now());
        reply(
            &served,
            request.method(),
            request.fields().named("if-none-match"),
        )
    }
}

fn reply<'a>(
    served: &PacText,
    method: &str,
    if_none_match: impl IntoIterator<Item = &'a [u8]>,
) -> PageReply {
    if !matches!(method, "GET" | "HEAD") {
        return PageReply {
            status: 405,
            fields: vec![
                ("Content-Type", "text/plain; charset=utf-8".to_owned()),
                ("Allow", "GET, HEAD".to_owned()),
            ],
            body: b"A PAC file is read-only: use GET.\n".to_vec(),
        };
    }
    let caching = [
        ("ETag", served.etag.clone()),
        ("Cache-Control", format!("max-age={MAX_AGE}")),
    ];
    let is_known = if_none_match
        .into_iter()
        .any(|value| names(value, &served.etag));
    if is_known {
        return PageReply {
            status: 304,
            fields: caching.into(),
            body: Vec::new(),
        };
    }
    let content_type = "application/x-ns-proxy-autoconfig".to_owned();
    let mut fields = vec![("Content-Type", content_type)];
    fields.extend(caching);
    PageReply {
        status: 200,
        fields,
        body: served.text.clone(),
    }
}

/// Whether a line of `If-None-Match` contains `etag`, by weak comparison (RFC 9110 §13.1.2). Our tags contain no
/// commas, so a foreign tag that is split at its comma cannot equal ours.
fn names(value: &[u8], etag: &str) -> bool {
    value.split(|byte| *byte == b',').any(|tag| {
        let tag = tag.trim_ascii();
        tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "function FindProxyForURL(url, host) { return \"DIRECT\"; }";

    fn pac(url_path: &str) -> Pac {
        Pac::load(&PacConfig {
            file_or_text: TEXT.to_owned(),
            url_path: url_path.to_owned(),
        })
        .unwrap()
    }

    fn ask(method: &str, if_none_match: &[&str]) -> PageReply {
        let served = pac("/").source.current(Instant::now());
        reply(
            &served,
            method,
            if_none_match.iter().map(|value| value.as_bytes()),
        )
    }

    fn field<'a>(reply: &'a PageReply, name: &str) -> Option<&'a str> {
        let mut values = reply.fields.iter().filter(|(field, _)| *field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice");
        value
    }

    #[test]
    fn is_shared_by_all_workers() {
        fn is_shareable<T: Send + Sync>() {}
        is_shareable::<Pac>();
    }

    #[test]
    fn is_served_at_its_path_and_at_wpad_dat() {
        let patterns = |url_path| {
            let routes = pac(url_path).routes();
            routes
                .into_iter()
                .map(|route| route.pattern)
                .collect::<Vec<_>>()
        };
        assert_eq!(patterns("/"), ["/", "/wpad.dat"]);
        assert_eq!(patterns("/wpad.dat"), ["/wpad.dat"]);
        assert_eq!(patterns("/{x}.pac"), ["/{{x}}.pac", "/wpad.dat"]);
    }

    #[test]
    fn is_sent_unchanged_with_the_type_that_browsers_require() {
        for method in ["GET", "HEAD"] {
            let reply = ask(method, &[]);
            assert_eq!(
                (reply.status, reply.body.as_slice()),
                (200, TEXT.as_bytes())
            );
            let content_type = field(&reply, "Content-Type");
            assert_eq!(content_type, Some("application/x-ns-proxy-autoconfig"));
            assert_eq!(field(&reply, "Cache-Control"), Some("max-age=300"));
        }
    }

    #[test]
    fn a_current_copy_gets_304() {
        let whole = ask("GET", &[]);
        let etag = field(&whole, "ETag").unwrap();
        let weak = format!("W/{etag}");
        let list = format!("\"x\" ,\t{etag}");
        for tags in [&[etag][..], &[&weak], &[&list], &["\"x\"", etag], &["*"]] {
            for method in ["GET", "HEAD"] {
                let reply = ask(method, tags);
                assert_eq!((reply.status, reply.body.len()), (304, 0), "{tags:?}");
                assert_eq!(field(&reply, "ETag"), Some(etag));
                assert_eq!(field(&reply, "Cache-Control"), Some("max-age=300"));
            }
        }
        for tags in [&["\"x\""][..], &[etag.trim_matches('"')], &["", "W/"]] {
            assert_eq!(ask("GET", tags).status, 200, "{tags:?}");
        }
    }

    #[test]
    fn other_methods_get_405_with_allow() {
        for method in ["POST", "OPTIONS", "get", ""] {
            let reply = ask(method, &["*"]);
            assert_eq!(reply.status, 405, "{method}");
            assert_eq!(field(&reply, "Allow"), Some("GET, HEAD"));
        }
    }
}
