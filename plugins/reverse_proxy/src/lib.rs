//! Forwards requests addressed to the proxy itself to upstreams, skipping those that are down.
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
//! | `path` or `regex` | | paths to forward: `{name}` matches a segment, `{*name}` the rest; an expression matches the whole path |
//! | `methods` | all | `"GET, POST"`; other ones get 405 |
//! | `upstreams` | | URLs; a URL without a path keeps the path of the request, and the query of the request is always appended |
//! | `host` | `rewrite` | the Host of the upstream; `keep`: the Host of the client |
//! | `balance` | `round_robin` | or `random`, `least_connections` |
//! | `max_fails` | 3 | consecutive failures after which an upstream is down; 0: never |
//! | `fail_timeout` | 10 | seconds for which it gets no requests; then one request tries it |
//! | `tries` | 2 | maximum number of upstreams tried for one request, before it is answered with 502 or 504 |
//! | `forwarded` | true | set X-Forwarded-For, -Proto and -Host, and X-Real-IP: the address of the client connection |
//! | `trust_forwarded` | false | keep these fields of clients, and append to X-Forwarded-For; otherwise they are removed |
//! | `websocket` | true | forward WebSockets and other upgrades; otherwise they get 403 |
//!
//! In the URL of an upstream, `{name}` is the capture with that name, `{1}` the first group of an expression if it has no
//! name. In a path, captures are inserted byte for byte as the client sent them: `%2F`, `%2f`, `%E9` and `+` are
//! unchanged. In a query, they are decoded and encoded again. Slashes are kept in captures of the rest of a path, and in
//! every `{*name}`. The query of the request is never changed. Paths with `.` or `..` segments, plain or encoded, get
//! 400.
//!
//! `/api/{*rest}` matches `/api/` as well, with an empty `{rest}`. It does not match `/api`, which needs a separate route;
//! otherwise it is answered with 404.
//!
//! With `trust_forwarded = false`, all fields that proxies use to identify the client are removed: `Forwarded`, every
//! field that begins with `X-Forwarded-`, `X-Real-IP`, `Client-IP`, `X-Client-IP`, `X-Cluster-Client-IP`,
//! `True-Client-IP`,
//! `CF-Connecting-IP`, `Fastly-Client-IP` and a few more, also with `_` or another character for `-`. With `true`, they are
//! forwarded unchanged, and X-Real-IP is not set, because the proxy in front knows the address. Set it only if clients
//! can reach this proxy only through a proxy that removes or overwrites these fields.
//!
//! A request that may have reached an upstream is sent to another one only if its method is idempotent. If all upstreams
//! are down, the one whose failure is the oldest is tried. Redirects and cookies of upstreams are not rewritten.
//!
//! The proxy remains a forward proxy as well: if it is reachable from untrusted networks, set `disable_http_proxy =
//! true`.
//!
//! Without a configuration, `/get` is forwarded to httpbin.org, over plain HTTP or TLS, and `/get/1` to `/get?id=1`
//! there.

mod balance;
mod config;
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
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        if config.routes.is_empty() {
            return Err(Error::new("routes: is empty"));
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

#[cfg(test)]
mod tests {
    use super::ReverseProxyPlugin;
    use plugin_api::ForwardFault;
    use plugin_api::testing::{self, web};
    use std::cell::RefCell;

    fn plugin(route: &str) -> ReverseProxyPlugin {
        web::configured(&format!("[[routes]]\n{route}")).unwrap()
    }

    const TWO: &str = "path = '/a'\nupstreams = ['http://one', 'http://two']\n";

    #[test]
    fn without_a_configuration_httpbin_answers() {
        let plugin: ReverseProxyPlugin = web::configured("").unwrap();
        for _ in 0..20 {
            let static_route = web::get("/get").answer(|_| Ok(200)).run(&plugin);
            let url = &*static_route.forwards()[0];
            assert!(
                ["http://httpbin.org/get", "https://httpbin.org/get"].contains(&url),
                "{url}"
            );
            let call = web::get("/get/5").route(1).captures(&[("1", "5")]);
            let dynamic_route = call.answer(|_| Ok(200)).run(&plugin);
            let url = &*dynamic_route.forwards()[0];
            assert!(url.ends_with("://httpbin.org/get?id=5"), "{url}");
        }
    }

    #[test]
    fn uses_the_next_upstream_if_one_is_unreachable() {
        let plugin = plugin(TWO);
        let only_two = |url: &str| match url {
            "http://two/a" => Ok(200),
            _ => Err(ForwardFault::Unreached),
        };
        for _ in 0..9 {
            assert_eq!(web::get("/a").answer(only_two).run(&plugin).status(), 200);
        }
        let run = web::get("/a").answer(only_two).run(&plugin);
        assert_eq!(run.forwards(), ["http://two/a"], "the other one is down");
        let run = web::get("/a")
            .answer(|_| Err(ForwardFault::Unreached))
            .run(&plugin);
        assert_eq!((run.status(), run.forwards().len()), (502, 2));
        assert!(run.failure().is_some());
    }

    #[test]
    fn requests_that_may_have_arrived_are_repeated_only_if_idempotent() {
        for (failure, method, tries) in [
            (ForwardFault::Unreached, "POST", 2),
            (ForwardFault::Upstream, "POST", 1),
            (ForwardFault::Upstream, "DELETE", 2),
            (ForwardFault::Filter, "GET", 1),
        ] {
            let call = web::request(testing::request(method, "http://localhost/a"));
            let run = call.answer(|_| Err(failure)).run(&plugin(TWO));
            assert_eq!(run.forwards().len(), tries, "{method}: {failure:?}");
        }
    }

    #[test]
    fn a_filter_that_fails_takes_no_upstream_down() {
        let plugin = plugin(&format!("{TWO}max_fails = 1"));
        for _ in 0..4 {
            let failing = web::get("/a").answer(|_| Err(ForwardFault::Filter));
            failing.run(&plugin);
        }
        let urls =
            [0, 1].map(|_| web::get("/a").answer(|_| Ok(200)).run(&plugin).forwards()[0].clone());
        assert_ne!(urls[0], urls[1]);
    }

    #[test]
    fn tries_as_often_as_configured() {
        for (tries, expected) in [(1, 1), (2, 2), (3, 2)] {
            let plugin = plugin(&format!("{TWO}tries = {tries}"));
            let run = web::get("/a").run(&plugin);
            assert_eq!((run.status(), run.forwards().len()), (502, expected));
        }
    }

    #[test]
    fn a_request_counts_for_its_upstream_until_it_or_its_tunnel_is_over() {
        let plugin = plugin(&format!("{TWO}balance = 'least_connections'"));
        for status in [200, 101] {
            let inner = RefCell::new(Vec::new());
            let outer = web::get("/a").answer(|_| {
                for _ in 0..3 {
                    let run = web::get("/a").answer(|_| Ok(status)).run(&plugin);
                    inner.borrow_mut().extend_from_slice(run.forwards());
                }
                Ok(status)
            });
            let outer = outer.run(&plugin);
            let used = &outer.forwards()[0];
            assert!(
                inner.borrow().iter().all(|url| url != used),
                "{status}: {inner:?}"
            );
        }
    }

    #[test]
    fn the_upstream_gets_its_own_host_or_the_clients() {
        for (host, expected) in [("rewrite", "u:81"), ("keep", "localhost:8899")] {
            let plugin = plugin(&format!(
                "path = '/'\nupstreams = ['http://u:81']\nhost = '{host}'"
            ));
            let run = web::get("/").answer(|_| Ok(200)).run(&plugin);
            assert_eq!(run.request_field("Host"), Some(expected));
            assert_eq!(
                run.request_field("X-Forwarded-Host"),
                Some("localhost:8899")
            );
        }
    }

    #[test]
    fn the_client_is_identified_and_its_claims_are_removed() {
        let ask = |more: &str| {
            let plugin = plugin(&format!("{TWO}{more}"));
            let call = testing::get("https://site.example/a")
                .field("X-Forwarded-For", "192.0.2.9")
                .client(([192, 0, 2, 1], 1234).into());
            let run = web::request(call).answer(|_| Ok(200)).run(&plugin);
            let field = |name| run.request_field(name).map(str::to_owned);
            (field("X-Forwarded-For"), field("X-Forwarded-Proto"))
        };
        let some = |value: &str| Some(value.to_owned());
        assert_eq!(ask(""), (some("192.0.2.1"), some("https")));
        assert_eq!(
            ask("trust_forwarded = true"),
            (some("192.0.2.9, 192.0.2.1"), some("https"))
        );
        assert_eq!(ask("forwarded = false"), (None, None));
    }

    #[test]
    fn upgrades_are_forwarded_unless_disabled() {
        let upgrade = || {
            let call = testing::get("http://localhost/a");
            web::request(call.field("Upgrade", "websocket")).answer(|_| Ok(101))
        };
        assert_eq!(upgrade().run(&plugin(TWO)).status(), 101);
        let refused = upgrade().run(&plugin(&format!("{TWO}websocket = false")));
        assert_eq!((refused.status(), refused.forwards().len()), (403, 0));
    }

    #[test]
    fn path_traversal_is_refused() {
        let plugin = plugin("path = '/a/{*rest}'\nupstreams = ['http://u/b/{rest}']");
        let run = web::get("/a/..%2Fsecret")
            .captures(&[("rest", "../secret")])
            .run(&plugin);
        assert_eq!((run.status(), run.forwards().len()), (400, 0));
    }

    #[test]
    fn refuses_invalid_settings_with_the_key() {
        let one = "upstreams = ['http://u']\n";
        for (route, reason) in [
            (one.to_owned(), "path, regex: exactly one is required"),
            (
                format!("path = '/'\nregex = '/'\n{one}"),
                "path, regex: exactly one is required",
            ),
            ("path = '/'".to_owned(), "upstreams: is empty"),
            (
                format!("path = 'a'\n{one}"),
                "path: `a` does not begin with a slash",
            ),
            (
                format!("regex = '/('\n{one}"),
                "regex: `/(` is not a valid regular expression: unclosed group",
            ),
            (
                "path = '/{a}'\nupstreams = ['http://u', 'http://u/{b}']".to_owned(),
                "upstreams: number 2 has `{b}`, which the pattern does not capture",
            ),
            (format!("{TWO}tries = 0"), "tries: 0 is not from 1 to 100"),
            (
                format!("{TWO}fail_timeout = 90000"),
                "fail_timeout: 90000 is not from 1 to 86400",
            ),
        ] {
            let table = format!("[[routes]]\n{TWO}\n[[routes]]\n{route}");
            let refused = web::configured::<ReverseProxyPlugin>(&table).err().unwrap();
            assert_eq!(refused.message(), format!("routes: number 2: {reason}"));
        }
        for (table, reason) in [
            ("routes = []", "routes: is empty"),
            (
                "[[routes]]\nbalance = 'hash'",
                "balance: unknown variant `hash`, expected one of `round_robin`, `random`, `least_connections`",
            ),
        ] {
            let refused = web::configured::<ReverseProxyPlugin>(table).err().unwrap();
            assert_eq!(refused.message(), reason);
        }
        assert!(web::configured::<ReverseProxyPlugin>("[[routes]]\nupstream = 'x'").is_err());
    }
}
