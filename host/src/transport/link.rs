//! The connection itself, regardless of TLS on top of it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::channel::Channel;
use crate::deadline::Deadline;

/// The connection itself, regardless of TLS on top of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link<'a> {
    Socket(&'a TcpStream),
    Channel(&'a Rc<dyn Channel>),
}

/// How a peer has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It has reset the connection.
    Reset,
    /// It has closed its direction, and may still read.
    HalfClosed,
}

impl Link<'_> {
    /// The addresses of the peer and of this end; none without a socket of its own.
    pub(crate) fn addresses(self) -> Option<(SocketAddr, SocketAddr)> {
        match self {
            Self::Socket(socket) => Some((socket.peer_addr().ok()?, socket.local_addr().ok()?)),
            Self::Channel(_) => None,
        }
    }

    /// The address of this end; none without a socket of its own.
    pub(crate) fn local_addr(self) -> Option<SocketAddr> {
        match self {
            Self::Socket(socket) => socket.local_addr().ok(),
            Self::Channel(_) => None,
        }
    }

    /// Makes the close a reset, so that the peer does not take a truncated message for a complete one.
    pub(crate) fn reset_on_close(self) {
        match self {
            Self::Socket(socket) => {
                let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
            }
            Self::Channel(channel) => channel.reset_on_close(),
        }
    }

    /// Undoes [`reset_on_close`](Self::reset_on_close), for a socket.
    pub(crate) fn close_in_order(self) {
        if let Self::Socket(socket) = self {
            let _ = socket2::SockRef::from(socket).set_linger(None);
        }
    }

    /// As [`Channel::refuse_on_close`]; a reset of a socket.
    pub(crate) fn refuse_on_close(self) {
        match self {
            Self::Socket(_) => self.reset_on_close(),
            Self::Channel(channel) => channel.refuse_on_close(),
        }
    }

    /// Ends when the peer has reset the connection. A peer that only closed its direction still reads. Cancel safe.
    pub(crate) async fn reset(self) {
        match self {
            // An error here also means that the connection is lost.
            Self::Socket(socket) => drop(socket.ready(Interest::ERROR).await),
            Self::Channel(channel) => poll_fn(|cx| channel.poll_reset(cx)).await,
        }
    }

    /// Ends when the peer has reset the connection, or when `deadline` has passed and none of the `others` has been armed
    /// within its time. The deadline starts again while a write waits for the peer, because the writer limits that time.
    /// Cancel safe.
    pub(crate) async fn reset_or_late(self, deadline: &Deadline, others: &[&Deadline]) {
        let mut reset = pin!(self.reset());
        poll_fn(|cx| {
            if reset.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            loop {
                ready!(deadline.poll_passed(cx));
                if self.is_held_up() {
                    deadline.start_again();
                } else if !deadline.renew(others) {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    /// Whether a write has to wait for the peer.
    fn is_held_up(self) -> bool {
        match self {
            Self::Socket(socket) => {
                let is_writable = socket.try_io(Interest::WRITABLE, || Ok(()));
                is_writable.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Channel(_) => false,
        }
    }

    /// Ends when the peer has reset the connection or closed its direction. Does not read. The peer of a channel always
    /// closes its direction, so only a reset counts there. Cancel safe.
    pub(crate) async fn departure(self) -> Departure {
        let Self::Socket(socket) = self else {
            self.reset().await;
            return Departure::Reset;
        };
        match socket.ready(END_OR_ERROR).await {
            Ok(ready) if !ready.is_error() && ready.is_read_closed() => Departure::HalfClosed,
            Ok(ready) if !ready.is_error() => {
                // Bytes have arrived, on a system where they cannot be distinguished from a close.
                self.reset().await;
                Departure::Reset
            }
            _ => Departure::Reset,
        }
    }
}

/// The end of the stream or an error, regardless of bytes to be read. On Linux, tokio reports the end of a stream as
/// priority readiness.
#[cfg(target_os = "linux")]
const END_OR_ERROR: Interest = Interest::PRIORITY.add(Interest::ERROR);
#[cfg(not(target_os = "linux"))]
const END_OR_ERROR: Interest = Interest::READABLE.add(Interest::ERROR);
