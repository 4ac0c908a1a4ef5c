//! Which requests a plugin answers.
#![expect(unsafe_code, reason = "lends text for the time of a call")]

use crate::abi::web::{RouteView, protocol, syntax};
use std::borrow::Cow;

/// Requests that a plugin answers: those for some paths, methods and protocols.
///
/// A path is matched as the client has sent it, without its query; what is percent-encoded without need is decoded
/// first. `{name}` stands for one segment, or the rest of one: `/users/{id}`, `/files/{name}.txt`; `{*rest}` at the
/// end for everything that is left. `/api/{*rest}` is for `/api/` as well, with an empty `rest`, unless another route is
/// for just that path; it is not for `/api`, which takes a route of its own. `{{` and `}}` are braces. Where two patterns fit, the more
/// literal one counts, whatever their order. A [regular expression](Self::regex) counts where no such pattern fits, in
/// the order of the command line.
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
    /// Requests for this path, in clear and over TLS, of every method.
    pub fn new(pattern: impl Into<Cow<'static, str>>) -> Self {
        Self {
            protocols: protocol::HTTP | protocol::HTTPS,
            syntax: syntax::PATH,
            pattern: pattern.into(),
            methods: Cow::Borrowed(""),
        }
    }

    /// Requests in clear alone.
    pub fn http(pattern: impl Into<Cow<'static, str>>) -> Self {
        Self {
            protocols: protocol::HTTP,
            ..Self::new(pattern)
        }
    }

    /// Requests over TLS alone.
    pub fn https(pattern: impl Into<Cow<'static, str>>) -> Self {
        Self {
            protocols: protocol::HTTPS,
            ..Self::new(pattern)
        }
    }

    /// WebSockets, in clear and over TLS. A request for the path that asks for none gets 426.
    pub fn websocket(pattern: impl Into<Cow<'static, str>>) -> Self {
        Self {
            protocols: protocol::WEBSOCKET,
            ..Self::new(pattern)
        }
    }

    /// As [`new`](Self::new), for paths that this regular expression matches whole. Its groups are
    /// [captures](crate::WebExchange::capture): by their names, and as `1`, `2` and so on.
    pub fn regex(expression: impl Into<Cow<'static, str>>) -> Self {
        Self {
            syntax: syntax::REGEX,
            ..Self::new(expression)
        }
    }

    /// For these methods alone, separated by commas; other ones get 405. GET includes HEAD.
    pub fn methods(mut self, methods: impl Into<Cow<'static, str>>) -> Self {
        self.methods = methods.into();
        self
    }

    /// [Captures](crate::WebExchange::capture) stay as the client has sent them, percent-encoded, such as `a%2Fb`: for who
    /// puts them into another URL. Otherwise they are decoded, and a path whose captured part is no UTF-8 then is
    /// answered with 400. Needs a proxy that knows it: older ones refuse to start with such a route.
    pub fn captures_as_sent(mut self) -> Self {
        self.syntax = match self.syntax {
            syntax::REGEX | syntax::REGEX_AS_SENT => syntax::REGEX_AS_SENT,
            _ => syntax::PATH_AS_SENT,
        };
        self
    }

    /// For WebSockets as well: [`handle_websocket`](crate::WebRoutes::handle_websocket) is called for a request that asks
    /// for one, [`handle_request`](crate::WebRoutes::handle_request) for every other.
    pub fn and_websocket(mut self) -> Self {
        self.protocols |= protocol::WEBSOCKET;
        self
    }

    pub(super) fn view(&self) -> RouteView {
        // The view's `'static` is nominal: whoever takes it is lent it for a call.
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
