//! The sending side of a stream: text is written to it, a head and then its content, which becomes DATA frames.
//!
//! A write accepts as much content as the peer's window and [`SEND_BUFFER`] allow. Chunk sizes and the end of a body
//! are always accepted, because they need no window. If the last content and the end are in one write, they are sent in
//! one frame.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::failure::failure;
use super::limits::SEND_BUFFER;
use super::message::{self, OutgoingBody};
use crate::buffers;
use crate::http1::{BodyDecoder, HeadKind, HeadLimits, HeadScanner};
use crate::transport::ChannelError;

/// The longest head that this host may write, in bytes: what it has received, with the changes of plugins.
const HEAD_LIMITS: HeadLimits = HeadLimits {
    max_head_len: 4 * 1024 * 1024,
    max_fields: 256,
    max_target_len: usize::MAX,
};

/// Collects a head from one or more writes.
#[derive(Debug, Default)]
pub(super) struct HeadBuffer {
    /// What earlier writes have brought of an incomplete head.
    text: Vec<u8>,
    scanner: HeadScanner,
}

impl HeadBuffer {
    /// Returns how many of the `bytes` belong to the head, and the head once it is complete.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        kind: HeadKind,
    ) -> io::Result<(usize, Option<Bytes>)> {
        let before = self.text.len();
        if before > 0 {
            self.text.extend_from_slice(bytes);
        }
        let text = if before > 0 { &self.text } else { bytes };
        let found = self
            .scanner
            .scan(text, kind, &HEAD_LIMITS)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let Some(bounds) = found else {
            if before == 0 {
                self.text = buffers::small();
                self.text.extend_from_slice(bytes);
            }
            return Ok((bytes.len(), None));
        };
        let head = Bytes::copy_from_slice(&text[bounds.start..bounds.end]);
        let consumed = bounds.end - before;
        *self = Self::default();
        Ok((consumed, Some(head)))
    }
}

impl Drop for HeadBuffer {
    fn drop(&mut self) {
        buffers::give_back(std::mem::take(&mut self.text));
    }
}

/// The content that follows a head.
#[derive(Debug)]
pub(super) struct Outgoing {
    send: SendStream<Bytes>,
    state: State,
    is_tunnel: bool,
}

#[derive(Debug)]
enum State {
    Body(BodyDecoder),
    Bytes,
    /// END_STREAM was sent.
    Over,
}

/// Whether there is no content, so that the head ends the stream.
pub(super) fn is_end(body: OutgoingBody) -> bool {
    match body {
        OutgoingBody::Framed(framing) => BodyDecoder::new(framing).is_complete(),
        OutgoingBody::Tunnel => false,
    }
}

impl Outgoing {
    /// `send` belongs to a stream whose head has been sent.
    pub(super) fn new(send: SendStream<Bytes>, body: OutgoingBody) -> Self {
        let state = match body {
            OutgoingBody::Framed(_) if is_end(body) => State::Over,
            OutgoingBody::Framed(framing) => {
                State::Body(BodyDecoder::new(framing).with_trailer_limit(HEAD_LIMITS.max_head_len))
            }
            OutgoingBody::Tunnel => State::Bytes,
        };
        Self {
            send,
            state,
            is_tunnel: body == OutgoingBody::Tunnel,
        }
    }

    pub(super) fn stream(&self) -> u32 {
        self.send.stream_id().as_u32()
    }

    /// Whether END_STREAM was sent.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether this is one direction of a tunnel, open or not.
    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        self.send.poll_reset(cx)
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, ChannelError>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match &mut self.state {
            State::Body(decoder) => {
                let mut writing = Writing {
                    send: &mut self.send,
                    decoder,
                    held: Bytes::new(),
                };
                let written = writing.poll_write(cx, bytes);
                if decoder.is_complete() {
                    self.state = State::Over;
                }
                written
            }
            State::Bytes => {
                let room = ready!(poll_room(&mut self.send, cx, bytes.len()))?;
                let piece = Bytes::copy_from_slice(&bytes[..room.min(bytes.len())]);
                let len = piece.len();
                self.send.send_data(piece, false).map_err(failure)?;
                Poll::Ready(Ok(len))
            }
            State::Over => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Ends a body that is delimited by close, or one direction of a tunnel. Has no effect on other bodies.
    pub(super) fn close(&mut self) -> Result<(), ChannelError> {
        let is_end = match &mut self.state {
            State::Body(decoder) => decoder.end_of_input().is_ok(),
            State::Bytes => true,
            State::Over => false,
        };
        if is_end {
            self.state = State::Over;
            self.send.send_data(Bytes::new(), true).map_err(failure)?;
        }
        Ok(())
    }
}

/// One write of a body.
struct Writing<'a> {
    send: &'a mut SendStream<Bytes>,
    decoder: &'a mut BodyDecoder,
    /// Content that may turn out to be the last.
    held: Bytes,
}

impl Writing<'_> {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, ChannelError>> {
        let mut at = 0;
        while at < bytes.len() && !self.decoder.is_complete() {
            let rest = &bytes[at..];
            let len = if self.decoder.is_in_content() {
                self.flush()?;
                match poll_room(self.send, cx, rest.len()) {
                    Poll::Ready(room) => room?.min(rest.len()),
                    Poll::Pending if at > 0 => return Poll::Ready(Ok(at)),
                    Poll::Pending => return Poll::Pending,
                }
            } else {
                // Only one, because content may follow for which there is no room.
                1
            };
            let step = self
                .decoder
                .decode(&rest[..len])
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if !step.content.is_empty() {
                self.held = Bytes::copy_from_slice(&rest[step.content]);
            }
            at += step.consumed;
        }
        if self.decoder.is_complete() {
            self.finish()?;
        } else {
            self.flush()?;
        }
        Poll::Ready(Ok(at))
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Ok(());
        }
        self.send.send_data(held, false).map_err(failure)
    }

    fn finish(&mut self) -> Result<(), ChannelError> {
        let Some(trailers) = self.decoder.trailers() else {
            let last = std::mem::take(&mut self.held);
            return self.send.send_data(last, true).map_err(failure);
        };
        let trailers = message::read_trailers(trailers)?;
        self.flush()?;
        self.send.send_trailers(trailers).map_err(failure)
    }
}

/// Waits for room for content: at least one byte, and up to `wanted`.
fn poll_room(
    send: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
) -> Poll<Result<usize, ChannelError>> {
    let room = send.capacity();
    if room >= wanted {
        return Poll::Ready(Ok(room));
    }
    send.reserve_capacity(wanted.min(SEND_BUFFER));
    let room = send.capacity();
    if room > 0 {
        return Poll::Ready(Ok(room));
    }
    match ready!(send.poll_capacity(cx)) {
        Some(Ok(room)) => Poll::Ready(Ok(room)),
        Some(Err(error)) => Poll::Ready(Err(failure(error))),
        None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
    }
}
