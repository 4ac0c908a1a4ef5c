//! A [`Transport`] as `h2` needs it: one value that reads and writes.
//!
//! Frames are counted as they pass (`frame_meter`): after a number of them, the task yields, and if a peer sends too
//! many without content, its connection is closed. Their heads and trailers are checked (`field_blocks`).
//!
//! A client's connection lingers before it is closed, so that the client can read the last bytes even if it is still
//! sending: closing a socket with unread bytes resets it, and a reset discards what the client has not read (RFC 9112
//! §9.6).

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::field_blocks::{FieldBlocks, StreamFacts};
use super::frame::PeerRole;
use super::frame_meter::FrameMeter;
use crate::deadline::{Deadline, Deadlines};
use crate::transport::{Link, Transport};

/// How long a client may send nothing before its socket is closed, even if it has not closed its side.
const LINGER: Duration = Duration::from_secs(5);
/// How long that may take in total.
const LINGER_LIMIT: Duration = Duration::from_secs(60);
/// How much it may send during that time, in bytes: as much as its windows allow.
const LINGER_ROOM: usize = 1024 * 1024;

/// How much is read at once from a peer that sends many small frames, in bytes.
const CROWDED_LEN: usize = 2048;
/// A read that costs more steps than this is crowded.
const CROWDED_STEPS: u32 = 32;

/// GOAWAY with `ENHANCE_YOUR_CALM`; the last stream is 0, because an upstream opens none (RFC 9113 §6.8).
const GOAWAY_CALM: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";

/// The upstream sends too many frames without content. Its connection has been closed.
#[derive(Debug, thiserror::Error)]
#[error("too many frames without content")]
pub(super) struct Flooded;

/// The transport of an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Io {
    transport: Transport,
    frames: FrameMeter,
    blocks: FieldBlocks,
    /// The last read was full of small frames.
    is_crowded: bool,
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    deadline: Deadline,
    since: Option<Instant>,
    discarded: usize,
    activity: Rc<Activity>,
}

/// What happens on the transport of a client's connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    has_written: Cell<bool>,
    is_closing: Cell<bool>,
    skips_linger: Cell<bool>,
    is_flooded: Cell<bool>,
}

impl Activity {
    /// Whether anything was written since the last call.
    pub(super) fn take_written(&self) -> bool {
        self.has_written.take()
    }

    /// Closes the socket at once, without lingering.
    pub(super) fn skip_linger(&self) {
        self.skips_linger.set(true);
    }

    /// Whether the peer has sent too many frames without content. Nothing more is read from it.
    pub(super) fn is_flooded(&self) -> bool {
        self.is_flooded.get()
    }

    /// Whether our direction is closed, and the connection lingers.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }
}

impl Io {
    /// `max_head_len` is the length of the longest head that is accepted, in bytes.
    pub(super) fn to_upstream(
        transport: Transport,
        max_head_len: usize,
        facts: Rc<StreamFacts>,
    ) -> Self {
        Self {
            transport,
            frames: FrameMeter::new(PeerRole::Server),
            blocks: FieldBlocks::new(PeerRole::Server, max_head_len, facts),
            is_crowded: false,
            lingering: None,
        }
    }

    /// As [`to_upstream`](Self::to_upstream).
    pub(super) fn to_client(
        transport: Transport,
        max_head_len: usize,
        facts: Rc<StreamFacts>,
        deadlines: &Rc<Deadlines>,
    ) -> (Self, Rc<Activity>) {
        let activity = Rc::new(Activity::default());
        let lingering = Lingering {
            deadline: deadlines.slot(),
            since: None,
            discarded: 0,
            activity: Rc::clone(&activity),
        };
        let io = Self {
            transport,
            frames: FrameMeter::new(PeerRole::Client),
            blocks: FieldBlocks::new(PeerRole::Client, max_head_len, facts),
            is_crowded: false,
            lingering: Some(lingering),
        };
        (io, activity)
    }

    fn record_written(
        &mut self,
        written: Poll<io::Result<usize>>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(Ok(len @ 1..)) = written else {
            return written;
        };
        if let Some(lingering) = &self.lingering {
            lingering.activity.has_written.set(true);
        }
        let mut left = len;
        for slice in slices {
            let part = left.min(slice.len());
            self.frames.send(&slice[..part]);
            left -= part;
        }
        written
    }

    /// Ends the connection of a peer that has sent too many frames without content. The GOAWAY to an upstream is sent
    /// here, that to a client by `server`.
    fn poll_flooded(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(lingering) = &self.lingering {
            // `server` checks it after this poll.
            lingering.activity.is_flooded.set(true);
            return Poll::Pending;
        }
        let upstream = match self.transport.link() {
            Link::Socket(socket) => socket.peer_addr().ok(),
            Link::Channel(_) => None,
        };
        tracing::warn!(upstream.address = ?upstream, error = %Flooded, "closing an HTTP/2 connection to an upstream");
        if self.frames.is_between_sent_frames() {
            let mut writer = self.transport.split().1;
            // Not retried if the socket does not accept it at once.
            let _ = writer.poll_write(cx, GOAWAY_CALM);
            let _ = writer.poll_flush(cx);
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, Flooded)))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.transport.split().1.poll_shutdown(cx) {
            // The peer has closed first.
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
        loop {
            if self.frames.is_flooded() {
                return self.poll_flooded(cx);
            }
            if self.blocks.read_into(out) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.frames.poll_pay(cx));
            let room = match self.is_crowded {
                true => CROWDED_LEN,
                false => usize::MAX,
            };
            let before = out.filled().len();
            let mut reader = self.transport.split().0;
            ready!(reader.poll_read(cx, &mut (&mut *out).limit(room)))?;
            let received = &mut out.filled_mut()[before..];
            if received.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let steps = self.frames.receive(received);
            self.is_crowded = steps > CROWDED_STEPS;
            let passed = self.blocks.receive(received);
            out.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport.split().1.poll_write(cx, bytes);
        self.record_written(written, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport.split().1.poll_write_vectored(cx, slices);
        self.record_written(written, slices)
    }

    fn is_write_vectored(&self) -> bool {
        !matches!(self.transport, Transport::Channel(_))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.split().1.poll_flush(cx)
    }

    /// Ready once the client has closed its side, or the time to linger is over.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_closing = |lingering: &Lingering| lingering.activity.is_closing();
        if !self.lingering.as_ref().is_some_and(is_closing) {
            ready!(self.poll_close(cx))?;
        }
        let Self {
            transport,
            lingering: Some(lingering),
            ..
        } = &mut *self
        else {
            return Poll::Ready(Ok(()));
        };
        let activity = &lingering.activity;
        if !activity.is_closing.replace(true) {
            lingering.deadline.arm(LINGER);
        }
        let since = lingering.since.get_or_insert_with(Instant::now);
        let mut part = [0; 4096];
        while !activity.skips_linger.get() && since.elapsed() < LINGER_LIMIT {
            let mut part = ReadBuf::new(&mut part);
            match transport.split().0.poll_read(cx, &mut part) {
                Poll::Ready(Ok(0) | Err(_)) => break,
                Poll::Ready(Ok(len)) => {
                    lingering.discarded += len;
                    if lingering.discarded > LINGER_ROOM {
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
