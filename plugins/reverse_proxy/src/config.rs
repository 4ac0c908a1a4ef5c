//! The settings of the plugin. By default, `/get` and `/get/1` are forwarded to httpbin.org.

use plugin_api::Error;
use serde::Deserialize;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The routes.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub(crate) routes: Vec<RouteConfig>,
}

/// A route. Exactly one of `path` and `regex` is required.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RouteConfig {
    /// Path pattern, such as `/api/{*rest}` or `/users/{id}`.
    pub(crate) path: Option<String>,
    /// Regular expression that has to match the whole path.
    pub(crate) regex: Option<String>,
    /// URLs, in which `{name}` is replaced by the capture of that name.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub(crate) upstreams: Vec<String>,
    /// Methods, separated by commas; empty for all.
    pub(crate) methods: Option<String>,
    /// The Host to send to upstreams.
    pub(crate) host: Host,
    /// How to choose among the upstreams that are up.
    pub(crate) balance: Balance,
    /// Consecutive failures after which an upstream is down; 0 means never.
    pub(crate) max_fails: u32,
    /// Time for which an upstream that is down is skipped, in seconds; 1 to 86,400 (a day).
    #[cfg_attr(test, schemars(range(min = 1, max = 86_400)))]
    pub(crate) fail_timeout: u32,
    /// Maximum number of upstreams tried for one request, if one is unreachable or does not respond; 1 to 100. A
    /// request that is not idempotent is not retried if an upstream may have received it.
    #[cfg_attr(test, schemars(range(min = 1, max = 100)))]
    pub(crate) tries: usize,
    /// Whether to set X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host and X-Real-IP.
    pub(crate) forwarded: bool,
    /// Whether to trust and forward such fields of clients. If not, they are removed.
    pub(crate) trust_forwarded: bool,
    /// Whether to forward WebSockets and other upgrades. If not, they get 403.
    pub(crate) websocket: bool,
}

/// The Host of a forwarded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Host {
    /// The host of the upstream.
    Rewrite,
    /// The Host of the client.
    Keep,
}

/// How one of several upstreams is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Balance {
    /// One after the other.
    RoundRobin,
    /// At random.
    Random,
    /// The one with the fewest requests in progress.
    LeastConnections,
}

impl RouteConfig {
    /// # Errors
    /// A number is out of range; the error contains its key.
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

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::testing::check_schema;

    #[test]
    fn the_schema_is_that_of_the_settings() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json");
        check_schema::<Config>(SCHEMA, path);
    }
}
