//! A WebSocket that is served by a plugin: the server side of RFC 6455.
//!
//! Text and binary messages are handed out whole; control frames are answered here. No task of its own: whoever calls a
//! function lends the connection, and what can be done then is done, in both directions. So a send makes room by itself,
//! and a receive writes what waits. What returns `Pending` wakes its caller when it is worth a try again, also when the
//! calls have different wakers. While nobody receives or sends, [`drive`](ServerSocket::drive) does the rest.
//!
//! Little is held: one message that nobody has received yet, [`Outgoing`] up to 64 KiB and a message, one Pong. A client
//! that sends Pings and reads nothing gets its last one answered (§5.5.3).

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
use crate::held::Held;
use crate::side::Side;
use crate::splice::PIECES_PER_TURN;
use crate::stream::{Reader, Writer};
use crate::turn::{self, Steps};

/// A WebSocket of a client's, behind the handshake.
pub(crate) struct ServerSocket {
    assembly: Assembly,
    reading: Reading,
    /// The client's direction of the connection is closed, or has failed.
    has_ended: bool,
    /// A message that nobody has received yet. Nothing is read meanwhile, so that a slow receiver slows its client.
    arrived: Option<Message>,
    outgoing: Outgoing,
    /// Counts the unfinished message, the one that has arrived, and what waits for the client.
    held: Held,
    writing: Writing,
    /// Answers the last Ping, once there is room.
    pong: Option<Vec<u8>>,
    deadline: Deadline,
    waiting: Waiting,
    idle: Duration,
    /// Frames and parts of them.
    steps: Steps,
    /// Who waits in [`poll_receive`](Self::poll_receive) and in [`poll_send`](Self::poll_send).
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A text or binary message.
    Message { kind: Kind, data: Vec<u8> },
    /// Nothing more, with what the client's Close says; `None`: there was none.
    Closed(Option<Vec<u8>>),
}

/// Why a message is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// A Close was sent, or the client is gone.
    Closed,
    /// A message of its kind must not say that.
    Invalid,
}

/// How far the client has come with what it says.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Open,
    /// This is what its Close says.
    Closed(Vec<u8>),
    /// It is gone, has broken the protocol, or said nothing for too long.
    Failed,
}

/// How far we have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// A Close was the last.
    Closed,
    /// Our direction of the connection is closed, or the client takes no more.
    Over,
}

/// What the deadline is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// Anything to move, for half the idle limit.
    Activity,
    /// The same for the other half. The first half has ended with a Ping, and what is written up to here is that.
    Answer { written: u64 },
    /// The end, after the last Close.
    End,
    /// It has passed after the last Close.
    Nothing,
}

impl ServerSocket {
    /// The idle limit counts from now. A message beyond the other limit is answered with 1009.
    pub(crate) fn new(limits: MessageLimits, deadlines: &Rc<Deadlines>) -> Self {
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        let socket = Self {
            assembly: Assembly::new(Side::Client.sender(), limits.max_len),
            reading: Reading::Open,
            has_ended: false,
            arrived: None,
            outgoing: Outgoing::new(Side::Client, random),
            held: Held::default(),
            writing: Writing::Open,
            pong: None,
            deadline: deadlines.slot(),
            waiting: Waiting::Activity,
            idle: limits.idle,
            steps: Steps::default(),
            receiver: None,
            sender: None,
        };
        socket.deadline.arm(limits.idle / 2);
        socket
    }

    /// Has the head written that accepts the WebSocket, before anything else.
    pub(crate) fn greet(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.outgoing.push_head(write);
    }

    /// The next message; after the last one always `Closed`. Writes what waits meanwhile.
    pub(crate) fn poll_receive(
        &mut self,
        reader: &mut Reader<'_>,
        writer: &mut Writer<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Received> {
        self.receiver = None;
        self.drive(reader, writer, cx);
        let received = match (self.arrived.take(), &self.reading) {
            (Some(Message { kind, data }), _) => {
                // As long as it waited, nobody has listened to the client.
                self.note_activity();
                Received::Message { kind, data }
            }
            (None, Reading::Closed(data)) => Received::Closed(Some(data.clone())),
            (None, Reading::Failed) => Received::Closed(None),
            (None, Reading::Open) => {
                self.receiver = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        Poll::Ready(received)
    }

    /// Takes a message, unless so much waits that the client has to take some of it first. A Close is the last.
    pub(crate) fn poll_send(
        &mut self,
        kind: Kind,
        data: &[u8],
        writer: &mut Writer<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NotSent>> {
        self.sender = None;
        self.write(writer, cx);
        while self.writing == Writing::Open && self.outgoing.is_full() {
            if self.deadline.poll_passed(cx).is_pending() {
                self.sender = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.run_out();
            self.write(writer, cx);
        }
        let result = match self.writing {
            Writing::Open if !is_sendable(kind, data) => Err(NotSent::Invalid),
            Writing::Open => {
                self.push(kind, data);
                self.write(writer, cx);
                Ok(())
            }
            Writing::Closed | Writing::Over => Err(NotSent::Closed),
        };
        self.wake_waiting();
        Poll::Ready(result)
    }

    /// Writes what waits, answers Pings and keeps to the limits; reads ahead by one message. Wakes those who wait in
    /// the other functions. `cx` is woken when there is more to do: for whoever polls the user of this socket, which may
    /// be waiting for something else.
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
            if self.reading != Reading::Open || self.arrived.is_some() {
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

    /// Says goodbye: has what waits written as long as the client takes it, with a Close of this `code` behind it unless
    /// one was sent, then gives the client 5 s to answer it and to close the connection. What still comes is dropped.
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
            let may_shut_down = self.reading != Reading::Open && self.outgoing.is_empty();
            if may_shut_down && self.writing != Writing::Over {
                // Whether it succeeds makes no difference any more.
                if writer.poll_shutdown(cx).is_ready() {
                    self.writing = Writing::Over;
                }
            }
            let is_over = self.has_ended && self.writing == Writing::Over;
            if is_over || self.waiting == Waiting::Nothing {
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

    /// Reads once, unless something waits to be looked at, and looks at it as far as to the next message.
    fn read(&mut self, reader: &mut Reader<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if reader.buffered().is_empty() {
            match ready!(reader.poll_fill(cx)) {
                // A client that does not take the end does not stay by talking.
                Ok(1..) if self.writing != Writing::Open => {}
                Ok(1..) => self.note_activity(),
                Ok(0) | Err(_) => {
                    self.has_ended = true;
                    self.fail();
                }
            }
        }
        while self.reading == Reading::Open
            && self.arrived.is_none()
            && !reader.buffered().is_empty()
            // The rest has its turn later.
            && !self.steps.is_due()
        {
            self.take_frames(reader);
        }
        self.count_held();
        if self.reading != Reading::Open {
            let len = reader.buffered().len();
            reader.consume(len);
        }
        Poll::Ready(())
    }

    /// Counts what is held of messages, and closes the WebSocket if that is too much for this worker.
    fn count_held(&mut self) {
        let arrived = self.arrived.as_ref();
        let arrived = arrived.map_or(0, |message| message.data.len());
        let unfinished = self.assembly.pending_len() + arrived;
        let len = unfinished as u64 + self.outgoing.waiting();
        let Err(full) = self.held.set(len) else {
            return;
        };
        if self.reading == Reading::Open {
            tracing::warn!(error = %full, "closing a WebSocket");
            self.push_close(&close_data(TRY_AGAIN_LATER, ""));
            self.fail();
            // What has come of the message makes room at once.
            self.assembly = Assembly::new(Side::Client.sender(), 0);
            self.count_held();
        }
    }

    /// Takes the frames of one message off what has come.
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
                self.reading = Reading::Closed(message.data);
            }
            // A Pong, which nobody waits for.
            _ => {}
        }
    }

    fn refuse(&mut self, fault: FrameError) {
        tracing::debug!(fault = %describe(fault), "the client violated the WebSocket protocol");
        self.push_close(&close_data(fault.close_code(), ""));
        self.fail();
    }

    fn fail(&mut self) {
        if self.reading == Reading::Open {
            self.reading = Reading::Failed;
        }
    }

    /// Writes what the client takes now.
    fn write(&mut self, writer: &mut Writer<'_>, cx: &mut Context<'_>) {
        while self.writing != Writing::Over {
            let before = match self.waiting {
                Waiting::Answer { written } => written.max(self.outgoing.sent()),
                _ => self.outgoing.sent(),
            };
            let written = self.outgoing.poll_write(writer.half(), cx);
            if self.outgoing.sent() > before {
                self.note_activity();
            }
            match written {
                Poll::Ready(Err(error)) => self.lose(&error),
                Poll::Ready(Ok(())) if self.writing == Writing::Closed => self.await_end(),
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

    /// The client takes nothing any more.
    fn lose(&mut self, error: &io::Error) {
        tracing::debug!(%error, "writing to the client of a WebSocket failed");
        self.outgoing.clear();
        self.writing = Writing::Over;
        self.await_end();
    }

    /// Puts a message behind the others, unless a Close is the last.
    fn push(&mut self, kind: Kind, data: &[u8]) {
        if self.writing != Writing::Open {
            return;
        }
        if kind == Kind::Close {
            self.pong = None;
            self.writing = Writing::Closed;
        }
        let pushed = self.outgoing.push_copy(kind, data);
        debug_assert!(pushed.is_ok(), "nothing to a client is masked");
    }

    fn push_close(&mut self, data: &[u8]) {
        self.push(Kind::Close, data);
    }

    fn note_activity(&mut self) {
        if matches!(self.waiting, Waiting::Activity | Waiting::Answer { .. }) {
            self.wait(Waiting::Activity, self.idle / 2);
        }
    }

    fn await_end(&mut self) {
        if !matches!(self.waiting, Waiting::End | Waiting::Nothing) {
            self.wait(Waiting::End, CLOSE_LIMIT);
        }
    }

    /// The deadline has passed.
    fn run_out(&mut self) {
        match self.waiting {
            Waiting::Activity => {
                // Behind what the client does not take it would not be read either.
                let written = if self.outgoing.is_empty() {
                    self.push(Kind::Ping, b"");
                    self.outgoing.queued()
                } else {
                    0
                };
                self.wait(Waiting::Answer { written }, self.idle - self.idle / 2);
            }
            Waiting::Answer { .. } => {
                self.push_close(&close_data(GOING_AWAY, ""));
                self.fail();
                self.await_end();
            }
            Waiting::End | Waiting::Nothing => {
                self.fail();
                self.waiting = Waiting::Nothing;
            }
        }
    }

    fn wait(&mut self, waiting: Waiting, within: Duration) {
        self.waiting = waiting;
        self.deadline.arm(within);
    }

    fn wake_waiting(&mut self) {
        if self.arrived.is_some() || self.reading != Reading::Open {
            self.receiver.take().into_iter().for_each(Waker::wake);
        }
        if self.writing != Writing::Open || !self.outgoing.is_full() {
            self.sender.take().into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests;
