//! The receiving direction of a stream: bytes and heads.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut;
use tokio::net::TcpStream;

use super::received::{HeadText, Received};
use super::watch::{begin_to_watch, wait_for_end};
use crate::buffers;
use crate::deadline::Deadline;
use crate::http1::{HeadError, HeadKind, HeadLimits, HeadScanner, Refused, ResponseHead};
use crate::transport::{Departure, Link, ReadHalf};

/// The receiving direction of a [`MessageStream`](super::MessageStream).
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(super) half: ReadHalf<'a>,
    pub(super) received: &'a mut Received,
    pub(super) deadline: &'a Deadline,
    pub(super) read_len: usize,
}

/// Why no head could be read.
#[derive(Debug)]
pub(crate) enum ReadHeadError {
    /// The peer violated the protocol; the connection cannot be used any longer.
    Head(HeadError),
    /// The socket failed, or the deadline passed.
    Io(io::Error),
    /// The peer closed before a head began; empty lines do not count.
    Closed,
    /// The peer closed in the middle of a head.
    CutOff,
}

impl<'a> Reader<'a> {
    /// The deadline that limits waits in this direction.
    pub(crate) fn deadline(&self) -> &'a Deadline {
        self.deadline
    }

    /// The socket, if its bytes are those of the message, and not TLS.
    pub(crate) fn plain_socket(&self) -> Option<&TcpStream> {
        self.half.plain()
    }

    /// As [`MessageStream::is_channel`](super::MessageStream::is_channel).
    pub(crate) fn is_channel(&self) -> bool {
        matches!(self.half, ReadHalf::Channel(_))
    }

    /// The connection below, to watch it while reading.
    pub(crate) fn link(&self) -> Link<'_> {
        self.half.link()
    }

    /// Ends when the peer has gone: it has reset the connection; or it has closed its direction, and there has been no
    /// activity for `half_closed`, according to the deadlines of `others`. Uses `deadline`. Cancel safe: bytes that are
    /// read from TLS are kept.
    pub(crate) async fn gone(
        &mut self,
        deadline: &Deadline,
        half_closed: Duration,
        others: &[&Deadline],
    ) {
        begin_to_watch(deadline).await;
        let departure = match self.half {
            // Only TLS sees a `close_notify`. Bytes before it belong to the next request, and stay buffered.
            ReadHalf::Tls(_) if self.received.is_empty() => {
                match std::future::poll_fn(|cx| self.poll_read(cx)).await {
                    Ok(0) => Departure::HalfClosed,
                    Ok(_) => self.half.link().departure().await,
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        Departure::HalfClosed
                    }
                    Err(_) => Departure::Reset,
                }
            }
            _ => self.half.link().departure().await,
        };
        let link = self.half.link();
        wait_for_end(departure, link, deadline, half_closed, others).await;
    }

    /// The bytes that were received but not consumed.
    pub(crate) fn buffered(&self) -> &[u8] {
        self.received.rest()
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.received.consume(len);
    }

    /// Counts bytes of the peer that did not pass through the buffer.
    pub(crate) fn note_spliced(&mut self, len: u64) {
        self.received.total += len;
    }

    /// Reads once, and appends to the buffer. `Ok(0)`: the peer has closed its direction. The caller has set the
    /// deadline; when it passes, the error is `TimedOut`. Cancel safe: no byte is lost.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// As [`fill`](Self::fill).
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.poll_read(cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                ready!(self.deadline.poll_passed(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// As [`poll_fill`](Self::poll_fill), without a deadline.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.received.make_room();
        let mut room = (&mut self.received.bytes).limit(self.read_len);
        let read = self.half.poll_read(cx, &mut room);
        if !matches!(read, Poll::Ready(Ok(1..))) {
            self.received.release_if_empty();
        }
        read
    }

    /// Reads to the end of a head and returns its bytes; bytes after it stay buffered. `on_begun` is called when the
    /// first byte of the head has arrived; empty lines before a request do not count.
    pub(crate) async fn read_head(
        &mut self,
        kind: HeadKind,
        limits: &HeadLimits,
        on_begun: impl FnOnce(),
    ) -> Result<HeadText, ReadHeadError> {
        let mut scanner = HeadScanner::default();
        let mut on_begun = Some(on_begun);
        loop {
            let found = scanner.scan(self.buffered(), kind, limits);
            if scanner.has_begun()
                && let Some(on_begun) = on_begun.take()
            {
                on_begun();
            }
            if let Some(bounds) = found.map_err(ReadHeadError::Head)? {
                return Ok(self.received.take_head(&bounds));
            }
            let filled = self.fill().await;
            if is_idle_request(kind, &scanner, &filled) {
                return Err(ReadHeadError::Closed);
            }
            if filled.map_err(ReadHeadError::Io)? == 0 {
                return Err(if !scanner.has_begun() {
                    ReadHeadError::Closed
                } else {
                    ReadHeadError::CutOff
                });
            }
        }
    }
}

impl Reader<'_> {
    /// Reads the head of a response. Errors of syntax are repaired as far as RFC 9112 allows it, and further if
    /// `is_relaxed`, which is called only if necessary, returns true. `on_begun` is called when the first byte has
    /// arrived, and for a repaired head a second time.
    pub(crate) async fn read_response(
        &mut self,
        limits: &HeadLimits,
        is_relaxed: impl Fn() -> bool,
        on_begun: impl Fn(),
    ) -> Result<ResponseHead, ReadHeadError> {
        match self.read_head(HeadKind::Response, limits, &on_begun).await {
            Ok(HeadText { text, start }) => {
                let parsed = ResponseHead::parse(text, start, buffers::lines(), limits);
                let parsed = parsed.or_else(|refused| match is_relaxed() {
                    true => ResponseHead::parse_relaxed(refused.text, start, refused.lines, limits),
                    false => Err(refused),
                });
                parsed.map_err(|refused| recycle(*refused))
            }
            // The bytes are still in the buffer.
            Err(ReadHeadError::Head(_)) if is_relaxed() => {
                let relaxed = self.read_head(HeadKind::RelaxedResponse, limits, &on_begun);
                let HeadText { text, start } = Box::pin(relaxed).await?;
                ResponseHead::parse_relaxed(text, start, buffers::lines(), limits)
                    .map_err(|refused| recycle(*refused))
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns the buffers of a refused head to the pool.
fn recycle(refused: Refused) -> ReadHeadError {
    buffers::give_back_head((refused.text, refused.lines));
    ReadHeadError::Head(refused.error)
}

/// Whether a client that has sent nothing but empty lines has timed out, which is an idle connection.
fn is_idle_request(kind: HeadKind, scanner: &HeadScanner, filled: &io::Result<usize>) -> bool {
    let is_late = matches!(filled, Err(error) if error.kind() == io::ErrorKind::TimedOut);
    is_late && kind == HeadKind::Request && !scanner.has_begun()
}
