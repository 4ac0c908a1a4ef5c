//! A stream of a connection to an upstream: a request is written to it, and the response is read from it.
//!
//! The stream is opened when the request's head is complete. If the upstream reports that it has not processed the
//! request (REFUSED_STREAM, HTTP_1_1_REQUIRED, or a GOAWAY that excludes it), the error is
//! [`ChannelError::Unprocessed`]: any request may then be sent again (RFC 9113 §8.7). A stream that is dropped before
//! both messages are complete is cancelled.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use h2::client::ResponseFuture;
use h2::{Reason, StreamId};
use http::Response;
use tokio::io::ReadBuf;

use super::client_state::OpenStream;
use super::failure::{failure, failure_of, malformed};
use super::field_blocks::StreamFacts;
use super::incoming::Incoming;
use super::message::{self, IncomingBody, Padding, RequestKind};
use super::outgoing::{self, HeadBuffer, Outgoing};
use crate::buffers;
use crate::http1::HeadKind;
use crate::transport::{Channel, ChannelError, Unprocessed};

/// How long after the last byte of a response the frame that ends the stream may arrive.
const END_WITHIN: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct ClientStream {
    /// `None` once the task that waits for the end of the response has it.
    open_stream: Option<OpenStream>,
    request: RefCell<RequestState>,
    response: RefCell<ResponseState>,
    is_reset_on_close: Cell<bool>,
}

/// How far the request has been written.
enum RequestState {
    Awaited(HeadBuffer),
    Sent(Outgoing),
}

/// How far the response has been read.
enum ResponseState {
    /// There is no stream yet. The reader is woken when there is one.
    NoStream(Option<Waker>),
    Awaited {
        response: ResponseFuture,
        facts: Rc<StreamFacts>,
        kind: RequestKind,
        /// An interim response that has not been read yet.
        interim: Vec<u8>,
        interim_at: usize,
    },
    Arriving(Incoming),
    /// There is no response, or no more of it.
    Failed(ChannelError),
}

impl ClientStream {
    pub(super) fn new(open_stream: OpenStream) -> Self {
        Self {
            open_stream: Some(open_stream),
            request: RefCell::new(RequestState::Awaited(HeadBuffer::default())),
            response: RefCell::new(ResponseState::NoStream(None)),
            is_reset_on_close: Cell::new(false),
        }
    }

    /// Takes bytes of the request's head. Returns how many, and the rest of the request once the head is sent.
    fn write_head(
        &self,
        head_buffer: &mut HeadBuffer,
        bytes: &[u8],
    ) -> Result<(usize, Option<Outgoing>), ChannelError> {
        let (taken, head) = head_buffer.take(bytes, HeadKind::Request)?;
        let (Some(head), Some(OpenStream(state))) = (head, &self.open_stream) else {
            return Ok((taken, None));
        };
        let may_upgrade = state.supports_websocket();
        let (request, kind, body) =
            message::read_request(&head, state.options.scheme, may_upgrade)?;
        let (response, send) = state
            .sender()
            .send_request(request, outgoing::is_end(body))
            .map_err(unsent)?;
        let awaited = ResponseState::Awaited {
            response,
            facts: Rc::clone(&state.facts),
            kind,
            interim: Vec::new(),
            interim_at: 0,
        };
        self.notify_reader(awaited);
        Ok((taken, Some(Outgoing::new(send, body))))
    }

    /// Sets the state of the response, and wakes a reader that waits for the stream.
    fn notify_reader(&self, state: ResponseState) {
        if let ResponseState::NoStream(Some(reader)) = self.response.replace(state) {
            reader.wake();
        }
    }
}

impl ResponseState {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), ChannelError>> {
        loop {
            match self {
                Self::NoStream(reader) => {
                    *reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Self::Failed(error) => return Poll::Ready(Err(error.again())),
                Self::Arriving(incoming) => return incoming.poll_read(cx, out).map_ok(|_| ()),
                Self::Awaited {
                    interim,
                    interim_at,
                    ..
                } if !interim.is_empty() => {
                    give_interim(interim, interim_at, out);
                    return Poll::Ready(Ok(()));
                }
                Self::Awaited { .. } => {
                    if let Err(error) = ready!(self.poll_head(cx)) {
                        *self = Self::Failed(error.again());
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    /// Waits for a head, interim or final.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        let Self::Awaited {
            response,
            facts,
            kind,
            interim,
            ..
        } = self
        else {
            return Poll::Ready(Ok(()));
        };
        let stream = response.stream_id();
        let failed = |error| unprocessed(error, stream, facts);
        match ready!(response.poll_informational(cx)) {
            Some(Ok(head)) => {
                let (parts, ()) = head.into_parts();
                *interim = buffers::small();
                message::write_response(&parts, false, kind, interim).map_err(malformed)?;
            }
            Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            None => {
                let head: Response<_> = ready!(Pin::new(response).poll(cx)).map_err(failed)?;
                let (parts, recv) = head.into_parts();
                let mut text = buffers::small();
                let has_content = !recv.is_end_stream();
                let body = message::write_response(&parts, has_content, kind, &mut text)
                    .map_err(malformed)?;
                let mut incoming =
                    Incoming::new(text, recv, body, Padding::Trimmed, Rc::clone(facts));
                if body == IncomingBody::Tunnel {
                    incoming.release();
                }
                *self = Self::Arriving(incoming);
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn give_interim(interim: &mut Vec<u8>, at: &mut usize, out: &mut ReadBuf<'_>) {
    let rest = &interim[*at..];
    let len = rest.len().min(out.remaining());
    out.put_slice(&rest[..len]);
    *at += len;
    if *at == interim.len() {
        *at = 0;
        buffers::give_back(std::mem::take(interim));
    }
}

impl Channel for ClientStream {
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), ChannelError>> {
        self.response.borrow_mut().poll_read(cx, out)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, ChannelError>> {
        let mut request = self.request.borrow_mut();
        let mut at = 0;
        while at < bytes.len() {
            match &mut *request {
                RequestState::Awaited(head_buffer) => {
                    let written = self.write_head(head_buffer, &bytes[at..]);
                    let (taken, sent) = written.inspect_err(|error| {
                        self.notify_reader(ResponseState::Failed(error.again()));
                    })?;
                    at += taken;
                    if let Some(outgoing) = sent {
                        *request = RequestState::Sent(outgoing);
                    }
                }
                RequestState::Sent(outgoing) => match outgoing.poll_write(cx, &bytes[at..]) {
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
        Poll::Ready(match &mut *self.request.borrow_mut() {
            RequestState::Awaited(_) => Ok(()),
            RequestState::Sent(outgoing) => outgoing.close(),
        })
    }

    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.request.borrow_mut() {
            RequestState::Awaited(_) => Poll::Pending,
            RequestState::Sent(outgoing) => outgoing.poll_reset(cx).map(|_| ()),
        }
    }

    fn reset_on_close(&self) {
        self.is_reset_on_close.set(true);
    }

    fn is_quiet(&self) -> bool {
        match &mut *self.response.borrow_mut() {
            ResponseState::NoStream(_) => true,
            ResponseState::Arriving(incoming) => incoming.is_quiet(),
            ResponseState::Awaited { .. } | ResponseState::Failed(_) => false,
        }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        let RequestState::Sent(outgoing) = self.request.get_mut() else {
            return;
        };
        if outgoing.is_tunnel() && !self.is_reset_on_close.get() {
            // Like closing a socket: both directions end.
            let _ = outgoing.close();
            return;
        }
        let response_state = std::mem::replace(
            self.response.get_mut(),
            ResponseState::Failed(io::ErrorKind::ConnectionAborted.into()),
        );
        match response_state {
            ResponseState::Arriving(incoming) if outgoing.is_over() && incoming.is_read() => {
                await_end(incoming, self.open_stream.take());
            }
            _ => {
                outgoing.reset(Reason::CANCEL);
                if let Some(OpenStream(state)) = &self.open_stream {
                    state.facts.add_cancelled(outgoing.stream());
                }
            }
        }
    }
}

/// Waits for the frame that ends a fully read response: a reset would count as a cancelled request.
fn await_end(mut incoming: Incoming, open_stream: Option<OpenStream>) {
    let mut cx = Context::from_waker(Waker::noop());
    if incoming.poll_end(&mut cx).is_ready() {
        return;
    }
    tokio::task::spawn_local(async move {
        let end = poll_fn(|cx| incoming.poll_end(cx));
        // If it is late, the stream is cancelled.
        let is_late = tokio::time::timeout(END_WITHIN, end).await.is_err();
        if let (true, Some(OpenStream(state))) = (is_late, &open_stream) {
            state.facts.add_cancelled(incoming.stream());
        }
        drop(open_stream);
    });
}

/// As [`failure_of`], but recognises requests that the upstream has not processed.
fn unprocessed(error: h2::Error, stream: StreamId, facts: &StreamFacts) -> ChannelError {
    let is_refusal = matches!(
        error.reason(),
        Some(Reason::REFUSED_STREAM | Reason::HTTP_1_1_REQUIRED)
    );
    match error.is_remote() && (error.is_go_away() || is_refusal) {
        true => refused(error),
        false => failure_of(error, stream, facts),
    }
}

/// The error of a stream that could not be opened: nothing was sent.
fn unsent(error: h2::Error) -> ChannelError {
    match error.is_io() || error.is_go_away() {
        true => refused(error),
        false => failure(error),
    }
}

/// The error of a request that was not processed.
fn refused(error: h2::Error) -> ChannelError {
    let why = match error.reason() {
        Some(Reason::HTTP_1_1_REQUIRED) => Unprocessed::Http1Required,
        _ if error.is_go_away() || error.is_io() => Unprocessed::LeftOut,
        _ => Unprocessed::Refused,
    };
    ChannelError::Unprocessed(why, Arc::new(error))
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").finish_non_exhaustive()
    }
}
