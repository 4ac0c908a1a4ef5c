//! Forwards requests that are meant for the proxy itself to upstreams, and past those that are down.
//!
//! ```toml
//! [[plugins]]
//! library = "libreverse_proxy.so"
//! name = "ReverseProxyPlugin"
//!
//! [[plugins.config.routes]]
//! path = "/api/{*rest}"
//! upstreams = ["http://10.0.0.1:8080/base/{rest}", "http://10.0.0.2:8080/base/{rest}"]
//! balance = "least_connections"
//!
//! [[plugins.config.routes]]
//! regex = '/users/(?<id>\d+)'
//! methods = "GET"
//! upstreams = ["https://users.example/lookup?id={id}"]
//! ```
//!
//! ```text
//! > GET /api/v1/things?sort=name HTTP/1.1       > GET /users/7 HTTP/1.1
//! to http://10.0.0.1:8080/base/v1/things?sort=name   to https://users.example/lookup?id=7
//! ```
//!
//! | key of a route | default | meaning |
//! |---|---|---|
//! | `path` or `regex` | | which paths: `{name}` for a segment, `{*name}` for the rest; an expression matches the whole path |
//! | `methods` | all | `"GET, POST"`; other ones get 405 |
//! | `upstreams` | | URLs; one without a path of its own keeps the request's, and the request's query is always appended |
//! | `host` | `rewrite` | the upstream gets its own Host; `keep`: the client's |
//! | `balance` | `round_robin` | or `random`, `least_connections` |
//! | `max_fails` | 3 | failures in a row after which an upstream is down; 0: never |
//! | `fail_timeout` | 10 | seconds for which it gets nothing; then one request tries it |
//! | `tries` | 2 | upstreams tried for one request, before it is answered 502 or 504 |
//! | `forwarded` | true | X-Forwarded-For, -Proto and -Host are written |
//! | `trust_forwarded` | false | what clients say there is kept, and X-Forwarded-For appended to; otherwise it is removed |
//! | `websocket` | true | WebSockets and other upgrades are forwarded; otherwise they get 403 |
//!
//! In an upstream's URL, `{name}` is what the pattern has captured under that name, `{1}` the first group of an
//! expression if it has no name; encoded for its place. Slashes are kept of what stands for the rest of a path, and of every `{*name}`.
//! Paths with `.` or `..` in them, plain or encoded, get 400.
//!
//! A request that may have reached an upstream goes to another one only if its method is idempotent. Where all upstreams
//! are down, the one that failed longest ago is tried all the same. Redirects and cookies of upstreams are not rewritten.
//!
//! The proxy remains a forward proxy as well: one that strangers can reach has `disable_http_proxy = true`.
//!
//! Without a configuration, `/get` is answered by httpbin.org, in clear or over TLS, and `/get/1` by `/get?id=1` there.

mod balance;
mod config;
mod fault;
mod forwarded;
mod health;
mod pattern;
mod route;
mod template;

use config::Config;
use plugin_api::prelude::*;
use plugin_api::{WebExchange, WebRoutes};
use route::Route;

struct ReverseProxyPlugin {
    routes: Vec<Route>,
}

impl WebRoutes for ReverseProxyPlugin {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        if config.routes.is_empty() {
            return Err(Error::new("routes: there are none"));
        }
        let read = |(index, route)| {
            Route::new(route)
                .map_err(|why| Error::new(format!("routes: number {}: {why}", index + 1)))
        };
        let routes = config.routes.into_iter().enumerate().map(read);
        Ok(Self {
            routes: routes.collect::<Result<_, _>>()?,
        })
    }

    fn routes(&self) -> Vec<plugin_api::Route> {
        self.routes
            .iter()
            .map(|route| route.declared.clone())
            .collect()
    }

    async fn handle_request(&self, exchange: &mut WebExchange) -> Result<(), Error> {
        match self.routes.get(exchange.route()) {
            Some(route) => route.serve(exchange).await,
            None => Err(Error::new(format!(
                "there is no route {}",
                exchange.route()
            ))),
        }
    }
}

export_plugins!(; web: ReverseProxyPlugin);
