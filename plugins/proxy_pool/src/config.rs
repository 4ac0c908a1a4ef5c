//! The settings of the plugin. By default, exchanges use one of two proxies on this machine.

use serde::Deserialize;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// The beginning of a parent's URL.
#[cfg(test)]
const PARENT: &str = "^([Hh][Tt][Tt][Pp][Ss]?|[Ss][Oo][Cc][Kk][Ss]5[Hh]?)://[^ /]+$";

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Parent proxies as URLs: `http`, `https`, `socks5` or `socks5h`, with `user:password@` if they require it.
    #[cfg_attr(test, schemars(length(min = 1), inner(regex(pattern = PARENT)), extend("writeOnly" = true, "x-secret" = true)))]
    pub(crate) parents: Vec<String>,
    /// How to choose among the parents that are up.
    pub(crate) policy: Policy,
    /// Hosts to connect to without a parent: names, `*.domain`, addresses, networks.
    pub(crate) bypass: Vec<String>,
    /// Other parents for certain hosts; the first rule that matches the host applies.
    pub(crate) rules: Vec<Rule>,
    /// Connection failures after which a parent is down; 0 means never. Each failure must be within `fail_timeout` of the
    /// previous one.
    pub(crate) max_fails: u32,
    /// Time for which a parent that is down is skipped, in seconds.
    pub(crate) fail_timeout: u64,
    /// What happens when all parents for an exchange are down.
    pub(crate) on_all_down: OnAllDown,
    /// Seconds between health checks of each parent, which are connection attempts; 0 disables them.
    pub(crate) check_interval: u64,
}

/// Parents for certain hosts.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// In the format of `bypass`.
    pub(crate) hosts: Vec<String>,
    /// In the same format as above.
    #[cfg_attr(test, schemars(length(min = 1), inner(regex(pattern = PARENT)), extend("writeOnly" = true, "x-secret" = true)))]
    pub(crate) parents: Vec<String>,
}

/// How one of several parents is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Policy {
    /// At random.
    Random,
    /// One after the other.
    RoundRobin,
    /// The one with the fewest exchanges in progress.
    LeastConnections,
    /// By upstream host: a host keeps its parent as long as that is up, even after a restart.
    Host,
}

/// What happens when all parents are down.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnAllDown {
    /// The exchange is answered with an error.
    Fail,
    /// The exchange continues without a parent.
    Direct,
    /// The exchange uses one of them anyway.
    TryAnyway,
}

const BYPASS: [&str; 10] = [
    "localhost",
    "*.local",
    "127.0.0.0/8",
    "::1",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
];

impl Default for Config {
    fn default() -> Self {
        let owned = |text: &str| text.to_owned();
        Self {
            parents: ["http://localhost:9000", "http://localhost:9001"]
                .map(owned)
                .to_vec(),
            policy: Policy::Random,
            bypass: BYPASS.map(owned).to_vec(),
            rules: Vec::new(),
            max_fails: 1,
            fail_timeout: 10,
            on_all_down: OnAllDown::TryAnyway,
            check_interval: 0,
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
