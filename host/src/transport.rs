//! The transport of a stream: TCP, a channel of a multiplexed connection, or TLS on top of either.
//!
//! The one place where reading and writing differ by that. Plain TCP uses the socket directly. TLS keeps its carrier in
//! addition to its session, so that questions about the connection itself (was it reset, is it open, make the close a
//! reset) go to the [`Link`]. The end of TLS without `close_notify` is the error `UnexpectedEof`, because the data may
//! be truncated (RFC 8446 §6.1, RFC 9112 §9.8). Handshakes, certificates and deadlines belong elsewhere.

mod channel;
mod layer;
mod link;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BufMut;
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp;
use tokio::task::coop;
use tokio_rustls::TlsStream;
use tokio_util::io::poll_read_buf;

pub(crate) use self::channel::{Channel, ChannelError, Unprocessed};
pub(crate) use self::layer::{Carrier, Layer};
use self::layer::{Rewound, TlsSocket, close_direction, first};
pub(crate) use self::link::{Departure, Link};

/// A connection to a peer.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    /// Boxed, because a session is large, and most connections have none.
    Tls(Box<Tls>),
    Channel(Rc<dyn Channel>),
}

/// A TLS connection, as its client or its server.
#[derive(Debug)]
pub(crate) struct Tls {
    /// Both directions share the session, so it is borrowed only within a poll.
    session: RefCell<TlsStream<Layer>>,
    carrier: Carrier,
}

/// What a client and this proxy have negotiated by TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
    /// Empty if the client sent none.
    pub(crate) server_name: String,
    /// Empty if there was no ALPN.
    pub(crate) protocol: String,
    /// DER; empty if the client sent none.
    pub(crate) certificate: Vec<u8>,
}

impl Transport {
    /// What was negotiated with a client; none without TLS, and if this end is the client.
    pub(crate) fn client_tls(&self) -> Option<TlsFacts> {
        let Self::Tls(tls) = self else {
            return None;
        };
        let session = tls.session.borrow();
        let TlsStream::Server(stream) = &*session else {
            return None;
        };
        let (_, connection) = stream.get_ref();
        let suite = connection.negotiated_cipher_suite();
        let certificates = connection.peer_certificates().unwrap_or_default();
        Some(TlsFacts {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: suite
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or_default(),
            server_name: connection.server_name().unwrap_or_default().to_owned(),
            protocol: String::from_utf8_lossy(connection.alpn_protocol().unwrap_or_default())
                .into_owned(),
            certificate: certificates
                .first()
                .map_or_else(Vec::new, |der| der.to_vec()),
        })
    }

    /// The connection in the form on which a TLS handshake runs.
    pub(crate) fn into_layer(self) -> (Layer, Carrier) {
        self.into_layer_behind(Vec::new())
    }

    /// As [`into_layer`](Self::into_layer), for a connection from which `received` has been read already.
    pub(crate) fn into_layer_behind(self, received: Vec<u8>) -> (Layer, Carrier) {
        let (layer, carrier) = match self {
            Self::Plain(stream) => {
                let carrier = Carrier::Socket(Rc::new(TlsSocket::new(stream, received)));
                return (Layer::Carrier(carrier.clone()), carrier);
            }
            Self::Channel(channel) => {
                let carrier = Carrier::Channel(channel);
                (Layer::Carrier(carrier.clone()), carrier)
            }
            Self::Tls(tls) => {
                let Tls { session, carrier } = *tls;
                (Layer::Tls(Box::new(session.into_inner())), carrier)
            }
        };
        if received.is_empty() {
            return (layer, carrier);
        }
        let rewound = Rewound::new(received, layer);
        (Layer::Rewound(Box::new(rewound)), carrier)
    }

    /// A TLS session whose handshake is complete; `carrier` is the one that was returned with its layer.
    pub(crate) fn tls(session: impl Into<TlsStream<Layer>>, carrier: Carrier) -> Self {
        Self::Tls(Box::new(Tls {
            session: RefCell::new(session.into()),
            carrier,
        }))
    }

    /// The connection below.
    pub(crate) fn link(&self) -> Link<'_> {
        match self {
            Self::Plain(socket) => Link::Socket(socket),
            Self::Tls(tls) => tls.carrier.link(),
            Self::Channel(channel) => Link::Channel(channel),
        }
    }

    /// The channel below, if the connection has no socket of its own.
    pub(crate) fn channel(&self) -> Option<Rc<dyn Channel>> {
        match self.link() {
            Link::Channel(channel) => Some(Rc::clone(channel)),
            Link::Socket(_) => None,
        }
    }

    /// Whether HTTP/2 was negotiated (ALPN).
    pub(crate) fn speaks_http2(&self) -> bool {
        match self {
            Self::Tls(tls) => tls.session.borrow().get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Plain(_) | Self::Channel(_) => false,
        }
    }

    /// Whether any protocol was negotiated (ALPN).
    pub(crate) fn has_agreed_protocol(&self) -> bool {
        match self {
            Self::Tls(tls) => tls.session.borrow().get_ref().1.alpn_protocol().is_some(),
            Self::Plain(_) | Self::Channel(_) => false,
        }
    }

    /// The two directions, for concurrent use within one task.
    pub(crate) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Plain(socket) => {
                let (read_half, write_half) = socket.split();
                (ReadHalf::Plain(read_half), WriteHalf::Plain(write_half))
            }
            Self::Tls(tls) => (ReadHalf::Tls(tls), WriteHalf::Tls(tls)),
            Self::Channel(channel) => (ReadHalf::Channel(channel), WriteHalf::Channel(channel)),
        }
    }

    /// Whether neither bytes nor a close have arrived. For plain TCP, checks the readiness that the event loop already
    /// knows; TLS also processes messages without data, such as session tickets.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket
                .try_read(&mut [0])
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
            Self::Tls(tls) => tls.is_quiet(),
            Self::Channel(channel) => channel.is_quiet(),
        }
    }

    /// Ready once bytes or a close have arrived.
    pub(crate) fn poll_unquiet(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Link::Socket(socket) = self.link() else {
            return Poll::Pending;
        };
        loop {
            ready!(socket.poll_read_ready(cx)).ok();
            // TLS messages without data are processed here.
            if !self.is_quiet() {
                return Poll::Ready(());
            }
        }
    }

    /// As [`is_quiet`](Self::is_quiet), but queries the kernel.
    pub(crate) fn is_quiet_now(&self) -> bool {
        let is_known_to_be_quiet = match self {
            Self::Plain(_) => true,
            _ => self.is_quiet(),
        };
        let Link::Socket(socket) = self.link() else {
            return is_known_to_be_quiet;
        };
        let mut byte = [std::mem::MaybeUninit::uninit()];
        is_known_to_be_quiet
            && socket2::SockRef::from(socket)
                .peek(&mut byte)
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Tls {
    fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = poll_fn(|cx| {
            let mut session = self.session.borrow_mut();
            Pin::new(&mut *session).poll_read(cx, &mut ReadBuf::new(&mut byte))
        });
        // An exhausted budget must not look like a quiet connection.
        let read = pin!(coop::unconstrained(read));
        read.poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }

    fn poll<R>(&self, poll: impl FnOnce(Pin<&mut TlsStream<Layer>>) -> R) -> R {
        poll(Pin::new(&mut *self.session.borrow_mut()))
    }
}

/// The receiving direction of a [`Transport`].
#[derive(Debug)]
pub(crate) enum ReadHalf<'a> {
    Plain(tcp::ReadHalf<'a>),
    Tls(&'a Tls),
    Channel(&'a Rc<dyn Channel>),
}

impl<'a> ReadHalf<'a> {
    /// Reads once into the spare capacity of `buffer`. `Ok(0)`: the peer has closed its direction properly.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(half) => poll_read_buf(Pin::new(half), cx, buffer),
            Self::Tls(tls) => {
                let read = tls.poll(|session| poll_read_buf(session, cx, buffer));
                if let Poll::Ready(Ok(1..SMALL_TLS_READ)) = read {
                    pay_small_read(cx);
                }
                read
            }
            Self::Channel(channel) => poll_read_buf(Pin::new(&mut Reading(channel)), cx, buffer),
        }
    }

    pub(crate) fn link(&self) -> Link<'_> {
        match self {
            Self::Plain(half) => Link::Socket(half.as_ref()),
            Self::Tls(tls) => tls.carrier.link(),
            Self::Channel(channel) => Link::Channel(channel),
        }
    }

    /// The socket, if its bytes are those of the message, to move them inside the kernel.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(half) => Some(half.as_ref()),
            Self::Tls(_) | Self::Channel(_) => None,
        }
    }
}

/// A TLS read of fewer bytes than this may consist of records of one byte each: TLS processes 4 KiB at a time.
const SMALL_TLS_READ: usize = 512;
/// What such a read costs in addition, in units of the task's budget.
const SMALL_TLS_READ_UNITS: u32 = 4;

/// Charges a small read to the task's budget, as far as it lasts.
fn pay_small_read(cx: &mut Context<'_>) {
    for _ in 0..SMALL_TLS_READ_UNITS {
        match coop::poll_proceed(cx) {
            Poll::Ready(unit) => unit.made_progress(),
            Poll::Pending => return,
        }
    }
}

/// The sending direction of a [`Transport`].
#[derive(Debug)]
pub(crate) enum WriteHalf<'a> {
    Plain(tcp::WriteHalf<'a>),
    Tls(&'a Tls),
    Channel(&'a Rc<dyn Channel>),
}

impl<'a> WriteHalf<'a> {
    /// Writes some of `bytes`. Under TLS, they may stay in the session, see [`poll_flush`](Self::poll_flush).
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(half) => Pin::new(half).poll_write(cx, bytes),
            Self::Tls(tls) => tls.poll(|session| session.poll_write(cx, bytes)),
            Self::Channel(channel) => channel.poll_write(cx, bytes).map_err(io::Error::from),
        }
    }

    /// As [`poll_write`](Self::poll_write), for several slices.
    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(half) => Pin::new(half).poll_write_vectored(cx, slices),
            Self::Tls(tls) => tls.poll(|session| session.poll_write_vectored(cx, slices)),
            Self::Channel(channel) => channel
                .poll_write(cx, first(slices))
                .map_err(io::Error::from),
        }
    }

    /// Whether written bytes may need a [`poll_flush`](Self::poll_flush).
    pub(crate) fn may_hold_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Passes everything that was written to the kernel. A plain socket buffers nothing.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) | Self::Channel(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll(|session| session.poll_flush(cx)),
        }
    }

    /// Closes this direction, under TLS after a `close_notify`. The other one stays open.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(half) => Poll::Ready(close_direction(half.as_ref())),
            Self::Tls(tls) => tls.poll(|session| session.poll_shutdown(cx)),
            Self::Channel(channel) => channel.poll_shutdown(cx).map_err(io::Error::from),
        }
    }

    pub(crate) fn link(&self) -> Link<'_> {
        match self {
            Self::Plain(half) => Link::Socket(half.as_ref()),
            Self::Tls(tls) => tls.carrier.link(),
            Self::Channel(channel) => Link::Channel(channel),
        }
    }

    /// As [`ReadHalf::plain`].
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(half) => Some(half.as_ref()),
            Self::Tls(_) | Self::Channel(_) => None,
        }
    }
}

/// A channel as an [`AsyncRead`].
struct Reading<'a>(&'a Rc<dyn Channel>);

impl AsyncRead for Reading<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buffer).map_err(io::Error::from)
    }
}
