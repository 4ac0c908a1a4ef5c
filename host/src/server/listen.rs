//! The listening sockets: one per address of the host name and worker.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::StartError;
use crate::config::Config;
use crate::listener::Listener;

/// Keepalive probes for idle clients: after a minute, then every 15 s. A client that has closed its sending direction
/// still answers them while it reads.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15));

/// Binds every address of the host name once per worker: the addresses as the log shows them, and each worker's listeners.
/// Port 0 becomes the same free port everywhere.
pub(super) fn listen(config: &Config) -> Result<(Vec<String>, Vec<Vec<Listener>>), StartError> {
    let hostname = config
        .hostname
        .trim_start_matches('[')
        .trim_end_matches(']');
    let resolved = resolve(hostname, config.port).map_err(|source| StartError::Hostname {
        hostname: config.hostname.clone(),
        source,
    })?;
    let mut addresses = reachable(resolved, has_ipv6_loopback());
    let mut per_worker: Vec<Vec<Listener>> =
        (0..config.num_workers.get()).map(|_| Vec::new()).collect();
    let mut chosen_port = config.port;
    for address in &mut addresses {
        address.set_port(chosen_port);
        let failed = |source| not_listening(*address, source);
        refuse_if_taken(*address).map_err(failed)?;
        for listeners in &mut per_worker {
            address.set_port(chosen_port);
            let listener =
                bind(*address, config.backlog).map_err(|source| not_listening(*address, source))?;
            chosen_port = listener.local_addr().map_err(StartError::Worker)?.port();
            listeners.push(listener);
        }
        address.set_port(chosen_port);
    }
    Ok((addresses.into_iter().map(shown).collect(), per_worker))
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

fn bind(address: SocketAddr, backlog: u32) -> io::Result<Listener> {
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
    // Accepted connections inherit both. Messages are written whole, so Nagle's algorithm would only delay them;
    // keepalive detects dead clients even while a route waits and sends nothing.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Listener::new(socket.into())
}

fn not_listening(address: SocketAddr, source: io::Error) -> StartError {
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => "another process listens there: stop it, or use another --port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 require privileges: use a higher --port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: use another --hostname"
        }
        _ => "use another --hostname or --port",
    };
    StartError::Listen {
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
