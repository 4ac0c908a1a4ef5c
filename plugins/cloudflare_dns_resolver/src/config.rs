//! The settings of the plugin. By default, the public resolver of Cloudflare is used.

use serde::Deserialize;

/// The JSON Schema of the settings.
pub(crate) const SCHEMA: &str = include_str!("../config.schema.json");

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// URL of the resolver (RFC 8484); `http` for one on this machine. The proxy resolves its host name.
    #[cfg_attr(test, schemars(regex(pattern = r"^https?://[^\s{#/][^\s{#]*$")))]
    pub(crate) url: String,
    /// Address families to look up, in the order in which they are tried.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub(crate) families: Vec<Family>,
    /// Maximum time of a lookup, in seconds. If it exceeds the limit of the proxy for a hook, there is no fallback.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub(crate) timeout: u64,
    /// What happens when a lookup fails.
    pub(crate) on_failure: OnFailure,
    /// Domains whose names the proxy resolves instead; it also resolves names without a dot.
    pub(crate) local: Vec<String>,
    /// Maximum number of cached names; 0 disables the cache. A name takes about 200 bytes.
    pub(crate) cache_entries: usize,
    /// Minimum time for which answers are cached, in seconds, regardless of their time to live.
    pub(crate) min_ttl: u64,
    /// Maximum time for which answers are cached, in seconds.
    pub(crate) max_ttl: u64,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    /// Record type A.
    Ipv4,
    /// Record type AAAA.
    Ipv6,
}

/// What happens when a lookup fails.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFailure {
    /// The proxy resolves the name as it does without this plugin.
    System,
    /// The exchange is answered with 502.
    Fail,
}

impl Default for Config {
    fn default() -> Self {
        let local = ["localhost", "local", "internal", "home.arpa"];
        Self {
            url: "https://cloudflare-dns.com/dns-query".to_owned(),
            families: vec![Family::Ipv4, Family::Ipv6],
            timeout: 3,
            on_failure: OnFailure::System,
            local: local.map(str::to_owned).to_vec(),
            cache_entries: 4096,
            min_ttl: 0,
            max_ttl: 86_400,
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
