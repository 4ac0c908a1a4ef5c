//! TLS with clients of the proxy itself (`--cert-file`, `--key-file`, and those of further listeners).
//!
//! HTTP/1.1 or HTTP/2 by ALPN. A client that speaks plain HTTP gets a plain HTTP error. Certificate and key are
//! reloaded on SIGHUP; open connections keep theirs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::config::KeyPairFiles;
use crate::http1::{Foreign, Glimpse};
use crate::key_pair::{self, KeyPairError};
use crate::reply::{Reply, ReplyForm};
use crate::server_tls::{Protocols, ServerTls};
use crate::stream::MessageStream;
use crate::telemetry::{AccessDetails, AccessRecord};
use crate::transport::Transport;
use crate::worker_context::WorkerContext;

/// The first byte of a TLS handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;
/// How long a client without TLS may take to read the error.
const FAREWELL: Duration = Duration::from_secs(2);
/// The number of bytes without TLS that are inspected for the log.
const BEGINNING: usize = 1024;
/// What to do with a client that speaks HTTP without TLS.
const AS_HTTPS_PROXY: &str = "set the proxy URL to https://, not http://";

/// The server side of TLS for the clients of a listener, shared by all workers.
#[derive(Debug)]
pub(crate) struct TlsListener {
    config: Arc<ServerConfig>,
}

impl TlsListener {
    /// Uses the tickets of `tls`, so that clients can resume sessions from before a reload.
    ///
    /// # Errors
    /// A file cannot be used; the error names it.
    pub(crate) fn load(files: &KeyPairFiles, tls: &Arc<ServerTls>) -> Result<Self, KeyPairError> {
        let key_pair = key_pair::read(files)?;
        key_pair::warn_of_dates(&files.cert_file, &key_pair.cert);
        let resolver = Arc::new(SingleCertAndKey::from(key_pair));
        let config = tls.config(Protocols::Any, resolver, tls.tickets());
        Ok(Self {
            config: Arc::new(config),
        })
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Performs the handshake with a client, within `limit`; `None` if it fails, which is logged.
    pub(crate) async fn accept(
        &self,
        socket: TcpStream,
        client: SocketAddr,
        worker: &WorkerContext,
        limit: Duration,
    ) -> Option<Transport> {
        let shaken = self.shake_hands(socket, client, worker);
        within_limit(shaken, client, worker, limit).await
    }

    /// Like [`accept`](Self::accept), inside a tunnel that leads to the listener.
    pub(crate) async fn accept_in_tunnel(
        &self,
        stream: MessageStream,
        client: SocketAddr,
        worker: &WorkerContext,
        limit: Duration,
    ) -> Option<Transport> {
        let shaken = self.shake_hands_in_tunnel(stream, client, worker);
        within_limit(shaken, client, worker, limit).await
    }

    async fn shake_hands_in_tunnel(
        &self,
        mut stream: MessageStream,
        client: SocketAddr,
        worker: &WorkerContext,
    ) -> io::Result<Option<Transport>> {
        if !stream.has_buffered() && stream.reader().fill().await? == 0 {
            return Ok(None);
        }
        if stream.reader().buffered().first() != Some(&HANDSHAKE) {
            log_clear_text(stream.reader().buffered(), client, worker);
            Box::pin(refuse_clear_text(stream, worker)).await;
            return Ok(None);
        }
        let (transport, received) = stream.into_parts();
        let (layer, carrier) = transport.into_layer_behind(received);
        let session = TlsAcceptor::from(self.config()).accept(layer).await?;
        Ok(Some(Transport::tls(TlsStream::Server(session), carrier)))
    }

    async fn shake_hands(
        &self,
        socket: TcpStream,
        client: SocketAddr,
        worker: &WorkerContext,
    ) -> io::Result<Option<Transport>> {
        let mut first = [0];
        match socket.peek(&mut first).await {
            // A port probe.
            Ok(0) => return Ok(None),
            Ok(_) if first[0] != HANDSHAKE => {
                let refused = refuse_clear_socket(socket, client, worker);
                Box::pin(refused).await;
                return Ok(None);
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let (layer, carrier) = Transport::Plain(socket).into_layer();
        let session = TlsAcceptor::from(self.config()).accept(layer).await?;
        Ok(Some(Transport::tls(TlsStream::Server(session), carrier)))
    }
}

/// Performs the handshake within the limit; logs errors.
async fn within_limit(
    handshake: impl Future<Output = io::Result<Option<Transport>>>,
    client: SocketAddr,
    worker: &WorkerContext,
    limit: Duration,
) -> Option<Transport> {
    let deadline = worker.deadlines.slot();
    deadline.arm(limit);
    match deadline.bound(handshake).await {
        Some(Ok(transport)) => transport,
        Some(Err(error)) => {
            tracing::info!(client.address = %client, %error, "TLS handshake with a client failed");
            None
        }
        None => {
            tracing::info!(client.address = %client, "TLS handshake with a client failed: it took longer than {limit:?}");
            None
        }
    }
}

async fn refuse_clear_socket(socket: TcpStream, client: SocketAddr, worker: &WorkerContext) {
    let mut beginning = [0; BEGINNING];
    let len = socket.peek(&mut beginning).await.unwrap_or(0);
    log_clear_text(&beginning[..len], client, worker);
    let transport = Transport::Plain(socket);
    let stream = MessageStream::new(transport, &worker.deadlines, 1 << 16);
    refuse_clear_text(stream, worker).await;
}

/// Sends an error to a client without TLS, in a form that it can read.
async fn refuse_clear_text(mut stream: MessageStream, worker: &WorkerContext) {
    let reply = Reply::text(
        400,
        "400 Bad Request: this port speaks TLS: set the proxy URL to https://, not http://",
    );
    let form = ReplyForm {
        is_head: false,
        is_last: true,
    };
    let mut out = Vec::new();
    worker.with_date(|date| reply.encode(form, date, &mut out));
    if stream.writer().write_all(&out, FAREWELL).await.is_ok() {
        stream.linger(FAREWELL).await;
    }
}

fn log_clear_text(received: &[u8], client: SocketAddr, worker: &WorkerContext) {
    if !worker.logs_access() {
        return;
    }
    let (name, remedy, glimpse) = match Foreign::of(received) {
        Some(foreign) => (foreign.name, foreign.remedy, Glimpse::default()),
        None => match Glimpse::of(received) {
            glimpse if glimpse.path.is_empty() && glimpse.authority.is_none() => {
                ("an unknown protocol", AS_HTTPS_PROXY, glimpse)
            }
            glimpse => ("plain HTTP", AS_HTTPS_PROXY, glimpse),
        },
    };
    let path = match &glimpse.path[..] {
        b"" => &b"-"[..],
        text => text,
    };
    let asked = glimpse.authority.as_ref();
    worker.log_access(&AccessRecord {
        client,
        method: match &glimpse.method[..] {
            "" => "-",
            method => method,
        },
        is_web: false,
        upstream: None,
        path,
        status: None,
        reason: b"",
        response_bytes: 0,
        elapsed: Duration::ZERO,
        note: Some(&format!(
            "answered 400 - this port speaks TLS; the client sent {name}: {remedy}"
        )),
        asked: asked.map(|(host, port)| (host.as_str(), *port)),
        user: "",
        fields: &[],
        details: Some(&AccessDetails {
            status: 400,
            answered_by: "proxy",
            error: "http_request_error",
            ..AccessDetails::default()
        }),
    });
}
