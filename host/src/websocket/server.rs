//! A WebSocket that a plugin serves: the server side of RFC 6455.
//!
//! Text and binary messages are passed to the plugin whole; control frames are answered here. There is no separate
//! task: each function borrows the connection and does what can be done in both directions. So a send also reads, and a
//! receive also writes. A function that returns `Pending` wakes its caller when a retry is useful, even if the calls
//! have different wakers. While the plugin neither receives nor sends, [`drive`](ServerSocket::drive) does the rest.
//!
//! Little is buffered: one unreceived message, [`Outgoing`] up to 64 KiB and a message, one Pong. For a client that
//! sends Pings but does not read, only the last one is answered (§5.5.3).

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use plugin_api::close_data;
use proxy_websocket::{Assembly, FrameError, Message};

use super::frame::{Kind, describe, is_sendable};
use super::outgoing::Outgoing;
use super::relay::{CLOSE_LIMIT, GOING_AWAY, MessageLimits, TRY_AGAIN_LATER};
use crate::deadline::{Deadline, Deadlines};
use crate::held::HeldBytes;
use crate::side::Side;
use crate::splice::PIECES_PER_TURN;
use crate::stream::{Reader, Writer};
use crate::turn::{self, Steps};

/// A client's WebSocket after the handshake.
pub(crate) struct ServerSocket {
    assembly: Assembly,
    reading: ReadState,
    /// The client has closed its direction, or the connection has failed.
    has_ended: bool,
    /// A message that has not been received by the plugin. Nothing is read meanwhile, so a slow receiver slows its
    /// client.
    arrived: Option<Message>,
    outgoing: Outgoing,
    /// Counts the incomplete message, the arrived one, and the messages waiting for the client.
    held: HeldBytes,
    writing: WriteState,
    /// The answer to the last Ping, sent when there is room.
    pong: Option<Vec<u8>>,
    deadline: Deadline,
    waiting: DeadlineFor,
    idle: Duration,
    /// Frames and fragments.
    steps: Steps,
    /// The tasks waiting in [`poll_receive`](Self::poll_receive) and in [`poll_send`](Self::poll_send).
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

/// The result of receiving.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReceivedMessage {
    /// A text or binary message.
    Data { kind: Kind, data: Vec<u8> },
    /// Nothing more, with the content of the client's Close, if there was one.
    Closed(Option<Vec<u8>>),
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// A Close was sent, or the client has gone.
    Closed,
    /// The content is not valid for its kind.
    Invalid,
}

/// The state of the data from the client.
#[derive(Debug, PartialEq, Eq)]
enum ReadState {
    Open,
    /// It has sent a Close with this content.
    Closed(Vec<u8>),
    /// It has gone, violated the protocol, or been silent for too long.
    Failed,
}

/// The state of the data to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteState {
    Open,
    /// A Close was the last message.
    Closed,
    /// Our direction of the connection is closed, or the client reads no more.
    Over,
}

/// What the deadline limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeadlineFor {
    /// Inactivity, for half the idle limit.
    Activity,
    /// Inactivity, for the other half. A Ping was sent at the end of the first half; `written` is the position after
    /// it.
    Answer { written: u64 },
    /// The time after the last Close.
    End,
    /// Nothing: the time after the last Close is over.
    Nothing,
}

impl ServerSocket {
    /// The idle limit starts now. A message above the length limit is answered with 1009.
    pub(crate) fn new(limits: MessageLimits, deadlines: &Rc<Deadlines>) -> Self {
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        let socket = Self {
            assembly: Assembly::new(Side::Client.sender(), limits.max_len),
            reading: ReadState::Open,
            has_ended: false,
            arrived: None,
            outgoing: Outgoing::new(Side::Client, random),
            held: HeldBytes::default(),
            writing: WriteState::Open,
            pong: None,
            deadline: deadlines.slot(),
            waiting: DeadlineFor::Activity,
            idle: limits.idle,
            steps: Steps::default(),
            receiver: None,
            sender: None,
        };
        socket.deadline.arm(limits.idle / 2);
        socket
    }

    /// Queues the head that accepts the WebSocket, before anything else.
    pub(crate) fn greet(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.outgoing.push_head(write);
    }

    /// The next message; after the last one always `Closed`. Also writes waiting messages.
    pub(crate) fn poll_receive(
        &mut self,
        reader: &mut Reader<'_>,
        writer: &mut Writer<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<ReceivedMessage> {
        self.receiver = None;
        self.drive(reader, writer, cx);
        let received = match (self.arrived.take(), &self.reading) {
            (Some(Message { kind, data }), _) => {
                // Nothing was read while the message was waiting.
                self.note_activity();
                ReceivedMessage::Data { kind, data }
            }
            (None, ReadState::Closed(data)) => ReceivedMessage::Closed(Some(data.clone())),
            (None, ReadState::Failed) => ReceivedMessage::Closed(None),
            (None, ReadState::Open) => {
                self.receiver = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        Poll::Ready(received)
    }

    /// Queues a message, unless the client has to read some waiting ones first. A Close is the last.
    pub(crate) fn poll_send(
        &mut self,
        kind: Kind,
        data: &[u8],
        writer: &mut Writer<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        self.sender = None;
        self.write(writer, cx);
        while self.writing == WriteState::Open && self.outgoing.is_full() {
            if self.deadline.poll_passed(cx).is_pending() {
                self.sender = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.run_out();
            self.write(writer, cx);
        }
        let result = match self.writing {
            WriteState::Open if !is_sendable(kind, data) => Err(SendError::Invalid),
            WriteState::Open => {
                self.push(kind, data);
                self.write(writer, cx);
                Ok(())
            }
            WriteState::Closed | WriteState::Over => Err(SendError::Closed),
        };
        self.wake_waiting();
        Poll::Ready(result)
    }

    /// Writes waiting messages, answers Pings and enforces the limits; reads ahead by one message. Wakes the tasks
    /// waiting in the other functions. `cx` is woken when there is more to do: for the poller of this socket's user,
    /// which may be waiting for something else.
    pub(crate) fn drive(
        &mut self,
        reader: &mut Reader<'_>,
        writer: &mut Writer<'_>,
        cx: &mut Context<'_>,
    ) {
        // The deadline is this socket's own.
        reader.deadline().disarm();
        let mut turns = 0..PIECES_PER_TURN;
        loop {
            self.write(writer, cx);
            if self.reading != ReadState::Open || self.arrived.is_some() {
                break;
            }
            if self.steps.poll_pay(cx).is_pending() {
                break;
            }
            if turns.next().is_none() {
                turn::end(cx);
                break;
            }
            if self.read(reader, cx).is_ready() {
                continue;
            }
            if self.deadline.poll_passed(cx).is_pending() {
                break;
            }
            self.run_out();
        }
        self.wake_waiting();
    }

    /// Closes the WebSocket: writes waiting messages as long as the client reads, followed by a Close of this `code`
    /// unless one was sent, then gives the client 5 s to answer it and to close the connection. Data that still arrives
    /// is dropped.
    pub(crate) async fn close(
        &mut self,
        code: u16,
        reader: &mut Reader<'_>,
        writer: &mut Writer<'_>,
    ) {
        self.push_close(&close_data(code, ""));
        reader.deadline().disarm();
        std::future::poll_fn(|cx| self.poll_close(reader, writer, cx)).await;
    }

    /// Bytes that have been written.
    pub(crate) fn sent(&self) -> u64 {
        self.outgoing.sent()
    }

    fn poll_close(
        &mut self,
        reader: &mut Reader<'_>,
        writer: &mut Writer<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        for _ in 0..PIECES_PER_TURN {
            self.write(writer, cx);
            let may_shut_down = self.reading != ReadState::Open && self.outgoing.is_empty();
            if may_shut_down && self.writing != WriteState::Over {
                // The result does not matter any more.
                if writer.poll_shutdown(cx).is_ready() {
                    self.writing = WriteState::Over;
                }
            }
            let is_over = self.has_ended && self.writing == WriteState::Over;
            if is_over || self.waiting == DeadlineFor::Nothing {
                return Poll::Ready(());
            }
            self.arrived = None;
            ready!(self.steps.poll_pay(cx));
            if !self.has_ended && self.read(reader, cx).is_ready() {
                continue;
            }
            ready!(self.deadline.poll_passed(cx));
            self.run_out();
        }
        turn::end(cx);
        Poll::Pending
    }

    /// Reads once, unless received bytes are waiting, and parses up to the next message.
    fn read(&mut self, reader: &mut Reader<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if reader.buffered().is_empty() {
            match ready!(reader.poll_fill(cx)) {
                // A client that does not read the end is not kept alive by its data.
                Ok(1..) if self.writing != WriteState::Open => {}
                Ok(1..) => self.note_activity(),
                Ok(0) | Err(_) => {
                    self.has_ended = true;
                    self.fail();
                }
            }
        }
        while self.reading == ReadState::Open
            && self.arrived.is_none()
            && !reader.buffered().is_empty()
            // The rest gets its turn later.
            && !self.steps.is_due()
        {
            self.take_frames(reader);
        }
        self.count_held();
        if self.reading != ReadState::Open {
            let len = reader.buffered().len();
            reader.consume(len);
        }
        Poll::Ready(())
    }

    /// Counts the buffered bytes, and closes the WebSocket if the worker's limit is exceeded.
    fn count_held(&mut self) {
        let arrived = self.arrived.as_ref();
        let arrived = arrived.map_or(0, |message| message.data.len());
        let unfinished = self.assembly.pending_len() + arrived;
        let len = unfinished as u64 + self.outgoing.waiting();
        let Err(full) = self.held.set(len) else {
            return;
        };
        if self.reading == ReadState::Open {
            tracing::warn!(error = %full, "closing a WebSocket");
            self.push_close(&close_data(TRY_AGAIN_LATER, ""));
            self.fail();
            // The incomplete message frees its memory at once.
            self.assembly = Assembly::new(Side::Client.sender(), 0);
            self.count_held();
        }
    }

    /// Parses frames up to the end of a message.
    fn take_frames(&mut self, reader: &mut Reader<'_>) {
        let mut rest = reader.buffered();
        let len = rest.len();
        let taken = self.assembly.next(&mut rest);
        let len = len - rest.len();
        reader.consume(len);
        self.steps.add_bytes(len);
        match taken {
            Ok(None) => {}
            Ok(Some(message)) => self.take(message),
            Err(fault) => self.refuse(fault),
        }
    }

    fn take(&mut self, message: Message) {
        match message.kind {
            Kind::Text | Kind::Binary => self.arrived = Some(message),
            Kind::Ping if self.outgoing.is_full() => self.pong = Some(message.data),
            Kind::Ping => self.push(Kind::Pong, &message.data),
            Kind::Close => {
                // The code, if there is one, without the reason.
                let answer = message.data.get(..2).unwrap_or_default();
                self.push_close(answer);
                self.reading = ReadState::Closed(message.data);
            }
            // A Pong, which needs no action.
            _ => {}
        }
    }

    fn refuse(&mut self, fault: FrameError) {
        tracing::debug!(fault = %describe(fault), "the client violated the WebSocket protocol");
        self.push_close(&close_data(fault.close_code(), ""));
        self.fail();
    }

    fn fail(&mut self) {
        if self.reading == ReadState::Open {
            self.reading = ReadState::Failed;
        }
    }

    /// Writes as much as the client accepts now.
    fn write(&mut self, writer: &mut Writer<'_>, cx: &mut Context<'_>) {
        while self.writing != WriteState::Over {
            let before = match self.waiting {
                DeadlineFor::Answer { written } => written.max(self.outgoing.sent()),
                _ => self.outgoing.sent(),
            };
            let written = self.outgoing.poll_write(writer.half(), cx);
            if self.outgoing.sent() > before {
                self.note_activity();
            }
            match written {
                Poll::Ready(Err(error)) => self.lose(&error),
                Poll::Ready(Ok(())) if self.writing == WriteState::Closed => self.await_end(),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if self.outgoing.is_full() {
                return;
            }
            match self.pong.take() {
                Some(data) => self.push(Kind::Pong, &data),
                None => return,
            }
        }
    }

    /// Handles a client that reads no more.
    fn lose(&mut self, error: &io::Error) {
        tracing::debug!(%error, "writing to the client of a WebSocket failed");
        self.outgoing.clear();
        self.writing = WriteState::Over;
        self.await_end();
    }

    /// Queues a message, unless a Close was the last one.
    fn push(&mut self, kind: Kind, data: &[u8]) {
        if self.writing != WriteState::Open {
            return;
        }
        if kind == Kind::Close {
            self.pong = None;
            self.writing = WriteState::Closed;
        }
        let pushed = self.outgoing.push_copy(kind, data);
        debug_assert!(pushed.is_ok(), "nothing to a client is masked");
    }

    fn push_close(&mut self, data: &[u8]) {
        self.push(Kind::Close, data);
    }

    fn note_activity(&mut self) {
        if matches!(
            self.waiting,
            DeadlineFor::Activity | DeadlineFor::Answer { .. }
        ) {
            self.wait(DeadlineFor::Activity, self.idle / 2);
        }
    }

    fn await_end(&mut self) {
        if !matches!(self.waiting, DeadlineFor::End | DeadlineFor::Nothing) {
            self.wait(DeadlineFor::End, CLOSE_LIMIT);
        }
    }

    /// Handles the expired deadline.
    fn run_out(&mut self) {
        match self.waiting {
            DeadlineFor::Activity => {
                // After data that the client does not read, it would not be read either.
                let written = if self.outgoing.is_empty() {
                    self.push(Kind::Ping, b"");
                    self.outgoing.queued()
                } else {
                    0
                };
                self.wait(DeadlineFor::Answer { written }, self.idle - self.idle / 2);
            }
            DeadlineFor::Answer { .. } => {
                self.push_close(&close_data(GOING_AWAY, ""));
                self.fail();
                self.await_end();
            }
            DeadlineFor::End | DeadlineFor::Nothing => {
                self.fail();
                self.waiting = DeadlineFor::Nothing;
            }
        }
    }

    fn wait(&mut self, waiting: DeadlineFor, within: Duration) {
        self.waiting = waiting;
        self.deadline.arm(within);
    }

    fn wake_waiting(&mut self) {
        if self.arrived.is_some() || self.reading != ReadState::Open {
            self.receiver.take().into_iter().for_each(Waker::wake);
        }
        if self.writing != WriteState::Open || !self.outgoing.is_full() {
            self.sender.take().into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests;
