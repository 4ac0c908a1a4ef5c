//! Finds the route for a request.
//!
//! Path patterns are tried first, the more literal one before the less literal one regardless of order (`matchit`);
//! regular expressions follow, in the order in which they were added. A route that would match the requests of another
//! route is refused when it is added; for two different regular expressions this cannot be detected. The path is
//! matched as the client sent it, except that unreserved characters are decoded (RFC 3986 §6.2.2.2): `/%61` is `/a`,
//! and `/a%2Fb` remains one segment. Captures are decoded, or left as sent, as the route requests.
//!
//! `/a/{*rest}` matches `/a/` as well, unless another route has exactly that path. It does not match `/a`.

use std::borrow::Cow;
use std::collections::HashMap;

use matchit::InsertError;
use percent_encoding::percent_decode_str;
use plugin_api::abi::web::{protocol, syntax};
use regex::Regex;

use crate::plugins::web::DeclaredRoute;

/// Names in a pattern and the values they captured, decoded or as sent.
pub(crate) type Captures = Vec<(String, String)>;

/// Why a route cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// It is not a valid path pattern.
    #[error("{0}; write a path such as /users/{{id}} or /files/{{*rest}}")]
    Pattern(String),
    /// It is not a valid regular expression.
    #[error("is not a valid regular expression: {0}")]
    Regex(String),
    /// It contains an invalid method.
    #[error("`{0}` is not a method")]
    Method(String),
    /// The plugin's API is newer and uses something that this version does not know.
    #[error("is of a kind that this version of the proxy does not support")]
    Unknown,
    /// Another route matches the same requests.
    #[error("conflicts with {pattern} of {owner}, which answers the same requests")]
    Conflict {
        /// The pattern of the other route.
        pattern: String,
        /// The owner of the other route.
        owner: String,
    },
}

/// The parts of a request that decide its route.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteKey<'r> {
    /// Without a query.
    pub(super) path: &'r str,
    pub(super) method: &'r str,
    /// It requests an upgrade to WebSocket.
    pub(super) is_websocket: bool,
    /// It arrived over TLS.
    pub(super) is_secure: bool,
}

/// The route of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Matched {
    /// The position of the owner, as returned by [`Router::add_owner`].
    pub(super) owner: usize,
    pub(crate) number: u32,
    /// The exchange becomes a WebSocket.
    pub(crate) is_websocket: bool,
    pub(crate) captures: Captures,
}

/// Why a request has no route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// No route has this path.
    Path,
    /// Routes with this path exist, but only for these methods.
    Method(String),
    /// Routes with this path exist, but only for WebSockets.
    WebSocketOnly,
    /// The path contains an invalid percent-encoding, or a capture is not UTF-8 once decoded.
    Encoding,
}

/// All routes.
#[derive(Debug, Default)]
pub(super) struct Router {
    owners: Vec<String>,
    /// Path patterns with the positions in `path_patterns`.
    paths: matchit::Router<usize>,
    path_patterns: Vec<PathPatterns>,
    /// Text of path patterns with their positions in `path_patterns`.
    index_by_text: HashMap<String, usize>,
    /// Text of path patterns with their positions in `sets`.
    positions: HashMap<String, usize>,
    sets: Vec<RouteSet>,
    regexes: Vec<(Regex, RouteSet)>,
    has_websockets: bool,
}

/// The routes of paths of one form.
#[derive(Debug, Default)]
struct PathPatterns {
    /// The pattern of exactly this form.
    exact: Option<PathPattern>,
    /// A pattern that continues with `{*rest}`, which is empty here.
    rest: Option<PathPattern>,
}

#[derive(Debug)]
struct PathPattern {
    text: String,
    /// The names of its captures, in order.
    names: Vec<String>,
    /// Position in `sets`.
    set: usize,
}

/// The routes that share a pattern.
#[derive(Debug, Default)]
struct RouteSet(Vec<RegisteredRoute>);

#[derive(Debug)]
struct RegisteredRoute {
    owner: usize,
    number: u32,
    protocols: u32,
    /// Empty: all methods.
    methods: Vec<String>,
    /// Captures are not decoded.
    is_as_sent: bool,
}

impl Router {
    /// Registers an owner of routes; returns its position, for [`add`](Self::add).
    pub(super) fn add_owner(&mut self, name: &str) -> usize {
        self.owners.push(name.to_owned());
        self.owners.len() - 1
    }

    /// Adds a route of an owner.
    ///
    /// # Errors
    /// The route is invalid, or conflicts with an existing one.
    pub(super) fn add(&mut self, owner: usize, listed: &DeclaredRoute) -> Result<(), RouteError> {
        let known = protocol::HTTP | protocol::HTTPS | protocol::WEBSOCKET;
        if listed.protocols == 0 || listed.protocols & !known != 0 {
            return Err(RouteError::Unknown);
        }
        self.has_websockets |= listed.protocols & protocol::WEBSOCKET != 0;
        let route = RegisteredRoute {
            owner,
            number: listed.number,
            protocols: listed.protocols,
            methods: methods(&listed.methods)?,
            is_as_sent: matches!(listed.syntax, syntax::PATH_AS_SENT | syntax::REGEX_AS_SENT),
        };
        match listed.syntax {
            syntax::PATH | syntax::PATH_AS_SENT => self.add_path(&listed.pattern, route),
            syntax::REGEX | syntax::REGEX_AS_SENT => self.add_regex(&listed.pattern, route),
            _ => Err(RouteError::Unknown),
        }
    }

    fn add_path(&mut self, pattern: &str, route: RegisteredRoute) -> Result<(), RouteError> {
        let bad = |reason: &str| Err(RouteError::Pattern(reason.to_owned()));
        if !pattern.starts_with('/') {
            return bad("does not begin with /");
        }
        if pattern.contains(['?', '#']) || pattern.bytes().any(|byte| byte <= b' ') {
            return bad("contains a query, a fragment or a space, which routes cannot match");
        }
        if let Some(&at) = self.positions.get(pattern) {
            return self.sets[at].add(route, pattern, &self.owners);
        }
        let index = match self.index_of(pattern) {
            Ok(index) => index,
            Err(InsertError::Conflict { with }) => return Err(self.conflict(with)),
            Err(error) => return bad(&error.to_string()),
        };
        if let Some(other) = &self.path_patterns[index].exact {
            return Err(self.conflict(other.text.clone()));
        }
        let set = self.sets.len();
        let (names, rest_at) = names_in(pattern);
        let pattern_of = |names| PathPattern {
            text: pattern.to_owned(),
            names,
            set,
        };
        // The plugin did not ask for this additional pattern, so it is skipped if it is invalid or conflicts.
        if let Some(at) = rest_at
            && let Ok(above) = self.index_of(&pattern[..at])
        {
            self.path_patterns[above].rest = Some(pattern_of(names.clone()));
        }
        self.path_patterns[index].exact = Some(pattern_of(names));
        self.positions.insert(pattern.to_owned(), set);
        self.sets.push(RouteSet(vec![route]));
        Ok(())
    }

    /// The place of paths of this form, regardless of the names of their captures.
    fn index_of(&mut self, pattern: &str) -> Result<usize, InsertError> {
        if let Some(&index) = self.index_by_text.get(pattern) {
            return Ok(index);
        }
        let index = match self.paths.insert(pattern, self.path_patterns.len()) {
            Ok(()) => {
                self.path_patterns.push(PathPatterns::default());
                self.path_patterns.len() - 1
            }
            Err(InsertError::Conflict { with }) if form(&with) == form(pattern) => {
                match self.index_by_text.get(&with) {
                    Some(&index) => index,
                    None => return Err(InsertError::Conflict { with }),
                }
            }
            Err(error) => return Err(error),
        };
        self.index_by_text.insert(pattern.to_owned(), index);
        Ok(index)
    }

    fn conflict(&self, with: String) -> RouteError {
        let patterns = self
            .index_by_text
            .get(&with)
            .map(|&at| &self.path_patterns[at]);
        let pattern = patterns.and_then(|it| it.exact.as_ref().or(it.rest.as_ref()));
        RouteError::Conflict {
            owner: pattern.map_or_else(String::new, |pattern| {
                self.sets[pattern.set].owner(&self.owners)
            }),
            pattern: pattern.map_or(with, |pattern| pattern.text.clone()),
        }
    }

    fn add_regex(&mut self, expression: &str, route: RegisteredRoute) -> Result<(), RouteError> {
        let same = |(regex, _): &&mut (Regex, RouteSet)| regex.as_str() == whole(expression);
        if let Some((_, set)) = self.regexes.iter_mut().find(same) {
            return set.add(route, expression, &self.owners);
        }
        // Compiled alone first, so that `)(` cannot combine with the parentheses that `whole` adds.
        Regex::new(expression)
            .and_then(|_| Regex::new(&whole(expression)))
            .map(|regex| self.regexes.push((regex, RouteSet(vec![route]))))
            .map_err(|error| RouteError::Regex(error.to_string().replace('\n', " ")))
    }

    /// Whether any route is for WebSockets.
    pub(super) fn has_websockets(&self) -> bool {
        self.has_websockets
    }

    /// The route that a request is for.
    pub(super) fn find(&self, key: &RouteKey<'_>) -> Result<Matched, NoRoute> {
        let path = without_needless_encoding(key.path).ok_or(NoRoute::Encoding)?;
        let mut no_route = NoRoute::Path;
        if let Ok(found) = self.paths.at(&path) {
            let PathPatterns { exact, rest } = &self.path_patterns[*found.value];
            for pattern in [exact, rest].into_iter().flatten() {
                match self.sets[pattern.set].choose(key) {
                    Ok(chosen) => {
                        // The empty value is for the final `{*rest}`.
                        let values = found.params.iter().map(|(_, value)| value).chain([""]);
                        let names = pattern.names.iter().map(String::as_str);
                        return matched(chosen, key, &path, names.zip(values));
                    }
                    Err(reason) if no_route == NoRoute::Path => no_route = reason,
                    Err(_) => {}
                }
            }
        }
        for (regex, set) in &self.regexes {
            let Some(groups) = regex.captures(&path) else {
                continue;
            };
            match set.choose(key) {
                Ok(chosen) => {
                    let names = regex.capture_names().enumerate().skip(1);
                    let numbered: Vec<(String, &str)> = names
                        .filter_map(|(index, name)| {
                            let name = name.map_or_else(|| index.to_string(), str::to_owned);
                            groups.get(index).map(|group| (name, group.as_str()))
                        })
                        .collect();
                    let numbered = numbered.iter().map(|(name, value)| (&**name, *value));
                    return matched(chosen, key, &path, numbered);
                }
                Err(reason) if no_route == NoRoute::Path => no_route = reason,
                Err(_) => {}
            }
        }
        Err(no_route)
    }
}

impl RouteSet {
    fn add(
        &mut self,
        route: RegisteredRoute,
        pattern: &str,
        owners: &[String],
    ) -> Result<(), RouteError> {
        if let Some(other) = self.0.iter().find(|other| other.overlaps(&route)) {
            return Err(RouteError::Conflict {
                pattern: pattern.to_owned(),
                owner: owners[other.owner].clone(),
            });
        }
        self.0.push(route);
        Ok(())
    }

    fn owner(&self, owners: &[String]) -> String {
        self.0
            .first()
            .map_or_else(String::new, |route| owners[route.owner].clone())
    }

    /// The route for this protocol and method. If no route accepts the WebSocket that a request asks for, the request
    /// is handled like any other (RFC 9110 §7.8).
    fn choose(&self, key: &RouteKey<'_>) -> Result<&RegisteredRoute, NoRoute> {
        let plain = match key.is_secure {
            true => protocol::HTTPS,
            false => protocol::HTTP,
        };
        let serving = |bit: u32| {
            self.0
                .iter()
                .filter(move |route| route.protocols & bit != 0)
        };
        if key.is_websocket
            && let Some(route) = serving(protocol::WEBSOCKET).next()
        {
            return Ok(route);
        }
        if let Some(route) = serving(plain).find(|route| route.takes(key.method)) {
            return Ok(route);
        }
        let methods: Vec<&str> = serving(plain)
            .flat_map(|route| route.methods.iter().map(String::as_str))
            .collect();
        Err(match serving(protocol::WEBSOCKET).next() {
            _ if !methods.is_empty() => NoRoute::Method(methods.join(", ")),
            Some(_) => NoRoute::WebSocketOnly,
            None => NoRoute::Path,
        })
    }
}

impl RegisteredRoute {
    fn takes(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|own| own == method)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let common = self.protocols & other.protocols;
        let shares_method = self.methods.is_empty()
            || other.methods.is_empty()
            || self.methods.iter().any(|method| other.takes(method));
        // A WebSocket request is always GET, so the methods of the route do not matter.
        common & protocol::WEBSOCKET != 0 || common != 0 && shares_method
    }
}

/// The expression, anchored at both ends of the path.
fn whole(expression: &str) -> String {
    format!("^(?:{expression})$")
}

fn methods(text: &str) -> Result<Vec<String>, RouteError> {
    let mut methods = Vec::new();
    for method in text
        .split(',')
        .map(str::trim)
        .filter(|method| !method.is_empty())
    {
        let is_method = method
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_method {
            return Err(RouteError::Method(method.to_owned()));
        }
        methods.push(method.to_owned());
        if method == "GET" {
            methods.push("HEAD".to_owned());
        }
    }
    Ok(methods)
}

/// `parts` are substrings of `path`, or empty.
fn matched<'p>(
    route: &RegisteredRoute,
    key: &RouteKey<'_>,
    path: &str,
    parts: impl Iterator<Item = (&'p str, &'p str)>,
) -> Result<Matched, NoRoute> {
    let mut captures = Captures::new();
    for (name, value) in parts {
        let value = match route.is_as_sent {
            true => Cow::Borrowed(as_sent(key.path, path, value)),
            false => percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| NoRoute::Encoding)?,
        };
        captures.push((name.to_owned(), value.into_owned()));
    }
    Ok(Matched {
        owner: route.owner,
        number: route.number,
        is_websocket: key.is_websocket && route.protocols & protocol::WEBSOCKET != 0,
        captures,
    })
}

/// The names in a pattern, and the position of `{*rest}` if the pattern ends with it after a slash.
fn names_in(pattern: &str) -> (Vec<String>, Option<usize>) {
    let (mut names, mut rest_at) = (Vec::new(), None);
    let mut at = 0;
    while let Some(open) = pattern[at..].find('{').map(|offset| at + offset) {
        if pattern[open + 1..].starts_with('{') {
            at = open + 2;
            continue;
        }
        let Some(close) = pattern[open..].find('}').map(|offset| open + offset) else {
            break;
        };
        let name = &pattern[open + 1..close];
        if name.starts_with('*') && close + 1 == pattern.len() && pattern[..open].ends_with('/') {
            rest_at = Some(open);
        }
        names.push(name.trim_start_matches('*').to_owned());
        at = close + 1;
    }
    (names, rest_at)
}

/// A pattern without its names: patterns of the same form match the same paths.
fn form(pattern: &str) -> String {
    let (names, _) = names_in(pattern);
    let mut form = pattern.to_owned();
    for name in names {
        form = form.replacen(&format!("{{{name}}}"), "{}", 1);
        form = form.replacen(&format!("{{*{name}}}"), "{*}", 1);
    }
    form
}

/// The substring of `sent` that became `part`. `part` is a substring of `path`, which is `sent` without needless
/// encoding.
fn as_sent<'s>(sent: &'s str, path: &str, part: &str) -> &'s str {
    // A substring of `path` lies inside its memory; everything else is empty.
    let begin = (part.as_ptr() as usize).wrapping_sub(path.as_ptr() as usize);
    if part.is_empty() || begin > path.len() {
        return "";
    }
    let end = begin + part.len();
    let (mut at, mut decoded) = (0, 0);
    let mut begins_at = sent.len();
    while at < sent.len() && decoded < end {
        if decoded == begin {
            begins_at = at;
        }
        at += match needless(&sent[at..]) {
            Some(_) => "%41".len(),
            None => 1,
        };
        // Non-ASCII characters have the same length in both.
        while !sent.is_char_boundary(at) {
            at += 1;
            decoded += 1;
        }
        decoded += 1;
    }
    sent.get(begins_at..at).unwrap_or_default()
}

/// The character at the start of `text` that is percent-encoded without need.
fn needless(text: &str) -> Option<char> {
    let digits = text.strip_prefix('%')?.get(..2)?;
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = u8::from_str_radix(digits, 16)
        .ok()
        .filter(|_| is_hexadecimal)?;
    is_unreserved(byte).then(|| byte.into())
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `path` with unreserved characters decoded; `None` if a percent-encoding is invalid.
fn without_needless_encoding(path: &str) -> Option<Cow<'_, str>> {
    let Some(first) = path.find('%') else {
        return Some(Cow::Borrowed(path));
    };
    let mut decoded = path[..first].to_owned();
    let mut pieces = path[first..].split('%');
    // The first piece, before the first sign, is empty.
    decoded.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16)
            .ok()
            .filter(|_| is_hexadecimal)?;
        match is_unreserved(byte) {
            true => decoded.push(byte.into()),
            false => {
                decoded.push('%');
                decoded.push_str(digits);
            }
        }
        decoded.push_str(rest);
    }
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: u32 = protocol::HTTP | protocol::HTTPS;

    fn listed(number: u32, protocols: u32, methods: &str, pattern: &str) -> DeclaredRoute {
        let (syntax, pattern) = match pattern.strip_prefix("regex:") {
            Some(expression) => (syntax::REGEX, expression),
            None => (syntax::PATH, pattern),
        };
        DeclaredRoute {
            number,
            protocols,
            syntax,
            pattern: pattern.to_owned(),
            methods: methods.to_owned(),
        }
    }

    fn router(routes: &[(u32, &str, &str)]) -> Result<Router, RouteError> {
        let mut router = Router::default();
        for (number, (protocols, methods, pattern)) in (0..).zip(routes) {
            let owner = router.add_owner(&format!("P{number}"));
            router.add(owner, &listed(number, *protocols, methods, pattern))?;
        }
        Ok(router)
    }

    fn get(path: &str) -> RouteKey<'_> {
        RouteKey {
            path,
            method: "GET",
            is_websocket: false,
            is_secure: false,
        }
    }

    #[test]
    fn the_most_literal_pattern_wins_then_the_first_expression() {
        let router = router(&[
            (ANY, "", "/{*rest}"),
            (ANY, "", "/users/{id}"),
            (ANY, "", "/users/me"),
            (ANY, "", r"regex:/get/(\d+)/(?<name>\w+)"),
            (ANY, "", "regex:/g.*"),
        ])
        .unwrap();
        let found = |path| {
            router
                .find(&get(path))
                .map(|found| (found.number, found.captures))
        };
        let captures = |list: &[(&str, &str)]| -> Captures {
            let owned = list
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            owned.collect()
        };
        assert_eq!(found("/users/me"), Ok((2, captures(&[]))));
        assert_eq!(found("/users/%6de"), Ok((2, captures(&[]))));
        assert_eq!(found("/users/you"), Ok((1, captures(&[("id", "you")]))));
        assert_eq!(
            found("/users/a%2Fb%20"),
            Ok((1, captures(&[("id", "a/b ")])))
        );
        assert_eq!(
            found("/users/a/b"),
            Ok((0, captures(&[("rest", "users/a/b")])))
        );
        assert_eq!(found("/"), Ok((0, captures(&[("rest", "")]))));
        assert_eq!(found("/users/%ff"), Err(NoRoute::Encoding));
        assert_eq!(found("/users/%f"), Err(NoRoute::Encoding));
        assert_eq!(found("/users/%+1"), Err(NoRoute::Encoding));
        assert_eq!(found("/users/%é"), Err(NoRoute::Encoding));
    }

    #[test]
    fn a_rest_may_be_empty_unless_another_route_has_that_path() {
        let routes = [
            (ANY, "", "/{*all}"),
            (ANY, "GET", "/api/{*rest}"),
            (ANY, "", "/own/{*rest}"),
            (ANY, "POST", "/own/"),
            (ANY, "", "/users/{id}/{*path}"),
            (ANY, "PUT", "/users/{name}/"),
            (ANY, "", "/{{x}}/{*rest}"),
        ];
        let in_order = router(&routes).unwrap();
        let reversed: Vec<_> = routes.iter().rev().copied().collect();
        let reversed = router(&reversed).unwrap();
        let captures = |list: &[(&str, &str)]| -> Captures {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            list.iter().map(owned).collect()
        };
        for (method, path, number, list) in [
            ("GET", "/api/", 1, &[("rest", "")][..]),
            ("GET", "/api/a/", 1, &[("rest", "a/")]),
            ("GET", "/api//", 1, &[("rest", "/")]),
            ("GET", "/api", 0, &[("all", "api")]),
            ("GET", "/", 0, &[("all", "")]),
            ("POST", "/own/", 3, &[]),
            ("GET", "/own/", 2, &[("rest", "")]),
            ("GET", "/users/7/", 4, &[("id", "7"), ("path", "")]),
            ("PUT", "/users/7/", 5, &[("name", "7")]),
            ("PUT", "/users/7/x", 4, &[("id", "7"), ("path", "x")]),
            ("GET", "/{x}/", 6, &[("rest", "")]),
        ] {
            let key = RouteKey {
                method,
                ..get(path)
            };
            let found = in_order.find(&key).unwrap();
            assert_eq!(
                (found.number, found.captures),
                (number, captures(list)),
                "{path}"
            );
            let found = reversed.find(&key).unwrap();
            let number = routes.len() as u32 - 1 - number;
            assert_eq!(
                (found.number, found.captures),
                (number, captures(list)),
                "{path}"
            );
        }
        let key = RouteKey {
            method: "POST",
            ..get("/api/")
        };
        assert_eq!(
            in_order.find(&key),
            Err(NoRoute::Method("GET, HEAD".to_owned()))
        );
    }

    #[test]
    fn captures_are_as_sent_if_the_route_requests_it() {
        let mut router = Router::default();
        let owner = router.add_owner("P");
        for (number, (syntax, pattern)) in (0..).zip([
            (syntax::PATH_AS_SENT, "/api/{a}/x/{*rest}"),
            (syntax::REGEX_AS_SENT, "/re/(?<all>.*)/(z?)"),
        ]) {
            let listed = DeclaredRoute {
                syntax,
                ..listed(number, ANY, "", pattern)
            };
            router.add(owner, &listed).unwrap();
        }
        for (path, expected) in [
            ("/api/b/x/c", ["b", "c"]),
            (
                "/%61pi/%2f%62/x/%2F/%e9%C3%a4+%2561",
                ["%2f%62", "%2F/%e9%C3%a4+%2561"],
            ),
            ("/api/%62%63/%78/%64", ["%62%63", "%64"]),
            ("/api/ä%41ö/x/ü%2e%2e", ["ä%41ö", "ü%2e%2e"]),
            ("/api/b/x/", ["b", ""]),
            ("/re/%61%2Fä/%62/%7a", ["%61%2Fä/%62", "%7a"]),
            ("/re//", ["", ""]),
        ] {
            let found = router.find(&get(path)).unwrap();
            let values: Vec<_> = found.captures.iter().map(|(_, value)| &**value).collect();
            assert_eq!(values, expected, "{path}");
        }
        assert_eq!(router.find(&get("/api/%/x/y")), Err(NoRoute::Encoding));
    }

    #[test]
    fn expressions_match_the_whole_path_in_order() {
        let router = router(&[
            (ANY, "", r"regex:/get/(\d+)(?:/(?<name>\w+))?"),
            (ANY, "", "regex:^/g.*$"),
        ])
        .unwrap();
        let number = |path| router.find(&get(path)).map(|found| found.number);
        let captures = router.find(&get("/get/1/x")).unwrap().captures;
        assert_eq!(
            captures,
            [
                ("1".to_owned(), "1".to_owned()),
                ("name".to_owned(), "x".to_owned())
            ]
        );
        assert_eq!(router.find(&get("/get/7")).unwrap().captures.len(), 1);
        assert_eq!(number("/get/7"), Ok(0));
        assert_eq!(number("/get/7x"), Ok(1));
        assert_eq!(number("/x/get/7"), Err(NoRoute::Path));
    }

    #[test]
    fn methods_and_protocols_decide_within_a_pattern() {
        let router = router(&[
            (protocol::HTTP, "GET, PUT", "/a"),
            (protocol::HTTPS, "", "/a"),
            (protocol::HTTP, "POST", "/a"),
            (protocol::WEBSOCKET, "", "/a"),
            (protocol::WEBSOCKET, "", "/ws"),
            (protocol::HTTPS, "", "/secret"),
        ])
        .unwrap();
        let find = |key| {
            router
                .find(&key)
                .map(|found| (found.number, found.is_websocket))
        };
        let with = |method, is_secure, is_websocket| RouteKey {
            method,
            is_secure,
            is_websocket,
            ..get("/a")
        };
        assert_eq!(find(with("HEAD", false, false)), Ok((0, false)));
        assert_eq!(find(with("POST", false, false)), Ok((2, false)));
        assert_eq!(find(with("POST", true, false)), Ok((1, false)));
        assert_eq!(find(with("GET", true, true)), Ok((3, true)));
        let allowed = NoRoute::Method("GET, HEAD, PUT, POST".to_owned());
        assert_eq!(find(with("DELETE", false, false)), Err(allowed));
        assert_eq!(find(get("/ws")), Err(NoRoute::WebSocketOnly));
        assert_eq!(find(get("/secret")), Err(NoRoute::Path));
    }

    #[test]
    fn invalid_routes_are_refused_with_the_reason() {
        let refused = |pattern: &str| {
            router(&[(ANY, "", pattern)])
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        for (pattern, reason) in [
            ("a", "does not begin with /"),
            ("", "does not begin with /"),
            ("/a?b", "contains a query"),
            ("/{", "write a path"),
            ("/{a}{b}", "write a path"),
            ("/{*a}/b", "write a path"),
            ("regex:(", "is not a valid regular expression"),
            ("regex:a)(b", "is not a valid regular expression"),
        ] {
            assert!(
                refused(pattern).contains(reason),
                "{pattern}: {}",
                refused(pattern)
            );
        }
        let method = router(&[(ANY, "GET, P T", "/")]).map(drop);
        assert_eq!(method, Err(RouteError::Method("P T".to_owned())));
        assert_eq!(
            router(&[(1 << 9, "", "/")]).map(drop),
            Err(RouteError::Unknown)
        );
    }

    #[test]
    fn routes_for_the_same_requests_conflict() {
        for (first, second, conflicts) in [
            ((ANY, "", "/a"), (ANY, "", "/a"), true),
            ((ANY, "GET", "/a"), (ANY, "HEAD", "/a"), true),
            ((ANY, "GET", "/a"), (ANY, "POST", "/a"), false),
            (
                (protocol::HTTP, "", "/a"),
                (protocol::HTTPS, "", "/a"),
                false,
            ),
            (
                (protocol::HTTP, "", "/a"),
                (protocol::WEBSOCKET, "", "/a"),
                false,
            ),
            (
                (protocol::WEBSOCKET, "", "/a"),
                (protocol::WEBSOCKET, "GET", "/a"),
                true,
            ),
            ((ANY, "", "/{x}"), (ANY, "", "/{y}"), true),
            ((ANY, "", "/a/{x}"), (ANY, "", "/a/b"), false),
            ((ANY, "", "regex:/a"), (ANY, "", "regex:/a"), true),
        ] {
            let added = router(&[first, second]).map(drop);
            assert_eq!(added.is_err(), conflicts, "{first:?} {second:?}");
            if let Err(error) = added {
                assert!(error.to_string().contains("of P0"), "{error}");
            }
        }
    }
}
