//! CONNECT and upgraded connections: relays bytes in both directions (RFC 9110 §9.3.6).
//!
//! Each direction copies first and splices once it has moved [`splice::WORTH_IT`] bytes, unless an end is TLS. A
//! half-close is forwarded, to TLS as `close_notify`, and the other direction continues; a reset resets both sides, so
//! that a broken stream is not taken for a complete one. An idle tunnel is closed after the idle limit; a half-closed
//! one after its shorter limit, unless bytes wait for their receiver. An idle tunnel holds no buffers.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut;

use crate::buffers;
use crate::deadline::Deadlines;
use crate::in_flight::Moved;
use crate::side::Side;
use crate::splice::{self, Filled, PIECES_PER_TURN, PipeInUse};
use crate::transport::{ReadHalf, Transport, WriteHalf};
use crate::turn;

/// One end of a tunnel: the connection, and bytes that have already been received from it.
pub(crate) struct TunnelEnd {
    pub(crate) transport: Transport,
    pub(crate) received: Vec<u8>,
    /// The most that one read takes, in bytes.
    pub(crate) read_len: usize,
}

/// How long a tunnel may be idle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TunnelLimits {
    pub(crate) idle: Duration,
    /// The same after one side has closed its direction.
    pub(crate) half_closed: Duration,
}

impl TunnelLimits {
    /// The limit that holds now.
    pub(crate) fn within(&self, is_half_closed: bool) -> Duration {
        match is_half_closed {
            true => self.half_closed.min(self.idle),
            false => self.idle,
        }
    }
}

/// What went through a tunnel.
#[derive(Debug)]
pub(crate) struct Relayed {
    pub(crate) to_upstream: u64,
    pub(crate) to_client: u64,
    pub(crate) end: TunnelEndReason,
}

/// Why a tunnel ended.
#[derive(Debug)]
pub(crate) enum TunnelEndReason {
    /// Both sides closed.
    Closed,
    /// The idle limit has passed.
    Idle,
    /// A connection failed, by this kind of error.
    Failed(io::ErrorKind),
}

impl std::fmt::Display for TunnelEndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("both sides closed"),
            Self::Idle => f.write_str("idle timeout"),
            Self::Failed(kind) => write!(f, "{kind}"),
        }
    }
}

/// Relays until both sides have closed, one fails, or the tunnel is idle for as long as `limits` allow.
pub(crate) async fn relay(
    mut client: TunnelEnd,
    mut upstream: TunnelEnd,
    deadlines: &Rc<Deadlines>,
    limits: TunnelLimits,
    watcher: Option<&dyn TunnelWatcher>,
    moved: &Moved,
) -> Relayed {
    let client_channel = client.transport.channel();
    let (client_reader, client_writer) = client.transport.split();
    let (upstream_reader, upstream_writer) = upstream.transport.split();
    let mut inbound = Direction::new(
        client_reader,
        upstream_writer,
        client.received,
        client.read_len,
        watcher.map(|watcher| Watch {
            watcher,
            from: Side::Client,
        }),
        &moved.to_upstream,
    );
    let mut outbound = Direction::new(
        upstream_reader,
        client_writer,
        upstream.received,
        upstream.read_len,
        watcher.map(|watcher| Watch {
            watcher,
            from: Side::Upstream,
        }),
        &moved.to_client,
    );
    let deadline = deadlines.slot();
    deadline.arm(limits.idle);
    let mut was_half_closed = false;
    let result: io::Result<()> = std::future::poll_fn(|cx| {
        let inbound_is_over = inbound.poll_until_over(cx, &outbound)?.is_ready();
        let outbound_is_over = outbound.poll_until_over(cx, &inbound)?.is_ready();
        if inbound_is_over && outbound_is_over {
            return Poll::Ready(Ok(()));
        }
        // A client that has closed its direction is not read any more; its channel reports a reset.
        if inbound_is_over
            && let Some(channel) = &client_channel
            && channel.poll_reset(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let is_half_closed = inbound_is_over || outbound_is_over;
        let has_closed = std::mem::replace(&mut was_half_closed, is_half_closed) != is_half_closed;
        if inbound.take_activity() | outbound.take_activity() | has_closed {
            // A peer that reads slowly is not the one that has closed.
            let is_held_up = inbound.is_held_up() || outbound.is_held_up();
            deadline.arm(limits.within(is_half_closed && !is_held_up));
        }
        deadline
            .poll_passed(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await;
    let (to_upstream, to_client) = (inbound.moved.get(), outbound.moved.get());
    let end = match result {
        Ok(()) => TunnelEndReason::Closed,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => TunnelEndReason::Idle,
        Err(error) => {
            inbound.reset_on_close();
            outbound.reset_on_close();
            TunnelEndReason::Failed(error.kind())
        }
    };
    Relayed {
        to_upstream,
        to_client,
        end,
    }
}

/// Observes the bytes of a tunnel.
pub(crate) trait TunnelWatcher {
    /// Called with bytes before they are relayed; returns the bytes to relay instead, if they differ.
    ///
    /// # Errors
    /// The tunnel is to be closed.
    fn see(&self, from: Side, bytes: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Called at the end of a direction; returns bytes to relay before it.
    ///
    /// # Errors
    /// The tunnel is to be closed.
    fn see_end(&self, from: Side) -> io::Result<Option<Vec<u8>>> {
        let _ = from;
        Ok(None)
    }

    /// Whether it still needs the bytes of this side. Once it does not, the direction may be spliced.
    fn is_needed(&self, from: Side) -> bool {
        let _ = from;
        true
    }
}

#[derive(Clone, Copy)]
struct Watch<'a> {
    watcher: &'a dyn TunnelWatcher,
    from: Side,
}

/// One direction of a tunnel.
struct Direction<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    state: State,
    pending: Vec<u8>,
    written: usize,
    pipe: PipeInUse,
    moved: &'a Cell<u64>,
    is_active: bool,
    /// The receiver reads no more for now.
    is_blocked: bool,
    /// Whether the bytes may go from socket to socket through a pipe.
    may_splice: bool,
    read_len: usize,
    watch: Option<Watch<'a>>,
    /// What is pending arrived before the tunnel was open, and has not been shown to the watcher.
    is_unseen: bool,
    /// The watcher has refused the bytes, which ends the tunnel.
    is_refused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Copying,
    Splicing,
    /// The sender has closed; what is pending still goes out.
    Draining,
    /// The receiver reads no more, but the sender may still read what was sent to it: its bytes are discarded.
    Discarding,
    Over,
}

impl<'a> Direction<'a> {
    fn new(
        from: ReadHalf<'a>,
        to: WriteHalf<'a>,
        received: Vec<u8>,
        read_len: usize,
        watch: Option<Watch<'a>>,
        moved: &'a Cell<u64>,
    ) -> Self {
        moved.set(received.len() as u64);
        let watch = watch.filter(|watch| watch.watcher.is_needed(watch.from));
        let mut direction = Self {
            from,
            to,
            state: State::Copying,
            moved,
            pending: received,
            written: 0,
            pipe: PipeInUse::default(),
            is_active: false,
            is_blocked: false,
            may_splice: false,
            read_len,
            watch,
            is_unseen: true,
            is_refused: false,
        };
        direction.settle_splicing();
        direction
    }

    fn settle_splicing(&mut self) {
        let is_plain = self.from.plain().is_some() && self.to.plain().is_some();
        self.may_splice = splice::IS_AVAILABLE && is_plain && self.watch.is_none();
    }

    /// Makes the coming close of the receiver a reset.
    fn reset_on_close(&self) {
        self.to.link().reset_on_close();
    }

    fn take_activity(&mut self) -> bool {
        std::mem::take(&mut self.is_active)
    }

    /// Whether bytes wait for the receiver to take those before them.
    fn is_held_up(&self) -> bool {
        self.is_blocked || !self.pipe.is_empty()
    }

    /// As [`poll_relay`](Self::poll_relay). A receiver that stops reading after it has closed its own direction ends this
    /// direction only: a reset now could discard the last bytes it sent.
    fn poll_until_over(&mut self, cx: &mut Context<'_>, other: &Self) -> Poll<io::Result<()>> {
        match self.poll_relay(cx) {
            Poll::Ready(Err(_))
                if other.state == State::Over
                    && self.state != State::Discarding
                    && !self.is_refused =>
            {
                self.release();
                self.pipe = PipeInUse::default();
                self.state = State::Discarding;
                self.poll_relay(cx)
            }
            result => result,
        }
    }

    /// Ready once the sender's end of stream has been forwarded.
    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..PIECES_PER_TURN {
            let written = self.poll_write_pending(cx);
            self.is_blocked = written.is_pending();
            ready!(written)?;
            match self.state {
                State::Copying => ready!(self.poll_read(cx))?,
                State::Splicing => ready!(self.poll_splice(cx))?,
                State::Discarding => {
                    ready!(self.poll_read(cx))?;
                    self.release();
                }
                State::Draining => {
                    // A peer that has disconnected needs no notice.
                    let _ = ready!(self.to.poll_shutdown(cx));
                    self.state = State::Over;
                }
                State::Over => return Poll::Ready(Ok(())),
            }
        }
        turn::end(cx);
        Poll::Pending
    }

    fn poll_write_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_unseen) {
            self.show_pending()?;
        }
        while self.written < self.pending.len() {
            let rest = &self.pending[self.written..];
            let len = ready!(self.to.poll_write(cx, rest))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += len;
            self.is_active = true;
        }
        self.release();
        self.to.poll_flush(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = buffers::large();
        let mut room = (&mut buffer).limit(self.read_len);
        let result = self.from.poll_read(cx, &mut room);
        self.pending = buffer;
        match result {
            Poll::Ready(Ok(0)) => {
                let is_seen = self.state != State::Discarding;
                self.state = State::Draining;
                if is_seen {
                    self.show_end()?;
                }
            }
            Poll::Ready(Ok(len)) => {
                self.count(len as u64);
                if self.state != State::Discarding {
                    self.show_pending()?;
                }
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                self.release();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some(from), Some(to)) = (self.from.plain(), self.to.plain()) else {
            self.state = State::Copying;
            return Poll::Ready(Ok(()));
        };
        let is_active = &mut self.is_active;
        ready!(splice::poll_empty(&mut self.pipe, to, cx, || *is_active = true))?;
        let filled = splice::poll_fill(from, &mut self.pipe, u64::MAX, cx);
        match ready!(filled)? {
            Filled::Bytes(0) => self.state = State::Draining,
            Filled::Bytes(len) => self.count(len),
            Filled::NoPipe => {
                self.may_splice = false;
                self.state = State::Copying;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Shows the watcher what is about to be written.
    fn show_pending(&mut self) -> io::Result<()> {
        let Some(Watch { watcher, from }) = self.watch else {
            return Ok(());
        };
        if self.pending.is_empty() {
            return Ok(());
        }
        let seen = watcher.see(from, &self.pending);
        self.is_refused = seen.is_err();
        if let Some(replacement) = seen? {
            self.release();
            self.pending = replacement;
        }
        if !watcher.is_needed(from) {
            self.watch = None;
            self.settle_splicing();
        }
        Ok(())
    }

    /// Shows the watcher the end of the direction.
    fn show_end(&mut self) -> io::Result<()> {
        let Some(Watch { watcher, from }) = self.watch else {
            return Ok(());
        };
        let seen = watcher.see_end(from);
        self.is_refused = seen.is_err();
        if let Some(rest) = seen? {
            self.release();
            self.pending = rest;
        }
        Ok(())
    }

    fn count(&mut self, len: u64) {
        self.is_active = true;
        let moved = self.moved.get() + len;
        self.moved.set(moved);
        if self.may_splice && self.state == State::Copying && moved >= splice::WORTH_IT {
            self.state = State::Splicing;
        }
    }

    fn release(&mut self) {
        self.written = 0;
        if self.pending.capacity() > 0 {
            buffers::give_back(std::mem::take(&mut self.pending));
        }
    }
}

impl Drop for Direction<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
