//! An exchange, and what all of its steps need: its timeouts, limits and log.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use plugin_api::Authority;

use super::client::{Binding, ClientProtocol, ClientSide};
use super::connection::Connection;
use super::destination::Routing;
use super::persistence::{CloseReason, Persistence};
use super::record::Record;
use super::request::{Request, RequestEnd};
use super::timeline::{Moment, Timeline};
use crate::config::Timeouts;
use crate::error::{Cause, ExchangeError, Peer, Step};
use crate::generation::WorkerGeneration;
use crate::http1::{BodyDecoder, BodyFraming, RequestHead, Version};
use crate::in_flight::{ExchangeKind, LongExchange, Moved};
use crate::plugins::web::WebTask;
use crate::plugins::{ExchangeFacts, ExchangePlugins};
use crate::worker_context;

/// One request and its response, from the request's head to the end.
pub(super) struct Exchange {
    /// The task of the web server that has forwarded it, if it has become a tunnel: the task ends with the tunnel.
    pub(super) held_task: Option<Box<WebTask>>,
    /// The generation that was current at its head.
    pub(super) generation: Rc<WorkerGeneration>,
    pub(super) client: ClientSide,
    pub(super) request: Request,
    /// None when no plugin is loaded.
    pub(super) plugins: Option<ExchangePlugins>,
    pub(super) routing: Routing,
    /// The entry of its generation's `host_timeouts` that applies, from 1; 0: none.
    pub(super) host_timeouts: u32,
    /// It has become a WebSocket whose messages a plugin listens to.
    pub(super) is_watched_websocket: bool,
    pub(super) record: Record,
}

impl Exchange {
    pub(super) fn new(
        connection: &Connection,
        generation: Rc<WorkerGeneration>,
        mut head: RequestHead,
        began_at: Instant,
    ) -> Self {
        let facts = ExchangeFacts {
            connection_id: connection.id,
            exchange_id: match generation.numbers_exchanges() {
                true => worker_context::next_exchange_id(),
                false => 0,
            },
            client: connection.client,
        };
        let has_plugins = !generation.chain.is_empty();
        if has_plugins {
            // The client's Connection field must not remove what plugins add.
            head.fields_mut().settle_connection();
        }
        let plugins = has_plugins.then(|| {
            let client = connection.plugins_of(&generation.chain);
            ExchangePlugins::new(&generation.chain, client, connection.end.as_ref(), facts)
        });
        let has_observers = plugins
            .as_ref()
            .is_some_and(ExchangePlugins::has_listeners_at_end);
        let timeline = Timeline::new(
            began_at,
            has_observers
                || generation.events.has_subscribers()
                || generation.worker.access_needs().timeline,
        );
        timeline.note(Moment::HeadRead);
        generation.worker.in_flight.begin();
        Self {
            plugins,
            generation,
            client: ClientSide::new(connection, facts),
            request: Request::new(head),
            routing: Routing::default(),
            held_task: None,
            host_timeouts: 0,
            is_watched_websocket: false,
            record: Record::new(timeline),
        }
    }

    /// The user, for the exchanges inside a tunnel; empty if unknown.
    pub(super) fn user(&self) -> String {
        self.plugins
            .as_ref()
            .map(|plugins| plugins.with_user(str::to_owned))
            .filter(|user| !user.is_empty())
            .unwrap_or_else(|| self.known_user().to_owned())
    }

    /// The user as far as it is known without plugins: by the configured credentials, or by the request of its tunnel. Empty
    /// if there was no authentication.
    pub(super) fn known_user(&self) -> &str {
        match (&self.generation.config.basic_auth, &self.client.origin) {
            (Some(credential), _) if self.record.has_credential => credential.user(),
            (_, Some(origin)) => origin.user(),
            _ => self
                .client
                .own_tunnel
                .as_ref()
                .map_or("", |tunnel| tunnel.user()),
        }
    }

    /// From now on, only a peer ends the exchange. It is listed while the result or the exchange exists.
    pub(super) fn become_long(&mut self, kind: ExchangeKind) -> Rc<LongExchange> {
        let head = &self.request.head;
        let target = Authority {
            host: head.host().into(),
            port: Some(head.port()),
        };
        let long = LongExchange {
            kind,
            client: self.client.facts.client,
            target: target.to_string().into(),
            began_at: self.record.timeline.began_at(),
            moved: Moved::default(),
        };
        let in_flight = &self.generation.worker.in_flight;
        let long = in_flight.list(self.record.kind, long);
        self.record.kind = kind;
        self.record.long = Some(Rc::clone(&long));
        long
    }

    pub(super) fn report(&self, error: &ExchangeError) {
        let client = self.client.facts.client;
        let (method, host, port) = (
            self.request.head.method(),
            self.request.head.host(),
            self.request.head.port(),
        );
        match error.peer {
            // A decision, which is in the access log.
            Peer::Plugin if matches!(error.cause, Cause::ClosedByPlugin(_)) => {
                tracing::debug!(client.address = %client, method, host, port, %error, "exchange closed");
            }
            Peer::Upstream if matches!(error.cause, Cause::PinnedClosed(_)) => {
                tracing::debug!(client.address = %client, method, host, port, %error, "exchange closed");
            }
            Peer::Client => {
                tracing::debug!(client.address = %client, method, host, port, %error, "exchange failed")
            }
            Peer::Upstream => {
                tracing::warn!(client.address = %client, method, host, port, %error, "exchange failed")
            }
            Peer::Plugin => {
                tracing::error!(client.address = %client, method, host, port, %error, "exchange failed");
            }
        }
    }

    /// The timeouts of this exchange.
    pub(super) fn timeouts(&self) -> &Timeouts {
        self.own_timeouts()
            .unwrap_or(&self.generation.config.timeouts)
    }

    /// The timeouts of its host or of its tunnel's host; `None` if neither has its own.
    pub(super) fn own_timeouts(&self) -> Option<&Timeouts> {
        let entries = &self.generation.config.host_timeouts;
        match (self.host_timeouts as usize).checked_sub(1) {
            Some(at) => entries.get(at).map(|entry| &entry.timeouts),
            None => self.client.origin.as_ref()?.timeouts.as_deref(),
        }
    }

    /// A decoder for the request's body; trailers may be as long as a head.
    pub(super) fn body_decoder(&self, framing: BodyFraming) -> BodyDecoder {
        BodyDecoder::new(framing)
            .with_trailer_limit(self.generation.config.limits.head().max_head_len)
    }

    /// The same for the response.
    pub(super) fn response_decoder(&self, framing: BodyFraming) -> BodyDecoder {
        BodyDecoder::of_response(framing)
            .with_trailer_limit(self.generation.config.limits.head().max_head_len)
    }
}

// ---- the client's connection ----------------------------------------------------------------------------------

impl Exchange {
    /// What happens to the client's connection after a framed answer. Whoever sends the answer's head announces it there.
    pub(super) fn persistence(&self, request: RequestEnd) -> Persistence {
        match (request, self.reason_to_close()) {
            (RequestEnd::Unread, _) => Persistence::Close(CloseReason::BodyUnread),
            (RequestEnd::Read, Some(reason)) => Persistence::Close(reason),
            (RequestEnd::Read, None) => Persistence::KeepAlive,
        }
    }

    /// What was announced, unless the proxy has begun to shut down since.
    pub(super) fn persistence_at_end(&self, announced: Persistence) -> Persistence {
        match announced {
            Persistence::KeepAlive if self.generation.is_draining() => {
                Persistence::Close(CloseReason::Draining)
            }
            announced => announced,
        }
    }

    /// Why the client's connection is closed, whatever the answer.
    fn reason_to_close(&self) -> Option<CloseReason> {
        if self.client.protocol == ClientProtocol::Socks5 {
            Some(CloseReason::Socks5)
        } else if self.request.head.version() == Version::Http10 {
            Some(CloseReason::Http10)
        } else if self.request.head.fields().connection_options().close {
            Some(CloseReason::Client)
        } else if self.client.binding == Binding::Over
            && self.request.head.version() != Version::Http2
        {
            // A stream of HTTP/2 ends by itself: a reset would discard its answer.
            Some(CloseReason::Upstream)
        } else if self.generation.is_draining() {
            Some(CloseReason::Draining)
        } else {
            None
        }
    }
}

/// `work`, or an error as soon as the client disconnects, which ends `gone`.
pub(super) async fn unless_gone<T>(
    gone: impl Future<Output = ()>,
    work: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    tokio::select! {
        biased;
        result = work => result,
        () = gone => Err(client_has_gone()),
    }
}

pub(super) fn client_has_gone() -> ExchangeError {
    ExchangeError {
        peer: Peer::Client,
        step: Step::Route,
        cause: Cause::Io(io::ErrorKind::ConnectionReset.into()),
    }
}
