//! Resolves names to addresses: a cache in front of DNS, or of the system resolver if configured.
//!
//! A and AAAA are queried concurrently; the caller gets the addresses of each family separately, because connecting can
//! begin before the slower answer arrives (RFC 8305 §3). Answers are cached for their time to live, within limits,
//! failures for a short time.
//!
//! `localhost` and names below it are both loopback addresses, regardless of files or name servers (RFC 6761 §6.3), as
//! in curl and browsers. A name in the hosts file is resolved only from there, as with getaddrinfo: name servers are
//! not queried for the family that the file lacks. The hosts file and resolv.conf are reloaded when they change
//! (`files`); cached answers of the old name servers are then discarded.

mod answer;
mod files;
mod hosts;
mod servers;
mod settings;
mod sockets;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::config::{DnsConfig, Resolver as ResolverKind};
pub(crate) use answer::{Family, ResolveError};
use answer::{MAX_ADDRESSES, Resolution};
pub(crate) use files::NameFiles;
use hosts::Hosts;
use servers::NameServers;
use settings::Settings;

/// The number of cached answers; if it is exceeded, the cache is cleared.
const CACHE_LEN: usize = 4096;
/// The longest time for a look-up, so that a client has a response within five seconds.
const LIMIT: Duration = Duration::from_millis(4500);
/// How long it is cached that no server could be reached, because the network may return at any moment.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// The resolver of a worker.
pub(crate) struct Resolver {
    kind: ResolverKind,
    /// The configured name servers; otherwise, those in `files` are used.
    configured: Option<Arc<Settings>>,
    files: Arc<NameFiles>,
    /// The generation of `files` that is in use.
    generation: Cell<u64>,
    hosts: RefCell<Arc<Hosts>>,
    settings: RefCell<Option<Arc<Settings>>>,
    /// None: the system resolver is used.
    servers: RefCell<Option<Rc<NameServers>>>,
    cache: RefCell<HashMap<CacheKey, Cached>>,
    /// The longest time for a look-up.
    limit: Duration,
    max_ttl: Duration,
    negative_ttl: Duration,
}

/// The key of a cached answer.
#[derive(PartialEq, Eq, Hash)]
struct CacheKey {
    host: Box<str>,
    is_absolute: bool,
    family: Family,
}

struct Cached {
    addresses: Result<Vec<IpAddr>, ResolveError>,
    until: Instant,
}

impl Resolver {
    /// `connect_limit` applies to a whole connection; a look-up takes less.
    ///
    /// # Errors
    /// The name servers cannot be used.
    pub(crate) fn new(
        config: &DnsConfig,
        connect_limit: Duration,
        files: &Arc<NameFiles>,
    ) -> io::Result<Self> {
        let configured = match config.resolver {
            ResolverKind::Dns if !config.servers.is_empty() => {
                Some(Arc::new(Settings::of_servers(&config.servers)))
            }
            _ => None,
        };
        let resolver = Self {
            kind: config.resolver,
            configured,
            files: Arc::clone(files),
            generation: Cell::default(),
            hosts: RefCell::default(),
            settings: RefCell::default(),
            servers: RefCell::default(),
            cache: RefCell::default(),
            limit: LIMIT.min(connect_limit.mul_f32(0.9)),
            max_ttl: config.cache_ttl_max,
            negative_ttl: config.negative_ttl,
        };
        resolver.adopt()?;
        Ok(resolver)
    }

    /// Uses the new content of the system's files, if they have changed. To be called before both look-ups of a name,
    /// so that they use the same servers.
    pub(crate) async fn refresh(&self) {
        self.files.refresh().await;
        if self.files.generation() != self.generation.get()
            && let Err(error) = self.adopt()
        {
            tracing::warn!(%error, "cannot use the new name servers");
        }
    }

    /// Uses the current content of the files.
    fn adopt(&self) -> io::Result<()> {
        let known = self.files.known();
        self.generation.set(known.generation);
        self.hosts.replace(known.hosts);
        if self.kind == ResolverKind::System {
            // The system may have other answers now.
            self.cache.borrow_mut().clear();
            return Ok(());
        }
        let settings = self.configured.clone().or(known.settings);
        let is_same = match (&*self.settings.borrow(), &settings) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !is_same {
            let servers = settings.as_deref().cloned().map(NameServers::new);
            self.servers.replace(servers.transpose()?.map(Rc::new));
            self.settings.replace(settings);
            self.cache.borrow_mut().clear();
        }
        Ok(())
    }

    /// The addresses of `host` in one family: fixed ones, those from the hosts file or the cache, or the result of a
    /// query. Search domains do not apply to an absolute name.
    pub(crate) async fn lookup(
        &self,
        host: &str,
        is_absolute: bool,
        family: Family,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let (host, is_absolute) = match host.strip_suffix('.') {
            Some(host) => (host, true),
            None => (host, is_absolute),
        };
        if is_localhost(host) {
            return Ok(vec![family.loopback()]);
        }
        if self.kind == ResolverKind::Dns
            && let Some(known) = self.hosts.borrow().addresses(host, family)
        {
            return known;
        }
        let key = CacheKeyRef {
            host,
            is_absolute,
            family,
        };
        if let Some(known) = self.cached(key) {
            return known;
        }
        let (generation, servers) = (self.generation.get(), self.servers.borrow().clone());
        let (addresses, ttl) = match servers {
            Some(servers) => servers.look_up(host, is_absolute, family, self.limit).await,
            None => query_system(host, family, self.limit).await,
        };
        let ttl = match &addresses {
            Ok(_) => ttl.min(self.max_ttl),
            Err(error) if error.is_denial() => self.negative_ttl,
            Err(_) => self.negative_ttl.min(FAILURE_TTL),
        };
        // Answers of servers that are no longer configured are not cached.
        if generation == self.generation.get() {
            self.remember(key, addresses.clone(), ttl);
        }
        addresses
    }

    fn cached(&self, key: CacheKeyRef<'_>) -> Option<Result<Vec<IpAddr>, ResolveError>> {
        let cache = self.cache.borrow();
        let entry = cache.get(&key)?;
        (entry.until > Instant::now()).then(|| entry.addresses.clone())
    }

    fn remember(
        &self,
        key: CacheKeyRef<'_>,
        addresses: Result<Vec<IpAddr>, ResolveError>,
        ttl: Duration,
    ) {
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= CACHE_LEN {
            cache.clear();
        }
        let until = Instant::now() + ttl;
        let key = CacheKey {
            host: key.host.into(),
            is_absolute: key.is_absolute,
            family: key.family,
        };
        cache.insert(key, Cached { addresses, until });
    }
}

/// A borrowed [`CacheKey`].
#[derive(Clone, Copy, Hash)]
struct CacheKeyRef<'a> {
    host: &'a str,
    is_absolute: bool,
    family: Family,
}

impl hashbrown::Equivalent<CacheKey> for CacheKeyRef<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        self.host == &*key.host && self.is_absolute == key.is_absolute && self.family == key.family
    }
}

/// RFC 6761 §6.3; `host` is in lower case.
fn is_localhost(host: &str) -> bool {
    host.strip_suffix("localhost")
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// getaddrinfo does not return a time to live, so the configured maximum applies.
async fn query_system(host: &str, family: Family, limit: Duration) -> Resolution {
    let asked = tokio::time::timeout(limit, tokio::net::lookup_host((host, 0))).await;
    let answer = match asked {
        Ok(Ok(found)) => {
            let found = found.map(|address| address.ip());
            let found = found.filter(|ip| family.has(*ip));
            let addresses: Vec<IpAddr> = found.take(MAX_ADDRESSES).collect();
            match addresses.is_empty() {
                true => Err(ResolveError::NoAddress),
                false => Ok(addresses),
            }
        }
        Ok(Err(error)) => Err(system_error(&error.to_string())),
        Err(_) => Err(ResolveError::SystemTimedOut(limit)),
    };
    (answer, Duration::MAX)
}

/// Interprets the error text of getaddrinfo: that of glibc, musl, macOS and the BSDs.
fn system_error(text: &str) -> ResolveError {
    const UNKNOWN: [&str; 4] = [
        "Name or service not known",
        "Name does not resolve",
        "nodename nor servname provided",
        "hostname nor servname provided",
    ];
    const NO_ADDRESS: [&str; 2] = ["No address associated with", "Name has no usable address"];
    let contains = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if contains(&UNKNOWN) {
        ResolveError::NoSuchHost
    } else if contains(&NO_ADDRESS) {
        ResolveError::NoAddress
    } else {
        let reason = text.rsplit("address information: ").next().unwrap_or(text);
        ResolveError::System(reason.to_owned())
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}
