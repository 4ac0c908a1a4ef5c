//! The one origin that the requests of an intercepted tunnel are for.

use std::net::IpAddr;

use super::Exchange;
use crate::config::Timeouts;
use crate::error::{ExchangeError, Peer, Refusal, Step};
use crate::http1::Scheme;
use crate::plugins::TunnelEnd;
use crate::upstream::Route;

/// What a client had itself connected to, before it began to speak to us.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// The name by which the client means it, in its canonical form: what it asked for in TLS, else the tunnel's.
    pub(crate) host: String,
    /// The host that the tunnel was made to, in its canonical form.
    tunnel_host: String,
    pub(crate) port: u16,
    /// Where the client says `host` is: it has resolved the name itself.
    addresses: Vec<IpAddr>,
    /// The client has said by which name it means an address.
    is_named: bool,
    /// The tunnel may carry what is for another host than its own, as `allow_fronting` permits.
    is_front: bool,
    /// Where plugins have found `tunnel_host`, if they have.
    front_addresses: Vec<IpAddr>,
    /// Who the client is, as the tunnel's request has shown; empty if nobody was asked.
    user: String,
    /// The timeouts of the tunnel's host, where it has its own. The tunnel keeps them, whatever is in force later.
    pub(super) timeouts: Option<Box<Timeouts>>,
}

impl Origin {
    /// The client calls the origin by this name.
    pub(crate) fn rename(&mut self, name: &str) {
        self.is_named |= self.host != name;
        self.host = name.to_owned();
    }

    /// Who the client is; empty if nobody asked.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Whether a request for `host` belongs to this connection. In clear nothing has said which name the client means
    /// by an address, nor in TLS without a server name: there the upstream's certificate has to be for the request's.
    /// Where fronting is allowed, a client that has named another host in TLS may ask for either; one that has not, for
    /// any.
    fn is_for(&self, host: &str) -> bool {
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

    /// How a request for `host` is sent there.
    pub(super) fn lead<'a>(&'a self, host: &'a str, route: Route<'a>) -> Route<'a> {
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

impl Exchange {
    /// The origin that the tunnel of this exchange leads to.
    pub(crate) fn origin(&self, scheme: Scheme) -> Origin {
        let host = self.head.host();
        Origin {
            scheme,
            host: host.to_owned(),
            tunnel_host: host.to_owned(),
            port: self.head.port(),
            addresses: host.parse().into_iter().collect(),
            is_named: false,
            timeouts: self.own_timeouts().copied().map(Box::new),
            is_front: self
                .generation
                .interception
                .as_ref()
                .is_some_and(|interception| interception.allows_fronting(host)),
            front_addresses: self.tunnel.destination.addresses().to_vec(),
            user: self
                .session
                .as_ref()
                .map(|session| session.with_user(str::to_owned))
                .filter(|user| !user.is_empty())
                .unwrap_or_else(|| self.known_user().to_owned()),
        }
    }

    /// Whether the upstream is known to be the request's host: TLS is verified for it. Where a front is asked for by its
    /// own name and TLS names another host, only an unverified one leaves the front the one that is known.
    fn is_host_verified(&self, origin: &Origin) -> bool {
        let host = self.head.host();
        let name = origin.verified_as(host);
        let interception = self.generation.interception.as_ref();
        let is_verified = !interception.is_some_and(|all| all.skips_verification(name));
        match host == name {
            true => is_verified,
            false => !is_verified && host == origin.tunnel_host,
        }
    }

    /// The host that the request goes to, if nothing proves that it is the request's.
    pub(super) fn unproven_end(&self) -> Option<&str> {
        let is_claimed = self.is_host_claimed && !self.head.has_new_host();
        let origin = self.client.origin.as_ref().filter(|_| is_claimed)?;
        let is_proven = origin.scheme == Scheme::Https && self.is_host_verified(origin);
        let other = || origin.other_than(self.head.host());
        (!is_proven).then(other).flatten()
    }

    /// Makes sure that the request is for the origin of its connection, and completes it.
    pub(super) fn settle_origin(&mut self) -> Result<(), ExchangeError> {
        let Some(origin) = &self.client.origin else {
            return Ok(());
        };
        if self.head.is_method("CONNECT") {
            return Err(ExchangeError::new(
                Peer::Client,
                Step::Route,
                Refusal::NestedConnect,
            ));
        }
        self.head
            .settle_origin(origin.scheme, &origin.host, origin.port);
        let host = self.head.host();
        if !origin.is_for(host) {
            return Err(ExchangeError::new(
                Peer::Client,
                Step::Route,
                Refusal::Misdirected,
            ));
        }
        let other = origin.other_than(host);
        self.is_host_claimed = other.is_some();
        let Some(session) = &self.session else {
            return Ok(());
        };
        if let Some(other) = other {
            session.set_tunnel(TunnelEnd {
                host: other.to_owned(),
                scheme: origin.scheme,
                is_verified: self.is_host_verified(origin),
            });
        }
        if !origin.user.is_empty() {
            session.set_user(&origin.user);
        }
        Ok(())
    }
}
