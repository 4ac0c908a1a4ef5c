//! Relays a WebSocket message by message, through the plugins that observe it.
//!
//! Each message is forwarded whole, in one frame with a new mask; a control message does not wait for the end of a
//! fragmented one. A side is read only while the other one accepts the waiting messages, so that a slow reader slows
//! its sender and little is buffered. As in a tunnel, a half-close is forwarded, and a reset resets both sides: without
//! a Close, peers know that the WebSocket was cut off.
//!
//! It is over when both sides have sent or received a Close: then the proxy closes both connections, at the latest
//! after [`CLOSE_LIMIT`], and drops what still arrives. The proxy itself sends a Close to both sides if a peer violates
//! the protocol, if a plugin fails or requests it, or if no data has moved for the idle limit (after a half-close, for
//! the shorter limit).

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
use crate::held::{Full, HeldBytes};
use crate::in_flight::Moved;
use crate::side::Side;
use crate::splice::PIECES_PER_TURN;
use crate::transport::{ReadHalf, WriteHalf};
use crate::tunnel::{Relayed, TunnelEnd, TunnelEndReason, TunnelLimits};
use crate::turn::{self, Steps};

/// How long peers may take to close their connections after the last Close.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The proxy closes it, and neither side is to blame (RFC 6455 §7.4.1).
pub(super) const GOING_AWAY: u16 = 1001;
/// A plugin failed.
const INTERNAL_ERROR: u16 = 1011;
/// There is no room for a message now (registry of close codes, RFC 6455 §11.7).
pub(super) const TRY_AGAIN_LATER: u16 = 1013;

/// Observes messages.
pub(crate) trait MessageWatcher {
    /// Called with bytes before frames are parsed; returns their replacement, if any.
    ///
    /// # Errors
    /// Both connections are reset.
    fn see_bytes(&self, from: Side, bytes: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Called with a message before it is forwarded.
    fn see(&self, from: Side, kind: Kind, data: &[u8]) -> MessageVerdict;
}

/// The decision about a message.
#[derive(Debug)]
pub(crate) struct MessageVerdict {
    /// Additional messages, sent before it. All of them are valid.
    pub(crate) sent: Vec<PluginMessage>,
    pub(crate) action: MessageAction,
}

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum MessageAction {
    /// Forward it.
    Forward,
    /// Forward this instead; it is valid for a message of that kind.
    Replace(Vec<u8>),
    /// Drop it.
    Drop,
    /// Close the WebSocket.
    Closed,
    /// Close the WebSocket, because a plugin failed, which has been logged.
    Failed,
}

/// A message from a plugin.
#[derive(Debug)]
pub(crate) struct PluginMessage {
    pub(crate) to: Side,
    pub(crate) kind: Kind,
    pub(crate) data: Vec<u8>,
}

/// Limits of a WebSocket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    /// How long there may be no data.
    pub(crate) idle: Duration,
    /// The maximum length of a message, in bytes.
    pub(crate) max_len: u64,
}

/// Relays until the WebSocket is over, a connection fails, or no data moves within the idle limit, which is
/// `half_closed` once a side has closed its direction, unless bytes wait for the other side to read.
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
        client: Endpoint::new(Side::Client, &mut client, limits, random),
        upstream: Endpoint::new(Side::Upstream, &mut upstream, limits, random),
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

/// The connection with one side.
struct Endpoint<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    read_len: usize,
    /// Received bytes that are not parsed yet; a buffer only while there are any.
    received: Vec<u8>,
    /// The number of bytes in it that have been parsed.
    start: usize,
    /// They arrived before the WebSocket began, so no plugin has seen them.
    is_unseen: bool,
    assembly: Assembly,
    /// Counts its incomplete message, and the messages waiting for it.
    held: HeldBytes,
    reading: ReadState,
    outgoing: Outgoing,
    writing: WriteState,
}

/// The state of the data from a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    Open,
    /// It has sent a Close, and will send nothing more.
    Closed,
    /// It has closed its direction of the connection.
    Over,
}

/// The state of the data to a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteState {
    Open,
    /// A Close was the last message.
    Closed,
    /// Our direction of the connection is closed, or the side reads no more.
    Over,
}

struct Relay<'a> {
    client: Endpoint<'a>,
    upstream: Endpoint<'a>,
    watcher: &'a dyn MessageWatcher,
    moved: &'a Moved,
    deadline: Deadline,
    limits: TunnelLimits,
    /// Data has moved since the deadline was set.
    is_active: bool,
    /// Only the ends of the connections are still awaited.
    is_ending: bool,
    /// It ends because no data has moved.
    is_late: bool,
    /// Messages and fragments.
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

    /// Writes as much as a side accepts now, and closes that direction after the last message.
    fn send(&mut self, to: Side, cx: &mut Context<'_>) -> io::Result<()> {
        let (is_ending, moved) = (self.is_ending, self.moved);
        let (other, end) = self.sender_and_receiver(to.other());
        if end.writing == WriteState::Over {
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
            Poll::Ready(Ok(())) if is_ending || other.reading == ReadState::Over => {
                // A peer that has closed the connection needs no notice.
                if end.to.poll_shutdown(cx).is_ready() {
                    end.writing = WriteState::Over;
                }
            }
            // It has sent everything; a reset now could discard its last messages.
            Poll::Ready(Err(_)) if is_ending || end.reading != ReadState::Open => {
                end.outgoing.clear();
                end.writing = WriteState::Over;
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        self.is_active |= has_moved;
        Ok(())
    }

    /// Reads once from a side and parses the messages, as far as there is room for them; `false` if nothing can be done
    /// now.
    fn receive(&mut self, from: Side, cx: &mut Context<'_>) -> io::Result<bool> {
        let is_ending = self.is_ending;
        let (sender, receiver) = self.sender_and_receiver(from);
        let must_wait = receiver.outgoing.is_full() || sender.outgoing.is_full_of_echoes();
        if sender.reading == ReadState::Over || must_wait && !is_ending {
            return Ok(false);
        }
        if sender.received.is_empty() {
            match sender.poll_fill(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => {
                    sender.reading = ReadState::Over;
                    self.is_active = true;
                    return Ok(true);
                }
                Poll::Ready(Err(_)) if is_ending || sender.reading == ReadState::Closed => {
                    sender.reading = ReadState::Over;
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

    /// Shows newly arrived bytes to the watcher.
    fn show_bytes(&mut self, from: Side) -> io::Result<()> {
        let (watcher, is_ending) = (self.watcher, self.is_ending);
        let (sender, _) = self.sender_and_receiver(from);
        if !std::mem::take(&mut sender.is_unseen) || sender.drops_data(is_ending) {
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
            if sender.drops_data(is_ending) {
                sender.release();
                return Ok(());
            }
            if receiver.outgoing.is_full() || sender.outgoing.is_full_of_echoes() {
                return Ok(());
            }
            // The rest gets its turn later.
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

    /// Shows a message to the watcher and applies the decision.
    fn pass(&mut self, from: Side, message: Message) -> io::Result<()> {
        let Message { kind, data } = message;
        let watcher = self.watcher;
        let (sender, receiver) = self.sender_and_receiver(from);
        if kind == Kind::Close {
            sender.reading = ReadState::Closed;
        }
        if receiver.writing == WriteState::Open {
            let MessageVerdict { sent, action } = watcher.see(from, kind, &data);
            for PluginMessage { to, kind, data } in sent {
                if to == from {
                    sender.send(kind, data)?;
                    sender.outgoing.mark_echo();
                } else {
                    receiver.send(kind, data)?;
                }
            }
            match action {
                MessageAction::Forward => receiver.send(kind, data)?,
                MessageAction::Replace(data) => receiver.send(kind, data)?,
                MessageAction::Drop => {}
                MessageAction::Closed => self.close_both(GOING_AWAY, GOING_AWAY)?,
                MessageAction::Failed => self.close_both(INTERNAL_ERROR, INTERNAL_ERROR)?,
            }
        }
        let (client, upstream) = (&self.client, &self.upstream);
        let both_received_close =
            client.writing != WriteState::Open && upstream.writing != WriteState::Open;
        let both_sent_close =
            client.reading != ReadState::Open && upstream.reading != ReadState::Open;
        if both_received_close || both_sent_close {
            self.begin_closing();
        }
        Ok(())
    }

    /// Counts the buffered bytes, and closes the WebSocket if the worker's limit is exceeded.
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
        // Incomplete messages free their memory at once.
        for end in [&mut self.client, &mut self.upstream] {
            end.assembly = Assembly::new(Sender::Client, 0);
            // The number has not grown.
            let _ = end.count_held();
        }
        match from {
            Side::Client => self.close_both(TRY_AGAIN_LATER, GOING_AWAY),
            Side::Upstream => self.close_both(GOING_AWAY, TRY_AGAIN_LATER),
        }
    }

    /// Closes a WebSocket in which `from` has violated the protocol.
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
        self.begin_closing();
        self.client.close(client_code)?;
        self.upstream.close(upstream_code)
    }

    fn begin_closing(&mut self) {
        if !self.is_ending {
            self.is_ending = true;
            self.deadline.arm(CLOSE_LIMIT);
        }
    }

    /// Renews the deadline if data has moved. Called when nothing more can be done now.
    fn renew_deadline(&mut self) {
        if !std::mem::take(&mut self.is_active) || self.is_ending {
            return;
        }
        let is_half_closed =
            self.client.reading == ReadState::Over || self.upstream.reading == ReadState::Over;
        // A side that is slow to read is not the one that has closed.
        let is_held_up = !self.client.outgoing.is_empty() || !self.upstream.outgoing.is_empty();
        self.deadline
            .arm(self.limits.within(is_half_closed && !is_held_up));
    }

    fn sender_and_receiver(&mut self, from: Side) -> (&mut Endpoint<'a>, &mut Endpoint<'a>) {
        match from {
            Side::Client => (&mut self.client, &mut self.upstream),
            Side::Upstream => (&mut self.upstream, &mut self.client),
        }
    }
}

impl<'a> Endpoint<'a> {
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
            held: HeldBytes::default(),
            reading: ReadState::Open,
            outgoing: Outgoing::new(side, random),
            writing: WriteState::Open,
        }
    }

    fn is_over(&self) -> bool {
        self.reading == ReadState::Over && self.writing == WriteState::Over
    }

    /// Whether data from this side is dropped.
    fn drops_data(&self, is_ending: bool) -> bool {
        is_ending || self.reading != ReadState::Open
    }

    /// Reads once; everything received before must have been parsed.
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

    /// The next message, if it is complete.
    fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        let mut rest = &self.received[self.start..];
        let message = self.assembly.next(&mut rest)?;
        self.start = self.received.len() - rest.len();
        if rest.is_empty() {
            self.release();
        }
        Ok(message)
    }

    /// Queues a message, unless a Close was the last one.
    fn send(&mut self, kind: Kind, data: Vec<u8>) -> io::Result<()> {
        if self.writing != WriteState::Open {
            return Ok(());
        }
        if kind == Kind::Close {
            self.writing = WriteState::Closed;
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

impl Drop for Endpoint<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
