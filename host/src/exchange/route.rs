//! The route of an exchange: its destination, and how it gets there.

use super::destination::{Changed, Destination};
use super::state::Exchange;
use crate::http1::{self, RequestForm, Scheme};
use crate::plugins::ExchangePlugins;
use crate::upstream::{self, HttpVersions, Route};

impl Exchange {
    /// The destination as plugins have changed it so far.
    pub(super) fn destination(&self) -> Destination {
        let plugins = self.plugins.as_ref();
        let by_plugins = plugins.and_then(ExchangePlugins::route_overrides);
        let changed = by_plugins.map(|by_plugins| {
            let via = match by_plugins.parent {
                Some(_) => http1::via_value(&self.request.head, &self.generation.marked_via),
                None => Vec::new(),
            };
            Box::new(Changed { by_plugins, via })
        });
        Destination { changed }
    }

    /// The route to the request's own destination, or to where plugins have sent it.
    pub(super) fn route<'a>(&'a self, destination: &'a Destination) -> Route<'a> {
        let route = self.route_by_host(destination);
        let is_for_one_client = || {
            // Upgrades are HTTP/1.1. HTTP/2 has an equivalent for WebSockets, if the upstream announces it.
            let changes = http1::requested_upgrade(&self.request.head).is_some();
            changes && !self.takes_websocket(&route)
                || http1::is_connection_bound(&self.request.head)
        };
        match self.versions(&route) {
            HttpVersions::Any if is_for_one_client() => Route {
                versions: HttpVersions::Http1,
                ..route
            },
            versions => Route { versions, ..route },
        }
    }

    /// The HTTP versions for `route`, as far as they depend on its host.
    pub(super) fn versions(&self, route: &Route<'_>) -> HttpVersions {
        match route.versions {
            HttpVersions::Any if self.generation.connector.http1_hosts().knows(route) => {
                HttpVersions::Http1
            }
            versions => versions,
        }
    }

    fn takes_websocket(&self, route: &Route<'_>) -> bool {
        http1::requests_websocket(&self.request.head)
            && upstream::shared(&self.generation.connector, route)
                .is_some_and(|client| client.supports_websocket())
    }

    fn route_by_host<'a>(&'a self, destination: &'a Destination) -> Route<'a> {
        let own = Route {
            is_tunnel: self.request.head.is_method("CONNECT"),
            scheme: self.routing.tunnel.scheme,
            versions: match self.routing.tunnel.scheme {
                Scheme::Http => HttpVersions::Http1,
                Scheme::Https => self.routing.tunnel.versions,
            },
            may_lead_back: false,
            is_absolute: self.request.head.has_absolute_host(),
            ..self
                .generation
                .connector
                .route(self.request.head.host(), self.request.head.port())
        };
        let own = match &self.routing.forwarded_to {
            // A filter has changed the request's host.
            Some(to) if self.request.head.has_new_host() => Route {
                scheme: to.scheme,
                versions: HttpVersions::Any,
                may_lead_back: false,
                ..own
            },
            Some(to) => Route {
                host: &to.host,
                is_absolute: false,
                port: to.port,
                scheme: to.scheme,
                versions: HttpVersions::Any,
                ..own
            },
            None => own,
        };
        let own = match &self.client.origin {
            // It leaves the tunnel's upstream.
            Some(origin) if self.request.head.has_new_host() => Route {
                scheme: origin.scheme,
                versions: HttpVersions::Any,
                ..own
            },
            Some(origin) => Route {
                versions: HttpVersions::Any,
                ..origin.route(self.request.head.host(), own)
            },
            None => own,
        };
        let Some(changed) = &destination.changed else {
            return own;
        };
        let by_plugins = &changed.by_plugins;
        let (host, port) = match &by_plugins.redirected_to {
            Some((host, port)) => (host.as_str(), *port),
            None => (own.host, own.port),
        };
        let is_led_elsewhere =
            by_plugins.redirected_to.is_some() || !by_plugins.addresses.is_empty();
        Route {
            host,
            is_absolute: own.is_absolute && by_plugins.redirected_to.is_none(),
            port,
            scheme: by_plugins.scheme.unwrap_or(own.scheme),
            parent: by_plugins.parent.as_ref(),
            addresses: match is_led_elsewhere {
                false => own.addresses,
                true => &by_plugins.addresses,
            },
            is_claimed: own.is_claimed && !is_led_elsewhere,
            front: own.front.filter(|_| !is_led_elsewhere),
            source: by_plugins.source,
            via: &changed.via,
            ..own
        }
    }

    /// The host and port to which plugins have redirected the exchange.
    pub(super) fn redirected(&self) -> Option<(String, u16)> {
        self.plugins
            .as_ref()
            .and_then(ExchangePlugins::redirected_to)
    }

    /// Determines whether the request's host has timeouts of its own, or the host to which it is sent.
    pub(super) fn select_timeouts(&mut self, destination: Option<&Destination>) {
        let entries = &self.generation.config.host_timeouts;
        if entries.is_empty() {
            return;
        }
        let sent_to = destination.map(|destination| self.route(destination).host);
        let at = entries.iter().position(|entry| {
            entry.names(self.request.head.host()) || sent_to.is_some_and(|host| entry.names(host))
        });
        self.host_timeouts = at.map_or(0, |at| at as u32 + 1);
    }

    /// The name in Via for the next hop. If that may forward the request to another proxy, and so back here, the name is
    /// unique to this process.
    pub(super) fn via_for(&self, destination: &Destination, form: RequestForm<'_>) -> &str {
        let may_come_back = form != RequestForm::Origin
            || self.routing.forwarded_to.is_some()
            || destination.is_redirected();
        match may_come_back {
            true => &self.generation.marked_via,
            false => &self.generation.config.via,
        }
    }

    /// The host of the tunnel, if nothing proves that the request's host is there.
    pub(super) fn unproven_host(&self) -> Option<&str> {
        let is_claimed = self.request.is_host_claimed && !self.request.head.has_new_host();
        let origin = self.client.origin.as_ref().filter(|_| is_claimed)?;
        let interception = self.generation.interception.as_deref();
        let is_proven = origin.scheme == Scheme::Https
            && origin.is_verified_as(self.request.head.host(), interception);
        let other = || origin.other_than(self.request.head.host());
        (!is_proven).then(other).flatten()
    }
}
