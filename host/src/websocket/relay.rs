//! Relays a WebSocket message by message, through the plugins that observe it.
//!
//! Each message goes on whole, in one frame with a mask of its own; a control message does not wait for the end of a
//! fragmented one. A side is read only while the other one takes what is there for it, so that a slow reader slows its
//! sender and little is held. A half-close is passed on, a reset ends both sides with a reset, as in a tunnel: without a
//! Close nobody takes the WebSocket for a whole one.
//!
//! It is over when both sides have sent a Close, or were sent one: then the proxy closes both connections, at the latest
//! after [`CLOSE_LIMIT`], and what still comes is dropped. That is also how it ends when the proxy closes it: for a peer
//! that breaks the protocol, a plugin that fails or wants it so, or when nothing has moved for the idle limit, or since a
//! half-close for the shorter limit of that.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut;
use plugin_api::close_data;
use proxy_websocket::{Assembly, FrameError, Message, Sender};
use rustls::crypto::SecureRandom;

use super::frame::{Kind, describe};
use super::outgoing::Outgoing;
use crate::buffers;
use crate::deadline::{Deadline, Deadlines};
use crate::held::{Full, Held};
use crate::side::Side;
use crate::splice::PIECES_PER_TURN;
use crate::transport::{ReadHalf, WriteHalf};
use crate::tunnel::{Moved, Relayed, TunnelEnd, TunnelEndReason, TunnelLimits};
use crate::turn::{self, Steps};

/// How long peers may take to close their connections after the last Close.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The proxy ends it, and neither side is to blame (RFC 6455 §7.4.1).
pub(super) const GOING_AWAY: u16 = 1001;
/// A plugin failed.
const INTERNAL_ERROR: u16 = 1011;
/// There is no room for a message now (the registry of close codes, RFC 6455 §11.7).
pub(super) const TRY_AGAIN_LATER: u16 = 1013;

/// Who sees the messages.
pub(crate) trait MessageWatcher {
    /// Sees bytes before frames are read from them; gives what is read in their place, if it is something else.
    ///
    /// # Errors
    /// The connections end here, with a reset.
    fn see_bytes(&self, from: Side, bytes: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Sees a message that is about to go on.
    fn see(&self, from: Side, kind: Kind, data: &[u8]) -> Answer;
}

/// What those who have seen a message want.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Messages of their own, which go out before it. All of them are sendable.
    pub(crate) sent: Vec<Sent>,
    pub(crate) becomes: Becomes,
}

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Becomes {
    /// It goes on.
    Same,
    /// This goes on in its place; it is sendable as a message of that kind.
    Other(Vec<u8>),
    /// Nothing goes on in its place.
    Nothing,
    /// The WebSocket is closed.
    Closed,
    /// Somebody failed, which has been told.
    Failed,
}

/// A message of a plugin's own.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) to: Side,
    pub(crate) kind: Kind,
    pub(crate) data: Vec<u8>,
}

/// What a WebSocket may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    /// How long nothing may move.
    pub(crate) idle: Duration,
    /// The longest message, in bytes.
    pub(crate) max_len: u64,
}

/// Relays until the WebSocket is over, a connection fails, or nothing moves for as long as it may: once a side has closed
/// its direction, for `half_closed`, unless bytes wait for the other side to read.
pub(crate) async fn relay(
    mut client: TunnelEnd,
    mut upstream: TunnelEnd,
    deadlines: &Rc<Deadlines>,
    limits: MessageLimits,
    half_closed: Duration,
    watcher: &dyn MessageWatcher,
    moved: &Moved,
) -> Relayed {
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    let mut relay = Relay {
        client: End::new(Side::Client, &mut client, limits, random),
        upstream: End::new(Side::Upstream, &mut upstream, limits, random),
        watcher,
        moved,
        deadline: deadlines.slot(),
        limits: TunnelLimits {
            idle: limits.idle,
            half_closed,
        },
        is_active: false,
        is_ending: false,
        is_late: false,
        steps: Steps::default(),
    };
    relay.deadline.arm(limits.idle);
    let result = std::future::poll_fn(|cx| relay.poll(cx)).await;
    let end = match result {
        Ok(()) if relay.is_late => TunnelEndReason::Idle,
        Ok(()) => TunnelEndReason::Closed,
        Err(error) => {
            relay.client.to.link().reset_on_close();
            relay.upstream.to.link().reset_on_close();
            TunnelEndReason::Failed(error.kind())
        }
    };
    Relayed {
        to_upstream: relay.upstream.outgoing.sent(),
        to_client: relay.client.outgoing.sent(),
        end,
    }
}

/// One side's connection.
struct End<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    read_len: usize,
    /// Bytes that have come and were not looked at; a buffer only while there are any.
    received: Vec<u8>,
    /// How many of them were.
    start: usize,
    /// They came before the WebSocket began, and no plugin has seen them.
    is_unseen: bool,
    assembly: Assembly,
    /// Counts its unfinished message, and what waits for it.
    held: Held,
    reading: Reading,
    outgoing: Outgoing,
    writing: Writing,
}

/// How far a side has come with what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Open,
    /// Its Close has come, so that it has nothing more to say.
    Closed,
    /// Its direction of the connection is closed.
    Over,
}

/// How far we have come with what a side is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// A Close is the last that it gets.
    Closed,
    /// Our direction of the connection is closed, or it takes no more.
    Over,
}

struct Relay<'a> {
    client: End<'a>,
    upstream: End<'a>,
    watcher: &'a dyn MessageWatcher,
    moved: &'a Moved,
    deadline: Deadline,
    limits: TunnelLimits,
    /// Something has moved since the deadline was set.
    is_active: bool,
    /// Nothing is read any more but the ends of the connections.
    is_ending: bool,
    /// It ends because nothing has moved.
    is_late: bool,
    /// Messages and parts of them.
    steps: Steps,
}

impl<'a> Relay<'a> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..PIECES_PER_TURN {
            self.send(Side::Client, cx)?;
            self.send(Side::Upstream, cx)?;
            if self.client.is_over() && self.upstream.is_over() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.steps.poll_pay(cx));
            let has_moved = self.receive(Side::Client, cx)? | self.receive(Side::Upstream, cx)?;
            if has_moved {
                continue;
            }
            self.renew_deadline();
            match self.deadline.poll_passed(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if self.is_ending => return Poll::Ready(Ok(())),
                Poll::Ready(()) => {
                    self.is_late = true;
                    self.close_both(GOING_AWAY, GOING_AWAY)?;
                }
            }
        }
        turn::end(cx);
        Poll::Pending
    }

    /// Writes what a side takes now of what there is for it, and closes that direction when no more will come.
    fn send(&mut self, to: Side, cx: &mut Context<'_>) -> io::Result<()> {
        let (is_ending, moved) = (self.is_ending, self.moved);
        let (other, end) = self.sender_and_receiver(to.other());
        if end.writing == Writing::Over {
            return Ok(());
        }
        let before = end.outgoing.sent();
        let written = end.outgoing.poll_write(&mut end.to, cx);
        let has_moved = end.outgoing.sent() > before;
        let moved = match to {
            Side::Client => &moved.to_client,
            Side::Upstream => &moved.to_upstream,
        };
        moved.set(end.outgoing.sent());
        match written {
            Poll::Ready(Ok(())) if is_ending || other.reading == Reading::Over => {
                // A peer that is gone already needs no notice.
                if end.to.poll_shutdown(cx).is_ready() {
                    end.writing = Writing::Over;
                }
            }
            // It has said all that it had to say: a reset now could take its last words back.
            Poll::Ready(Err(_)) if is_ending || end.reading != Reading::Open => {
                end.outgoing.clear();
                end.writing = Writing::Over;
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        self.is_active |= has_moved;
        Ok(())
    }

    /// Reads once from a side and takes the messages out of it, as far as there is room for them; `false`: nothing
    /// can be done now.
    fn receive(&mut self, from: Side, cx: &mut Context<'_>) -> io::Result<bool> {
        let is_ending = self.is_ending;
        let (sender, receiver) = self.sender_and_receiver(from);
        let must_wait = receiver.outgoing.is_full() || sender.outgoing.is_full_of_echoes();
        if sender.reading == Reading::Over || must_wait && !is_ending {
            return Ok(false);
        }
        if sender.received.is_empty() {
            match sender.poll_fill(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => {
                    sender.reading = Reading::Over;
                    self.is_active = true;
                    return Ok(true);
                }
                Poll::Ready(Err(_)) if is_ending || sender.reading == Reading::Closed => {
                    sender.reading = Reading::Over;
                    return Ok(true);
                }
                Poll::Ready(result) => drop(result?),
            }
            self.is_active = true;
        }
        self.show_bytes(from)?;
        self.take_messages(from)?;
        self.count_held(from)?;
        Ok(true)
    }

    /// Lets the watcher see bytes that have just come.
    fn show_bytes(&mut self, from: Side) -> io::Result<()> {
        let (watcher, is_ending) = (self.watcher, self.is_ending);
        let (sender, _) = self.sender_and_receiver(from);
        if !std::mem::take(&mut sender.is_unseen) || sender.drops_what_comes(is_ending) {
            return Ok(());
        }
        if let Some(replacement) = watcher.see_bytes(from, &sender.received)? {
            sender.release();
            sender.received = replacement;
        }
        Ok(())
    }

    fn take_messages(&mut self, from: Side) -> io::Result<()> {
        loop {
            let is_ending = self.is_ending;
            let (sender, receiver) = self.sender_and_receiver(from);
            if sender.drops_what_comes(is_ending) {
                sender.release();
                return Ok(());
            }
            if receiver.outgoing.is_full() || sender.outgoing.is_full_of_echoes() {
                return Ok(());
            }
            // The rest has its turn later.
            if self.steps.is_due() {
                return Ok(());
            }
            let (sender, _) = self.sender_and_receiver(from);
            let (before, message) = (sender.unread_len(), sender.next_message());
            let taken = before - sender.unread_len();
            self.steps.add_bytes(taken);
            match message {
                Ok(Some(message)) => self.pass(from, message)?,
                Ok(None) => return Ok(()),
                Err(fault) => self.refuse(from, fault)?,
            }
        }
    }

    /// Shows a message and sends on what becomes of it.
    fn pass(&mut self, from: Side, message: Message) -> io::Result<()> {
        let Message { kind, data } = message;
        let watcher = self.watcher;
        let (sender, receiver) = self.sender_and_receiver(from);
        if kind == Kind::Close {
            sender.reading = Reading::Closed;
        }
        if receiver.writing == Writing::Open {
            let Answer { sent, becomes } = watcher.see(from, kind, &data);
            for Sent { to, kind, data } in sent {
                if to == from {
                    sender.send(kind, data)?;
                    sender.outgoing.mark_echo();
                } else {
                    receiver.send(kind, data)?;
                }
            }
            match becomes {
                Becomes::Same => receiver.send(kind, data)?,
                Becomes::Other(data) => receiver.send(kind, data)?,
                Becomes::Nothing => {}
                Becomes::Closed => self.close_both(GOING_AWAY, GOING_AWAY)?,
                Becomes::Failed => self.close_both(INTERNAL_ERROR, INTERNAL_ERROR)?,
            }
        }
        let (client, upstream) = (&self.client, &self.upstream);
        let are_both_told = client.writing != Writing::Open && upstream.writing != Writing::Open;
        let have_both_told = client.reading != Reading::Open && upstream.reading != Reading::Open;
        if are_both_told || have_both_told {
            self.begin_to_end();
        }
        Ok(())
    }

    /// Counts what is held of messages, and closes the WebSocket if that is too much for this worker.
    fn count_held(&mut self, from: Side) -> io::Result<()> {
        let counted = self
            .client
            .count_held()
            .and_then(|()| self.upstream.count_held());
        let Err(full @ Full) = counted else {
            return Ok(());
        };
        if self.is_ending {
            return Ok(());
        }
        tracing::warn!(error = %full, "closing a WebSocket");
        // What has come of messages makes room at once.
        for end in [&mut self.client, &mut self.upstream] {
            end.assembly = Assembly::new(Sender::Client, 0);
            // It has not grown.
            let _ = end.count_held();
        }
        match from {
            Side::Client => self.close_both(TRY_AGAIN_LATER, GOING_AWAY),
            Side::Upstream => self.close_both(GOING_AWAY, TRY_AGAIN_LATER),
        }
    }

    /// Closes a WebSocket in which `from` has broken the protocol.
    fn refuse(&mut self, from: Side, fault: FrameError) -> io::Result<()> {
        let reason = describe(fault);
        match from {
            Side::Client => {
                tracing::debug!(fault = %reason, "the client violated the WebSocket protocol");
                self.close_both(fault.close_code(), GOING_AWAY)
            }
            Side::Upstream => {
                tracing::warn!(fault = %reason, "the upstream violated the WebSocket protocol");
                self.close_both(GOING_AWAY, fault.close_code())
            }
        }
    }

    fn close_both(&mut self, client_code: u16, upstream_code: u16) -> io::Result<()> {
        self.begin_to_end();
        self.client.close(client_code)?;
        self.upstream.close(upstream_code)
    }

    fn begin_to_end(&mut self) {
        if !self.is_ending {
            self.is_ending = true;
            self.deadline.arm(CLOSE_LIMIT);
        }
    }

    /// Sets the deadline anew if something has moved. To be called when nothing can be done.
    fn renew_deadline(&mut self) {
        if !std::mem::take(&mut self.is_active) || self.is_ending {
            return;
        }
        let is_half_closed =
            self.client.reading == Reading::Over || self.upstream.reading == Reading::Over;
        // A side that takes its time to read what it is sent is not the one that has closed.
        let is_held_up = !self.client.outgoing.is_empty() || !self.upstream.outgoing.is_empty();
        self.deadline
            .arm(self.limits.within(is_half_closed && !is_held_up));
    }

    fn sender_and_receiver(&mut self, from: Side) -> (&mut End<'a>, &mut End<'a>) {
        match from {
            Side::Client => (&mut self.client, &mut self.upstream),
            Side::Upstream => (&mut self.upstream, &mut self.client),
        }
    }
}

impl<'a> End<'a> {
    fn new(
        side: Side,
        end: &'a mut TunnelEnd,
        limits: MessageLimits,
        random: &'static dyn SecureRandom,
    ) -> Self {
        let (from, to) = end.transport.split();
        Self {
            from,
            to,
            read_len: end.read_len,
            received: std::mem::take(&mut end.received),
            start: 0,
            is_unseen: true,
            assembly: Assembly::new(side.sender(), limits.max_len),
            held: Held::default(),
            reading: Reading::Open,
            outgoing: Outgoing::new(side, random),
            writing: Writing::Open,
        }
    }

    fn is_over(&self) -> bool {
        self.reading == Reading::Over && self.writing == Writing::Over
    }

    /// Whether what comes from it interests nobody.
    fn drops_what_comes(&self, is_ending: bool) -> bool {
        is_ending || self.reading != Reading::Open
    }

    /// Reads once; nothing must be waiting to be looked at.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = buffers::large();
        let mut room = (&mut buffer).limit(self.read_len);
        let result = self.from.poll_read(cx, &mut room);
        self.received = buffer;
        self.is_unseen = true;
        if self.received.is_empty() {
            self.release();
        }
        result
    }

    fn unread_len(&self) -> usize {
        self.received.len() - self.start
    }

    /// The next message of what has come, if it is whole.
    fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        let mut rest = &self.received[self.start..];
        let message = self.assembly.next(&mut rest)?;
        self.start = self.received.len() - rest.len();
        if rest.is_empty() {
            self.release();
        }
        Ok(message)
    }

    /// Has a message written, unless a Close is the last that this side gets.
    fn send(&mut self, kind: Kind, data: Vec<u8>) -> io::Result<()> {
        if self.writing != Writing::Open {
            return Ok(());
        }
        if kind == Kind::Close {
            self.writing = Writing::Closed;
        }
        self.outgoing.push(kind, data)
    }

    fn count_held(&mut self) -> Result<(), Full> {
        let unfinished = self.assembly.pending_len() as u64;
        self.held.set(unfinished + self.outgoing.waiting())
    }

    fn close(&mut self, code: u16) -> io::Result<()> {
        self.send(Kind::Close, close_data(code, ""))
    }

    fn release(&mut self) {
        self.start = 0;
        if self.received.capacity() > 0 {
            buffers::give_back(std::mem::take(&mut self.received));
        }
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
