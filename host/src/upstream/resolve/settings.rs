//! The configuration of name servers: resolv.conf (resolv.conf(5)), or `[dns] servers`.
//!
//! Pure: text in, value out. Invalid lines are skipped, as in glibc; a file without a name server is refused, because
//! it may be incomplete.

use std::net::SocketAddr;
use std::time::Duration;

/// The port of name servers (RFC 1035 §4.2).
const PORT: u16 = 53;
/// More than any machine has; limits the cost of a malformed file.
const MAX_SERVERS: usize = 8;
const MAX_SEARCH: usize = 32;
/// The limits of glibc.
const MAX_DOTS: u32 = 15;
const MAX_ATTEMPTS: u32 = 5;
const MAX_TIMEOUT: u32 = 30;

/// The name servers, and how to query them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) servers: Vec<SocketAddr>,
    /// Domains that are appended to a name.
    pub(super) search: Vec<String>,
    /// A name with fewer dots is tried in the domains of `search` first.
    pub(super) ndots: usize,
    /// How long a server may take for a query.
    pub(super) timeout: Duration,
    /// How often each server is queried before a look-up fails.
    pub(super) attempts: usize,
    /// Each look-up begins with the next server.
    pub(super) rotate: bool,
    /// Queries contain an EDNS record, so that answers over UDP may be longer than 512 bytes (RFC 6891).
    pub(super) uses_edns: bool,
    /// Servers are queried over TCP only.
    pub(super) is_tcp_only: bool,
    /// IPv6 addresses are not queried.
    pub(super) skips_v6: bool,
}

impl Settings {
    /// For configured servers: no search domains, and the default timing of resolv.conf.
    ///
    /// Without EDNS, like system resolvers: some servers refuse it, or do not answer at all. If an answer is too long
    /// for UDP, the query is repeated over TCP.
    pub(super) fn of_servers(servers: &[SocketAddr]) -> Self {
        Self {
            servers: servers.to_vec(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            uses_edns: false,
            is_tcp_only: false,
            skips_v6: false,
        }
    }

    /// # Errors
    /// There is no name server in it.
    #[cfg(not(any(windows, target_vendor = "apple")))]
    pub(super) fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let (read, _skipped) = resolv_conf::Config::parse_with_errors(text);
        let servers = read.nameservers.iter().map(address).take(MAX_SERVERS);
        let servers: Vec<SocketAddr> = servers.collect();
        if servers.is_empty() {
            return Err("it contains no name server");
        }
        let mut search: Vec<String> = read.get_last_search_or_domain().cloned().collect();
        if search.is_empty() {
            // As in glibc: the domain of this machine's name.
            search.extend(read.get_system_domain());
        }
        search.truncate(MAX_SEARCH);
        Ok(Self {
            search,
            ndots: read.ndots.min(MAX_DOTS) as usize,
            timeout: Duration::from_secs(read.timeout.clamp(1, MAX_TIMEOUT).into()),
            attempts: read.attempts.clamp(1, MAX_ATTEMPTS) as usize,
            rotate: read.rotate,
            uses_edns: read.edns0,
            is_tcp_only: read.use_vc,
            skips_v6: read.no_aaaa,
            ..Self::of_servers(&servers)
        })
    }

    /// These systems keep the settings elsewhere; hickory-resolver reads them.
    ///
    /// # Errors
    /// There is no name server.
    #[cfg(any(windows, target_vendor = "apple"))]
    pub(super) fn parse(_text: &[u8]) -> Result<Self, &'static str> {
        let (read, options) = hickory_resolver::system_conf::read_system_conf()
            .map_err(|_| "the system has no name server configured")?;
        let servers = read.name_servers().iter();
        let servers: Vec<SocketAddr> = servers
            .map(|server| SocketAddr::new(server.ip, PORT))
            .take(MAX_SERVERS)
            .collect();
        if servers.is_empty() {
            return Err("the system has no name server configured");
        }
        let search = read.search().iter().take(MAX_SEARCH);
        Ok(Self {
            search: search.map(ToString::to_string).collect(),
            ndots: options.ndots.min(MAX_DOTS as usize),
            ..Self::of_servers(&servers)
        })
    }
}

#[cfg(not(any(windows, target_vendor = "apple")))]
fn address(server: &resolv_conf::ScopedIp) -> SocketAddr {
    use std::net::SocketAddrV6;

    match server {
        resolv_conf::ScopedIp::V4(ip) => SocketAddr::from((*ip, PORT)),
        resolv_conf::ScopedIp::V6(ip, zone) => {
            let scope = zone.as_deref().map_or(0, scope_of);
            SocketAddrV6::new(*ip, PORT, 0, scope).into()
        }
    }
}

/// The number of the interface with the name `zone`; 0, which means none, if there is no such interface.
#[cfg(not(any(windows, target_vendor = "apple")))]
fn scope_of(zone: &str) -> u32 {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};

    let index = || {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
        netdevice::name_to_index(&socket, zone).ok()
    };
    zone.parse().ok().or_else(index).unwrap_or(0)
}

#[cfg(all(test, not(any(windows, target_vendor = "apple"))))]
mod tests {
    use super::*;

    fn servers(settings: &Settings) -> Vec<String> {
        settings.servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn takes_servers_domains_and_options() {
        let settings = Settings::parse(
            b"# caf\xe9\r\nnameserver 192.0.2.1\r\n nameserver\t2001:db8::1 # the second\n; no\n\
              domain first.test\nsearch a.test b_c.test\nnameserver fe80::1%lo\nnameserver nonsense\nunknown x\n\
              options ndots:5 timeout:1 attempts:1 rotate edns0 use-vc no-aaaa unknown:7\n",
        )
        .unwrap();
        let lo = scope_of("lo");
        assert_eq!(
            servers(&settings),
            [
                "192.0.2.1:53".to_owned(),
                "[2001:db8::1]:53".to_owned(),
                format!("[fe80::1%{lo}]:53"),
            ]
        );
        assert_eq!(
            settings,
            Settings {
                search: vec!["a.test".to_owned(), "b_c.test".to_owned()],
                ndots: 5,
                timeout: Duration::from_secs(1),
                attempts: 1,
                rotate: true,
                uses_edns: true,
                is_tcp_only: true,
                skips_v6: true,
                ..Settings::of_servers(&settings.servers)
            }
        );
    }

    #[test]
    fn options_are_bounded_as_glibc_bounds_them() {
        let options = "options ndots:99 timeout:99999 attempts:99";
        let read = |options: &str| {
            Settings::parse(format!("nameserver 192.0.2.1\n{options}\n").as_bytes()).unwrap()
        };
        let most = read(options);
        assert_eq!((most.ndots, most.attempts), (15, 5));
        assert_eq!(most.timeout, Duration::from_secs(30));
        let least = read("options ndots:0 timeout:0 attempts:0");
        assert_eq!((least.ndots, least.attempts), (0, 1));
        assert_eq!(least.timeout, Duration::from_secs(1));
        let many = "nameserver 192.0.2.1\n".repeat(1000);
        let many = Settings::parse(many.as_bytes()).unwrap();
        assert_eq!(many.servers.len(), MAX_SERVERS);
    }

    #[test]
    fn a_file_without_a_name_server_is_refused() {
        for text in [
            &b""[..],
            b"# Generated by a program\nsearch a.test\n",
            b"nameserver\n",
            b"nameserver 300.1.1.1\n",
            b"\x7fELF\x02\x01\x01\x80\xff\nnameserve",
        ] {
            assert_eq!(
                Settings::parse(text),
                Err("it contains no name server"),
                "{}",
                text.escape_ascii()
            );
        }
    }
}
