//! Getting an upstream connection: the destination that plugins chose, a connection to it, retries.

use std::net::IpAddr;
use std::rc::Rc;

use super::phase::Ready;
use super::{Binding, Delivered, Exchange, Moment, Outcome, Persistence, Progress, unless_gone};
use crate::error::{Cause, ExchangeError, Peer, Step};
use crate::http1::{self, Scheme, Version};
use crate::plugins::{ExchangePlugins, Hook, RouteOverrides, Subject, Verdict};
use crate::stream::MessageStream;
use crate::transport::{ChannelError, Unprocessed};
use crate::upstream::{
    self, DialError, DialFailure, Freshness, HttpVersions, ParentFailure, PinnedClosed, Route,
    Upstream,
};

/// How often a plugin may have the connection tried again for one exchange.
const MAX_RETRIES: u32 = 4;

/// Where an exchange goes, as far as plugins have changed that.
#[derive(Debug, Default)]
pub(crate) struct Destination {
    /// None when no plugin has changed it, as with most requests.
    changed: Option<Box<Changed>>,
}

#[derive(Debug, Default)]
struct Changed {
    by_plugins: RouteOverrides,
    /// For a parent that is sent CONNECT: who has forwarded that so far, and this process.
    via: Vec<u8>,
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

/// What looking for an upstream came to.
pub(super) enum Reached {
    Upstream(Upstream),
    /// A plugin has answered in its place.
    Answered(Persistence),
    /// It would be this proxy itself, and the web server may answer.
    Itself,
}

impl Exchange {
    pub(super) fn destination(&self) -> Destination {
        let session = self.session.as_ref();
        let by_plugins = session.and_then(ExchangePlugins::route_overrides);
        let changed = by_plugins.map(|by_plugins| {
            let via = match by_plugins.parent {
                Some(_) => http1::via_value(&self.head, &self.generation.marked_via),
                None => Vec::new(),
            };
            Box::new(Changed { by_plugins, via })
        });
        Destination { changed }
    }

    /// The way to the request's own destination, or to where plugins have sent it.
    pub(super) fn route<'a>(&'a self, destination: &'a Destination) -> Route<'a> {
        let route = self.way(destination);
        let is_for_one_client = || {
            // A change of protocol is HTTP/1.1's. HTTP/2 has something like it for WebSockets, if the upstream says so.
            let changes = http1::requested_upgrade(&self.head).is_some();
            changes && !self.takes_websocket(&route) || http1::is_connection_bound(&self.head)
        };
        match self.versions(&route) {
            HttpVersions::Any if is_for_one_client() => Route {
                versions: HttpVersions::Http1,
                ..route
            },
            versions => Route { versions, ..route },
        }
    }

    /// What may be spoken along `route`, as far as that depends on its host.
    pub(super) fn versions(&self, route: &Route<'_>) -> HttpVersions {
        match route.versions {
            HttpVersions::Any if self.generation.connector.http1_hosts().knows(route) => {
                HttpVersions::Http1
            }
            versions => versions,
        }
    }

    fn takes_websocket(&self, route: &Route<'_>) -> bool {
        http1::requests_websocket(&self.head)
            && upstream::shared(&self.generation.connector, route)
                .is_some_and(|client| client.supports_websocket())
    }

    fn way<'a>(&'a self, destination: &'a Destination) -> Route<'a> {
        let own = Route {
            is_tunnel: self.head.is_method("CONNECT"),
            scheme: self.tunnel.scheme,
            versions: match self.tunnel.scheme {
                Scheme::Http => HttpVersions::Http1,
                Scheme::Https => self.tunnel.versions,
            },
            may_lead_back: false,
            is_absolute: self.head.has_absolute_host(),
            ..self
                .generation
                .connector
                .route(self.head.host(), self.head.port())
        };
        let own = match &self.forwarded_to {
            // A filter has made it a request for another host.
            Some(to) if self.head.has_new_host() => Route {
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
            Some(origin) if self.head.has_new_host() => Route {
                scheme: origin.scheme,
                versions: HttpVersions::Any,
                ..own
            },
            Some(origin) => Route {
                versions: HttpVersions::Any,
                ..origin.lead(self.head.host(), own)
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

    /// Sends the request on and delivers the response. On a second connection if a reused one turns out to be dead, or
    /// if the upstream says that it has not processed the request, and on a third if it does so by ending the second, too;
    /// only if what went out of its content is kept.
    pub(super) async fn forward(
        &mut self,
        _: Ready,
        client: &mut MessageStream,
    ) -> Result<Outcome, (ExchangeError, Progress)> {
        let has_all = !self.has_content() || self.upload.is_done;
        let is_idempotent = http1::is_idempotent(self.head.method());
        self.seek_upstream();
        let mut freshness = if has_all && is_idempotent {
            Freshness::Any
        } else {
            Freshness::Verified
        };
        loop {
            // Boxed: it would make every idle client connection larger.
            let (destination, mut upstream) = match Box::pin(self.reach(client, freshness)).await {
                Ok((destination, Reached::Upstream(upstream))) => (destination, upstream),
                Ok((_, Reached::Answered(next))) => return Ok(Outcome::Answered(next)),
                Ok((_, Reached::Itself)) => return Ok(Outcome::ForWebServer),
                Err(error) => return Err((error, Progress::default())),
            };
            let is_bound = upstream.is_pinned || http1::is_connection_bound(&self.head);
            self.client.binding = match is_bound {
                true => Binding::Bound,
                false => Binding::Free,
            };
            self.settle_timeouts(Some(&destination));
            let may_be_stale = upstream.is_reused && is_idempotent && !upstream.is_pinned;
            let may_repeat = upstream.stream.is_channel() || may_be_stale;
            let mut progress = Progress::new(may_repeat);
            let conversed = self
                .converse(client, &mut upstream.stream, &destination, &mut progress)
                .await;
            let is_repeatable = has_all || self.upload.kept.is_some();
            match conversed {
                Err(error) if upstream.is_pinned && is_stale(&error, &progress) => {
                    let closed = ExchangeError::new(Peer::Upstream, Step::SendHead, PinnedClosed);
                    return Err((closed, progress));
                }
                Ok(delivered) => {
                    return Ok(self.after(delivered, upstream.stream, &destination));
                }
                Err(error) if upstream.stream.is_channel() && requires_http1(&error, &progress) => {
                    let route = self.route(&destination);
                    self.generation.connector.http1_hosts().remember(&route);
                    if !is_repeatable {
                        return Err((error, progress));
                    }
                    // Once: it is not HTTP/2 any more that goes there.
                    tracing::debug!(%error, "the upstream requires HTTP/1.1 for this request: retrying");
                }
                Err(error) if may_be_stale && is_repeatable && is_stale(&error, &progress) => {
                    tracing::debug!(%error, "the reused connection was closed: retrying on a new one");
                    freshness = Freshness::New;
                }
                Err(error) => {
                    if let Some(fresher) = fresher(freshness, &error, &progress)
                        && is_repeatable
                    {
                        tracing::debug!(%error, "the upstream did not process the request: retrying on a new connection");
                        freshness = fresher;
                        continue;
                    }
                    if error.peer == Peer::Upstream && matches!(error.cause, Cause::TimedOut) {
                        upstream.retire();
                    }
                    return Err((error, progress));
                }
            }
        }
    }

    /// Nothing keeps the request from going to the upstream any more.
    pub(super) fn seek_upstream(&mut self) {
        self.record.seeks_upstream = true;
        self.record.timeline.note(Moment::Decided);
    }

    /// A connection to where the exchange goes, and where that is. Plugins may have it tried elsewhere.
    pub(super) async fn reach(
        &mut self,
        client: &mut MessageStream,
        freshness: Freshness,
    ) -> Result<(Destination, Reached), ExchangeError> {
        let mut tries = 0;
        loop {
            self.record.timeline.begin_reaching();
            let mut destination = self.destination();
            let error = match self.obtain(client, &mut destination, freshness).await {
                Ok(Reached::Upstream(upstream)) => {
                    self.record.has_upstream = true;
                    let timings = upstream.timings.as_deref();
                    let timeline = &self.record.timeline;
                    timeline.note_connection(timings, upstream.is_reused);
                    if self.client.end.is_some() {
                        self.record.upstream_ends = upstream.stream.addresses().map(Box::new);
                    }
                    if let Some(session) = &self.session {
                        session.show_upstream_ends(self.record.upstream_ends.as_deref().copied());
                        if tries > 0 {
                            session.set_failure_reason("");
                        }
                        session
                            .notify(Hook::OnUpstreamConnected, &self.head)
                            .map_err(|failure| {
                                ExchangeError::new(Peer::Plugin, Step::Hook, failure)
                            })?;
                    }
                    return Ok((destination, Reached::Upstream(upstream)));
                }
                Ok(answered) => return Ok((destination, answered)),
                Err(error) if matches!(error.cause, Cause::PinnedClosed(_)) => return Err(error),
                Err(error) => error,
            };
            let verdict = self.ask_about_failure(client, &error).await?;
            let is_retry = matches!(verdict, Some(Verdict::Retry)) && tries < MAX_RETRIES;
            tries += 1;
            match verdict {
                _ if is_retry => self.report(&error),
                Some(verdict @ (Verdict::Reply(..) | Verdict::Close(_) | Verdict::Failed(_))) => {
                    self.report(&error);
                    match self.follow(verdict, client).await? {
                        Some(next) => return Ok((destination, Reached::Answered(next))),
                        None => return Err(error),
                    }
                }
                _ => return Err(error),
            }
        }
    }

    /// What plugins say to a failed connection; `None` when nobody is asked.
    async fn ask_about_failure(
        &mut self,
        client: &MessageStream,
        error: &ExchangeError,
    ) -> Result<Option<Verdict>, ExchangeError> {
        let hook = Hook::OnUpstreamFailed;
        let half_closed = self.timeouts().half_closed;
        let Some(session) = self
            .session
            .as_ref()
            .filter(|session| error.peer == Peer::Upstream && session.has_listeners(hook))
        else {
            return Ok(None);
        };
        session.set_failure_reason(&error.cause.to_string());
        let subject = Subject {
            request: &mut self.head,
            response: None,
        };
        let walk = async { Ok(session.run(hook, subject).await) };
        unless_gone(client.gone(half_closed), walk).await.map(Some)
    }

    async fn obtain(
        &mut self,
        client: &mut MessageStream,
        destination: &mut Destination,
        freshness: Freshness,
    ) -> Result<Reached, ExchangeError> {
        if let Some(next) = self.resolve(client, destination).await? {
            return Ok(Reached::Answered(next));
        }
        let half_closed = self.timeouts().half_closed;
        let route = self.route(destination);
        if let Some(pinned) = self.client.pinned.as_ref().filter(|_| !route.is_tunnel)
            && let Some(upstream) = upstream::pinned(pinned, &route)
                .map_err(|closed| ExchangeError::new(Peer::Upstream, Step::Dial, closed))?
        {
            return Ok(Reached::Upstream(upstream));
        }
        if let Some(upstream) = upstream::idle(&self.generation.connector, &route, freshness) {
            return Ok(Reached::Upstream(upstream));
        }
        let connected = async {
            match upstream::connect(&self.generation.connector, &route, freshness).await {
                Ok(upstream) => Ok(Reached::Upstream(upstream)),
                Err(error) => match error.failure {
                    DialFailure::Itself if self.is_served_here(destination) => Ok(Reached::Itself),
                    _ => Err(self.not_connected(error)),
                },
            }
        };
        unless_gone(client.gone(half_closed), connected).await
    }

    fn not_connected(&self, error: DialError) -> ExchangeError {
        match (&error.failure, &error.parent, &self.session) {
            (DialFailure::Parent(ParentFailure::Itself), Some(parent), Some(session)) => {
                let cause = Cause::Loop {
                    plugin: session.parent_chooser(),
                    parent: parent.clone(),
                };
                ExchangeError::new(Peer::Plugin, Step::Dial, cause)
            }
            _ => ExchangeError::new(Peer::Upstream, Step::Dial, error),
        }
    }

    /// Asks the plugins where the upstream's name leads, unless the client has resolved it itself; the answer, if one
    /// of them has it.
    async fn resolve(
        &mut self,
        client: &mut MessageStream,
        destination: &mut Destination,
    ) -> Result<Option<Persistence>, ExchangeError> {
        let half_closed = self.timeouts().half_closed;
        // The tunnel's host has been resolved, and plugins would be asked about the request's.
        let is_found = self.is_host_claimed && !self.head.has_new_host();
        let needs_addresses = |route: Route<'_>| {
            !(is_found && route.is_claimed)
                && route.parent.is_none()
                && route.addresses.is_empty()
                && route.host.parse::<IpAddr>().is_err()
        };
        let Some(session) = self.session.as_ref().filter(|session| {
            session.has_listeners(Hook::ResolveDns) && needs_addresses(self.route(destination))
        }) else {
            return Ok(None);
        };
        let subject = Subject {
            request: &mut self.head,
            response: None,
        };
        let walk = async { Ok(session.resolve(subject).await) };
        let verdict = unless_gone(client.gone(half_closed), walk).await?;
        let (addresses, source) = session.take_addresses();
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

    /// What follows a delivered response, for both connections.
    fn after(
        &mut self,
        delivered: Delivered,
        upstream: MessageStream,
        destination: &Destination,
    ) -> Outcome {
        match delivered {
            Delivered::Upgraded => Outcome::Tunnel(upstream),
            Delivered::Answered {
                persistence,
                upstream_is_reusable,
            } => {
                if upstream_is_reusable && !self.generation.worker.is_draining() {
                    self.keep(upstream, destination);
                }
                Outcome::Answered(self.persistence_at_end(persistence))
            }
        }
    }

    /// Keeps a connection for further requests: this client's, or anybody's.
    fn keep(&mut self, upstream: MessageStream, destination: &Destination) {
        if self.client.binding == Binding::Free {
            self.generation
                .connector
                .pool()
                .put(&self.route(destination), upstream);
        } else if !upstream.is_channel() {
            let pinned = Rc::clone(self.client.pinned.get_or_insert_default());
            pinned.put(&self.route(destination), upstream);
        }
    }

    /// Whether a request that the upstream has not processed cannot be sent again from here, as its content has not been
    /// kept, but by its client, which can be told so by HTTP/2.
    pub(super) fn is_for_client_to_repeat(
        &self,
        error: &ExchangeError,
        progress: &Progress,
    ) -> bool {
        let is_lost = self.has_content() && !self.upload.is_done && self.upload.kept.is_none();
        is_lost && self.head.version() == Version::Http2 && is_unprocessed(error, progress)
    }

    /// Where plugins have sent the exchange instead of the request's own host and port.
    pub(super) fn redirected(&self) -> Option<(String, u16)> {
        self.session
            .as_ref()
            .and_then(ExchangePlugins::redirected_to)
    }
}

/// Whether a reused connection has failed in a way that says that the peer had closed it before the request. A stream
/// that was reset says that the peer has seen it, on a connection that is well.
fn is_stale(error: &ExchangeError, progress: &Progress) -> bool {
    is_silence(error, progress)
        && match &error.cause {
            Cause::Closed | Cause::Io(_) => true,
            Cause::Channel(error) => matches!(error, ChannelError::Unprocessed(..)),
            _ => false,
        }
}

/// Whether the upstream says that it has not processed the request, which may be repeated then whatever it asks for
/// (RFC 9113 §8.7).
fn is_unprocessed(error: &ExchangeError, progress: &Progress) -> bool {
    is_silence(error, progress)
        && matches!(error.cause, Cause::Channel(ChannelError::Unprocessed(..)))
}

/// The connection that a request goes over next that was not processed on one of this freshness; None: it fails.
fn fresher(freshness: Freshness, error: &ExchangeError, progress: &Progress) -> Option<Freshness> {
    let is_left_out = matches!(
        error.cause,
        Cause::Channel(ChannelError::Unprocessed(Unprocessed::LeftOut, _))
    );
    match freshness {
        _ if !is_unprocessed(error, progress) => None,
        Freshness::Any | Freshness::Verified => Some(Freshness::New),
        // All who were left out share the new connection, and the upstream may take as few streams on it.
        Freshness::New if is_left_out => Some(Freshness::Own),
        Freshness::New | Freshness::Own => None,
    }
}

/// As [`is_unprocessed`], because the upstream wants HTTP/1.1 (RFC 9113 §7).
fn requires_http1(error: &ExchangeError, progress: &Progress) -> bool {
    is_silence(error, progress)
        && matches!(
            error.cause,
            Cause::Channel(ChannelError::Unprocessed(Unprocessed::Http1Required, _))
        )
}

fn is_silence(error: &ExchangeError, progress: &Progress) -> bool {
    error.peer == Peer::Upstream && progress.is_silent()
}
