//! The plugin's table. Without one, Cloudflare's public resolver is asked.

use serde::Deserialize;

/// As written in `proxy.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The resolver, as RFC 8484 has it; `http` for one on this machine. Its own name is resolved by the proxy.
    pub(crate) url: String,
    /// Which addresses to ask for, in the order they are tried.
    pub(crate) families: Vec<Family>,
    /// How long a lookup may take, in seconds. Longer than the proxy lets a hook take means no fallback.
    pub(crate) timeout: u64,
    /// What happens when the resolver gives no address.
    pub(crate) on_failure: OnFailure,
    /// Domains whose names are not sent to the resolver but left to the proxy; so are names without a dot.
    pub(crate) local: Vec<String>,
    /// Most names whose answers are kept; 0 keeps none. One takes about 200 bytes.
    pub(crate) cache_entries: usize,
    /// Answers are kept for this long at least, in seconds, whatever they say.
    pub(crate) min_ttl: u64,
    /// And for this long at most, in seconds.
    pub(crate) max_ttl: u64,
}

/// One kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    /// Record type A.
    Ipv4,
    /// Record type AAAA.
    Ipv6,
}

/// What happens when the resolver gives no address.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFailure {
    /// The proxy resolves the name as it does without this plugin.
    System,
    /// The exchange is answered 502.
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
