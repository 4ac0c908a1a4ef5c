//! The route to an upstream: the destination, and how to reach it.

use std::borrow::Cow;
use std::net::IpAddr;

use plugin_contract::Authority;

use super::parent::{Parent, ParentScheme};
use super::tls::{HttpVersions, TlsNumber};
use crate::http1::{RequestForm, Scheme};

/// The destination of an exchange, and how to reach it. Borrows everything, so an ordinary route costs nothing to
/// create.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    /// The destination: a name or an IP literal without brackets, in lower case.
    pub(crate) host: &'a str,
    /// `host` is an absolute name: the search domains of this machine are not tried.
    pub(crate) is_absolute: bool,
    pub(crate) port: u16,
    /// The host to connect to instead of `host`; TLS is still verified for `host`. `addresses`, if given, are those of
    /// this host.
    pub(crate) front: Option<&'a str>,
    /// `Https`: TLS with the destination, verified as `host`.
    pub(crate) scheme: Scheme,
    /// What is offered in TLS with the destination.
    pub(crate) versions: HttpVersions,
    /// The TLS client that makes the connection, if any.
    pub(crate) tls: TlsNumber,
    /// The proxy to go through.
    pub(crate) parent: Option<&'a Parent>,
    /// The client sends arbitrary bytes (CONNECT): a parent is asked for a connection, regardless of the scheme.
    pub(crate) is_tunnel: bool,
    /// The addresses of `host`, if it need not be resolved. Families alternate, beginning with that of the first
    /// address. Not used with a parent, which resolves names itself.
    pub(crate) addresses: &'a [IpAddr],
    /// Only the client claims that `host` is at `addresses`, which may be false.
    pub(crate) is_claimed: bool,
    /// Whether the destination may be this proxy.
    pub(crate) may_lead_back: bool,
    /// The address that the outgoing socket is bound to.
    pub(crate) source: Option<IpAddr>,
    /// The value of Via in CONNECT requests to a parent; empty for none.
    pub(crate) via: &'a [u8],
}

impl<'a> Route<'a> {
    /// The route of most requests, directly to `host` without TLS; see [`Connector::route`](super::Connector::route).
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

    /// The form in which requests are written.
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

    /// The address at which a client claims `host` to be; none if the proxy resolves it.
    pub(super) fn claimed_at(&self) -> Option<IpAddr> {
        self.addresses.first().copied().filter(|_| self.is_claimed)
    }

    /// Whether requests are sent to the parent itself, instead of through a connection to their destination.
    pub(super) fn is_absolute_form(&self) -> bool {
        let speaks_http = self
            .parent
            .is_some_and(|parent| parent.scheme() != ParentScheme::Socks5);
        speaks_http && !self.is_tunnel && self.scheme == Scheme::Http
    }

    /// `host:port`, as in CONNECT.
    pub(super) fn authority(&self) -> String {
        let authority = Authority {
            host: Cow::Borrowed(self.connect_host()),
            port: Some(self.port),
        };
        authority.to_string()
    }
}
