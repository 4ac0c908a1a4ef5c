//! The transport of a stream: TCP, a channel of a multiplexed connection, or TLS on top of either.
//!
//! The one place where reading and writing know the difference. Plain TCP goes straight to the socket. TLS keeps what
//! carries it beside its session, so that whatever is asked of the connection itself (was it reset, is it open, make
//! the close a reset) is asked of its [`Link`]. An end of TLS without `close_notify` is the error
//! `UnexpectedEof`: what came before may be only a part (RFC 8446 §6.1, RFC 9112 §9.8). Handshakes, certificates and
//! deadlines are left to others.

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
    /// Boxed: a session is large, and most connections have none.
    Tls(Box<Tls>),
    Channel(Rc<dyn Channel>),
}

/// A TLS connection, as its client or its server.
#[derive(Debug)]
pub(crate) struct Tls {
    /// Borrowed within single polls only: both directions share one session.
    session: RefCell<TlsStream<Layer>>,
    carrier: Carrier,
}

/// What a client and this proxy have agreed on by TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
    /// Empty if the client has named none.
    pub(crate) server_name: String,
    /// Empty if there was no ALPN.
    pub(crate) protocol: String,
    /// DER; empty if the client has shown none.
    pub(crate) certificate: Vec<u8>,
}

impl Transport {
    /// What a client has agreed on with us; none in clear text, and where this is the client.
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

    /// The connection as TLS needs it, to begin a handshake on.
    pub(crate) fn into_layer(self) -> (Layer, Carrier) {
        self.into_layer_behind(Vec::new())
    }

    /// As [`into_layer`](Self::into_layer), for a connection of which some bytes have been read already.
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

    /// TLS whose handshake is over; `carrier` is the one that came with its layer.
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

    /// The channel below, if the connection is one of many on another.
    pub(crate) fn channel(&self) -> Option<Rc<dyn Channel>> {
        match self.link() {
            Link::Channel(channel) => Some(Rc::clone(channel)),
            Link::Socket(_) => None,
        }
    }

    /// Whether TLS has agreed on HTTP/2 (ALPN).
    pub(crate) fn speaks_http2(&self) -> bool {
        match self {
            Self::Tls(tls) => tls.session.borrow().get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Plain(_) | Self::Channel(_) => false,
        }
    }

    /// Whether TLS has agreed on a protocol by its name (ALPN).
    pub(crate) fn has_agreed_protocol(&self) -> bool {
        match self {
            Self::Tls(tls) => tls.session.borrow().get_ref().1.alpn_protocol().is_some(),
            Self::Plain(_) | Self::Channel(_) => false,
        }
    }

    /// The two directions, to be used at the same time within one task.
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

    /// Whether nothing has arrived, no close either. Plain TCP looks at the readiness that the event loop already
    /// knows; TLS also takes in what is not meant for anybody, such as session tickets.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket
                .try_read(&mut [0])
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
            Self::Tls(tls) => tls.is_quiet(),
            Self::Channel(channel) => channel.is_quiet(),
        }
    }

    /// Ready once something has arrived, a close included.
    pub(crate) fn poll_unquiet(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Link::Socket(socket) = self.link() else {
            return Poll::Pending;
        };
        loop {
            ready!(socket.poll_read_ready(cx)).ok();
            // What was not meant for anybody is taken in.
            if !self.is_quiet() {
                return Poll::Ready(());
            }
        }
    }

    /// As [`is_quiet`](Self::is_quiet), but asks the kernel.
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
        // Out of turns is not the same as quiet.
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
    /// Reads once into the spare room of `buffer`. `Ok(0)`: the peer closed its direction, and meant to.
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

    /// The socket, if its bytes are the message's own, for those who move bytes inside the kernel.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(half) => Some(half.as_ref()),
            Self::Tls(_) | Self::Channel(_) => None,
        }
    }
}

/// A read of TLS that brings less than so many bytes may have been made of records of a byte each: TLS takes in 4 KiB
/// at a time.
const SMALL_TLS_READ: usize = 512;
/// What such a read costs besides, in units of the task's budget.
const SMALL_TLS_READ_UNITS: u32 = 4;

/// Has a small read paid for, as far as there is budget left.
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
    /// Writes some of `bytes`. Under TLS they may still wait in the session afterwards, see
    /// [`poll_flush`](Self::poll_flush).
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

    /// As [`poll_write`](Self::poll_write), for bytes that lie in several places.
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

    /// Whether written bytes may still wait for a [`poll_flush`](Self::poll_flush).
    pub(crate) fn may_hold_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Hands to the kernel what was written. A plain socket holds nothing back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) | Self::Channel(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll(|session| session.poll_flush(cx)),
        }
    }

    /// Closes this direction, under TLS with a `close_notify` before it. The other one goes on.
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

/// A channel, where an [`AsyncRead`] is wanted.
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
