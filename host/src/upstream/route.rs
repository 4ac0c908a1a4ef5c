//! The way to an upstream: what to reach, and how.

use std::borrow::Cow;
use std::net::IpAddr;

use plugin_contract::Authority;

use super::parent::{Parent, ParentScheme};
use super::tls::{HttpVersions, TlsNumber};
use crate::http1::{RequestForm, Scheme};

/// Where an exchange goes, and on which way. Borrows everything: the ordinary route costs nothing to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    /// The destination: a name or an IP literal without brackets, in lower case.
    pub(crate) host: &'a str,
    /// `host` is a whole name: the search domains of this machine are not tried.
    pub(crate) is_absolute: bool,
    pub(crate) port: u16,
    /// The host to connect to in place of `host`, which TLS is verified for all the same. Where `addresses` are given, they
    /// are its.
    pub(crate) front: Option<&'a str>,
    /// `Https`: TLS with the destination, verified as `host`.
    pub(crate) scheme: Scheme,
    /// What TLS with the destination offers.
    pub(crate) versions: HttpVersions,
    /// Whose TLS the connection is made with, if any.
    pub(crate) tls: TlsNumber,
    /// The proxy to go through.
    pub(crate) parent: Option<&'a Parent>,
    /// The client wants to send bytes of its own (CONNECT): parents connect through, whatever the scheme.
    pub(crate) is_tunnel: bool,
    /// Addresses of `host` that need no resolving, if there are any. Families take turns, beginning with that of the
    /// first. Not used with a parent, which resolves by itself.
    pub(crate) addresses: &'a [IpAddr],
    /// That `host` is at `addresses` is what a client says: it may be somebody else.
    pub(crate) is_claimed: bool,
    /// Whether the destination may be this proxy itself.
    pub(crate) may_lead_back: bool,
    /// The address that the outgoing socket is bound to.
    pub(crate) source: Option<IpAddr>,
    /// The value of Via for a parent that is sent CONNECT; empty for none.
    pub(crate) via: &'a [u8],
}

impl<'a> Route<'a> {
    /// Straight to `host` in clear, as most requests go; see [`Connector::route`](super::Connector::route).
    pub(super) fn direct(host: &'a str, port: u16) -> Self {
        Self {
            host,
            is_absolute: false,
            port,
            front: None,
            scheme: Scheme::Http,
            versions: HttpVersions::Http1,
            tls: TlsNumber::NONE,
            parent: None,
            is_tunnel: false,
            addresses: &[],
            is_claimed: false,
            may_lead_back: true,
            source: None,
            via: &[],
        }
    }

    /// The host to connect to.
    pub(super) fn connect_host(&self) -> &'a str {
        self.front.unwrap_or(self.host)
    }

    /// How requests are written on this way.
    pub(crate) fn request_form(&self) -> RequestForm<'a> {
        match self.parent {
            Some(parent) if self.is_absolute_form() => RequestForm::Absolute {
                host: self.host,
                port: self.port,
                proxy_authorization: parent.authorization(),
            },
            _ => RequestForm::Origin,
        }
    }

    /// The address at which `host` is claimed to be; none where the proxy knows by itself.
    pub(super) fn claimed_at(&self) -> Option<IpAddr> {
        self.addresses.first().copied().filter(|_| self.is_claimed)
    }

    /// Whether the parent is sent the requests themselves, and not asked for a connection to their destination.
    pub(super) fn is_absolute_form(&self) -> bool {
        let speaks_http = self
            .parent
            .is_some_and(|parent| parent.scheme() != ParentScheme::Socks5);
        speaks_http && !self.is_tunnel && self.scheme == Scheme::Http
    }

    /// Writes `host:port` as CONNECT needs it.
    pub(super) fn authority(&self) -> String {
        let authority = Authority {
            host: Cow::Borrowed(self.connect_host()),
            port: Some(self.port),
        };
        authority.to_string()
    }
}
