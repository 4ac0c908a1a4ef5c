//! Where an exchange goes, if not to the request's own host.

use std::net::IpAddr;

use crate::http1::Scheme;
use crate::plugins::RouteOverrides;
use crate::upstream::HttpVersions;

/// What determines the route of an exchange, besides its request.
#[derive(Debug, Default)]
pub(super) struct Routing {
    pub(super) tunnel: TunnelRoute,
    /// The destination to which a route of the web server forwards it.
    pub(super) forwarded_to: Option<Box<ForwardedTo>>,
}

/// The destination to which a route of the web server forwards the exchange.
#[derive(Debug)]
pub(super) struct ForwardedTo {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
}

/// How the upstream of a tunnel is connected while the tunnel is being opened.
#[derive(Debug)]
pub(super) struct TunnelRoute {
    pub(super) scheme: Scheme,
    pub(super) versions: HttpVersions,
    /// With the addresses that plugins have resolved.
    pub(super) destination: Destination,
}

impl Default for TunnelRoute {
    fn default() -> Self {
        Self {
            scheme: Scheme::Http,
            versions: HttpVersions::Any,
            destination: Destination::default(),
        }
    }
}

/// The changes of plugins to where an exchange goes.
#[derive(Debug, Default)]
pub(crate) struct Destination {
    /// None if no plugin has changed it, as for most requests.
    pub(super) changed: Option<Box<Changed>>,
}

#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) by_plugins: RouteOverrides,
    /// The value of Via in a CONNECT to the parent: the proxies so far, and this process.
    pub(super) via: Vec<u8>,
}

impl Destination {
    /// The addresses of the host, if plugins have resolved it.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        let changed = self.changed.as_ref();
        changed.map_or(&[], |changed| &changed.by_plugins.addresses)
    }

    /// Whether a plugin has redirected it to another host.
    pub(super) fn is_redirected(&self) -> bool {
        let changed = self.changed.as_ref();
        changed.is_some_and(|changed| changed.by_plugins.redirected_to.is_some())
    }
}
