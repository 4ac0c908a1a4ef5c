//! One request and its response, top to bottom.
//!
//! ```text
//! serve ─┬─ refuse                       the head cannot be parsed
//!        ├─ socks                        by SOCKS5, which becomes a CONNECT
//!        ├─ web                          the request is for the proxy itself
//!        ├─ decide ─┬─ answer            checks, authentication, answers of the proxy itself
//!        │          └─ content           plugins: the head, then the content if one needs it whole
//!        ├─ connect ── reach             CONNECT: an upstream, then a tunnel
//!        ├─ forward ─┬─ reach ── route   a connection to the upstream, from the pool or new
//!        │           └─ attempt          the request there, and back the
//!        │                └─ response    final response, interim ones before it, through plugins
//!        ├─ finish                       the access log line and the last hooks
//!        └─ next                         what the connection does then: another request, close, or a tunnel
//! ```
//!
//! Each phase is a value that the next one needs, so that none can be skipped (`decide`). A step that ends the exchange
//! returns a `Conclusion` as its error: an answer or a failure. What the steps share is in `state`. Every exchange writes
//! an access log line and calls the last hooks of the plugins, also one that becomes a tunnel (`tunnel_exchange`) or is
//! dropped.

mod answer;
mod attempt;
mod client;
mod conclusion;
mod connect;
mod connection;
mod content;
mod decide;
mod destination;
mod finish;
mod forward;
mod interim;
mod next;
mod origin;
mod persistence;
mod progress;
mod reach;
mod record;
mod refuse;
mod request;
mod response;
mod route;
mod socks;
mod state;
mod timeline;
mod tunnel_exchange;
mod upload;
mod web;

use std::cell::Cell;
use std::io;
use std::time::Instant;

use crate::buffers;
use crate::config::Config;
use crate::error::{ExchangeError, Peer, Step};
use crate::events::EventKind;
use crate::generation::WorkerGeneration;
use crate::http1::{HeadKind, RequestHead, Version};
use crate::stream::{MessageStream, ReadHeadError};

use conclusion::{Conclusion, Tunnel};
pub(crate) use conclusion::{Detection, UpstreamTls};
pub(crate) use connection::Connection;
pub(crate) use next::{DetectStart, Next, TunnelStart};
pub(crate) use origin::{Origin, OwnTunnel};
pub(crate) use persistence::{CloseReason, Persistence};
use refuse::{Unread, refuse};
pub(crate) use socks::serve_socks;
use state::Exchange;
pub(crate) use tunnel_exchange::TunnelExchange;
use web::WebService;

/// Serves the next request of a connection; its first bytes have arrived.
pub(crate) async fn serve(client: &mut MessageStream, connection: &Connection) -> Next {
    let consumed = client.consumed();
    let generation = connection.current.get();
    let (head, began_at) = match next_request(client, connection, &generation).await {
        Ok(received) => received,
        Err(next) => return next,
    };
    let mut exchange = Exchange::new(connection, generation, head, began_at);
    let ended = exchange.run_to_end(client, consumed).await;
    exchange.client.leave_pinned(connection);
    exchange.into_next(ended)
}

/// The head of the next request and when it began, or what happens to the connection if there is none.
async fn next_request(
    client: &mut MessageStream,
    connection: &Connection,
    generation: &WorkerGeneration,
) -> Result<(RequestHead, Instant), Next> {
    match read_request(client, &generation.config).await {
        Ok(Some((mut head, began_at))) => {
            if connection.is_http2 {
                head.set_version(Version::Http2);
            }
            Ok((head, began_at))
        }
        Ok(None) => Err(Next::Answered(Persistence::Close(CloseReason::Gone))),
        // Boxed: most requests can be read.
        Err(unread) => Err(Box::pin(refuse(client, connection, generation, unread)).await),
    }
}

async fn read_request(
    client: &mut MessageStream,
    config: &Config,
) -> Result<Option<(RequestHead, Instant)>, Unread> {
    let began_at = Cell::new(None);
    let mut reader = client.reader();
    reader.deadline().arm(config.timeouts.header_read);
    let limits = config.limits.head();
    let on_begun = || began_at.set(Some(Instant::now()));
    let read = reader.read_head(HeadKind::Request, &limits, on_begun);
    let read = read.await;
    // Without a first byte there is no request.
    let began_at = began_at.get().unwrap_or_else(Instant::now);
    let received = match read {
        Ok(received) => received,
        Err(ReadHeadError::Closed) => return Ok(None),
        Err(ReadHeadError::Io(error))
            if error.kind() != io::ErrorKind::TimedOut && reader.buffered().is_empty() =>
        {
            return Ok(None);
        }
        Err(error) => {
            let error = ExchangeError::head(Peer::Client, error);
            return Err(Unread::new(error, began_at, reader.buffered()));
        }
    };
    match RequestHead::parse(received.text, received.start, buffers::lines(), &limits) {
        Ok(head) => Ok(Some((head, began_at))),
        Err(refused) => {
            let error = ExchangeError::new(Peer::Client, Step::ReadHead, refused.error);
            let unread = Unread::new(error, began_at, &refused.text);
            buffers::give_back_head((refused.text, refused.lines));
            Err(unread)
        }
    }
}

impl Exchange {
    /// Runs all phases, and answers. `consumed` is how far the client's bytes had been consumed before its request.
    async fn run_to_end(
        &mut self,
        client: &mut MessageStream,
        consumed: u64,
    ) -> Result<Tunnel, Persistence> {
        self.record.received = client.consumed() - consumed;
        self.note_event(EventKind::RequestStarted);
        let ended = match self.run(client).await {
            Ok(tunnel) => Ok(tunnel),
            Err(conclusion) => Err(self.answered(conclusion, client).await),
        };
        self.record.received = client.consumed() - consumed;
        ended
    }

    fn into_next(self, ended: Result<Tunnel, Persistence>) -> Next {
        match ended {
            Ok(tunnel) => self.into_tunnel(tunnel),
            Err(persistence) => {
                self.finish();
                Next::Answered(persistence)
            }
        }
    }

    /// Becomes a tunnel.
    fn into_tunnel(self, tunnel: Tunnel) -> Next {
        let exchange = TunnelExchange::new(self);
        match tunnel {
            Tunnel::Relay(upstream) => Next::Tunnel(Box::new(TunnelStart {
                exchange,
                upstream,
                refused: None,
            })),
            Tunnel::Own(tunnel) => {
                exchange.finish("the destination of the tunnel is this proxy itself");
                Next::OwnTunnel(tunnel)
            }
            Tunnel::Detect(detection) => Next::Detect(Box::new(DetectStart {
                exchange,
                detection,
            })),
        }
    }

    /// Runs the phases in their order.
    async fn run(&mut self, client: &mut MessageStream) -> Result<Tunnel, Conclusion> {
        let checked = self.check()?;
        if WebService::is_meant(self) {
            let exchange = self;
            return WebService { exchange, client }.serve().await;
        }
        let admitted = self.admit(checked, client).await?;
        let decided = self.decide(admitted, client).await?;
        if self.request.head.is_method("CONNECT") {
            // Boxed: most requests open no tunnel.
            return Box::pin(self.connect(decided, client)).await;
        }
        let ready = self.prepare(decided, client).await?;
        match self.forward(ready, client).await {
            // Boxed: few requests lead back here.
            Err(Conclusion::Itself) => {
                let exchange = self;
                Box::pin(WebService { exchange, client }.serve_redirected()).await
            }
            forwarded => forwarded,
        }
    }

    /// Sends an answer if there is none yet.
    async fn answered(
        &mut self,
        conclusion: Conclusion,
        client: &mut MessageStream,
    ) -> Persistence {
        match conclusion.into_answer() {
            Ok(persistence) => persistence,
            Err(failure) => self.answer_failure(client, &failure).await,
        }
    }
}
