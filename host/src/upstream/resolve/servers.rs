//! Queries to name servers: names, order of servers, and timeouts.
//!
//! Servers are queried in the order of their list, the next one when the previous one has failed, or concurrently if it
//! takes longer than [`HEDGE`]. The server that answered last is queried first for the next [`PREFERENCE`], so that a
//! dead server delays one look-up and not every one. A negative answer is used only after the servers before it had
//! [`DENIAL_DELAY`] to answer: in a company network, the first server knows names that others do not.
//!
//! Names are queried byte for byte. The DNS accepts any label of 1 to 63 bytes (RFC 2181 §11), and so does getaddrinfo:
//! underscores, hyphens and `xn--` have no special meaning.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use plugin_contract::MAX_HOST_NAME_LEN;
use tokio::time::{Instant, sleep_until};

use super::answer::{Family, Fault, MAX_ADDRESSES, Resolution, ResolveError, ServerFault};
use super::settings::Settings;
use super::sockets::Sockets;

/// How long a server has before the next one is queried concurrently.
const HEDGE: Duration = Duration::from_millis(500);
/// How long a negative answer waits for servers that come before its own.
const DENIAL_DELAY: Duration = Duration::from_secs(1);
/// How long the server that answered last is queried first.
const PREFERENCE: Duration = Duration::from_secs(30);
/// The longest label of a name, in bytes (RFC 1035 §2.3.4).
const MAX_LABEL_LEN: usize = 63;

/// The name servers of one worker.
pub(super) struct NameServers {
    servers: Vec<Server>,
    search: Vec<Name>,
    settings: Settings,
    /// The server to begin with, and until when.
    preferred: Cell<(usize, Instant)>,
}

struct Server {
    address: SocketAddr,
    sockets: Sockets,
    client: Resolver<Sockets>,
}

/// A query to a server in progress.
type Try<'a> = Pin<Box<dyn Future<Output = (usize, Result<Resolution, Fault>)> + 'a>>;

impl NameServers {
    /// # Errors
    /// A client for one of the servers cannot be created.
    pub(super) fn new(settings: Settings) -> io::Result<Self> {
        let servers = settings.servers.iter();
        let servers = servers.map(|address| Server::new(*address, &settings));
        let search = settings.search.iter();
        let domain = |text: &String| {
            let mut domain = name_of(text.strip_suffix('.').unwrap_or(text)).ok()?;
            domain.set_fqdn(true);
            Some(domain)
        };
        Ok(Self {
            servers: servers.collect::<io::Result<_>>()?,
            search: search.filter_map(domain).collect(),
            preferred: Cell::new((0, Instant::now())),
            settings,
        })
    }

    /// The addresses of `host`, within `limit`. `is_absolute`: the search domains are not tried.
    pub(super) async fn look_up(
        &self,
        host: &str,
        is_absolute: bool,
        family: Family,
        limit: Duration,
    ) -> Resolution {
        if self.settings.skips_v6 && family == Family::V6 {
            return (Err(ResolveError::NoAddress), Duration::ZERO);
        }
        let names = match self.names(host, is_absolute) {
            Ok(names) => names,
            Err(error) => return (Err(error), Duration::ZERO),
        };
        let deadline = LookupDeadline::within(limit);
        let mut error_so_far = ResolveError::NoSuchHost;
        let last = names.len() - 1;
        for (at, name) in names.iter().enumerate() {
            let error = match self.query(name, family, deadline).await {
                (Err(error), _) => error,
                found => return found,
            };
            match error {
                ResolveError::NoSuchHost => {}
                // If the name has an address of the other family, it is the right one, and further domains are not
                // tried.
                ResolveError::NoAddress if at < last => {
                    error_so_far = ResolveError::NoAddress;
                    if self.query(name, family.other(), deadline).await.0.is_ok() {
                        break;
                    }
                }
                // A server that fails for one domain may answer for the next.
                error if error.is_answered() && at < last => error_so_far = error,
                error => return (Err(error), Duration::ZERO),
            }
        }
        (Err(error_so_far), Duration::ZERO)
    }

    /// The names to query, in order; at least one (resolv.conf(5), `ndots`).
    fn names(&self, host: &str, is_absolute: bool) -> Result<Vec<Name>, ResolveError> {
        let mut absolute = name_of(host)?;
        absolute.set_fqdn(true);
        if is_absolute {
            return Ok(vec![absolute]);
        }
        let dots = host.bytes().filter(|byte| *byte == b'.').count();
        let below = |domain: &Name| name_of(host).ok()?.append_domain(domain).ok();
        let mut names: Vec<Name> = self.search.iter().filter_map(below).collect();
        match dots >= self.settings.ndots {
            true => names.insert(0, absolute),
            false => names.push(absolute),
        }
        Ok(names)
    }

    /// Queries the servers for exactly this name.
    async fn query(&self, name: &Name, family: Family, deadline: LookupDeadline) -> Resolution {
        let first = self.first();
        let count = self.servers.len();
        let mut turns = (0..self.settings.attempts)
            .flat_map(|_| 0..count)
            .map(|turn| (first + turn) % count);
        let mut queried = 0;
        let mut tries: FuturesUnordered<Try<'_>> = FuturesUnordered::new();
        let mut state = QueryState::new(deadline);
        loop {
            // In the first round, servers are queried without waiting for the previous one; in further rounds, after
            // it.
            let may_begin = state.denial.is_none() && (queried < count || tries.is_empty());
            if tries.is_empty() {
                state.next_at = Instant::now();
            }
            tokio::select! {
                biased;
                Some((server, answer)) = tries.next() => {
                    if let Some(answer) = state.take_answer(server, &self.servers, answer) {
                        self.prefer(server);
                        return answer;
                    }
                    if tries.is_empty() && let Some(denial) = state.denial {
                        return denial;
                    }
                }
                () = sleep_until(state.next_at), if may_begin => match turns.next() {
                    Some(server) => {
                        queried += 1;
                        state.in_progress.push(server);
                        state.next_at = Instant::now() + HEDGE;
                        let query = self.servers[server].query(name, family);
                        tries.push(Box::pin(async move { (server, query.await) }));
                    }
                    None => break,
                },
                () = sleep_until(state.end_at) => {
                    state.time_out(&self.servers, deadline.limit);
                    break;
                }
            }
        }
        state.end()
    }

    fn first(&self) -> usize {
        let (server, until) = self.preferred.get();
        if self.settings.rotate {
            self.preferred
                .set(((server + 1) % self.servers.len(), until));
            return server;
        }
        match Instant::now() < until {
            true => server,
            false => 0,
        }
    }

    fn prefer(&self, server: usize) {
        let (preferred, until) = self.preferred.get();
        let now = Instant::now();
        // Not extended, so that the first server of the list is tried again.
        if !self.settings.rotate && (server != preferred || now >= until) {
            self.preferred.set((server, now + PREFERENCE));
        }
    }
}

/// What the servers have answered to a query so far.
struct QueryState {
    /// Servers with a query in progress, in their order.
    in_progress: Vec<usize>,
    faults: Vec<ServerFault>,
    /// A negative answer, which waits for earlier servers.
    denial: Option<Resolution>,
    /// When the next server is queried.
    next_at: Instant,
    end_at: Instant,
}

impl QueryState {
    fn new(deadline: LookupDeadline) -> Self {
        Self {
            in_progress: Vec::new(),
            faults: Vec::new(),
            denial: None,
            next_at: Instant::now(),
            end_at: deadline.at,
        }
    }

    /// Returns the answer of a server if it is final.
    fn take_answer(
        &mut self,
        server: usize,
        servers: &[Server],
        answer: Result<Resolution, Fault>,
    ) -> Option<Resolution> {
        let is_earliest = self.in_progress.first() == Some(&server);
        self.in_progress.retain(|waiting| *waiting != server);
        match answer {
            Ok(answer) if answer.0.is_ok() || is_earliest => return Some(answer),
            Ok(answer) => {
                self.end_at = self.end_at.min(Instant::now() + DENIAL_DELAY);
                self.denial.get_or_insert(answer);
            }
            Err(fault) => {
                self.record_fault(servers[server].address, fault);
                self.next_at = Instant::now();
            }
        }
        None
    }

    /// Replaces an earlier fault of the same server.
    fn record_fault(&mut self, server: SocketAddr, fault: Fault) {
        self.faults.retain(|recorded| recorded.server != server);
        self.faults.push(ServerFault { server, fault });
    }

    /// Records a timeout for all servers without a fault.
    fn time_out(&mut self, servers: &[Server], limit: Duration) {
        for server in servers {
            let has_failed = |fault: &ServerFault| fault.server == server.address;
            if !self.faults.iter().any(has_failed) {
                self.record_fault(server.address, Fault::TimedOut(limit));
            }
        }
    }

    fn end(self) -> Resolution {
        let no_answer = || {
            (
                Err(ResolveError::NoAnswer(self.faults.into())),
                Duration::ZERO,
            )
        };
        self.denial.unwrap_or_else(no_answer)
    }
}

/// When a look-up must end.
#[derive(Clone, Copy)]
struct LookupDeadline {
    at: Instant,
    limit: Duration,
}

impl LookupDeadline {
    fn within(limit: Duration) -> Self {
        Self {
            at: Instant::now() + limit,
            limit,
        }
    }
}

impl Server {
    fn new(address: SocketAddr, settings: &Settings) -> io::Result<Self> {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        if settings.is_tcp_only {
            connections.remove(0);
        }
        for connection in &mut connections {
            connection.port = address.port();
        }
        let mut config = ResolverConfig::default();
        config.add_name_server(NameServerConfig::new(address.ip(), true, connections));
        let sockets = Sockets::to(address);
        let mut builder = Resolver::builder_with_config(config, sockets.clone());
        let options = builder.options_mut();
        // Cache, hosts file and further attempts are implemented here. Within one attempt, the library repeats a lost
        // datagram.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.attempts = 0;
        options.timeout = settings.timeout;
        options.edns0 = settings.uses_edns;
        let client = builder.build().map_err(io::Error::other)?;
        Ok(Self {
            address,
            sockets,
            client,
        })
    }

    async fn query(&self, name: &Name, family: Family) -> Result<Resolution, Fault> {
        let denied = |error| Ok((Err(error), Duration::ZERO));
        match self.client.lookup(name.clone(), family.record_type()).await {
            Ok(lookup) => Ok(answer(&lookup, family)),
            Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. }))) => {
                match response_code {
                    ResponseCode::NXDomain => denied(ResolveError::NoSuchHost),
                    _ => denied(ResolveError::NoAddress),
                }
            }
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(Fault::Code(code)),
            Err(NetError::Timeout) => Err(Fault::TimedOut(self.client.options().timeout)),
            Err(error @ (NetError::Io(_) | NetError::NoConnections)) => {
                let last = self.sockets.last_error();
                Err(Fault::Unreachable(
                    last.unwrap_or_else(|| error.to_string()),
                ))
            }
            Err(error) => Err(Fault::Malformed(error.to_string())),
        }
    }
}

fn answer(lookup: &Lookup, family: Family) -> Resolution {
    let ttl = lookup
        .valid_until()
        .saturating_duration_since(std::time::Instant::now());
    let records = lookup.answers().iter();
    let addresses: Vec<IpAddr> = records
        .filter_map(|record| record.data.ip_addr())
        .filter(|ip| family.has(*ip))
        .take(MAX_ADDRESSES)
        .collect();
    match addresses.is_empty() {
        true => (Err(ResolveError::NoAddress), ttl),
        false => (Ok(addresses), ttl),
    }
}

/// The labels of `host`, unchanged; not absolute yet.
fn name_of(host: &str) -> Result<Name, ResolveError> {
    if host.len() > MAX_HOST_NAME_LEN {
        return Err(ResolveError::NameTooLong);
    }
    if host.split('.').any(|label| label.len() > MAX_LABEL_LEN) {
        return Err(ResolveError::LabelTooLong);
    }
    let labels = host.split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).map_err(|_| ResolveError::NameInvalid)?;
    name.set_fqdn(false);
    Ok(name)
}
