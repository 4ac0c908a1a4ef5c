//! A [`Transport`] as `h2` wants its connections: one value that reads and writes.
//!
//! A client's connection is closed so that the client can read what it was sent last although it is still sending: a
//! close while bytes arrive would be a reset, which takes back what has not been read (RFC 9112 §9.6 for HTTP/1.1, and
//! the same TCP below).

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::deadline::{Deadline, Deadlines};
use crate::transport::Transport;

/// How long a client may send nothing before we no longer wait for it to close after us.
const LINGER: Duration = Duration::from_secs(5);
/// How long it may take in all.
const LINGER_LIMIT: Duration = Duration::from_secs(60);
/// How much it may send meanwhile, in bytes: what its windows have let it have under way.
const LINGER_ROOM: usize = 1024 * 1024;

/// What carries an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Io {
    transport: Transport,
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    deadline: Deadline,
    since: Option<Instant>,
    swallowed: usize,
    pulse: Rc<Pulse>,
}

/// What is going on below a client's connection.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    has_written: Cell<bool>,
    is_closing: Cell<bool>,
    is_hurried: Cell<bool>,
}

impl Pulse {
    /// Whether the peer has taken anything since this was asked last.
    pub(super) fn take_written(&self) -> bool {
        self.has_written.take()
    }

    /// The peer gets no time to close after us.
    pub(super) fn hurry(&self) {
        self.is_hurried.set(true);
    }

    /// Whether our direction is closed, and the peer has its time to close, too.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }
}

impl Io {
    pub(super) fn to_upstream(transport: Transport) -> Self {
        Self {
            transport,
            lingering: None,
        }
    }

    pub(super) fn to_client(transport: Transport, deadlines: &Rc<Deadlines>) -> (Self, Rc<Pulse>) {
        let pulse = Rc::new(Pulse::default());
        let lingering = Lingering {
            deadline: deadlines.slot(),
            since: None,
            swallowed: 0,
            pulse: Rc::clone(&pulse),
        };
        let io = Self {
            transport,
            lingering: Some(lingering),
        };
        (io, pulse)
    }

    fn note_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(lingering), Poll::Ready(Ok(1..))) = (&self.lingering, &written) {
            lingering.pulse.has_written.set(true);
        }
        written
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.transport.split().1.poll_shutdown(cx) {
            // The peer has gone first.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::NotConnected => {
                Poll::Ready(Ok(()))
            }
            polled => polled,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut reader = self.transport.split().0;
        reader.poll_read(cx, out).map_ok(|_| ())
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport.split().1.poll_write(cx, bytes);
        self.note_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport.split().1.poll_write_vectored(cx, slices);
        self.note_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        !matches!(self.transport, Transport::Channel(_))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.split().1.poll_flush(cx)
    }

    /// Ready once a client has closed, too, or has had its time.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_closing = |lingering: &Lingering| lingering.pulse.is_closing();
        if !self.lingering.as_ref().is_some_and(is_closing) {
            ready!(self.poll_close(cx))?;
        }
        let Self {
            transport,
            lingering: Some(lingering),
        } = &mut *self
        else {
            return Poll::Ready(Ok(()));
        };
        let pulse = &lingering.pulse;
        if !pulse.is_closing.replace(true) {
            lingering.deadline.arm(LINGER);
        }
        let since = lingering.since.get_or_insert_with(Instant::now);
        let mut part = [0; 4096];
        while !pulse.is_hurried.get() && since.elapsed() < LINGER_LIMIT {
            let mut part = ReadBuf::new(&mut part);
            match transport.split().0.poll_read(cx, &mut part) {
                Poll::Ready(Ok(0) | Err(_)) => break,
                Poll::Ready(Ok(len)) => {
                    lingering.swallowed += len;
                    if lingering.swallowed > LINGER_ROOM {
                        break;
                    }
                    lingering.deadline.arm(LINGER);
                }
                Poll::Pending => return lingering.deadline.poll_passed(cx).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }
}
