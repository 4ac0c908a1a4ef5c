//! The one origin that the requests of an intercepted tunnel are for.

use std::net::IpAddr;

use super::Exchange;
use crate::error::{ExchangeError, Peer, Refusal, Step};
use crate::http1::Scheme;
use crate::plugins::TunnelEnd;

/// What a client had itself connected to, before it began to speak to us.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// In its canonical form.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Where the client says `host` is: it has resolved the name itself.
    pub(crate) addresses: Vec<IpAddr>,
    /// The client has said by which name it means an address.
    is_named: bool,
    /// Who the client is, as the tunnel's request has shown; empty if nobody was asked.
    user: String,
    /// Which entry of `host_timeouts` counts for the tunnel, from 1; 0: none.
    pub(super) host_timeouts: u32,
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
    fn is_for(&self, host: &str) -> bool {
        host == self.host || !self.is_named && !self.addresses.is_empty()
    }

    /// The address that the connection leads to, if that is another host than `host`, which is only claimed then.
    pub(crate) fn address_claimed_as(&self, host: &str) -> Option<IpAddr> {
        let address = *self.addresses.first()?;
        (host.parse() != Ok(address)).then_some(address)
    }
}

impl Exchange {
    /// The origin that the tunnel of this exchange leads to.
    pub(crate) fn origin(&self, scheme: Scheme) -> Origin {
        let host = self.head.host();
        Origin {
            scheme,
            host: host.to_owned(),
            port: self.head.port(),
            addresses: host.parse().into_iter().collect(),
            is_named: false,
            host_timeouts: self.host_timeouts,
            user: self
                .session
                .as_ref()
                .map(|session| session.with_user(str::to_owned))
                .filter(|user| !user.is_empty())
                .unwrap_or_else(|| self.known_user().to_owned()),
        }
    }

    /// Whether TLS with the upstream is verified for the request's host.
    fn is_host_verified(&self) -> bool {
        let interception = self.worker.interception.as_ref();
        !interception.is_some_and(|all| all.skips_verification(self.head.host()))
    }

    /// The address that the request goes to, if nothing proves that its host is there.
    pub(super) fn unproven_address(&self) -> Option<IpAddr> {
        let is_claimed = self.is_host_claimed && !self.head.has_new_host();
        let origin = self.origin.as_ref().filter(|_| is_claimed)?;
        let is_proven = origin.scheme == Scheme::Https && self.is_host_verified();
        let address = || origin.address_claimed_as(self.head.host());
        (!is_proven).then(address).flatten()
    }

    /// Makes sure that the request is for the origin of its connection, and completes it.
    pub(super) fn settle_origin(&mut self) -> Result<(), ExchangeError> {
        let Some(origin) = &self.origin else {
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
        if !origin.is_for(host) || self.head.port() != origin.port {
            return Err(ExchangeError::new(
                Peer::Client,
                Step::Route,
                Refusal::Misdirected,
            ));
        }
        let claimed_at = origin.address_claimed_as(host);
        self.is_host_claimed = claimed_at.is_some();
        let Some(session) = &self.session else {
            return Ok(());
        };
        if let Some(address) = claimed_at {
            session.set_tunnel(TunnelEnd {
                address: address.to_string(),
                scheme: origin.scheme,
                is_verified: self.is_host_verified(),
            });
        }
        if !origin.user.is_empty() {
            session.set_user(&origin.user);
        }
        Ok(())
    }
}
