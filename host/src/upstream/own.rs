//! Whether a connection would lead back to this proxy itself.
//!
//! Checked before connecting, because the request would return as that of another client. Addresses that are translated
//! to ours on the way are not recognised.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether a connection to `to` would be accepted by one of the listeners at `own`.
pub(super) fn leads_back(own: &[SocketAddr], to: SocketAddr) -> bool {
    let mut same_port = own.iter().filter(|own| own.port() == to.port());
    let ip = reached(to.ip());
    same_port.any(|own| match own.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.is_ipv4() && is_of_this_machine(ip),
        // Accepts IPv4 as well.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => is_of_this_machine(ip),
        own => own == ip,
    })
}

/// As [`leads_back`], for a host that another proxy will resolve: recognises addresses, and names that every machine
/// has for itself.
pub(super) fn is_named(own: &[SocketAddr], host: &str, port: u16) -> bool {
    // Most requests end here.
    if !own.iter().any(|own| own.port() == port) {
        return false;
    }
    if let Ok(ip) = host.parse() {
        return leads_back(own, SocketAddr::new(ip, port));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_below_localhost = host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.eq_ignore_ascii_case("localhost"));
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let mut loopback = loopback.iter().map(|ip| SocketAddr::new(*ip, port));
    is_below_localhost && loopback.any(|to| leads_back(own, to)) || is_our_name(host)
}

/// The address to which a connection to `ip` leads.
fn reached(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// For an address of this machine, the kernel selects the same address as the source. Nothing is sent.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let sends_from_itself = || {
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((ip, 9)).ok()?;
        let local = socket.local_addr().ok()?;
        Some(local.ip().to_canonical() == ip)
    };
    ip.is_loopback() || sends_from_itself().unwrap_or(false)
}

/// Whether `host` is the name of this machine, with or without its domain.
fn is_our_name(host: &str) -> bool {
    #[cfg(unix)]
    {
        let system = rustix::system::uname();
        let Ok(name) = system.nodename().to_str() else {
            return false;
        };
        let short = name.split('.').next().unwrap_or(name);
        !short.is_empty() && (host.eq_ignore_ascii_case(name) || host.eq_ignore_ascii_case(short))
    }
    #[cfg(not(unix))]
    {
        let _ = host;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(own: &str, to: &str) -> bool {
        leads_back(&[own.parse().unwrap()], to.parse().unwrap())
    }

    #[test]
    fn an_address_of_a_listener_leads_back_in_every_form() {
        for (own, to, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:80", "[::ffff:7f00:1]:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::ffff:0.0.0.0]:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::1]:80", "[::1]:80", true),
            ("[::1]:80", "[::]:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.9.9.9:80", true),
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "[::]:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "[::1]:80", false),
            ("127.0.0.1:80", "[::]:80", false),
            ("[::1]:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("0.0.0.0:80", "192.0.2.1:80", false),
            ("[::]:80", "192.0.2.1:80", false),
            ("[::]:80", "[2001:db8::1]:80", false),
        ] {
            assert_eq!(of(own, to), expected, "{own} {to}");
        }
    }

    #[test]
    fn names_that_each_machine_has_for_itself_lead_back() {
        let named = |own: &str, host| is_named(&[own.parse().unwrap()], host, 80);
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "127.0.0.1",
        ] {
            assert!(named("127.0.0.1:80", host), "{host}");
            assert!(named("[::]:80", host), "{host}");
            assert!(!named("127.0.0.1:81", host), "{host}");
        }
        for host in [
            "a.example",
            "localhost.example",
            "127.0.0.2",
            "notlocalhost",
            "",
        ] {
            assert!(!named("127.0.0.1:80", host), "{host}");
        }
        assert!(!named("192.0.2.1:80", "localhost"));
        let system = rustix::system::uname();
        let name = system.nodename().to_str().unwrap();
        assert!(named("192.0.2.1:80", name));
    }
}
