//! The plugin's table. Without one, exchanges go through two proxies of this machine, one or the other.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Parent proxies as URLs: `http`, `https`, `socks5` or `socks5h`, with `user:password@` where they ask for it.
    pub(crate) parents: Vec<String>,
    /// Which of those that are up gets an exchange.
    pub(crate) policy: Policy,
    /// Hosts that are reached without a parent: names, `*.domain`, addresses, networks.
    pub(crate) bypass: Vec<String>,
    /// Other parents for some hosts; the first rule that names the host counts.
    pub(crate) rules: Vec<Rule>,
    /// Failures to connect after which a parent is down; 0 means that it never is. Each within `fail_timeout` of the
    /// one before.
    pub(crate) max_fails: u32,
    /// How long a parent that is down is passed over, in seconds.
    pub(crate) fail_timeout: u64,
    /// What happens when all parents that an exchange may go through are down.
    pub(crate) on_all_down: OnAllDown,
    /// Seconds between attempts to connect to each parent, made beside the exchanges; 0 means none.
    pub(crate) check_interval: u64,
}

/// Parents for some hosts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Written as in `bypass`.
    pub(crate) hosts: Vec<String>,
    /// Written as above.
    pub(crate) parents: Vec<String>,
}

/// How one of several parents is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Policy {
    /// Any.
    Random,
    /// One after the other.
    RoundRobin,
    /// The one with the fewest exchanges under way.
    LeastConnections,
    /// By the upstream's host: a host keeps its parent for as long as that is up, also over restarts.
    Host,
}

/// What happens when all parents are down.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnAllDown {
    /// The exchange is answered with an error.
    Fail,
    /// It goes without a parent.
    Direct,
    /// It goes through one of them all the same.
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
