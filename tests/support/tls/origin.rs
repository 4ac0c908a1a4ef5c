//! A server for TLS, HTTP/1.1 and HTTP/2, which records its requests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, ReceivedRequest};
use super::pki::ServerSide;
use super::stream_io::Io;
use super::{EchoOrigin, Identity, Offer, Pipe, Pki, RawHttp2, Version, http1, http2};
use crate::support::background::{background, within};
use crate::support::{HANG, shown};

/// Builds an origin.
pub(crate) struct OriginBuilder<'a> {
    pki: &'a Pki,
    side: ServerSide,
    settings: http2::Settings,
}

impl OriginBuilder<'_> {
    /// The protocols among which it chooses by ALPN.
    pub(crate) fn offering(mut self, offer: Offer) -> Self {
        self.side.offer = offer;
        self
    }

    /// Its certificate.
    pub(crate) fn identity(mut self, identity: Identity) -> Self {
        self.side.identity = identity;
        self
    }

    /// Requests client certificates, but does not require them.
    pub(crate) fn asking_for_certificate(mut self) -> Self {
        self.side.asks_for_certificate = true;
        self
    }

    /// TLS 1.2 only.
    pub(crate) fn with_tls12(mut self) -> Self {
        const OLD: &[&SupportedProtocolVersion] = &[&TLS12];
        self.side.versions = OLD;
        self
    }

    /// The number of concurrent streams on a connection.
    pub(crate) fn with_streams(mut self, count: u32) -> Self {
        self.settings.max_concurrent_streams = count;
        self
    }

    /// Does not support extended CONNECT.
    pub(crate) fn without_extended_connect(mut self) -> Self {
        self.settings.extends_connect = false;
        self
    }

    /// The same answer to everything.
    pub(crate) fn answering(self, answer: Answer) -> TlsOrigin {
        self.serve(move |_| answer.clone())
    }

    /// Answers each request with the result of `answer`, which gets the head; the body is read before the answer is
    /// sent.
    pub(crate) fn serve(
        self,
        answer: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static,
    ) -> TlsOrigin {
        let config = self.pki.server_config(&self.side);
        TlsOrigin::start(Some(config), self.settings, Arc::new(answer), None)
    }

    /// Frames by hand, over HTTP/2 only: `script` gets the number of each connection, which ends with it.
    pub(crate) fn serve_raw(
        mut self,
        script: impl Fn(usize, &mut RawHttp2) + Send + Sync + 'static,
    ) -> TlsOrigin {
        self.side.offer = Offer::Http2;
        let config = self.pki.server_config(&self.side);
        let handler = Arc::new(|_: &ReceivedRequest| Answer::status(500));
        TlsOrigin::start(Some(config), self.settings, handler, Some(Arc::new(script)))
    }

    /// No HTTP: a greeting, if it is not empty, then an echo.
    pub(crate) fn echoing(self, greeting: &'static str) -> EchoOrigin {
        EchoOrigin::start(self.pki.server_config(&self.side), greeting)
    }

    /// The same without TLS, for plain HTTP inside a tunnel.
    pub(crate) fn serve_clear(
        self,
        answer: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static,
    ) -> TlsOrigin {
        TlsOrigin::start(None, self.settings, Arc::new(answer), None)
    }
}

/// A running origin on 127.0.0.1; ends when dropped.
pub(crate) struct TlsOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

pub(super) type Handler = Arc<dyn Fn(&ReceivedRequest) -> Answer + Send + Sync>;
type Script = Arc<dyn Fn(usize, &mut RawHttp2) + Send + Sync>;

/// Shared by all connections of an origin.
pub(super) struct Shared {
    pub(super) handler: Handler,
    pub(super) settings: http2::Settings,
    script: Option<Script>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<ReceivedRequest>,
    connections: Vec<Connection>,
    tasks: Vec<JoinHandle<()>>,
}

/// A connection of an origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The requested server name.
    pub(crate) server_name: Option<String>,
    /// The negotiated protocol.
    pub(crate) protocol: Option<String>,
    /// The error of the handshake, if it failed.
    pub(crate) fault: Option<String>,
    pub(crate) is_over: bool,
}

impl TlsOrigin {
    pub(super) fn plan(pki: &Pki) -> OriginBuilder<'_> {
        const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        OriginBuilder {
            pki,
            side: ServerSide {
                identity: Identity::Good,
                offer: Offer::Both,
                asks_for_certificate: false,
                versions: BOTH,
            },
            settings: http2::Settings::default(),
        }
    }

    fn start(
        config: Option<Arc<ServerConfig>>,
        settings: http2::Settings,
        handler: Handler,
        script: Option<Script>,
    ) -> TlsOrigin {
        let bound = within("a port", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = bound.expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            handler,
            settings,
            script,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let acceptor = background().spawn(accept(listener, config, shared.clone()));
        TlsOrigin {
            address,
            shared,
            acceptor,
        }
    }

    /// `localhost` and the port, as in a target or a Host field.
    pub(crate) fn authority(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// The same with the IP address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The complete requests.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        let state = self.shared.lock();
        let complete = state.requests.iter().filter(|seen| seen.is_complete);
        complete.cloned().collect()
    }

    /// The only request, complete or not.
    pub(crate) fn only_request(&self) -> ReceivedRequest {
        let mut requests = self.shared.lock().requests.clone();
        assert_eq!(requests.len(), 1, "requests at the origin");
        requests.remove(0)
    }

    /// All connections, in order.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.shared.lock().connections.clone()
    }

    /// Waits until `count` requests have arrived, complete or not.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        self.wait_until("requests", |state| state.requests.len() >= count);
    }

    /// Asserts that no request arrived.
    pub(crate) fn assert_unasked(&self) {
        let requests = self.shared.lock().requests.clone();
        assert!(
            requests.is_empty(),
            "requests at an origin that must see none: {requests:?}"
        );
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + HANG;
        let mut state = self.shared.lock();
        while !holds(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "the origin never saw {what}: {:?}, {:?}",
                state.connections,
                state.requests
            );
            let waiting = self.shared.changed.wait_timeout(state, left);
            state = waiting.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for TlsOrigin {
    fn drop(&mut self) {
        self.acceptor.abort();
        for task in self.shared.lock().tasks.drain(..) {
            task.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a request; returns its index.
    pub(super) fn record(&self, seen: ReceivedRequest) -> usize {
        let mut state = self.lock();
        state.requests.push(seen);
        self.changed.notify_all();
        state.requests.len() - 1
    }

    /// Adds the rest of a request.
    pub(super) fn complete(
        &self,
        index: usize,
        body: Vec<u8>,
        trailers: super::Fields,
        whole: bool,
    ) {
        let mut state = self.lock();
        let seen = &mut state.requests[index];
        (seen.body, seen.trailers, seen.is_complete) = (body, trailers, whole);
        self.changed.notify_all();
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Connection)) {
        change(&mut self.lock().connections[index]);
        self.changed.notify_all();
    }
}

/// The client of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientSide {
    pub(super) connection: usize,
    pub(super) server_name: Option<String>,
    pub(super) certificate: Option<Vec<u8>>,
}

async fn accept(listener: TcpListener, config: Option<Arc<ServerConfig>>, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        let index = {
            let mut state = shared.lock();
            state.connections.push(Connection::default());
            state.connections.len() - 1
        };
        let (config, for_task) = (config.clone(), shared.clone());
        let task = tokio::spawn(async move {
            serve(socket, config, &for_task, index).await;
            for_task.change(index, |connection| connection.is_over = true);
        });
        shared.lock().tasks.push(task);
    }
}

async fn serve(
    socket: TcpStream,
    config: Option<Arc<ServerConfig>>,
    shared: &Arc<Shared>,
    index: usize,
) {
    drop(socket.set_nodelay(true));
    let mut client = ClientSide {
        connection: index,
        ..ClientSide::default()
    };
    let Some(config) = config else {
        return http1::serve(Box::new(socket), shared, &client).await;
    };
    let stream = match TlsAcceptor::from(config).accept(socket).await {
        Ok(stream) => stream,
        Err(error) => {
            return shared.change(index, |connection| {
                connection.fault = Some(error.to_string())
            });
        }
    };
    let (_, session) = stream.get_ref();
    client.server_name = session.server_name().map(str::to_owned);
    let certificates = session.peer_certificates();
    client.certificate = certificates.and_then(|chain| Some(chain.first()?.to_vec()));
    let version = match session.alpn_protocol() {
        Some(b"h2") => Version::Http2,
        _ => Version::Http1,
    };
    let protocol = session.alpn_protocol().map(shown);
    shared.change(index, |connection| {
        connection.server_name.clone_from(&client.server_name);
        connection.protocol = protocol;
    });
    let io: Io = Box::new(stream);
    if let Some(script) = shared.script.clone() {
        let pipe = Pipe::new(io, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        std::thread::spawn(move || script(index, &mut RawHttp2::serving(pipe)));
        return;
    }
    match version {
        Version::Http1 => http1::serve(io, shared, &client).await,
        Version::Http2 => http2::serve(io, shared, &client).await,
    }
}
