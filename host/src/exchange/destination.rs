//! Where an exchange goes, if not to the request's own host.

use std::net::IpAddr;

use crate::http1::Scheme;
use crate::plugins::RouteOverrides;
use crate::upstream::HttpVersions;

/// What sends an exchange elsewhere, or its tunnel.
#[derive(Debug, Default)]
pub(super) struct Routing {
    pub(super) tunnel: TunnelRoute,
    /// Where a plugin of the web server forwards it.
    pub(super) forwarded_to: Option<Box<ForwardedTo>>,
}

/// Where a plugin of the web server has sent the exchange.
#[derive(Debug)]
pub(super) struct ForwardedTo {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
}

/// How the upstream of a tunnel is spoken to while the tunnel is made, and where that was found.
#[derive(Debug)]
pub(super) struct TunnelRoute {
    pub(super) scheme: Scheme,
    pub(super) versions: HttpVersions,
    /// Plugins' addresses included.
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

/// Where an exchange goes, as far as plugins have changed that.
#[derive(Debug, Default)]
pub(crate) struct Destination {
    /// None when no plugin has changed it, as with most requests.
    pub(super) changed: Option<Box<Changed>>,
}

#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) by_plugins: RouteOverrides,
    /// For a parent that is sent CONNECT: who has forwarded that so far, and this process.
    pub(super) via: Vec<u8>,
}

impl Destination {
    /// Where plugins have found the host, if they have.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        let changed = self.changed.as_ref();
        changed.map_or(&[], |changed| &changed.by_plugins.addresses)
    }

    /// Whether a plugin has named another host.
    pub(super) fn is_redirected(&self) -> bool {
        let changed = self.changed.as_ref();
        changed.is_some_and(|changed| changed.by_plugins.redirected_to.is_some())
    }
}
