//! A client connection: exchange after exchange, until either side closes it.
//!
//! An exchange returns the next action for the connection, which is performed here. Behind a load balancer, `proxied`
//! finds out first whose connection it is. `detect` detects the protocol in a tunnel that may be intercepted.

mod detect;
mod proxied;
mod runner;

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::config::ListenerKind;
use crate::events::{EventKind, QueuedEvent};
use crate::exchange::{self, CloseReason, Connection, Next, OwnTunnel, Persistence, TunnelStart};
use crate::generation::{Current, WorkerGeneration};
use crate::http1::Scheme;
use crate::http2::server::{ConnectionEnd, RequestTargets, ServerOptions};
use crate::http2::{self, LINGER};
use crate::interception::Guard;
use crate::plugins::{ClientEnd, ClientFacts, ClientPlugins, protocol};
use crate::socks5;
use crate::stream::MessageStream;
use crate::transport::{Channel, Transport};
use crate::tunnel::{self, TunnelEnd, TunnelLimits, TunnelWatcher};
use crate::upstream::pinned::Pinned;
use crate::websocket::{self, MessageLimits};
use crate::worker_context::{self, OpenConnection};

use runner::Client;

/// How long a client may take to close after this proxy has closed its direction and read everything.
const SHORT_LINGER: Duration = Duration::from_secs(1);

/// What a connection holds until its end: its count, and the notification of its end.
#[derive(Default)]
struct Ends {
    _counted: Option<OpenConnection>,
    /// None if there is no subscriber, as in most proxies.
    _noted: Option<Box<Noted>>,
}

/// Serves a connection that was accepted from `peer` in a task of its own.
pub(crate) fn begin(
    mut socket: TcpStream,
    peer: SocketAddr,
    current: &Rc<Current>,
    open_connection: OpenConnection,
) {
    let generation = current.get();
    if !generation.listener().config.trusts_header_of(peer.ip()) {
        return begin_of(peer, socket, current, open_connection);
    }
    let current = Rc::clone(current);
    tokio::task::spawn_local(async move {
        let limit = generation.config.timeouts.header_read;
        let found = proxied::client_of(&mut socket, peer, &generation, limit).await;
        drop(generation);
        if let Some(client) = found {
            begin_of(client, socket, &current, open_connection);
        }
    });
}

/// Serves a connection of `client` in a task of its own.
fn begin_of(
    client: SocketAddr,
    socket: TcpStream,
    current: &Rc<Current>,
    open_connection: OpenConnection,
) {
    let generation = current.get();
    let id = worker_context::next_connection_id();
    let ends = Ends {
        _noted: Noted::open(&generation, current, id, client),
        _counted: Some(open_connection),
    };
    let facts = || ClientFacts {
        id,
        client,
        local: socket.local_addr().ok(),
    };
    let plugins = ClientPlugins::new(&generation.chain, facts);
    let begun = plugins
        .as_ref()
        .map(|plugins| plugins.begin(&generation.chain));
    if let Some(Err(plugin)) = begun {
        tracing::debug!(client.address = %client, plugin, "a plugin rejected the client");
        return;
    }
    let claimable = generation.chain.has_protocols().then(facts);
    let is_http_already = generation.tls_listener().is_none()
        && claimable.is_none()
        && !generation.listener().config.kind.speaks_socks();
    let has_observers = !generation.chain.is_empty()
        || generation.events.has_subscribers()
        || generation.worker.access_needs().tls;
    let end = has_observers.then(|| {
        Rc::new(ClientEnd {
            local: socket.local_addr().ok(),
            tls: None,
        })
    });
    let connection = Connection {
        id,
        client,
        end,
        plugins: plugins
            .map(|plugins| OnceCell::from(Rc::new(plugins)))
            .unwrap_or_default(),
        worker: Rc::clone(&generation.worker),
        current: Rc::clone(current),
        origin: None,
        own_tunnel: None,
        is_http2: false,
        pinned: OnceCell::new(),
    };
    if is_http_already {
        spawn(Transport::Plain(socket), connection, ends);
    } else {
        let finding = find_protocol(socket, claimable, generation, connection, ends);
        tokio::task::spawn_local(finding);
    }
}

/// Detects the protocol of a client: TLS first, if the listener uses it, then SOCKS5, if it has that, HTTP, or a plugin's
/// own protocol.
async fn find_protocol(
    socket: TcpStream,
    claimable: Option<ClientFacts>,
    generation: Rc<WorkerGeneration>,
    mut connection: Connection,
    ends: Ends,
) {
    let transport = match generation.tls_listener() {
        None => Transport::Plain(socket),
        Some(tls) => {
            let limit = generation.config.timeouts.header_read;
            let accepted = tls.accept(socket, connection.client, &generation.worker, limit);
            match Box::pin(accepted).await {
                Some(transport) => transport,
                None => return,
            }
        }
    };
    let kind = generation.listener().config.kind;
    drop(generation);
    connection.is_http2 = transport.speaks_http2();
    connection.note_tls(&transport);
    if connection.is_http2 || !kind.speaks_socks() && claimable.is_none() {
        return spawn(transport, connection, ends);
    }
    let mut stream = message_stream(transport, &connection);
    if kind.speaks_socks() {
        if !has_another_request(&mut stream, &connection, None).await {
            return;
        }
        let first = stream.reader().buffered().first().copied();
        if kind == ListenerKind::Socks5 || first == Some(socks5::VERSION) {
            tokio::task::spawn_local(serve_socks(stream, connection, ends));
            return;
        }
    }
    let Some(facts) = claimable else {
        tokio::task::spawn_local(serve_http1(stream, connection, ends));
        return;
    };
    if Box::pin(serve_protocol(&mut stream, &connection, facts)).await {
        return close(&mut stream, CloseReason::Client).await;
    }
    tokio::task::spawn_local(serve_http1(stream, connection, ends));
}

/// Serves a client whose transport is ready, in a task of its own.
fn spawn(transport: Transport, connection: Connection, ends: Ends) {
    if connection.is_http2 {
        tokio::task::spawn_local(serve_http2(transport, connection, ends));
    } else {
        let stream = message_stream(transport, &connection);
        tokio::task::spawn_local(serve_http1(stream, connection, ends));
    }
}

/// Serves exchange after exchange. A task of its own: most of what an idle client costs is the size of this future.
fn serve_http1(
    stream: MessageStream,
    connection: Connection,
    ends: Ends,
) -> impl Future<Output = ()> {
    let mut client = Box::new(Client { stream, connection });
    // Not an `async fn`: that would hold its arguments, too.
    async move {
        loop {
            let pinned = client.connection.pinned.get();
            if !has_another_request(&mut client.stream, &client.connection, pinned).await {
                return;
            }
            let (served, next) = client.serve_exchange().await;
            client = served;
            match next {
                Next::Answered(Persistence::KeepAlive) => {}
                Next::Answered(Persistence::Close(reason)) => {
                    let address = client.connection.client;
                    tracing::trace!(client.address = %address, ?reason, "closing the client connection");
                    return close(&mut client.stream, reason).await;
                }
                opened => {
                    let Client { stream, connection } = *client;
                    return run_opened(opened, stream, connection, ends);
                }
            }
        }
    }
}

/// Serves the only request of a client that speaks SOCKS5, or is to.
async fn serve_socks(mut stream: MessageStream, connection: Connection, ends: Ends) {
    match Box::pin(exchange::serve_socks(&mut stream, &connection)).await {
        Next::Answered(Persistence::Close(reason)) => close(&mut stream, reason).await,
        opened => run_opened(opened, stream, connection, ends),
    }
}

/// Runs the tunnel that an exchange has opened in a task of its own, whose future is much smaller than that of an
/// exchange.
fn run_opened(opened: Next, stream: MessageStream, connection: Connection, ends: Ends) {
    match opened {
        Next::Answered(_) => {}
        Next::Tunnel(start) => {
            tokio::task::spawn_local(run_tunnel(stream, start, ends));
        }
        Next::Detect(start) => {
            tokio::task::spawn_local(detect::run(stream, start, connection, ends));
        }
        Next::OwnTunnel(tunnel) => {
            tokio::task::spawn_local(serve_own_tunnel(stream, tunnel, connection, ends));
        }
    }
}

/// Serves the streams of a connection side by side, one exchange each.
async fn serve_http2(transport: Transport, connection: Connection, ends: Ends) {
    let connection = Rc::new(connection);
    let worker = Rc::clone(&connection.worker);
    let options = http2_options(&connection);
    let on_stream = |channel| {
        tokio::task::spawn_local(serve_stream(channel, Rc::clone(&connection)));
    };
    let current = Rc::clone(&connection.current);
    let is_draining = || current.is_draining();
    let serving = http2::server::serve(
        transport,
        &options,
        &worker.deadlines,
        is_draining,
        on_stream,
    );
    let client = connection.client;
    match serving.await {
        ConnectionEnd::Closed | ConnectionEnd::Idle => {}
        ConnectionEnd::HandshakeTimedOut => {
            tracing::info!(client.address = %client, "HTTP/2 handshake with a client timed out");
        }
        ConnectionEnd::Abusive(reason) => {
            tracing::warn!(client.address = %client, %reason, "closing the HTTP/2 connection of an abusive client");
        }
        // Browsers open connections in advance, and close those that they do not need.
        ConnectionEnd::Failed(error) if error.is_io() => {
            tracing::debug!(client.address = %client, %error, "an HTTP/2 connection with a client ended");
        }
        ConnectionEnd::Failed(error) => {
            tracing::info!(client.address = %client, %error, "an HTTP/2 connection with a client failed");
        }
    }
    drop(ends);
}

/// How a client may use HTTP/2 on this connection.
fn http2_options(connection: &Connection) -> ServerOptions {
    let generation = connection.current.get();
    let (limits, timeouts) = (&generation.config.limits, &generation.config.timeouts);
    ServerOptions {
        targets: match connection.origin {
            Some(_) => RequestTargets::Origin,
            None => RequestTargets::Absolute {
                default_scheme: Scheme::Http,
                answers_https: generation.web().is_some(),
            },
        },
        max_concurrent_streams: limits.max_concurrent_streams,
        max_head_len: limits.max_head_len,
        handshake_timeout: timeouts.header_read,
        idle_timeout: timeouts.client_idle,
        stall_timeout: timeouts.stall,
    }
}

async fn serve_stream(channel: Rc<dyn Channel>, connection: Rc<Connection>) {
    let mut stream = message_stream(Transport::Channel(channel), &connection);
    match exchange::serve(&mut stream, &connection).await {
        Next::Answered(Persistence::KeepAlive) => {}
        Next::Answered(Persistence::Close(reason)) => close_stream(&stream, reason),
        opened => {
            let connection = Connection {
                is_http2: false,
                pinned: OnceCell::new(),
                ..Connection::clone(&connection)
            };
            run_opened(opened, stream, connection, Ends::default());
        }
    }
}

/// Resets a stream if its end has to show why.
fn close_stream(stream: &MessageStream, reason: CloseReason) {
    match reason {
        CloseReason::ResponseCutOff { .. } | CloseReason::Plugin | CloseReason::Upstream => {
            stream.reset_on_close();
        }
        CloseReason::Unprocessed => stream.refuse_on_close(),
        _ => {}
    }
}

/// Serves a tunnel to this proxy itself as its listener would, to the client that is there already.
async fn serve_own_tunnel(
    stream: MessageStream,
    tunnel: Rc<OwnTunnel>,
    connection: Connection,
    ends: Ends,
) {
    let generation = connection.current.get();
    let tls = generation.tls_listener_at(tunnel.port);
    let mut connection = Connection {
        own_tunnel: Some(tunnel),
        is_http2: false,
        ..connection
    };
    let Some(tls) = tls else {
        tokio::task::spawn_local(serve_http1(stream, connection, ends));
        return;
    };
    let limit = generation.config.timeouts.header_read;
    let accepted = tls.accept_in_tunnel(stream, connection.client, &generation.worker, limit);
    if let Some(transport) = Box::pin(accepted).await {
        connection.is_http2 = transport.speaks_http2();
        spawn(transport, connection, ends);
    }
}

fn message_stream(transport: Transport, connection: &Connection) -> MessageStream {
    let read_len = connection.current.get().config.limits.client_read_len;
    MessageStream::new(transport, &connection.worker.deadlines, read_len)
}

/// Serves the connection by a plugin's own protocol if one claims it; `false`: it is HTTP.
async fn serve_protocol(
    stream: &mut MessageStream,
    connection: &Connection,
    facts: ClientFacts,
) -> bool {
    if !has_another_request(stream, connection, None).await {
        return true;
    }
    let generation = connection.current.get();
    let timeouts = generation.config.timeouts;
    let Some(protocol) = generation.chain.claimed(stream, timeouts.header_read).await else {
        return false;
    };
    drop(generation);
    protocol::serve(
        &protocol,
        stream,
        facts,
        timeouts.client_idle,
        timeouts.stall,
    )
    .await;
    true
}

/// Notifies the subscribers of the moment of a connection's beginning and end: the connection keeps no generation in use.
struct Noted {
    current: Rc<Current>,
    id: u64,
    client: SocketAddr,
}

impl Noted {
    fn open(
        generation: &WorkerGeneration,
        current: &Rc<Current>,
        id: u64,
        client: SocketAddr,
    ) -> Option<Box<Self>> {
        let kind = EventKind::ConnectionOpened;
        generation
            .events
            .publish(|| QueuedEvent::new(kind, id, client));
        generation.events.has_subscribers().then(|| {
            Box::new(Self {
                current: Rc::clone(current),
                id,
                client,
            })
        })
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let kind = EventKind::ConnectionClosed;
        let note = || QueuedEvent::new(kind, self.id, self.client);
        self.current.get().events.publish(note);
    }
}

/// Waits for a client's next request; `false`: there is none, or the connection ends with one of those that are `pinned`
/// to it.
async fn has_another_request(
    stream: &mut MessageStream,
    connection: &Connection,
    pinned: Option<&Rc<Pinned>>,
) -> bool {
    let current = &connection.current;
    let idle = current.get().config.timeouts.client_idle;
    let mut waiting = std::pin::pin!(stream.wait_for_bytes(idle, || current.closes_idle()));
    std::future::poll_fn(|cx| match (waiting.as_mut().poll(cx), pinned) {
        (Poll::Ready(waited), _) => Poll::Ready(waited.unwrap_or(false)),
        (Poll::Pending, Some(pinned)) => pinned.poll_closed(cx).map(|()| false),
        (Poll::Pending, None) => Poll::Pending,
    })
    .await
}

async fn close(stream: &mut MessageStream, reason: CloseReason) {
    match reason {
        CloseReason::BodyUnread | CloseReason::Malformed => Box::pin(stream.linger(LINGER)).await,
        CloseReason::ResponseCutOff { framed: false } => stream.reset_on_close(),
        CloseReason::Gone => {}
        // A close while bytes arrive would be a reset, which discards what the client has not read yet.
        _ => Box::pin(stream.linger(SHORT_LINGER)).await,
    }
}

/// Relays a tunnel to its end.
async fn run_tunnel(client: MessageStream, start: Box<TunnelStart>, ends: Ends) {
    let TunnelStart {
        mut exchange,
        upstream,
        refused,
    } = *start;
    let generation = Rc::clone(exchange.generation());
    let limits = &generation.config.limits;
    let client = tunnel_end(client, limits.client_read_len);
    let upstream = tunnel_end(upstream, limits.server_read_len);
    let tunnel_limits = TunnelLimits {
        idle: exchange.timeouts().tunnel_idle,
        half_closed: exchange.timeouts().half_closed,
    };
    let deadlines = &generation.worker.deadlines;
    let relayed = if let Some(hooks) = exchange.websocket_hooks() {
        let limits = MessageLimits {
            idle: tunnel_limits.idle,
            max_len: limits.max_body_buffer,
        };
        // Boxed, as few tunnels carry WebSockets.
        Box::pin(websocket::relay(
            client,
            upstream,
            deadlines,
            limits,
            tunnel_limits.half_closed,
            &hooks,
            exchange.moved(),
        ))
        .await
    } else {
        let hooks = exchange.hooks();
        // The guard shows the plugins what it allows.
        let (guard, hooks) = match refused {
            Some(refused) => (Some(Guard::new(refused, hooks)), None),
            None => (None, hooks),
        };
        let guarding = guard.as_ref().map(|guard| guard as &dyn TunnelWatcher);
        let watcher = guarding.or(hooks.as_ref().map(|hooks| hooks as &dyn TunnelWatcher));
        let moved = exchange.moved();
        let relayed =
            tunnel::relay(client, upstream, deadlines, tunnel_limits, watcher, moved).await;
        if guard.is_some_and(|guard| guard.has_refused()) {
            exchange.note_guarded();
        }
        relayed
    };
    exchange.finish_relay(&relayed);
    drop(ends);
}

fn tunnel_end(stream: MessageStream, read_len: usize) -> TunnelEnd {
    let (transport, received) = stream.into_parts();
    TunnelEnd {
        transport,
        received,
        read_len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_len<F>(_: impl FnOnce(MessageStream, Connection, Ends) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_client_costs_little_memory() {
        // If this fails, something is held across the wait for the next request: leave it to a runner, or box it.
        let len = future_len(serve_http1) + size_of::<Client>();
        assert!(len <= 464, "{len} bytes for each idle client");
    }
}
