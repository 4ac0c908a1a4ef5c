//! The plugin's table. Without one, `/get` and `/get/1` are answered by httpbin.org.

use plugin_api::Error;
use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// What is forwarded, and where to.
    pub(crate) routes: Vec<RouteConfig>,
}

/// Requests that are forwarded alike. Exactly one of `path` and `regex` is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RouteConfig {
    /// Paths, written as a route's: `/api/{*rest}`, `/users/{id}`.
    pub(crate) path: Option<String>,
    /// Paths that this regular expression matches whole.
    pub(crate) regex: Option<String>,
    /// URLs, with `{name}` for what the pattern has captured.
    pub(crate) upstreams: Vec<String>,
    /// Methods separated by commas; none for all.
    pub(crate) methods: Option<String>,
    /// The Host that upstreams get.
    pub(crate) host: Host,
    /// Which of the upstreams that are up gets a request.
    pub(crate) balance: Balance,
    /// Failures in a row after which an upstream is down; 0 means that it never is.
    pub(crate) max_fails: u32,
    /// How long an upstream that is down is passed over, in seconds; 1 to 86,400, a day.
    pub(crate) fail_timeout: u32,
    /// Upstreams that are tried for one request, if one cannot be reached or gives no answer; 1 to 100. One that may have
    /// got a request which is not idempotent was the last.
    pub(crate) tries: usize,
    /// Whether upstreams are told by X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host and X-Real-IP who has
    /// asked for what.
    pub(crate) forwarded: bool,
    /// Whether what clients say in such fields is believed and goes on. If not, it is removed.
    pub(crate) trust_forwarded: bool,
    /// Whether requests for a WebSocket, or another protocol, are forwarded too. If not, they get 403.
    pub(crate) websocket: bool,
}

/// The Host of a forwarded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Host {
    /// The upstream's.
    Rewrite,
    /// The client's.
    Keep,
}

/// How one of several upstreams is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Balance {
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The one with the fewest requests under way.
    LeastConnections,
}

impl RouteConfig {
    /// # Errors
    /// A number out of its range, with its key.
    pub(crate) fn check(&self) -> Result<(), Error> {
        in_range("fail_timeout", self.fail_timeout as usize, 86_400)?;
        in_range("tries", self.tries, 100)
    }
}

fn in_range(key: &str, value: usize, max: usize) -> Result<(), Error> {
    match (1..=max).contains(&value) {
        true => Ok(()),
        false => Err(Error::new(format!("{key}: {value} is not from 1 to {max}"))),
    }
}

impl Default for Config {
    fn default() -> Self {
        let upstreams = |path: &str| {
            ["http", "https"]
                .map(|scheme| format!("{scheme}://httpbin.org{path}"))
                .to_vec()
        };
        Self {
            routes: vec![
                RouteConfig {
                    path: Some("/get".to_owned()),
                    upstreams: upstreams("/get"),
                    balance: Balance::Random,
                    ..RouteConfig::default()
                },
                RouteConfig {
                    regex: Some(r"/get/(\d+)".to_owned()),
                    upstreams: upstreams("/get?id={1}"),
                    balance: Balance::Random,
                    ..RouteConfig::default()
                },
            ],
        }
    }
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            path: None,
            regex: None,
            upstreams: Vec::new(),
            methods: None,
            host: Host::Rewrite,
            balance: Balance::RoundRobin,
            max_fails: 3,
            fail_timeout: 10,
            tries: 2,
            forwarded: true,
            trust_forwarded: false,
            websocket: true,
        }
    }
}
