//! What a tunnel leads to that is not relayed: an origin, or this proxy itself.

use std::net::IpAddr;

use crate::config::Timeouts;
use crate::http1::Scheme;
use crate::interception::Interception;
use crate::upstream::Route;

/// The origin that an intercepted tunnel leads to.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// Its name according to the client, in canonical form: the server name in TLS, otherwise the host of the tunnel.
    pub(crate) host: String,
    /// The host of the CONNECT request, in canonical form.
    pub(super) tunnel_host: String,
    pub(crate) port: u16,
    /// The address of `host` according to the client, which has resolved the name itself.
    pub(super) addresses: Vec<IpAddr>,
    /// The client has named the host of an address, by the server name in TLS.
    pub(super) is_named: bool,
    /// The tunnel may carry requests for one host besides its own (`allow_fronting`).
    pub(super) is_front: bool,
    /// The addresses of `tunnel_host`, if plugins have resolved it.
    pub(super) front_addresses: Vec<IpAddr>,
    /// The user of the tunnel's request; empty if there was no authentication.
    pub(super) user: String,
    /// The timeouts of the tunnel's host, where it has its own. The tunnel keeps them, whatever is in force later.
    pub(super) timeouts: Option<Box<Timeouts>>,
}

impl Origin {
    /// The origin that a tunnel to this host and port leads to.
    pub(super) fn of_tunnel(host: &str, port: u16, scheme: Scheme) -> Self {
        Self {
            scheme,
            host: host.to_owned(),
            tunnel_host: host.to_owned(),
            port,
            addresses: host.parse().into_iter().collect(),
            is_named: false,
            is_front: false,
            front_addresses: Vec::new(),
            user: String::new(),
            timeouts: None,
        }
    }

    /// Sets the server name that the client has asked for in TLS.
    pub(crate) fn rename(&mut self, name: &str) {
        self.is_named |= self.host != name;
        self.host = name.to_owned();
    }

    /// The user; empty if there was no authentication.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Whether a request for `host` belongs to this connection. In clear nothing has said which name the client means
    /// by an address, nor in TLS without a server name: there the upstream's certificate has to be for the request's.
    /// Where fronting is allowed, a client that has named another host in TLS may ask for either; one that has not, for
    /// any.
    pub(super) fn is_for(&self, host: &str) -> bool {
        host == self.host
            || self.is_unnamed_address()
            || self.is_front && (host == self.tunnel_host || self.host == self.tunnel_host)
    }

    fn is_unnamed_address(&self) -> bool {
        !self.is_named && !self.addresses.is_empty()
    }

    /// The other host that requests for `host` go to, where the tunnel's, the one asked for in TLS and `host` are not all
    /// the same: then that `host` is there is only claimed. There are never three, see [`is_for`](Self::is_for).
    pub(crate) fn other_than(&self, host: &str) -> Option<&str> {
        [&self.host, &self.tunnel_host]
            .into_iter()
            .map(String::as_str)
            .find(|other| *other != host)
    }

    /// The name that TLS is verified for if a request is for `host`.
    fn verified_as<'a>(&'a self, host: &'a str) -> &'a str {
        match self.is_unnamed_address() {
            true => host,
            false => &self.host,
        }
    }

    /// Whether the upstream of a request for `host` is known to be that host: TLS is verified for it. If a front is asked
    /// for by its own name and TLS names another host, the front is known only if TLS is not verified.
    pub(super) fn is_verified_as(&self, host: &str, interception: Option<&Interception>) -> bool {
        let name = self.verified_as(host);
        let is_verified = !interception.is_some_and(|all| all.skips_verification(name));
        match host == name {
            true => is_verified,
            false => !is_verified && host == self.tunnel_host,
        }
    }

    /// How a request for `host` is sent there.
    pub(super) fn route<'a>(&'a self, host: &'a str, route: Route<'a>) -> Route<'a> {
        let is_claimed = self.other_than(host).is_some();
        let name = self.verified_as(host);
        let is_fronted = is_claimed && self.addresses.is_empty();
        Route {
            host: name,
            front: Some(self.tunnel_host.as_str()).filter(|front| is_fronted && *front != name),
            addresses: match is_fronted {
                true => &self.front_addresses,
                false => &self.addresses,
            },
            is_claimed,
            // A parent that was sent the request itself would go by its Host.
            is_tunnel: route.is_tunnel || is_fronted,
            scheme: self.scheme,
            ..route
        }
    }
}

/// A tunnel that leads to this proxy itself.
#[derive(Debug)]
pub(crate) struct OwnTunnel {
    /// The port of the tunnel.
    pub(crate) port: u16,
    /// The user of the tunnel's request; empty if there was no authentication.
    pub(super) user: String,
}

impl OwnTunnel {
    pub(super) fn user(&self) -> &str {
        &self.user
    }
}
