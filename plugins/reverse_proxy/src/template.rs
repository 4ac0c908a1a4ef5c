//! The URL that a request is forwarded to: that of an upstream, with the captures of the route's pattern inserted.
//!
//! Captures are as sent. In a path they are inserted byte for byte, except for characters that are invalid there; in a
//! query they are decoded and encoded again. So none of them can end a segment, begin a query or break a line. Scheme
//! and authority are fixed: nothing that a client sends decides where to connect. A path that leads upwards is refused
//! rather than repaired, because upstreams interpret it differently.

use crate::pattern::{Pattern, TemplatePiece, braces};
use plugin_api::Authority;
use std::fmt::Write;

/// The URL of an upstream, with placeholders for captures.
#[derive(Debug)]
pub(crate) struct Template {
    /// Scheme and authority.
    origin: String,
    /// None if the path of the request is kept.
    path: Option<Vec<Part>>,
    /// Precedes the query of the request.
    query: Option<Vec<Part>>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Capture { name: String, is_rest: bool },
}

/// The path has a segment `.` or `..`, plain or encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PathTraversal;

impl Template {
    /// Parses a URL; `pattern` must capture its `{name}`s.
    ///
    /// # Errors
    /// What is wrong with it. The text does not repeat the URL, which may contain a password.
    pub(crate) fn new(url: &str, pattern: &Pattern) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err("does not begin with http:// or https://".to_owned());
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        check_authority(authority)?;
        if rest.contains('#') {
            return Err("has a fragment, which cannot be sent".to_owned());
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let read = |text| parts(text, pattern);
        let path = Some(path).filter(|path| !path.is_empty());
        let template = Self {
            origin: format!(
                "{scheme}://{}",
                authority.trim_end_matches(':').to_ascii_lowercase()
            ),
            path: path.map(read).transpose()?,
            query: query.map(read).transpose()?,
        };
        match template.path.as_deref().is_some_and(always_has_traversal) {
            true => Err("has a segment `.` or `..`".to_owned()),
            false => Ok(template),
        }
    }

    /// Scheme and authority.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The URL for a request with this path, query and captures.
    ///
    /// # Errors
    /// Its path would lead upwards.
    pub(crate) fn url<'c>(
        &self,
        path_and_query: &str,
        capture: impl Fn(&str) -> Option<&'c str>,
    ) -> Result<String, PathTraversal> {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let mut url = self.origin.clone();
        match &self.path {
            Some(parts) => fill_path(&mut url, parts, &capture),
            None => encode(&mut url, path, is_sent_as_it_is),
        }
        if has_traversal(&url[self.origin.len()..]) {
            return Err(PathTraversal);
        }
        if let Some(parts) = &self.query {
            url.push('?');
            fill_query(&mut url, parts, &capture);
        }
        if let Some(query) = query {
            match &self.query {
                None => url.push('?'),
                Some(parts) if parts.is_empty() || query.is_empty() => {}
                Some(_) => url.push('&'),
            }
            encode(&mut url, query, is_sent_as_it_is);
        }
        Ok(url)
    }
}

fn parts(text: &str, pattern: &Pattern) -> Result<Vec<Part>, String> {
    let part = |piece| match piece {
        TemplatePiece::Literal(text) => {
            check_literal(text)?;
            Ok(Part::Literal(text.to_owned()))
        }
        TemplatePiece::Name(written) => {
            let rest = written.strip_prefix('*');
            let name = rest.unwrap_or(written);
            let Some(is_rest) = pattern.is_rest(name) else {
                return Err(format!(
                    "has `{{{written}}}`, which the pattern does not capture"
                ));
            };
            Ok(Part::Capture {
                name: name.to_owned(),
                is_rest: is_rest || rest.is_some(),
            })
        }
    };
    braces(text)?.into_iter().map(part).collect()
}

fn check_literal(text: &str) -> Result<(), String> {
    let is_escaped = |escape: &str| {
        let digits = escape.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let is_letter = |byte: u8| byte.is_ascii_graphic() && !br#""<>\^`|"#.contains(&byte);
    match text.bytes().all(is_letter) && text.split('%').skip(1).all(is_escaped) {
        true => Ok(()),
        false => Err("has a character that is invalid in URLs; write it as %XX".to_owned()),
    }
}

fn check_authority(authority: &str) -> Result<(), String> {
    if authority.contains('@') {
        return Err("has credentials, which are not sent".to_owned());
    }
    if authority.contains(['{', '}']) {
        return Err("takes its host from the request, so clients could choose it".to_owned());
    }
    match Authority::parse(authority) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("has {error}")),
    }
}

/// Whether a path leads upwards regardless of the captures.
fn always_has_traversal(parts: &[Part]) -> bool {
    let shown: String = parts
        .iter()
        .map(|part| match part {
            Part::Literal(text) => text,
            Part::Capture { .. } => "x",
        })
        .collect();
    has_traversal(&shown)
}

fn fill_path<'c>(url: &mut String, parts: &[Part], capture: &impl Fn(&str) -> Option<&'c str>) {
    for part in parts {
        match part {
            Part::Literal(text) => url.push_str(text),
            Part::Capture { name, is_rest } => {
                // A group that did not take part in the match is empty.
                let value = capture(name).unwrap_or_default();
                let stays = |byte| match byte {
                    b'/' => *is_rest,
                    b'?' => false,
                    byte => is_sent_as_it_is(byte),
                };
                encode(url, value, stays);
            }
        }
    }
}

fn fill_query<'c>(url: &mut String, parts: &[Part], capture: &impl Fn(&str) -> Option<&'c str>) {
    for part in parts {
        match part {
            Part::Literal(text) => url.push_str(text),
            Part::Capture { name, is_rest } => {
                // No character of a capture is special in a query, not even a plus.
                let stays = |byte| is_unreserved(byte) || *is_rest && byte == b'/';
                encode(url, decoded(capture(name).unwrap_or_default()), stays);
            }
        }
    }
}

/// The bytes of percent-encoded text.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let digits = rest.get(at + 1..at + 3);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => {
                bytes.push(byte);
                rest = &rest[at + 3..];
            }
            // The proxy does not accept such a path.
            _ => {
                bytes.push(b'%');
                rest = &rest[at + 1..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// RFC 3986 §2.1.
fn encode(url: &mut String, text: impl AsRef<[u8]>, is_plain: impl Fn(u8) -> bool) {
    for &byte in text.as_ref() {
        match is_plain(byte) {
            true => url.push(char::from(byte)),
            false => drop(write!(url, "%{byte:02X}")),
        }
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The parts of a request target are already encoded; only invalid characters are changed.
fn is_sent_as_it_is(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Whether some server finds a segment `.` or `..` in a path: with encoded dots or slashes, with backslashes, or with
/// parameters after a semicolon.
fn has_traversal(path: &str) -> bool {
    if !path.contains('.') && !path.contains("%2") {
        return false;
    }
    let mut plain = path.to_ascii_lowercase();
    for (disguise, meant) in [("%2e", "."), ("%2f", "/"), ("%5c", "/"), ("\\", "/")] {
        plain = plain.replace(disguise, meant);
    }
    plain.split('/').any(|segment| {
        let name = segment.split(';').next();
        matches!(name, Some("." | ".."))
    })
}

#[cfg(test)]
mod tests {
    use super::{PathTraversal, Template};
    use crate::pattern::Pattern;

    fn template(pattern: &str, url: &str) -> Result<Template, String> {
        Template::new(url, &Pattern::of_path(pattern).unwrap())
    }

    fn url(
        pattern: &str,
        url: &str,
        request: &str,
        captured: &str,
    ) -> Result<String, PathTraversal> {
        template(pattern, url)
            .unwrap()
            .url(request, |_| Some(captured))
    }

    #[test]
    fn captures_are_inserted_and_the_query_is_appended() {
        for (pattern, upstream, request, captured, expected) in [
            (
                "/a/{*r}",
                "http://u/base/{r}",
                "/a/x/y",
                "x/y",
                "http://u/base/x/y",
            ),
            (
                "/a/{*r}",
                "http://u/base/{r}",
                "/a/x?q=1&r",
                "x",
                "http://u/base/x?q=1&r",
            ),
            (
                "/a/{n}",
                "HTTPS://U:8443/get?id={n}",
                "/a/5",
                "5",
                "https://u:8443/get?id=5",
            ),
            (
                "/a/{n}",
                "http://u/get?id={n}",
                "/a/5?x=1",
                "5",
                "http://u/get?id=5&x=1",
            ),
            (
                "/a/{n}",
                "http://u/get?id={n}",
                "/a/5?",
                "5",
                "http://u/get?id=5",
            ),
            ("/a/{n}", "http://u/get?", "/a/5?x", "5", "http://u/get?x"),
            ("/a/{n}", "http://u", "/a/5?x=1", "5", "http://u/a/5?x=1"),
            ("/a/{n}", "http://u", "/a/5?", "5", "http://u/a/5?"),
            (
                "/a/{n}",
                "http://u?k=v",
                "/a/5?x",
                "5",
                "http://u/a/5?k=v&x",
            ),
            ("/a/{n}", "http://u/", "/a/5", "5", "http://u/"),
            (
                "/a/{n}",
                "http://[::1]:80/{{{n}}}",
                "/a/5",
                "5",
                "http://[::1]:80/{5}",
            ),
        ] {
            assert_eq!(
                url(pattern, upstream, request, captured).as_deref(),
                Ok(expected)
            );
        }
    }

    #[test]
    fn a_capture_cannot_leave_its_place() {
        for (pattern, upstream, captured, expected) in [
            (
                "/{n}",
                "http://u/{n}/e",
                "a b?c#d",
                "http://u/a%20b%3Fc%23d/e",
            ),
            ("/{n}", "http://u/{n}", "a/b", "http://u/a%2Fb"),
            ("/{n}", "http://u/{n}", "%2F", "http://u/%2F"),
            (
                "/{n}",
                "http://u/{n}",
                "%2f+%e9%41%2561",
                "http://u/%2f+%e9%41%2561",
            ),
            (
                "/{*n}",
                "http://u/{n}",
                "@a%2fb/%E9t%E9",
                "http://u/@a%2fb/%E9t%E9",
            ),
            (
                "/{n}",
                "http://u/{n}",
                "!$&'()*,;=:@|^",
                "http://u/!$&'()*,;=:@|^",
            ),
            ("/{*n}", "http://u/b/{n}", "", "http://u/b/"),
            (
                "/{n}",
                "http://u/{n}",
                "ä\r\nX: y",
                "http://u/%C3%A4%0D%0AX:%20y",
            ),
            (
                "/{n}",
                "http://u/?q={n}",
                "a&b=c+d/e",
                "http://u/?q=a%26b%3Dc%2Bd%2Fe",
            ),
            (
                "/{n}",
                "http://u/?q={n}",
                "%26%2f%E9%41%25%2",
                "http://u/?q=%26%2F%E9A%25%252",
            ),
            ("/{*n}", "http://u/{n}", "a/b c", "http://u/a/b%20c"),
            ("/{n}", "http://u/{*n}", "a/b", "http://u/a/b"),
            (
                "/{*n}",
                "http://u/{n}",
                "/evil.example/",
                "http://u//evil.example/",
            ),
        ] {
            assert_eq!(
                url(pattern, upstream, "/", captured).as_deref(),
                Ok(expected)
            );
        }
    }

    #[test]
    fn an_unmatched_group_is_empty() {
        let pattern = Pattern::of_regex("/(a)?(b)").unwrap();
        let template = Template::new("http://u/{1}/{2}", &pattern).unwrap();
        let url = template.url("/b", |name| (name == "2").then_some("b"));
        assert_eq!(url.as_deref(), Ok("http://u//b"));
    }

    #[test]
    fn the_target_is_kept_byte_for_byte_if_valid() {
        for (request, expected) in [
            ("/a%20b/%2f/~?q=%zz&r=[]", "http://u/a%20b/%2f/~?q=%zz&r=[]"),
            ("/ä?b c#d", "http://u/%C3%A4?b%20c%23d"),
        ] {
            assert_eq!(
                url("/{*n}", "http://u", request, "").as_deref(),
                Ok(expected)
            );
        }
    }

    #[test]
    fn no_path_leads_upwards() {
        for captured in [
            "..", ".", "../x", "x/..", "x/../y", "x\\..\\y", "..;a=b/x", "%2e%2e", "%2E./x",
            "..%2fx", "..%5Cx",
        ] {
            // As in the target, and as captured.
            let kept = url("/{*n}", "http://u", &format!("/{captured}"), "");
            assert_eq!(kept, Err(PathTraversal), "{captured}");
            for upstream in ["http://u/b/{n}", "http://u/b/{*n}"] {
                assert_eq!(
                    url("/{n}", upstream, "/", captured),
                    Err(PathTraversal),
                    "{captured}"
                );
            }
        }
        assert_eq!(
            url("/{n}", "http://u/a/.{n}/b", "/", "."),
            Err(PathTraversal)
        );
        for captured in [
            "...",
            "a..b",
            ".well-known/x",
            "x/..y",
            "%2F",
            "%252e%252e",
            "a%2Fb",
        ] {
            assert!(
                url("/{*n}", "http://u/{n}", "/", captured).is_ok(),
                "{captured}"
            );
        }
        // In a query, dots are not special.
        assert!(url("/{n}", "http://u/x?q={n}", "/?../", "..").is_ok());
    }

    #[test]
    fn refuses_invalid_upstream_urls_without_repeating_them() {
        for (upstream, reason) in [
            ("secret.example", "does not begin with http:// or https://"),
            (
                "ftp://secret.example",
                "does not begin with http:// or https://",
            ),
            (
                "http://",
                "has no valid host; write IPv6 addresses in brackets",
            ),
            (
                "http://127.1",
                "has no valid host; write IPv6 addresses in brackets",
            ),
            (
                "http://2001:db8::1",
                "has no valid host; write IPv6 addresses in brackets",
            ),
            (
                "http://a b",
                "has no valid host; write IPv6 addresses in brackets",
            ),
            (
                "http://a:0",
                "has a port that is not a number from 1 to 65535",
            ),
            (
                "http://a:+1",
                "has a port that is not a number from 1 to 65535",
            ),
            ("http://u:secret@a", "has credentials, which are not sent"),
            (
                "http://{n}.example/",
                "takes its host from the request, so clients could choose it",
            ),
            ("http://a/#secret", "has a fragment, which cannot be sent"),
            (
                "http://a/x y",
                "has a character that is invalid in URLs; write it as %XX",
            ),
            (
                "http://a/%zz",
                "has a character that is invalid in URLs; write it as %XX",
            ),
            (
                "http://a/ä",
                "has a character that is invalid in URLs; write it as %XX",
            ),
            ("http://a/../{n}", "has a segment `.` or `..`"),
            ("http://a/%2e%2E/x", "has a segment `.` or `..`"),
            (
                "http://a/{m}",
                "has `{m}`, which the pattern does not capture",
            ),
            ("http://a/{", "has a lone `{`; write a literal one as `{{`"),
        ] {
            assert_eq!(template("/{n}", upstream).unwrap_err(), reason);
        }
    }
}
