//! The one origin that the requests of an intercepted tunnel are for.

use std::net::IpAddr;

use super::Exchange;
use crate::error::{ExchangeError, Peer, Refusal, Step};
use crate::http1::Scheme;

/// What a client had itself connected to, before it began to speak to us.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// In lower case, without a final dot.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Where the client says `host` is: it has resolved the name itself.
    pub(crate) addresses: Vec<IpAddr>,
    /// Who the client is, as the tunnel's request has shown; empty if nobody was asked.
    user: String,
}

impl Origin {
    /// The client calls the origin by this name.
    pub(crate) fn rename(&mut self, name: &str) {
        self.host = name.to_owned();
    }

    /// Who the client is; empty if nobody asked.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }
}

impl Exchange {
    /// The origin that the tunnel of this exchange leads to.
    pub(crate) fn origin(&self, scheme: Scheme) -> Origin {
        let host = self.head.host().trim_end_matches('.');
        Origin {
            scheme,
            host: host.to_owned(),
            port: self.head.port(),
            addresses: host.parse().into_iter().collect(),
            user: self
                .session
                .as_ref()
                .map(|session| session.with_user(str::to_owned))
                .filter(|user| !user.is_empty())
                .unwrap_or_else(|| self.known_user().to_owned()),
        }
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
        let host = self.head.host().trim_end_matches('.');
        // In clear nothing has said which name the client means by the address.
        let is_host =
            host == origin.host || origin.scheme == Scheme::Http && !origin.addresses.is_empty();
        if !is_host || self.head.port() != origin.port {
            return Err(ExchangeError::new(
                Peer::Client,
                Step::Route,
                Refusal::Misdirected,
            ));
        }
        if let Some(session) = self.session.as_ref().filter(|_| !origin.user.is_empty()) {
            session.set_user(&origin.user);
        }
        Ok(())
    }
}
