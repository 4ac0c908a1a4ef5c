//! Binds the listeners: for TCP, one socket for each address and worker; for a Unix socket, one that all workers share.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::StartError;
use super::adopt::{Passed, adopt};
use super::socket_file::SocketFile;
use crate::config::{Config, Endpoint, ListenerConfig, covers};
use crate::generation::{Generation, ListenerPart};
use crate::listener::{Listener, ListenerId};

/// Keepalive probes for idle clients: after a minute, then every 15 s. A client that has closed its sending direction
/// still answers them while it reads.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15));

/// How often a free port is chosen again if it is taken at another address of the same host name.
const MAX_ATTEMPTS: usize = 16;

/// What is known of a listener that is bound.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) id: ListenerId,
    /// The addresses of a TCP listener, with the chosen port.
    pub(super) addresses: Vec<SocketAddr>,
    /// Where it is written.
    pub(super) origin: String,
    /// The file of a Unix socket, which is removed with this value.
    pub(super) file: Option<SocketFile>,
    /// The Unix sockets whose files belong to another process, as the log shows them.
    pub(super) foreign: Vec<String>,
}

/// Listeners that are bound, and not yet given to the workers.
#[derive(Debug, Default)]
pub(super) struct NewListeners {
    pub(super) bound: Vec<Bound>,
    /// The sockets of each worker.
    pub(super) per_worker: Vec<Vec<Listener>>,
}

impl Bound {
    /// Changes the permissions of the file of a Unix socket.
    pub(super) fn set_mode(&self, mode: u32) {
        if let Some(file) = &self.file
            && let Err(error) = file.set_mode(mode)
        {
            let path = file.path().display();
            tracing::warn!(%error, "cannot change the permissions of {path}");
        }
    }

    /// The same listener with further addresses.
    fn with(mut self, other: Self) -> Self {
        self.addresses.extend(other.addresses);
        self
    }

    /// Its addresses as the log shows them: `::1:8899`, `127.0.0.1:8899`, `unix:/run/proxy.sock`.
    pub(super) fn shown(&self) -> Vec<String> {
        match &self.file {
            Some(file) => vec![format!("unix:{}", file.path().display())],
            None => {
                let addresses = self.addresses.iter().copied().map(shown);
                addresses.chain(self.foreign.iter().cloned()).collect()
            }
        }
    }
}

/// Binds the listeners of a generation, except for those that are bound already, and those whose sockets were passed to
/// this process.
///
/// # Errors
/// The first listener that cannot be bound. Nothing of the others remains.
pub(super) fn listen(
    generation: &Generation,
    bound: &[Arc<Bound>],
    passed: &mut Passed,
) -> Result<NewListeners, StartError> {
    let config = &generation.config;
    let is_kept = |known: &&Arc<Bound>| generation.listeners.iter().any(|part| part.id == known.id);
    let (kept, removed): (Vec<_>, Vec<_>) = bound.iter().partition(is_kept);
    let mut new = NewListeners {
        bound: Vec::new(),
        per_worker: (0..config.num_workers.get()).map(|_| Vec::new()).collect(),
    };
    for (position, part) in generation.listeners.iter().enumerate() {
        if kept.iter().any(|kept| kept.id == part.id) {
            continue;
        }
        let sockets = passed.take(position);
        if !sockets.is_empty() {
            let adopted = adopt(part, sockets, passed.missing(), &mut new.per_worker);
            new.bound.push(adopted.map_err(StartError::Worker)?);
            continue;
        }
        let made = match &part.config.endpoint {
            Endpoint::Tcp { hostname, port } => {
                let mut addresses = addresses(&part.config, hostname, *port)?;
                refuse_if_shared(
                    &addresses,
                    &part.config,
                    kept.iter().map(|kept| &***kept).chain(&new.bound),
                )?;
                let sockets = passed.take_at(&addresses);
                let adopted = adopt(part, sockets, passed.missing(), &mut new.per_worker);
                let adopted = adopted.map_err(StartError::Worker)?;
                addresses.retain(|address| !adopted.addresses.contains(address));
                let bound = listen_tcp(part, addresses, &removed, config, &mut new.per_worker);
                bound.map(|bound| bound.with(adopted))
            }
            Endpoint::Unix { .. } => listen_unix(part, config, &mut new.per_worker),
        };
        new.bound.push(made?);
    }
    Ok(new)
}

/// The addresses of a host name on this machine, with the configured port.
fn addresses(
    listener: &ListenerConfig,
    hostname: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, StartError> {
    let unbracketed = hostname.trim_start_matches('[').trim_end_matches(']');
    let resolved = resolve(unbracketed, port).map_err(|source| StartError::Hostname {
        hostname: match listener.entry {
            None => format!("--hostname {hostname}"),
            Some(_) => format!("{}: hostname {hostname}", listener.origin),
        },
        source,
    })?;
    Ok(reachable(resolved, has_ipv6_loopback()))
}

/// Refuses addresses at which another listener of this proxy listens, which only resolving the names has shown.
fn refuse_if_shared<'a>(
    addresses: &[SocketAddr],
    listener: &ListenerConfig,
    others: impl Iterator<Item = &'a Bound>,
) -> Result<(), StartError> {
    for other in others {
        let is_shared = |address: &&SocketAddr| {
            other.addresses.iter().any(|known| {
                known.port() == address.port()
                    && (covers(known.ip(), address.ip()) || covers(address.ip(), known.ip()))
            })
        };
        if let Some(address) = addresses.iter().find(is_shared) {
            return Err(StartError::Shared {
                address: *address,
                origin: listener.origin.clone(),
                other: other.origin.clone(),
            });
        }
    }
    Ok(())
}

/// Binds each address once per worker. Port 0 becomes the same free port everywhere.
fn listen_tcp(
    part: &ListenerPart,
    addresses: Vec<SocketAddr>,
    removed: &[&Arc<Bound>],
    config: &Config,
    per_worker: &mut [Vec<Listener>],
) -> Result<Bound, StartError> {
    let mut attempt = 1;
    let (addresses, listeners) = loop {
        match bind_all(part, addresses.clone(), removed, config) {
            Ok(bound) => break bound,
            // The chosen port is free at one address only.
            Err((_, error))
                if error.kind() == io::ErrorKind::AddrInUse
                    && addresses.iter().all(|address| address.port() == 0)
                    && attempt < MAX_ATTEMPTS =>
            {
                attempt += 1;
            }
            Err((address, error)) => return Err(not_listening(&part.config, address, error)),
        }
    };
    for (own, added) in per_worker.iter_mut().zip(listeners) {
        own.extend(added);
    }
    Ok(Bound {
        id: part.id,
        addresses,
        origin: part.config.origin.clone(),
        file: None,
        foreign: Vec::new(),
    })
}

/// The addresses with their port, and the listeners of each worker.
type BoundEverywhere = (Vec<SocketAddr>, Vec<Vec<Listener>>);

fn bind_all(
    part: &ListenerPart,
    mut addresses: Vec<SocketAddr>,
    removed: &[&Arc<Bound>],
    config: &Config,
) -> Result<BoundEverywhere, (SocketAddr, io::Error)> {
    let mut per_worker: Vec<Vec<Listener>> =
        (0..config.num_workers.get()).map(|_| Vec::new()).collect();
    let mut chosen_port = 0;
    for address in &mut addresses {
        if address.port() == 0 {
            address.set_port(chosen_port);
        }
        let failed = |error| (*address, error);
        if !is_released(*address, removed) {
            refuse_if_taken(*address).map_err(failed)?;
        }
        for listeners in &mut per_worker {
            let failed = |error| (*address, error);
            let socket = bind(*address, config.backlog).map_err(failed)?;
            chosen_port = socket.local_addr().map_err(failed)?.port();
            listeners.push(Listener::tcp(part.id, socket).map_err(failed)?);
            address.set_port(chosen_port);
        }
    }
    Ok((addresses, per_worker))
}

/// Whether a listener that a reload removes still listens there.
fn is_released(address: SocketAddr, removed: &[&Arc<Bound>]) -> bool {
    let mut addresses = removed.iter().flat_map(|removed| &removed.addresses);
    addresses.any(|known| {
        known.port() == address.port()
            && (covers(known.ip(), address.ip()) || covers(address.ip(), known.ip()))
    })
}

#[cfg(unix)]
fn listen_unix(
    part: &ListenerPart,
    config: &Config,
    per_worker: &mut [Vec<Listener>],
) -> Result<Bound, StartError> {
    let Endpoint::Unix { path, mode } = &part.config.endpoint else {
        return Err(StartError::Worker(io::ErrorKind::InvalidInput.into()));
    };
    let (socket, file) = SocketFile::bind(path, *mode, config.backlog)?;
    let listener = Listener::unix(part.id, socket).map_err(StartError::Worker)?;
    for own in per_worker {
        own.push(listener.try_clone().map_err(StartError::Worker)?);
    }
    Ok(Bound {
        id: part.id,
        addresses: Vec::new(),
        origin: part.config.origin.clone(),
        file: Some(file),
        foreign: Vec::new(),
    })
}

#[cfg(not(unix))]
fn listen_unix(
    _part: &ListenerPart,
    _config: &Config,
    _per_worker: &mut [Vec<Listener>],
) -> Result<Bound, StartError> {
    Err(StartError::Worker(io::ErrorKind::Unsupported.into()))
}

/// The addresses of a host name. `localhost` is both loopback addresses, whatever the hosts file has of it.
fn resolve(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if hostname.eq_ignore_ascii_case("localhost") {
        return Ok(vec![
            (Ipv6Addr::LOCALHOST, port).into(),
            (Ipv4Addr::LOCALHOST, port).into(),
        ]);
    }
    Ok((hostname, port).to_socket_addrs()?.collect())
}
/// Each address once. On a machine without IPv6, 127.0.0.1 takes the place of ::1, which is the default.
fn reachable(resolved: Vec<SocketAddr>, has_ipv6_loopback: bool) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for mut address in resolved {
        if address.ip() == Ipv6Addr::LOCALHOST && !has_ipv6_loopback {
            tracing::warn!("this machine has no IPv6: listening on 127.0.0.1 instead of ::1");
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn has_ipv6_loopback() -> bool {
    let bound = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
        let any_port: SocketAddr = (Ipv6Addr::LOCALHOST, 0).into();
        socket.bind(&any_port.into())
    });
    bound.is_ok()
}

/// With SO_REUSEPORT, a second proxy could take half of the first one's connections; a bind without it detects that.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())
}

pub(super) fn bind(address: SocketAddr, backlog: u32) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    #[cfg(unix)]
    {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    prepare(SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Sets the options that accepted connections inherit. Messages are written whole, so Nagle's algorithm would only delay
/// them; keepalive detects dead clients even while a route waits and sends nothing.
pub(super) fn prepare(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

fn not_listening(listener: &ListenerConfig, address: SocketAddr, source: io::Error) -> StartError {
    let is_first = listener.entry.is_none();
    let key = |flag: &'static str, key: &'static str| if is_first { flag } else { key };
    let (hostname, port) = (key("--hostname", "hostname"), key("--port", "port"));
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process listens there: stop it, or use another {port}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 require privileges: use a higher {port}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have that address: use another {hostname}")
        }
        _ => format!("use another {hostname} or {port}"),
    };
    StartError::Listen {
        place: match is_first {
            true => String::new(),
            false => format!("{}: ", listener.origin),
        },
        address,
        source,
        remedy,
    }
}

/// An address as in the start-up line: `::1:8899`, `127.0.0.1:8899`.
fn shown(address: SocketAddr) -> String {
    format!("{}:{}", address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(hostname: &str, has_ipv6_loopback: bool) -> Vec<String> {
        let resolved = resolve(hostname, 8899).unwrap();
        let addresses = reachable(resolved, has_ipv6_loopback).into_iter();
        addresses.map(shown).collect()
    }

    #[test]
    fn the_default_is_served_without_ipv6_as_well() {
        assert_eq!(addresses("::1", true), ["::1:8899"]);
        assert_eq!(addresses("::1", false), ["127.0.0.1:8899"]);
    }

    #[test]
    fn localhost_is_both_loopback_addresses() {
        assert_eq!(addresses("localhost", true), ["::1:8899", "127.0.0.1:8899"]);
        assert_eq!(addresses("LocalHost", false), ["127.0.0.1:8899"]);
    }
}
