//! A stream of a client connection: a request is read from it, and the response is written to it.
//!
//! After the request, reads wait instead of returning the end of the stream, because that would mean that the client
//! has gone; if it really goes, they fail. If a response is dropped before its end, the stream is reset. If a response
//! ends before its request, the rest of the request is read and discarded for a while, as HTTP/1.1 connections linger:
//! some clients lose a response that arrives together with a reset. If the client has not finished by then,
//! `RST_STREAM(NO_ERROR)` follows (RFC 9113 §8.1), which `h2` sends when the last handle is dropped. Other clients stop
//! sending once a response begins, and end the stream short of their Content-Length: they get the whole response, and
//! their request stays incomplete.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use tokio::io::ReadBuf;

use super::failure::failure;
use super::incoming::{Incoming, ReadStatus};
use super::limits::{LINGER, LINGER_ROOM};
use super::message::{self, OutgoingBody, RequestKind};
use super::outgoing::{self, HeadBuffer, Outgoing};
use super::resets::StreamCounts;
use crate::http1::HeadKind;
use crate::transport::{Channel, ChannelError};

/// The total length of interim responses that are sent on a stream, in bytes of text; further ones are omitted. HTTP/2
/// has no window for heads, so they would stay in memory while a client does not read.
const INTERIM_ROOM: usize = 64 * 1024;

/// See the module.
pub(super) struct ServerStream {
    kind: RequestKind,
    /// `None` once the task that discards the rest of the request has it.
    incoming: RefCell<Option<Incoming>>,
    response: RefCell<ResponseState>,
    is_reset_on_close: Cell<bool>,
    /// The reason of the reset if there is no response.
    unanswered: Cell<Reason>,
    interim_room: Cell<usize>,
    counts: Rc<StreamCounts>,
}

/// How far the response has been written.
enum ResponseState {
    /// The final head has not been written.
    Awaited {
        respond: SendResponse<Bytes>,
        head_buffer: HeadBuffer,
    },
    Sent(Outgoing),
}

impl ServerStream {
    pub(super) fn new(
        kind: RequestKind,
        incoming: Incoming,
        respond: SendResponse<Bytes>,
        counts: Rc<StreamCounts>,
    ) -> Self {
        counts.opened();
        Self {
            kind,
            incoming: RefCell::new(Some(incoming)),
            response: RefCell::new(ResponseState::Awaited {
                respond,
                head_buffer: HeadBuffer::default(),
            }),
            is_reset_on_close: Cell::new(false),
            unanswered: Cell::new(Reason::INTERNAL_ERROR),
            interim_room: Cell::new(INTERIM_ROOM),
            counts,
        }
    }

    /// Takes bytes of a head. Returns how many, and the rest of the response if the head is the final one.
    fn write_head(
        &self,
        respond: &mut SendResponse<Bytes>,
        head_buffer: &mut HeadBuffer,
        bytes: &[u8],
    ) -> Result<(usize, Option<Outgoing>), ChannelError> {
        let (taken, head) = head_buffer.take(bytes, HeadKind::Response)?;
        let Some(head) = head else {
            return Ok((taken, None));
        };
        let (response, body) = message::read_response(&head, &self.kind)?;
        if response.status().is_informational() {
            if let Some(room) = self.interim_room.get().checked_sub(head.len()) {
                self.interim_room.set(room);
                respond.send_informational(response).map_err(failure)?;
            }
            return Ok((taken, None));
        }
        let send = respond
            .send_response(response, outgoing::is_end(body))
            .map_err(failure)?;
        if let Some(incoming) = &mut *self.incoming.borrow_mut() {
            match body {
                OutgoingBody::Tunnel => incoming.release(),
                OutgoingBody::Framed(_) => incoming.begin_answer(),
            }
        }
        Ok((taken, Some(Outgoing::new(send, body))))
    }
}

impl ResponseState {
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        match self {
            Self::Awaited { respond, .. } => respond.poll_reset(cx),
            Self::Sent(outgoing) => outgoing.poll_reset(cx),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Sent(outgoing) if outgoing.is_over())
    }

    /// Whether the response established a tunnel, which may have ended since.
    fn is_tunnel(&self) -> bool {
        matches!(self, Self::Sent(outgoing) if outgoing.is_tunnel())
    }
}

impl Channel for ServerStream {
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), ChannelError>> {
        let mut incoming = self.incoming.borrow_mut();
        let Some(incoming) = &mut *incoming else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        match incoming.poll_read(cx, out) {
            Poll::Ready(Ok(ReadStatus::Bytes)) => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(ReadStatus::End)) if self.response.borrow().is_tunnel() => {
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if !incoming.is_held() => return Poll::Pending,
            // Waits until the client has gone.
            Poll::Ready(Ok(ReadStatus::End)) | Poll::Pending => {}
        }
        ready!(self.poll_reset(cx));
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, ChannelError>> {
        let mut response = self.response.borrow_mut();
        let mut at = 0;
        while at < bytes.len() {
            match &mut *response {
                ResponseState::Awaited {
                    respond,
                    head_buffer,
                } => {
                    let (taken, sent) = self.write_head(respond, head_buffer, &bytes[at..])?;
                    at += taken;
                    if let Some(outgoing) = sent {
                        *response = ResponseState::Sent(outgoing);
                    }
                }
                ResponseState::Sent(outgoing) => match outgoing.poll_write(cx, &bytes[at..]) {
                    Poll::Ready(Ok(len)) => return Poll::Ready(Ok(at + len)),
                    // The next call waits or fails.
                    _ if at > 0 => break,
                    polled => return polled,
                },
            }
        }
        Poll::Ready(Ok(at))
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        Poll::Ready(match &mut *self.response.borrow_mut() {
            ResponseState::Awaited { .. } => Ok(()),
            ResponseState::Sent(outgoing) => outgoing.close(),
        })
    }

    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.response.borrow_mut().poll_reset(cx).map(|_| ())
    }

    fn reset_on_close(&self) {
        self.is_reset_on_close.set(true);
    }

    fn refuse_on_close(&self) {
        self.unanswered.set(Reason::REFUSED_STREAM);
    }

    fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let is_tunnel = self.response.borrow().is_tunnel();
        let mut incoming = self.incoming.borrow_mut();
        let Some(incoming) = &mut *incoming else {
            return false;
        };
        let is_silent = incoming.is_read() && !is_tunnel;
        (is_silent || incoming.is_quiet()) && self.poll_reset(&mut cx).is_pending()
    }
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        let response = self.response.get_mut();
        let mut cx = Context::from_waker(Waker::noop());
        let is_reset = !response.is_over() && response.poll_reset(&mut cx).is_ready();
        let is_whole = response.is_over() && !response.is_tunnel() && !self.is_reset_on_close.get();
        if let (true, Some(incoming)) = (is_whole, self.incoming.take())
            && linger(incoming, &self.counts)
        {
            return;
        }
        self.counts.closed(is_reset);
        if is_reset {
            return;
        }
        match response {
            ResponseState::Awaited { respond, .. } => respond.send_reset(self.unanswered.get()),
            ResponseState::Sent(outgoing) if self.is_reset_on_close.get() => {
                outgoing.reset(match outgoing.is_tunnel() {
                    true => Reason::CONNECT_ERROR,
                    false => Reason::INTERNAL_ERROR,
                });
            }
            // Like closing a socket: both directions end.
            ResponseState::Sent(outgoing) if outgoing.is_tunnel() => drop(outgoing.close()),
            ResponseState::Sent(outgoing) if !outgoing.is_over() => {
                outgoing.reset(Reason::INTERNAL_ERROR);
            }
            ResponseState::Sent(_) => {}
        }
    }
}

/// Discards the rest of the request of a client that has its response, up to the limits; `false` if there is none. The
/// stream counts as open during that time.
fn linger(mut incoming: Incoming, counts: &Rc<StreamCounts>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    let mut room = LINGER_ROOM;
    if !incoming.is_open() || incoming.poll_discard(&mut cx, &mut room).is_ready() {
        return false;
    }
    let counts = Rc::clone(counts);
    tokio::task::spawn_local(async move {
        let end = async {
            tokio::select! {
                () = poll_fn(|cx| incoming.poll_discard(cx, &mut room)) => {}
                () = counts.lingering_stopped() => {}
            }
        };
        // After that, the stream is reset.
        let _ = tokio::time::timeout(LINGER, end).await;
        drop(incoming);
        counts.closed(false);
    });
    true
}

impl fmt::Debug for ServerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStream")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
