//! Getting an upstream connection: one from the pool or a new one. Plugins resolve names, and decide about retries.

use std::net::IpAddr;

use super::conclusion::Conclusion;
use super::decide::Decided;
use super::destination::Destination;
use super::state::{Exchange, unless_gone};
use super::timeline::Moment;
use crate::error::{Cause, ExchangeError, Peer, Step};
use crate::http1::Scheme;
use crate::plugins::{Hook, Subject, Verdict};
use crate::stream::MessageStream;
use crate::upstream::{self, DialError, DialFailure, Freshness, ParentFailure, Route, Upstream};

/// How often plugins may retry the connection for one exchange.
const MAX_RETRIES: u32 = 4;

/// The request has a connection to its upstream.
pub(super) struct Connected {
    pub(super) upstream: Upstream,
    pub(super) destination: Destination,
    /// Only [`Exchange::reach`] makes this.
    _made: (),
}

impl Exchange {
    /// From now on the access log names the upstream.
    pub(super) fn note_decided(&mut self) {
        self.record.seeks_upstream = true;
        self.record.timeline.note(Moment::Decided);
    }

    /// Connects to the exchange's destination. After a failure plugins may choose another one.
    pub(super) async fn reach(
        &mut self,
        _: &Decided,
        client: &mut MessageStream,
        freshness: Freshness,
    ) -> Result<Connected, Conclusion> {
        let mut tries = 0;
        loop {
            self.record.timeline.begin_reaching();
            let mut destination = self.destination();
            let error = match self.obtain(client, &mut destination, freshness).await {
                Ok(upstream) => {
                    self.note_upstream(&upstream, tries > 0)?;
                    return Ok(Connected {
                        upstream,
                        destination,
                        _made: (),
                    });
                }
                Err(Conclusion::Failed(failure)) => failure.error,
                Err(conclusion) => return Err(conclusion),
            };
            if matches!(error.cause, Cause::PinnedClosed(_)) {
                return Err(error.into());
            }
            let verdict = self.ask_about_failure(client, &error).await?;
            let is_retry = matches!(verdict, Some(Verdict::Retry)) && tries < MAX_RETRIES;
            tries += 1;
            match verdict {
                _ if is_retry => self.report(&error),
                Some(verdict @ (Verdict::Reply(..) | Verdict::Close(_) | Verdict::Failed(_))) => {
                    self.report(&error);
                    self.follow(verdict, client).await?;
                    return Err(error.into());
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// Records the connection, and notifies the plugins of it.
    fn note_upstream(&mut self, upstream: &Upstream, is_retry: bool) -> Result<(), ExchangeError> {
        self.record.has_upstream = true;
        let timings = upstream.timings.as_deref();
        let timeline = &self.record.timeline;
        timeline.note_connection(timings, upstream.is_reused);
        let is_logged = self.generation.worker.access_needs().upstream_address;
        if self.client.end.is_some() || is_logged {
            self.record.upstream_ends = upstream.stream.addresses().map(Box::new);
        }
        let Some(plugins) = &self.plugins else {
            return Ok(());
        };
        plugins.show_upstream_ends(self.record.upstream_ends.as_deref().copied());
        if is_retry {
            plugins.set_failure_reason("");
        }
        plugins
            .notify(Hook::OnUpstreamConnected, &self.request.head)
            .map_err(|failure| ExchangeError::new(Peer::Plugin, Step::Hook, failure))
    }

    /// The decision of plugins about a failed connection; `None` if none listens.
    async fn ask_about_failure(
        &mut self,
        client: &MessageStream,
        error: &ExchangeError,
    ) -> Result<Option<Verdict>, ExchangeError> {
        let hook = Hook::OnUpstreamFailed;
        let half_closed = self.timeouts().half_closed;
        let Some(plugins) = self
            .plugins
            .as_ref()
            .filter(|plugins| error.peer == Peer::Upstream && plugins.has_listeners(hook))
        else {
            return Ok(None);
        };
        plugins.set_failure_reason(&error.cause.to_string());
        let subject = Subject {
            request: &mut self.request.head,
            response: None,
        };
        let walk = async { Ok(plugins.run(hook, subject).await) };
        unless_gone(client.gone(half_closed), walk).await.map(Some)
    }

    /// Whether the web server may answer a request that leads to this proxy itself.
    fn is_served_here(&self, destination: &Destination) -> bool {
        let route = self.route(destination);
        let speaks_tls = self.generation.tls_listener_at(route.port).is_some();
        // The client of a tunnel chooses what is inside.
        let is_spoken = route.is_tunnel || (route.scheme == Scheme::Https) == speaks_tls;
        let is_read = self.request.upload.collected.is_some() || self.request.upload.is_read;
        self.generation.web().is_some()
            && self.client.origin.is_none()
            && self.routing.forwarded_to.is_none()
            && is_spoken
            && !is_read
    }

    async fn obtain(
        &mut self,
        client: &mut MessageStream,
        destination: &mut Destination,
        freshness: Freshness,
    ) -> Result<Upstream, Conclusion> {
        self.resolve(client, destination).await?;
        let half_closed = self.timeouts().half_closed;
        let route = self.route(destination);
        if let Some(pinned) = self.client.pinned.as_ref().filter(|_| !route.is_tunnel)
            && let Some(upstream) = upstream::pinned(pinned, &route)
                .map_err(|closed| ExchangeError::new(Peer::Upstream, Step::Dial, closed))?
        {
            return Ok(upstream);
        }
        if let Some(upstream) = upstream::idle(&self.generation.connector, &route, freshness) {
            return Ok(upstream);
        }
        let dialled =
            async { Ok(upstream::connect(&self.generation.connector, &route, freshness).await) };
        match unless_gone(client.gone(half_closed), dialled).await? {
            Ok(upstream) => Ok(upstream),
            Err(error) => match error.failure {
                DialFailure::Itself if self.is_served_here(destination) => Err(Conclusion::Itself),
                _ => Err(self.not_connected(error).into()),
            },
        }
    }

    fn not_connected(&self, error: DialError) -> ExchangeError {
        match (&error.failure, &error.parent, &self.plugins) {
            (DialFailure::Parent(ParentFailure::Itself), Some(parent), Some(plugins)) => {
                let cause = Cause::Loop {
                    plugin: plugins.parent_chooser(),
                    parent: parent.clone(),
                };
                ExchangeError::new(Peer::Plugin, Step::Dial, cause)
            }
            _ => ExchangeError::new(Peer::Upstream, Step::Dial, error),
        }
    }

    /// Lets the plugins resolve the upstream's name, unless the client has resolved it itself.
    async fn resolve(
        &mut self,
        client: &mut MessageStream,
        destination: &mut Destination,
    ) -> Result<(), Conclusion> {
        let half_closed = self.timeouts().half_closed;
        // The host of the tunnel has been resolved; plugins would resolve that of the request.
        let is_found = self.request.is_host_claimed && !self.request.head.has_new_host();
        let needs_addresses = |route: Route<'_>| {
            !(is_found && route.is_claimed)
                && route.parent.is_none()
                && route.addresses.is_empty()
                && route.host.parse::<IpAddr>().is_err()
        };
        let Some(plugins) = self.plugins.as_ref().filter(|plugins| {
            plugins.has_listeners(Hook::ResolveDns) && needs_addresses(self.route(destination))
        }) else {
            return Ok(());
        };
        let subject = Subject {
            request: &mut self.request.head,
            response: None,
        };
        let walk = async { Ok(plugins.resolve(subject).await) };
        let verdict = unless_gone(client.gone(half_closed), walk).await?;
        let (addresses, source) = plugins.take_addresses();
        if !addresses.is_empty() {
            self.record.timeline.note(Moment::Resolved);
        }
        if !addresses.is_empty() || source.is_some() {
            let changed = destination.changed.get_or_insert_default();
            let by_plugins = &mut changed.by_plugins;
            (by_plugins.addresses, by_plugins.source) = (addresses, source);
        }
        self.follow(verdict, client).await
    }
}
