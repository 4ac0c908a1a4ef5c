//! The layers on which TLS runs: a socket that reads ahead, a channel, or another TLS session.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;
use tokio_rustls::TlsStream;

use super::channel::Channel;
use super::link::Link;
use crate::buffers;

/// What is below all TLS sessions of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Carrier {
    Socket(Rc<TlsSocket>),
    Channel(Rc<dyn Channel>),
}

/// What TLS runs on: a carrier, or another TLS session (through a parent proxy that is reached by TLS, or inside a
/// tunnel of a client that speaks TLS to this proxy).
#[derive(Debug)]
pub(crate) enum Layer {
    Carrier(Carrier),
    Tls(Box<TlsStream<Layer>>),
    Rewound(Box<Rewound>),
}

/// A layer from which some bytes have been read already.
#[derive(Debug)]
pub(crate) struct Rewound {
    ahead: Ahead,
    layer: Layer,
}

impl Carrier {
    pub(super) fn link(&self) -> Link<'_> {
        match self {
            Self::Socket(socket) => Link::Socket(&socket.stream),
            Self::Channel(channel) => Link::Channel(channel),
        }
    }
}

/// The socket below TLS. Reads ahead, because rustls reads 4 KiB at a time.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    stream: TcpStream,
    /// Holds a buffer only while there are bytes in it.
    ahead: RefCell<Ahead>,
}

#[derive(Debug, Default)]
struct Ahead {
    bytes: Vec<u8>,
    start: usize,
}

impl TlsSocket {
    /// `received` has been read already.
    pub(super) fn new(stream: TcpStream, received: Vec<u8>) -> Self {
        Self {
            stream,
            ahead: RefCell::new(Ahead::new(received)),
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ahead = self.ahead.borrow_mut();
        if ahead.bytes.is_empty() {
            ready!(self.poll_read_ahead(cx, &mut ahead))?;
        } else {
            // Other tasks may run before everything that was read is decrypted.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        ahead.take(out);
        Poll::Ready(Ok(()))
    }

    fn poll_read_ahead(&self, cx: &mut Context<'_>, ahead: &mut Ahead) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            ahead.bytes = buffers::large();
            match self.stream.try_read_buf(&mut ahead.bytes) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) => {
                    ahead.release();
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl Rewound {
    /// `received` has been read from `layer` already.
    pub(super) fn new(received: Vec<u8>, layer: Layer) -> Self {
        let ahead = Ahead::new(received);
        Self { ahead, layer }
    }
}

impl Ahead {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }

    fn take(&mut self, out: &mut ReadBuf<'_>) {
        let rest = &self.bytes[self.start..];
        let len = rest.len().min(out.remaining());
        out.put_slice(&rest[..len]);
        self.start += len;
        if self.start == self.bytes.len() {
            self.release();
        }
    }

    fn release(&mut self) {
        self.start = 0;
        buffers::give_back(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.release();
    }
}

pub(super) fn close_direction(socket: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(socket).shutdown(Shutdown::Write)
}

impl AsyncRead for Layer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Carrier(Carrier::Socket(socket)) => socket.poll_read(cx, buffer),
            Self::Carrier(Carrier::Channel(channel)) => {
                channel.poll_read(cx, buffer).map_err(io::Error::from)
            }
            Self::Tls(outer) => Pin::new(&mut **outer).poll_read(cx, buffer),
            Self::Rewound(rewound) if !rewound.ahead.bytes.is_empty() => {
                rewound.ahead.take(buffer);
                Poll::Ready(Ok(()))
            }
            Self::Rewound(rewound) => Pin::new(&mut rewound.layer).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Layer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored_mut(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored_mut(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Carrier(_) => Poll::Ready(Ok(())),
            Self::Tls(outer) => Pin::new(&mut **outer).poll_flush(cx),
            Self::Rewound(rewound) => Pin::new(&mut rewound.layer).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Carrier(Carrier::Socket(socket)) => Poll::Ready(close_direction(&socket.stream)),
            Self::Carrier(Carrier::Channel(channel)) => {
                channel.poll_shutdown(cx).map_err(io::Error::from)
            }
            Self::Tls(outer) => Pin::new(&mut **outer).poll_shutdown(cx),
            Self::Rewound(rewound) => Pin::new(&mut rewound.layer).poll_shutdown(cx),
        }
    }
}

impl Layer {
    fn poll_write_vectored_mut(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Carrier(Carrier::Socket(socket)) => socket.poll_write(cx, slices),
            Self::Carrier(Carrier::Channel(channel)) => channel
                .poll_write(cx, first(slices))
                .map_err(io::Error::from),
            Self::Tls(outer) => Pin::new(&mut **outer).poll_write_vectored(cx, slices),
            Self::Rewound(rewound) => rewound.layer.poll_write_vectored_mut(cx, slices),
        }
    }
}

/// The first of the slices that is not empty.
pub(super) fn first<'a>(slices: &'a [IoSlice<'_>]) -> &'a [u8] {
    let slice = slices.iter().find(|slice| !slice.is_empty());
    slice.map_or(&[], |slice| slice)
}
