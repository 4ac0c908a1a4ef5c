//! The exchange of a tunnel, from the moment the tunnel is open to its end.
//!
//! The connection relays the tunnel, or detects its protocol and intercepts it. Meanwhile this value keeps what that needs
//! of the exchange, and writes its access log line at the end, however it ends.

use std::rc::Rc;

use super::answer::error_word;
use super::conclusion::UpstreamTls;
use super::origin::Origin;
use super::state::{Exchange, unless_gone};
use crate::buffers;
use crate::config::Timeouts;
use crate::error::{ExchangeError, Peer, Step};
use crate::generation::WorkerGeneration;
use crate::http1::{self, Scheme};
use crate::in_flight::{ExchangeKind, LongExchange, Moved};
use crate::interception::RelayReason;
use crate::plugins::{Hook, ShownHello, Subject, TunnelHooks, Verdict, WebSocketHooks};
use crate::stream::MessageStream;
use crate::tunnel::Relayed;
use crate::upstream::{self, Freshness, HttpVersions, Route, Upstream};

/// An exchange that has become a tunnel.
pub(crate) struct TunnelExchange {
    exchange: Exchange,
    listed: Rc<LongExchange>,
}

impl TunnelExchange {
    /// Frees what a tunnel does not need: tunnels live long and may be many.
    pub(super) fn new(mut exchange: Exchange) -> Self {
        let head = &exchange.request.head;
        let kind = match !head.is_method("CONNECT") && http1::requests_websocket(head) {
            true => ExchangeKind::WebSocket,
            false => ExchangeKind::Tunnel,
        };
        let listed = exchange.become_long(kind);
        if let Some(plugins) = &exchange.plugins {
            plugins.forget_request();
        }
        buffers::give_back_head(exchange.request.head.compact());
        Self { exchange, listed }
    }

    /// The host of the CONNECT request, in its canonical form.
    pub(crate) fn host(&self) -> &str {
        self.exchange.request.head.host()
    }

    /// The port of the CONNECT request.
    pub(crate) fn port(&self) -> u16 {
        self.exchange.request.head.port()
    }

    /// What is in force for the tunnel.
    pub(crate) fn generation(&self) -> &Rc<WorkerGeneration> {
        &self.exchange.generation
    }

    /// The timeouts of the tunnel's host.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        self.exchange.timeouts()
    }

    /// The origin that the tunnel leads to.
    pub(crate) fn origin(&self, scheme: Scheme) -> Origin {
        let exchange = &self.exchange;
        let interception = exchange.generation.interception.as_ref();
        Origin {
            timeouts: exchange.own_timeouts().copied().map(Box::new),
            is_front: interception.is_some_and(|all| all.allows_fronting(self.host())),
            front_addresses: exchange.routing.tunnel.destination.addresses().to_vec(),
            user: exchange.user(),
            ..Origin::of_tunnel(self.host(), self.port(), scheme)
        }
    }

    /// Whether plugins have sent the tunnel to a host other than the requested one.
    pub(crate) fn is_redirected(&self) -> bool {
        self.exchange.redirected().is_some()
    }
}

// ---- its upstream ----------------------------------------------------------------------------------------------

impl TunnelExchange {
    /// A connection without TLS to where the request has led, to be relayed.
    pub(crate) async fn reach_in_clear(
        &self,
        client: &MessageStream,
    ) -> Result<MessageStream, ExchangeError> {
        let route = self
            .exchange
            .route(&self.exchange.routing.tunnel.destination);
        Ok(self.reach(client, &route).await?.stream)
    }

    /// A connection with TLS to the origin, without ALPN.
    pub(crate) async fn reach_unnamed(
        &self,
        client: &MessageStream,
        origin: &Origin,
    ) -> Result<MessageStream, ExchangeError> {
        let route = Route {
            versions: HttpVersions::Unnamed,
            ..self.route_inside(origin)
        };
        Ok(self.reach(client, &route).await?.stream)
    }

    /// Sets up TLS with the origin. An error is not reported here: the first request fails in the same way.
    pub(crate) async fn try_tls(
        &self,
        client: &MessageStream,
        origin: &Origin,
    ) -> Result<UpstreamTls, ExchangeError> {
        let route = self.route_inside(origin);
        let connector = &self.exchange.generation.connector;
        let reached = match upstream::idle(connector, &route, Freshness::Any) {
            Some(reached) => reached,
            None => self.reach(client, &route).await?,
        };
        Ok(self.exchange.keep_secured(reached.stream, &route))
    }

    async fn reach(
        &self,
        client: &MessageStream,
        route: &Route<'_>,
    ) -> Result<Upstream, ExchangeError> {
        let connector = &self.exchange.generation.connector;
        let connected = async {
            upstream::connect(connector, route, Freshness::Any)
                .await
                .map_err(|error| ExchangeError::new(Peer::Upstream, Step::Dial, error))
        };
        unless_gone(client.gone(self.timeouts().half_closed), connected).await
    }

    /// Puts a connection that was to be relayed into the pool, for the requests inside the tunnel.
    pub(crate) fn pool_clear(&self, upstream: MessageStream) {
        let route = self
            .exchange
            .route(&self.exchange.routing.tunnel.destination);
        if route.parent.is_none() {
            let connector = &self.exchange.generation.connector;
            connector.pool().put(&route, upstream);
        }
    }

    /// The same for a connection with TLS.
    pub(crate) fn pool_secured(&self, origin: &Origin, upstream: MessageStream) {
        let connector = &self.exchange.generation.connector;
        connector.pool().put(&self.route_inside(origin), upstream);
    }

    /// The route of TLS inside the tunnel.
    fn route_inside<'a>(&'a self, origin: &'a Origin) -> Route<'a> {
        let mut route = self
            .exchange
            .route(&self.exchange.routing.tunnel.destination);
        // If plugins have redirected the tunnel, the client's name for its host does not count.
        if route.host == self.host() {
            let found = route.addresses;
            route = origin.route(&origin.host, route);
            if !found.is_empty() {
                route.addresses = found;
            }
        }
        route.scheme = Scheme::Https;
        route.versions = HttpVersions::Any;
        Route {
            versions: self.exchange.versions(&route),
            ..route
        }
    }
}

// ---- its plugins -----------------------------------------------------------------------------------------------

impl TunnelExchange {
    /// Shows the client's ClientHello to the plugins. `Err`: the tunnel is to be closed, with this note in the access log.
    pub(crate) async fn show_hello(
        &mut self,
        client: &MessageStream,
        hello: Option<Box<ShownHello>>,
    ) -> Result<(), String> {
        let half_closed = self.timeouts().half_closed;
        let exchange = &mut self.exchange;
        let (Some(plugins), Some(hello)) = (&exchange.plugins, hello) else {
            return Ok(());
        };
        plugins.show_hello(hello);
        if plugins.has_listeners(Hook::HandleTlsHello) {
            let subject = Subject {
                request: &mut exchange.request.head,
                response: None,
            };
            let walk = async { Ok(plugins.run(Hook::HandleTlsHello, subject).await) };
            match unless_gone(client.gone(half_closed), walk).await {
                Ok(Verdict::Proceed | Verdict::Retry) => {}
                Ok(Verdict::Reply(_, plugin) | Verdict::Close(plugin)) => {
                    return Err(format!("closed by {plugin}"));
                }
                Ok(Verdict::Failed(failure)) => {
                    exchange.report(&ExchangeError::new(Peer::Plugin, Step::Hook, failure));
                    return Err("a plugin failed".to_owned());
                }
                Err(_) => return Err("the client disconnected".to_owned()),
            }
        }
        Ok(())
    }

    /// Whether plugins decide about interception.
    pub(crate) fn asks_about_interception(&self) -> bool {
        let plugins = self.exchange.plugins.as_ref();
        plugins.is_some_and(|plugins| plugins.has_listeners(Hook::DoIntercept))
    }

    /// Whether the plugins want the client's TLS to be intercepted; None if they have no opinion. `Err`: the tunnel is to
    /// be closed, with this note in the access log.
    pub(crate) fn ask_about_interception(
        &self,
        is_server_name_proven: bool,
    ) -> Result<Option<bool>, String> {
        let Some(plugins) = &self.exchange.plugins else {
            return Ok(None);
        };
        plugins.set_server_name_proven(is_server_name_proven);
        plugins
            .ask_about_interception(&self.exchange.request.head)
            .map_err(|_| "a plugin failed".to_owned())
    }

    /// The plugins that listen to the bytes of the tunnel.
    pub(crate) fn hooks(&self) -> Option<TunnelHooks> {
        let plugins = self.exchange.plugins.as_ref()?;
        TunnelHooks::new(plugins, &self.exchange.request.head)
    }

    /// The plugins that listen to the messages of the WebSocket that the tunnel carries.
    pub(crate) fn websocket_hooks(&self) -> Option<WebSocketHooks> {
        let plugins = self.exchange.plugins.as_ref()?;
        self.exchange
            .is_watched_websocket
            .then(|| WebSocketHooks::new(plugins, &self.exchange.request.head))
    }
}

// ---- its end ---------------------------------------------------------------------------------------------------

impl TunnelExchange {
    /// The bytes relayed so far, for the relay to update.
    pub(crate) fn moved(&self) -> &Moved {
        &self.listed.moved
    }

    /// Records for the access log why the tunnel is relayed.
    pub(crate) fn note_relay(&mut self, reason: RelayReason) {
        self.exchange.note_relay(reason);
    }

    /// Records for the access log that the guard has closed the tunnel.
    pub(crate) fn note_guarded(&mut self) {
        let note = "closed, HTTP or TLS after the upstream spoke first";
        self.exchange.record.note = Some(note.to_owned());
    }

    /// Ends a tunnel that was relayed.
    pub(crate) fn finish_relay(mut self, relayed: &Relayed) {
        let record = &mut self.exchange.record;
        record.sent = relayed.to_client;
        record.received += relayed.to_upstream;
        tracing::debug!(
            client.address = %self.exchange.client.facts.client,
            to_upstream = relayed.to_upstream,
            to_client = relayed.to_client,
            end = %relayed.end,
            "tunnel ended"
        );
        self.exchange.finish();
    }

    /// Ends a tunnel that is intercepted or closed, with this note in the access log.
    pub(crate) fn finish(mut self, note: &str) {
        self.exchange.record.note = Some(note.to_owned());
        self.exchange.finish();
    }

    /// Ends a tunnel that was to be relayed, as there is no connection to its upstream.
    pub(crate) fn fail(mut self, error: &ExchangeError) {
        self.exchange.report(error);
        self.exchange.record.error = error_word(error);
        self.finish("closed, no connection to the upstream");
    }

    /// The same for intercepted TLS that does not carry HTTP.
    pub(crate) fn fail_unnamed(mut self, error: &ExchangeError) {
        self.exchange.report(error);
        self.exchange.record.error = error_word(error);
        self.finish("closed, not HTTP, and TLS with the upstream failed");
    }
}
