//! The receiving side of a stream as text: a head that has been converted already, then the DATA frames.
//!
//! A read returns what has arrived, and waits only if there is nothing. Window is released for what was read and not
//! before, so that a reader that stops reading stops the sender. Each byte is copied once, to where it is needed.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::RecvStream;
use tokio::io::ReadBuf;

use super::failure::{failure_of, malformed};
use super::field_blocks::StreamFacts;
use super::message::{self, IncomingBody, MessageError, Padding};
use crate::buffers;
use crate::transport::ChannelError;

/// What a stream's peer sends, as text.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Text that is read before `data`. Holds a buffer only while there is some.
    text: Vec<u8>,
    text_at: usize,
    /// The content of the current frame.
    data: Bytes,
    recv: RecvStream,
    state: State,
    /// How white space around values of trailers is treated.
    padding: Padding,
    facts: Rc<StreamFacts>,
    /// The response has begun before the request was complete.
    is_answered_early: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The tunnel is not established yet; DATA frames must wait.
    Held,
    Bytes,
    Length {
        left: u64,
    },
    Chunked {
        /// The content of a chunk has been written, but not its end.
        is_in_chunk: bool,
    },
    /// DATA is complete, trailers may follow.
    Trailers,
    Over,
    /// The rest was malformed.
    Failed(MessageError),
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadStatus {
    Bytes,
    /// The end of the message.
    End,
}

impl Incoming {
    /// `text` is read before the content of `recv`.
    pub(super) fn new(
        text: Vec<u8>,
        recv: RecvStream,
        body: IncomingBody,
        padding: Padding,
        facts: Rc<StreamFacts>,
    ) -> Self {
        let state = match body {
            IncomingBody::Empty => State::Over,
            IncomingBody::Length(left) => State::Length { left },
            IncomingBody::Chunked => State::Chunked { is_in_chunk: false },
            IncomingBody::Tunnel => State::Held,
        };
        Self {
            text,
            text_at: 0,
            data: Bytes::new(),
            recv,
            state,
            padding,
            facts,
            is_answered_early: false,
        }
    }

    /// The response to this request begins. Some clients then stop sending: if they end the stream short of their
    /// Content-Length, that is neither an error nor the end of the request. What has arrived can be read; after that,
    /// reads wait.
    pub(super) fn begin_answer(&mut self) {
        let is_whole = matches!(self.state, State::Length { left: 0 }) || self.recv.is_end_stream();
        if matches!(self.state, State::Length { .. }) && !is_whole && !self.is_answered_early {
            self.is_answered_early = true;
            self.facts.add_answered(self.stream());
        }
    }

    pub(super) fn stream(&self) -> u32 {
        self.recv.stream_id().as_u32()
    }

    /// The tunnel is established.
    pub(super) fn release(&mut self) {
        if self.state == State::Held {
            self.state = State::Bytes;
        }
    }

    /// Whether DATA is held back because the tunnel is not established.
    pub(super) fn is_held(&self) -> bool {
        self.state == State::Held
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<Result<ReadStatus, ChannelError>> {
        let before = out.filled().len();
        loop {
            self.read_buffered(out);
            if out.remaining() == 0 || self.has_rest() {
                return Poll::Ready(Ok(ReadStatus::Bytes));
            }
            let has_read = out.filled().len() > before;
            match self.poll_advance(cx) {
                Poll::Ready(Ok(true)) => {}
                _ if has_read => return Poll::Ready(Ok(ReadStatus::Bytes)),
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(ReadStatus::End)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether everything that has arrived was read, and the end has not arrived.
    pub(super) fn is_quiet(&mut self) -> bool {
        // The next reader replaces this waker.
        let mut cx = Context::from_waker(Waker::noop());
        !self.has_rest() && self.poll_advance(&mut cx).is_pending()
    }

    /// Whether the whole message was read.
    pub(super) fn is_read(&self) -> bool {
        !self.has_rest() && matches!(self.state, State::Over | State::Length { left: 0 })
    }

    /// Ready once the peer has ended the stream of a message that [`is_read`](Self::is_read): the end may arrive in a
    /// separate frame.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        if self.recv.is_end_stream() || self.state == State::Over {
            return Poll::Ready(Ok(()));
        }
        self.poll_data(cx).map_ok(|_| ())
    }

    /// Whether the peer may send more: it has ended neither the message nor the stream.
    pub(super) fn is_open(&self) -> bool {
        let has_ended = self.is_answered_early && self.facts.has_ended(self.stream());
        self.state != State::Over && !self.recv.is_end_stream() && !has_ended
    }

    /// Reads and discards what arrives, and releases its window. Ready when the stream ends in any way, or after `room`
    /// bytes.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, room: &mut usize) -> Poll<()> {
        let unread = std::mem::take(&mut self.data);
        self.release_window(unread.len());
        if self.is_answered_early && self.facts.poll_ended(self.stream(), cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            match ready!(self.poll_data(cx)) {
                Ok(Some(data)) if data.len() < *room => {
                    *room -= data.len();
                    self.release_window(data.len());
                }
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    fn release_window(&mut self, len: usize) {
        // Fails only if it is more than has arrived.
        let _ = self.recv.flow_control().release_capacity(len);
    }

    fn has_rest(&self) -> bool {
        self.text_at < self.text.len() || !self.data.is_empty()
    }

    fn read_buffered(&mut self, out: &mut ReadBuf<'_>) {
        if self.text_at < self.text.len() {
            let rest = &self.text[self.text_at..];
            let len = rest.len().min(out.remaining());
            out.put_slice(&rest[..len]);
            self.text_at += len;
            if self.text_at < self.text.len() {
                return;
            }
            self.text_at = 0;
            buffers::give_back(std::mem::take(&mut self.text));
        }
        let len = self.data.len().min(out.remaining());
        if len > 0 {
            out.put_slice(&self.data.split_to(len));
            self.release_window(len);
        }
    }

    /// Converts the next frame; `false` at the end. Everything before it must have been read.
    fn poll_advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ChannelError>> {
        match self.state {
            State::Over => Poll::Ready(Ok(false)),
            State::Held => Poll::Pending,
            State::Failed(error) => Poll::Ready(Err(malformed(error))),
            State::Trailers => self.poll_trailers(cx),
            State::Length { left: 0 } => Poll::Ready(Ok(false)),
            State::Length { left } => match ready!(self.poll_data(cx))? {
                // `h2` counts, too, and fails a stream whose DATA is longer or shorter.
                Some(data) => {
                    let left = left.saturating_sub(data.len() as u64);
                    self.state = State::Length { left };
                    self.data = data;
                    Poll::Ready(Ok(true))
                }
                None => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            },
            State::Bytes => match ready!(self.poll_data(cx))? {
                Some(data) => {
                    self.data = data;
                    Poll::Ready(Ok(true))
                }
                None => {
                    self.state = State::Over;
                    Poll::Ready(Ok(false))
                }
            },
            State::Chunked { is_in_chunk } => {
                let data = ready!(self.poll_data(cx))?;
                self.text = buffers::small();
                if is_in_chunk {
                    self.text.extend_from_slice(b"\r\n");
                }
                match data {
                    Some(data) => {
                        message::write_chunk_size(data.len(), &mut self.text);
                        self.data = data;
                        self.state = State::Chunked { is_in_chunk: true };
                    }
                    None => self.state = State::Trailers,
                }
                Poll::Ready(Ok(true))
            }
        }
    }

    /// The next DATA frame that has content.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ChannelError>> {
        loop {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(Ok(Some(data))),
                Some(Err(error)) => return Poll::Ready(Err(self.failure(error))),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn failure(&self, error: h2::Error) -> ChannelError {
        failure_of(error, self.recv.stream_id(), &self.facts)
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ChannelError>> {
        let trailers = ready!(self.recv.poll_trailers(cx)).map_err(|error| self.failure(error))?;
        self.text = buffers::small();
        match message::write_last_chunk(trailers.as_ref(), self.padding, &mut self.text) {
            Ok(()) => {
                self.state = State::Over;
                Poll::Ready(Ok(true))
            }
            Err(error) => {
                buffers::give_back(std::mem::take(&mut self.text));
                self.state = State::Failed(error);
                Poll::Ready(Err(malformed(error)))
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        buffers::give_back(std::mem::take(&mut self.text));
        if self.is_answered_early {
            self.facts.forget_answered(self.stream());
        }
    }
}
