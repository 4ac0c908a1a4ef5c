//! The URL that a request is forwarded to: an upstream's, with what the route's pattern has captured.
//!
//! Captures come as they were sent. In a path they stay so byte for byte, but for what could not stand at their place; in a
//! query they are decoded and encoded anew. So none of them can end a segment, begin a query or break a line. Scheme and
//! authority are fixed: nothing a client sends chooses who is connected to. A path
//! that would climb is refused and not repaired, since upstreams differ in how they would read it.

use crate::pattern::{Pattern, Piece, braces};
use plugin_api::Authority;
use std::fmt::Write;

/// An upstream's URL, with places for captures.
#[derive(Debug)]
pub(crate) struct Template {
    /// Scheme and authority.
    origin: String,
    /// None if the request's is kept.
    path: Option<Vec<Part>>,
    /// Comes before the request's.
    query: Option<Vec<Part>>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Capture { name: String, is_rest: bool },
}

/// The path has a segment `.` or `..`, in the clear or in one of its disguises.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Climbs;

impl Template {
    /// Reads a URL whose `{name}`s are captured by `pattern`.
    ///
    /// # Errors
    /// What is wrong with it. The text does not repeat the URL, which may hold a password.
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
        match template.path.as_deref().is_some_and(always_climbs) {
            true => Err("has a segment `.` or `..`".to_owned()),
            false => Ok(template),
        }
    }

    /// Scheme and authority.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The URL for a request with this path and query, whose pattern has captured that.
    ///
    /// # Errors
    /// Its path would climb.
    pub(crate) fn url<'c>(
        &self,
        path_and_query: &str,
        capture: impl Fn(&str) -> Option<&'c str>,
    ) -> Result<String, Climbs> {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let mut url = self.origin.clone();
        match &self.path {
            Some(parts) => fill_path(&mut url, parts, &capture),
            None => encode(&mut url, path, is_sent_as_it_is),
        }
        if climbs(&url[self.origin.len()..]) {
            return Err(Climbs);
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
        Piece::Literal(text) => {
            check_literal(text)?;
            Ok(Part::Literal(text.to_owned()))
        }
        Piece::Name(written) => {
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

/// Whether a path climbs whatever is captured.
fn always_climbs(parts: &[Part]) -> bool {
    let shown: String = parts
        .iter()
        .map(|part| match part {
            Part::Literal(text) => text,
            Part::Capture { .. } => "x",
        })
        .collect();
    climbs(&shown)
}

fn fill_path<'c>(url: &mut String, parts: &[Part], capture: &impl Fn(&str) -> Option<&'c str>) {
    for part in parts {
        match part {
            Part::Literal(text) => url.push_str(text),
            Part::Capture { name, is_rest } => {
                // A group that had no part in the match stands for nothing.
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
                // Nothing of a capture means anything in a query, not even a plus.
                let stays = |byte| is_unreserved(byte) || *is_rest && byte == b'/';
                encode(url, decoded(capture(name).unwrap_or_default()), stays);
            }
        }
    }
}

/// The bytes that percent-encoded text stands for.
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
            // The proxy lets no such path through.
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

/// What comes from the request's target is encoded already; only what could not be part of one is changed.
fn is_sent_as_it_is(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Whether a path has a segment `.` or `..` for somebody: with its dots or slashes encoded, with backslashes, or with
/// parameters behind a semicolon.
fn climbs(path: &str) -> bool {
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
    use super::{Climbs, Template};
    use crate::pattern::Pattern;

    fn template(pattern: &str, url: &str) -> Result<Template, String> {
        Template::new(url, &Pattern::of_path(pattern).unwrap())
    }

    fn url(pattern: &str, url: &str, request: &str, captured: &str) -> Result<String, Climbs> {
        template(pattern, url)
            .unwrap()
            .url(request, |_| Some(captured))
    }

    #[test]
    fn captures_are_put_in_and_the_query_is_appended() {
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
    fn a_group_without_a_part_in_the_match_stands_for_nothing() {
        let pattern = Pattern::of_regex("/(a)?(b)").unwrap();
        let template = Template::new("http://u/{1}/{2}", &pattern).unwrap();
        let url = template.url("/b", |name| (name == "2").then_some("b"));
        assert_eq!(url.as_deref(), Ok("http://u//b"));
    }

    #[test]
    fn what_is_kept_of_the_target_stays_as_it_is_unless_it_could_not_be_sent() {
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
    fn nothing_climbs() {
        for captured in [
            "..", ".", "../x", "x/..", "x/../y", "x\\..\\y", "..;a=b/x", "%2e%2e", "%2E./x",
            "..%2fx", "..%5Cx",
        ] {
            // As it stands in the target, and as it is captured.
            let kept = url("/{*n}", "http://u", &format!("/{captured}"), "");
            assert_eq!(kept, Err(Climbs), "{captured}");
            for upstream in ["http://u/b/{n}", "http://u/b/{*n}"] {
                assert_eq!(
                    url("/{n}", upstream, "/", captured),
                    Err(Climbs),
                    "{captured}"
                );
            }
        }
        assert_eq!(url("/{n}", "http://u/a/.{n}/b", "/", "."), Err(Climbs));
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
        // In a query dots are dots.
        assert!(url("/{n}", "http://u/x?q={n}", "/?../", "..").is_ok());
    }

    #[test]
    fn refuses_what_is_no_url_of_an_upstream_without_repeating_it() {
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
