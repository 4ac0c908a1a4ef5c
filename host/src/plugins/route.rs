//! Where an exchange goes, as its plugins and its tunnel have changed it.

use std::net::IpAddr;

use crate::http1::Scheme;
use crate::upstream::Parent;

/// What plugins have chosen in place of what the request and the configuration say.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteOverrides {
    /// The host and port to connect to instead of the request's own.
    pub(crate) redirected_to: Option<(String, u16)>,
    /// The scheme to use with the upstream.
    pub(crate) scheme: Option<Scheme>,
    /// The parent proxy to connect through.
    pub(crate) parent: Option<Parent>,
    /// The addresses of the upstream's name.
    pub(crate) addresses: Vec<IpAddr>,
    /// The address to connect from.
    pub(crate) source: Option<IpAddr>,
}

/// Where a tunnel leads whose requests name another host: an address, or the host of a front.
#[derive(Debug)]
pub(crate) struct TunnelEnd {
    /// In its canonical form.
    pub(crate) host: String,
    /// The scheme of the client inside the tunnel, and so of the proxy with the upstream.
    pub(crate) scheme: Scheme,
    /// TLS with the upstream is verified for the host that the request is for.
    pub(crate) is_verified: bool,
}

/// The route of one exchange.
#[derive(Debug, Default)]
pub(super) struct ExchangeRoute {
    pub(super) overrides: RouteOverrides,
    /// Position in the chain of the plugin that has chosen the parent proxy.
    pub(super) parent_chooser: usize,
    /// Where the client's tunnel leads, if that is another host than the request is for.
    pub(super) tunnel: Option<Box<TunnelEnd>>,
    /// The server name in the client's TLS hello is known to be the upstream's, and not only claimed.
    pub(super) is_server_name_proven: bool,
}

impl ExchangeRoute {
    /// Whether the upstream is known to be `host`, which the request is for: the connection is made by that name, or its
    /// certificate is verified for it.
    pub(super) fn is_proven(&self, host: &str) -> bool {
        match (&self.overrides.redirected_to, &self.tunnel) {
            (Some(_), _) => !self.is_redirected_from(host),
            (None, Some(end)) => {
                end.is_verified && self.overrides.scheme.unwrap_or(end.scheme) == Scheme::Https
            }
            (None, None) => true,
        }
    }

    /// Whether a plugin has redirected the exchange to another host than `host`, which the request is for.
    pub(super) fn is_redirected_from(&self, host: &str) -> bool {
        let redirected_to = self.overrides.redirected_to.as_ref();
        redirected_to.is_some_and(|(to, _)| to != host)
    }

    /// The host in place of the request's own, and the port if that is another one as well.
    pub(super) fn other_host(&self) -> Option<(&str, Option<u16>)> {
        match (&self.overrides.redirected_to, &self.tunnel) {
            (Some((host, port)), _) => Some((host, Some(*port))),
            (None, Some(end)) => Some((&end.host, None)),
            (None, None) => None,
        }
    }
}
