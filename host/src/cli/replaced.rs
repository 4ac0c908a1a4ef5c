//! The flags of proxy.py that do not exist here, each with what to use instead.
//!
//! What plugins of proxy.py read from flags is a setting of the bundled plugin. SSH tunnels do not exist here.

/// Name and remedy.
const REPLACED: [(&str, &str); 18] = [
    ("cache-by-content-type", CACHE),
    (
        "cache-dir",
        "it is a setting of a plugin: --plugin-config CacheResponses.directory=DIR",
    ),
    ("cache-requests", CACHE),
    (
        "cloudflare-dns-mode",
        "it is a setting of a plugin: --plugin-config \
         CloudflareDnsResolver.url=https://security.cloudflare-dns.com/dns-query, or family in place of security",
    ),
    ("enable-ssh-tunnel", SSH),
    (
        "filtered-client-ips",
        "it is a setting of a plugin: --plugin-config 'FilterByClientIp.deny=[\"ADDRESS\"]'; allow in place of deny \
         serves only these",
    ),
    (
        "filtered-client-ips-mode",
        "FilterByClientIp has two lists instead: `deny` is the blacklist, `allow` the whitelist",
    ),
    (
        "filtered-upstream-hosts",
        "it is a setting of a plugin: --plugin-config 'FilterByUpstreamHost.hosts=[\"HOST\"]'",
    ),
    (
        "filtered-url-regex-config",
        "it is a setting of a plugin: --plugin-config FilterByUrlRegex.file=FILE",
    ),
    (
        "insecure-tls-interception",
        "name the hosts whose certificates need not be valid: insecure_hosts in [interception] of proxy.toml, or \
         PROXY_INTERCEPTION__INSECURE_HOSTS=HOST",
    ),
    (
        "proxy-pool",
        "it is a setting of a plugin: --plugin-config 'ProxyPool.parents=[\"http://user:password@HOST:PORT\"]'",
    ),
    ("ssh-listener-klass", SSH),
    ("tunnel-hostname", SSH),
    ("tunnel-port", SSH),
    ("tunnel-remote-port", SSH),
    ("tunnel-ssh-key", SSH),
    ("tunnel-ssh-key-passphrase", SSH),
    ("tunnel-username", SSH),
];

const CACHE: &str =
    "CacheResponses writes whole responses; RecordHar records requests and responses";

const SSH: &str = "the proxy opens no SSH tunnels; run `ssh -R PORT:localhost:8899 HOST` beside it";

/// Those whose names begin so.
pub(super) fn beginning_with(text: &str) -> Vec<(&'static str, &'static str)> {
    let fits = REPLACED
        .into_iter()
        .filter(|(name, _)| name.starts_with(text));
    fits.collect()
}
