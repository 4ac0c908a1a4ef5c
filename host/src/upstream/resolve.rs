//! Names to addresses: an own cache over the DNS, or over the system's resolver when the configuration says so.
//!
//! A and AAAA are asked for at the same time; the caller gets the addresses of each family as they arrive, because
//! connecting may begin before the slower answer is there (RFC 8305 §3). Answers are kept for their time to live
//! within bounds, failures for a short time.
//!
//! A name in the machine's hosts file is known from there alone, as with getaddrinfo: no name server is asked for the
//! family that the file does not have. The file is read once, at the start. `localhost` and what is below it is this
//! machine whatever name servers would say (RFC 6761 §6.3).

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, ResolverBuilder, TokioResolver};

use crate::config::{DnsConfig, Resolver as ResolverKind};

/// Names kept at most; past it the cache starts anew.
const CACHE_LEN: usize = 4096;

/// What looks names up for one worker.
pub(crate) struct Resolver {
    source: Source,
    cache: RefCell<HashMap<(Box<str>, Family), Cached>>,
    max_ttl: Duration,
    negative_ttl: Duration,
}

enum Source {
    Dns(Box<Dns>),
    System,
}

/// What the machine knows of names by itself, and whom it asks for the others.
struct Dns {
    hosts: Hosts,
    servers: TokioResolver,
}

/// Addresses, and for how long they may be kept.
type Answer = (Result<Vec<IpAddr>, ResolveError>, Duration);

/// The address family that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

struct Cached {
    addresses: Result<Vec<IpAddr>, ResolveError>,
    until: Instant,
}

/// Why a name has no address.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// The name does not exist, or has no address of this family.
    #[error("the name has no address")]
    NotFound,
    /// No name server answered in time.
    #[error("the name servers did not answer in time")]
    TimedOut,
    /// The name servers failed.
    #[error("looking the name up failed: {0}")]
    Failed(String),
}

impl Resolver {
    /// # Errors
    /// The name servers of the configuration, or the system's, cannot be used.
    pub(crate) fn new(config: &DnsConfig) -> io::Result<Self> {
        Self::with_hosts(config, Hosts::from_system().unwrap_or_default())
    }

    pub(super) fn with_hosts(config: &DnsConfig, hosts: Hosts) -> io::Result<Self> {
        let servers = match config.resolver {
            ResolverKind::System => None,
            ResolverKind::Dns if config.servers.is_empty() => {
                match TokioResolver::builder_tokio() {
                    Ok(builder) => Some(asking_only(builder)?),
                    Err(error) => {
                        tracing::warn!(%error, "no usable resolv.conf, asking the system's resolver");
                        None
                    }
                }
            }
            ResolverKind::Dns => Some(with_servers(&config.servers)?),
        };
        Ok(Self {
            source: servers.map_or(Source::System, |servers| {
                Source::Dns(Box::new(Dns { hosts, servers }))
            }),
            cache: RefCell::default(),
            max_ttl: config.cache_ttl_max,
            negative_ttl: config.negative_ttl,
        })
    }

    /// The addresses of `host` in one family, from the cache or asked for.
    pub(crate) async fn lookup(
        &self,
        host: &str,
        family: Family,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(known) = self.cached(host, family) {
            return known;
        }
        let (addresses, ttl) = match &self.source {
            Source::Dns(dns) => dns.ask(host, family).await,
            Source::System => ask_system(host, family).await,
        };
        let ttl = match &addresses {
            Ok(_) => ttl.min(self.max_ttl),
            Err(_) => self.negative_ttl,
        };
        self.remember(host, family, addresses.clone(), ttl);
        addresses
    }

    fn cached(&self, host: &str, family: Family) -> Option<Result<Vec<IpAddr>, ResolveError>> {
        let cache = self.cache.borrow();
        let entry = cache.get(&NameRef { host, family })?;
        (entry.until > Instant::now()).then(|| entry.addresses.clone())
    }

    fn remember(
        &self,
        host: &str,
        family: Family,
        addresses: Result<Vec<IpAddr>, ResolveError>,
        ttl: Duration,
    ) {
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= CACHE_LEN {
            cache.clear();
        }
        let until = Instant::now() + ttl;
        cache.insert((host.into(), family), Cached { addresses, until });
    }
}

#[derive(Hash)]
struct NameRef<'a> {
    host: &'a str,
    family: Family,
}

impl hashbrown::Equivalent<(Box<str>, Family)> for NameRef<'_> {
    fn equivalent(&self, key: &(Box<str>, Family)) -> bool {
        self.host == &*key.0 && self.family == key.1
    }
}

fn with_servers(servers: &[SocketAddr]) -> io::Result<TokioResolver> {
    let mut config = ResolverConfig::default();
    for server in servers {
        let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut name_server.connections {
            connection.port = server.port();
        }
        config.add_name_server(name_server);
    }
    asking_only(TokioResolver::builder_with_config(
        config,
        TokioRuntimeProvider::default(),
    ))
}

/// Without what is done here: the bounds of the configuration hold for our cache, and a second one below it would know
/// nothing of them; and hickory takes the hosts file for one family's answer at a time.
fn asking_only(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> io::Result<TokioResolver> {
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map_err(io::Error::other)
}

impl Dns {
    async fn ask(&self, host: &str, family: Family) -> Answer {
        let name = match Name::from_utf8(host) {
            Ok(name) => name,
            Err(error) => return (Err(ResolveError::Failed(error.to_string())), Duration::ZERO),
        };
        match self.in_hosts(&name, family) {
            Some(answer) => answer,
            None => self.ask_servers(name, family).await,
        }
    }

    /// What the hosts file says; `None` if it does not have the name at all.
    fn in_hosts(&self, name: &Name, family: Family) -> Option<Answer> {
        let entry = |family: Family| {
            let query = Query::query(name.clone(), family.record_type());
            self.hosts.lookup_static_host(&query)
        };
        entry(family)
            .map(|lookup| answer(&lookup))
            .or_else(|| entry(family.other()).map(|_| (Err(ResolveError::NotFound), Duration::MAX)))
    }

    async fn ask_servers(&self, name: Name, family: Family) -> Answer {
        match self.servers.lookup(name, family.record_type()).await {
            Ok(lookup) => answer(&lookup),
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => {
                (Err(ResolveError::NotFound), Duration::ZERO)
            }
            Err(NetError::Timeout) => (Err(ResolveError::TimedOut), Duration::ZERO),
            Err(error) => (Err(ResolveError::Failed(error.to_string())), Duration::ZERO),
        }
    }
}

impl Family {
    fn record_type(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

fn answer(lookup: &Lookup) -> Answer {
    let ttl = lookup
        .valid_until()
        .saturating_duration_since(Instant::now());
    let addresses: Vec<IpAddr> = lookup
        .answers()
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .collect();
    match addresses.is_empty() {
        true => (Err(ResolveError::NotFound), ttl),
        false => (Ok(addresses), ttl),
    }
}

/// getaddrinfo tells no time to live: the configured maximum counts.
async fn ask_system(host: &str, family: Family) -> Answer {
    let answer = match tokio::net::lookup_host((host, 0)).await {
        Ok(found) => {
            let of_family = |ip: &IpAddr| ip.is_ipv6() == (family == Family::V6);
            let addresses: Vec<IpAddr> = found
                .map(|address| address.ip())
                .filter(of_family)
                .collect();
            if addresses.is_empty() {
                Err(ResolveError::NotFound)
            } else {
                Ok(addresses)
            }
        }
        Err(error) => Err(ResolveError::Failed(error.to_string())),
    };
    (answer, Duration::MAX)
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}
