//! Resolves names from a table, from a hosts file, or with the resolver of the system.
//!
//! ```toml
//! [[plugins]]
//! library = "libcustom_dns_resolver.so"
//! name = "CustomDnsResolver"
//! config = { hosts = { "*.dev.example" = ["127.0.0.1", "::1"] }, source = "192.0.2.1" }
//! ```
//!
//! ```text
//! > GET http://a.dev.example:8000/ HTTP/1.1
//! connects to 127.0.0.1:8000; request and Host are unchanged
//! ```
//!
//! Called only for hosts that are names; an idle connection is reused only for exchanges with the same answer. With the
//! default, `system = true`, the resolver of the proxy and its cache are not used.

mod answer_cache;
mod config;
mod hosts_file;
mod rule;

use answer_cache::AnswerCache;
use config::Config;
use plugin_api::prelude::*;
use plugin_api::run_blocking;
use rule::{NameTable, reachable_from};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

struct CustomDnsResolver {
    hosts: NameTable,
    file: NameTable,
    source: Option<IpAddr>,
    uses_system: bool,
    answer_cache: AnswerCache,
}

#[filter]
impl Filter for CustomDnsResolver {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let file = match &config.hosts_file {
            Some(path) => read(path)?,
            None => NameTable::default(),
        };
        Ok(Self {
            hosts: NameTable::new(config.hosts)?,
            file,
            source: config.source,
            uses_system: config.system,
            answer_cache: AnswerCache::new(Duration::from_secs(config.system_ttl.into())),
        })
    }

    fn resolve_dns(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let host = exchange.upstream().host();
        let found = self.hosts.addresses(host);
        if found.is_none() && is_localhost(host) {
            return self.answer(exchange, &[]);
        }
        match found.or_else(|| self.file.addresses(host)) {
            Some(addresses) => self.answer(exchange, addresses),
            None if self.uses_system => match self.answer_cache.addresses(host, Instant::now()) {
                Some(addresses) => self.answer(exchange, &addresses),
                None => Ok(Flow::Async),
            },
            None => self.answer(exchange, &[]),
        }
    }

    async fn resolve_dns_async(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let host = exchange.upstream().host().to_owned();
        let asked = host.clone();
        let addresses = match run_blocking(move || look_up(&asked)).await? {
            Ok(addresses) => {
                self.answer_cache
                    .store(host, addresses.clone(), Instant::now());
                addresses
            }
            Err(error) => {
                // Then the proxy's own resolver decides, and the client gets its error.
                debug!(
                    "the system resolver failed for {}: {error}",
                    exchange.upstream().host()
                );
                Vec::new()
            }
        };
        self.answer(exchange, &addresses)
    }
}

impl CustomDnsResolver {
    /// Sets the addresses. Without any, the proxy resolves the name itself.
    fn answer(&self, exchange: &mut Exchange<'_, Self>, addresses: &[IpAddr]) -> Outcome {
        match self.source {
            Some(source) => {
                exchange.set_source_address(source)?;
                exchange.set_addresses(reachable_from(source, addresses))?;
            }
            None => exchange.set_addresses(addresses.iter().copied())?,
        }
        proceed()
    }
}

/// The proxy resolves it to both loopback addresses (RFC 6761 §6.3), regardless of files.
fn is_localhost(host: &str) -> bool {
    host.strip_suffix("localhost")
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The answer of getaddrinfo: each address once, in its order (RFC 6724).
fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for found in (host, 0).to_socket_addrs()? {
        if !addresses.contains(&found.ip()) {
            addresses.push(found.ip());
        }
    }
    Ok(addresses)
}

fn read(path: &Path) -> Result<NameTable, Error> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Error::new(format!("hosts_file: cannot read {shown}: {error}")))?;
    let mut table = NameTable::default();
    for line in hosts_file::lines(&text) {
        match line {
            Ok((address, names)) => {
                for name in names {
                    if !table.add(name, address) {
                        warn!("{shown}: `{name}` is not a host name");
                    }
                }
            }
            // Systems have lines there that others do not understand, such as addresses with a zone.
            Err(number) => warn!("{shown}: line {number} does not begin with an address"),
        }
    }
    Ok(table)
}

export_plugins!(CustomDnsResolver);

#[cfg(test)]
mod tests {
    use super::{CustomDnsResolver, look_up};
    use plugin_api::testing::{configured, get};
    use plugin_api::{Error, Flow};
    use std::net::IpAddr;

    fn addresses(config: &str, url: &str) -> Vec<String> {
        let filter: CustomDnsResolver = configured(config).unwrap();
        let mut run = get(url).run(&filter);
        let addresses: Vec<String> = run.resolve().iter().map(IpAddr::to_string).collect();
        assert_eq!(run.outcome(), &Ok(Flow::Proceed));
        addresses
    }

    const TABLE: &str = "system = false\nhosts = { 'a.example' = ['192.0.2.1', '2001:db8::1'] }\n";

    #[test]
    fn a_name_in_the_table_has_its_addresses_in_order() {
        assert_eq!(
            addresses(TABLE, "http://a.example/"),
            ["192.0.2.1", "2001:db8::1"]
        );
        assert!(addresses(TABLE, "http://b.example/").is_empty());
    }

    #[test]
    fn the_proxy_resolves_localhost_unless_the_table_has_it() {
        for host in ["localhost", "x.localhost"] {
            assert!(addresses("", &format!("http://{host}/")).is_empty());
        }
        let table = "hosts = { 'x.localhost' = ['192.0.2.1'] }";
        assert_eq!(addresses(table, "http://x.localhost/"), ["192.0.2.1"]);
    }

    #[test]
    fn the_system_knows_addresses() {
        let found = look_up("localhost").unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback));
    }

    #[test]
    fn unusual_names_are_allowed_in_the_table() {
        for host in ["my_service", "_x.test", "app-.test", "xn--0.test"] {
            let table = format!("hosts = {{ '{host}' = ['192.0.2.1'] }}");
            assert_eq!(addresses(&table, &format!("http://{host}/")), ["192.0.2.1"]);
        }
    }

    #[test]
    fn the_proxy_resolves_names_unknown_to_the_system() {
        let too_long = "a".repeat(64);
        assert!(addresses("", &format!("http://{too_long}/")).is_empty());
    }

    #[test]
    fn the_source_is_set_and_its_family_kept() {
        let filter: CustomDnsResolver =
            configured(&format!("{TABLE}source = '127.0.0.2'")).unwrap();
        for (url, expected) in [
            ("http://a.example/", &["192.0.2.1"][..]),
            ("http://b.example/", &[]),
        ] {
            let mut run = get(url).run(&filter);
            let found: Vec<String> = run.resolve().iter().map(IpAddr::to_string).collect();
            assert_eq!(found, expected);
            assert_eq!(run.source_address(), "127.0.0.2".parse().ok());
        }
    }

    #[test]
    fn the_table_comes_before_the_file() {
        let file = std::env::temp_dir().join(format!("hosts-{}", std::process::id()));
        let text = "192.0.2.8 a.example b.example\n192.0.2.9 b.example\nnonsense\n";
        std::fs::write(&file, text).unwrap();
        let config = format!("{TABLE}hosts_file = '{}'", file.display());
        let of_a = addresses(&config, "http://a.example/");
        let of_b = addresses(&config, "http://b.example/");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(of_a, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(of_b, ["192.0.2.8", "192.0.2.9"]);
    }

    #[test]
    fn refuses_invalid_settings() {
        let refused =
            |config: &str| -> Error { configured::<CustomDnsResolver>(config).err().unwrap() };
        for (config, reason) in [
            ("hosts = { 'a' = [] }", "hosts: `a` has no address"),
            (
                "hosts = { 'a b' = ['::1'] }",
                "hosts: `a b` is neither a name nor `*.domain`",
            ),
            ("source = 'eth0'", "source: invalid IP address syntax"),
        ] {
            assert_eq!(refused(config).message(), reason);
        }
        let missing = refused("hosts_file = '/no/such/file'");
        assert!(
            missing
                .message()
                .starts_with("hosts_file: cannot read /no/such/file: ")
        );
    }
}
