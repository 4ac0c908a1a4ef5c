//! A connection to an upstream that speaks HTTP/2: as many requests at once as the upstream allows.
//!
//! A [`Client`] is a handle: the connection lives as long as a handle or a stream, and is driven by its own task.
//! `can_open` tells whether another stream is possible; how many connections there are is decided elsewhere.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use tokio::sync::oneshot;

pub(crate) use super::client_state::{CapacityListener, ClientOptions};
use super::client_state::{ClientState, OpenStream};
use super::client_stream::ClientStream;
use super::failure::failure;
use super::field_blocks::StreamFacts;
use super::io::Io;
use super::limits::{SEND_BUFFER, STREAM_WINDOW};
use crate::transport::{Channel, Transport};

/// Concurrent streams, even if the upstream allows more; beyond that, another connection is needed.
const MAX_STREAMS: usize = 128;

/// What the upstream may send on all streams together before it is read, in bytes: enough for every stream, so that a
/// client that does not read never delays the responses of others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;

/// How long an upstream may take to read our GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle to a connection.
#[derive(Clone, Debug)]
pub(crate) struct Client(Rc<ClientState>);

impl Client {
    /// Starts HTTP/2, and waits for the upstream's settings, which must allow a stream. The caller limits the time.
    ///
    /// # Errors
    /// The connection failed, or the upstream does not speak HTTP/2.
    pub(crate) async fn start(transport: Transport, options: ClientOptions) -> io::Result<Self> {
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(options.max_head_len).unwrap_or(u32::MAX))
            .max_concurrent_reset_streams(MAX_STREAMS * 2)
            // 0 until the upstream's settings arrive; this is how their arrival is detected.
            .initial_max_send_streams(0)
            .enable_push(false);
        let facts = Rc::<StreamFacts>::default();
        let io = Io::to_upstream(transport, options.max_head_len, Rc::clone(&facts));
        let (send, mut connection) = builder.handshake::<_, Bytes>(io).await.map_err(failure)?;
        poll_fn(|cx| poll_settings(&mut connection, &send, cx)).await?;
        let (needed, unneeded) = oneshot::channel();
        tokio::task::spawn_local(drive(connection, unneeded));
        Ok(Self(Rc::new(ClientState {
            options,
            send: RefCell::new(send),
            open_streams: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            is_retired: Cell::new(false),
            listener: OnceCell::new(),
            facts,
            _needed: needed,
        })))
    }

    /// Whether another stream may be opened: the connection is alive, the upstream has sent no GOAWAY, and there are
    /// fewer streams than it allows.
    pub(crate) fn can_open(&self) -> bool {
        self.0.open_streams.get() < self.max_streams() && self.is_alive()
    }

    /// Whether the connection can open streams, now or once others have ended.
    pub(crate) fn is_alive(&self) -> bool {
        if self.0.is_retired.get() {
            return false;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut send = self.0.send.borrow_mut();
        matches!(send.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// Opens no more streams on this connection, because the upstream has stalled. Open streams may still finish.
    pub(crate) fn retire(&self) {
        self.0.is_retired.set(true);
    }

    /// Whether the upstream supports WebSockets on streams (RFC 8441 §3).
    pub(crate) fn supports_websocket(&self) -> bool {
        self.0.supports_websocket()
    }

    /// Notifies `listener` of every stream that ends. To be called once for each connection.
    pub(crate) fn set_listener(&self, listener: Weak<dyn CapacityListener>) {
        let _ = self.0.listener.set(listener);
    }

    pub(crate) fn open_streams(&self) -> usize {
        self.0.open_streams.get()
    }

    /// When the last stream ended; `None` while a stream is open.
    pub(crate) fn is_idle_since(&self) -> Option<Instant> {
        (self.open_streams() == 0).then(|| self.0.idle_since.get())
    }

    /// A channel for one request. It counts as an open stream at once; the stream is opened when the head is written.
    pub(crate) fn open(&self) -> Rc<dyn Channel> {
        Rc::new(ClientStream::new(OpenStream::new(&self.0)))
    }

    /// How many streams may be open at once.
    pub(crate) fn max_streams(&self) -> usize {
        let send = self.0.send.borrow();
        send.current_max_send_streams().min(MAX_STREAMS)
    }
}

/// Drives the connection to its end; once it is no longer needed, only until its GOAWAY is sent.
async fn drive(mut connection: Connection<Io, Bytes>, unneeded: oneshot::Receiver<()>) {
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = unneeded => match tokio::time::timeout(GOAWAY_TIMEOUT, connection).await {
            Ok(ended) => ended,
            Err(_) => return,
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
    }
}

/// Drives the connection until the upstream's settings have arrived.
fn poll_settings(
    connection: &mut Connection<Io, Bytes>,
    send: &SendRequest<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    match Pin::new(connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(failure(error).into())),
        Poll::Pending if send.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    }
}
