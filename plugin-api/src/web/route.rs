//! The requests that a plugin answers.
#![expect(unsafe_code, reason = "lends text for the time of a call")]

use crate::abi::web::{RouteView, protocol, syntax};
use std::borrow::Cow;

/// A route: the paths, methods and protocols of requests that a plugin answers.
///
/// A path is matched as the client sent it, without its query; unnecessary percent-encoding is decoded first. `{name}`
/// matches one segment, or a part of one: `/users/{id}`, `/files/{name}.txt`; `{*rest}` at the end matches the rest of
/// the path. `/api/{*rest}` matches `/api/` as well, with an empty `rest`, unless another route is exactly that path;
/// it does not match `/api`, which needs a separate route. `{{` and `}}` are literal braces. If two patterns match, the
/// more literal one is used, regardless of their order. [Regular expressions](Self::regex) are tried only if no such
/// pattern matches, in the order of the command line.
///
/// ```
/// use plugin_api::Route;
/// let routes = [
///     Route::new("/users/{id}").methods("GET, PUT, DELETE"),
///     Route::https("/secrets"),
///     Route::websocket("/events"),
///     Route::regex(r"/get/(?<id>\d+)"),
/// ];
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a route counts once `routes` returns it"]
pub struct Route {
    protocols: u32,
    syntax: u32,
    pattern: Cow<'static, str>,
    methods: Cow<'static, str>,
}

impl Route {
    /// Requests for this path, over plain HTTP and TLS, with any method.
    pub fn new(pattern: impl Into<Cow<'static, str>>) -> Self {
        Self {
            protocols: protocol::HTTP | protocol::HTTPS,
            syntax: syntax::PATH,
            pattern: pattern.into(),
            methods: Cow::Borrowed(""),
        }
    }

    /// Requests over plain HTTP only.
    pub fn http(pattern: impl Into<Cow<'static, str>>) -> Self {
        Self {
            protocols: protocol::HTTP,
            ..Self::new(pattern)
        }
    }

    /// Requests over TLS only.
    pub fn https(pattern: impl Into<Cow<'static, str>>) -> Self {
        Self {
            protocols: protocol::HTTPS,
            ..Self::new(pattern)
        }
    }

    /// WebSockets, over plain HTTP and TLS. Other requests for the path get 426.
    pub fn websocket(pattern: impl Into<Cow<'static, str>>) -> Self {
        Self {
            protocols: protocol::WEBSOCKET,
            ..Self::new(pattern)
        }
    }

    /// Like [`new`](Self::new), for paths that match this regular expression as a whole. Its groups are
    /// [captures](crate::WebExchange::capture): by their names, and as `1`, `2` and so on.
    pub fn regex(expression: impl Into<Cow<'static, str>>) -> Self {
        Self {
            syntax: syntax::REGEX,
            ..Self::new(expression)
        }
    }

    /// Restricts the route to these methods, separated by commas; others get 405. GET includes HEAD.
    pub fn methods(mut self, methods: impl Into<Cow<'static, str>>) -> Self {
        self.methods = methods.into();
        self
    }

    /// [Captures](crate::WebExchange::capture) remain as the client sent them, percent-encoded, such as `a%2Fb`: for
    /// inserting them into another URL. Otherwise they are decoded, and a path whose capture is not UTF-8 is answered
    /// with 400. Older versions of the proxy do not start with such a route.
    pub fn captures_as_sent(mut self) -> Self {
        self.syntax = match self.syntax {
            syntax::REGEX | syntax::REGEX_AS_SENT => syntax::REGEX_AS_SENT,
            _ => syntax::PATH_AS_SENT,
        };
        self
    }

    /// Accepts WebSockets as well: [`handle_websocket`](crate::WebRoutes::handle_websocket) is called for WebSocket
    /// requests, [`handle_request`](crate::WebRoutes::handle_request) for all others.
    pub fn and_websocket(mut self) -> Self {
        self.protocols |= protocol::WEBSOCKET;
        self
    }

    pub(super) fn view(&self) -> RouteView {
        // The `'static` of the view is nominal: it is lent for one call.
        let nominal = |text: &str| {
            // SAFETY: as above; the host copies during the call, while `self` lives.
            unsafe { std::mem::transmute::<&str, &'static str>(text) }.into()
        };
        RouteView {
            protocols: self.protocols,
            syntax: self.syntax,
            pattern: nominal(&self.pattern),
            methods: nominal(&self.methods),
            reserved: [0; 4],
        }
    }
}
