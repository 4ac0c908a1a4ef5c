//! The one place where a socket, a buffer and a deadline meet the parser.
//!
//! A [`MessageStream`] reads heads and bytes and writes bytes. It holds a buffer only while there are bytes in it:
//! waiting for a peer costs no memory. Every wait is bounded by the deadline that its caller has set.

use std::cell::OnceCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut;
use tokio::net::TcpStream;

use crate::buffers;
use crate::deadline::{Deadline, Deadlines};
use crate::http1::{
    HeadBounds, HeadError, HeadKind, HeadLimits, HeadScanner, Refused, ResponseHead,
};
use crate::open_files;
use crate::transport::{Departure, Link, ReadHalf, Transport, WriteHalf};

/// A connection that carries HTTP messages.
#[derive(Debug)]
pub(crate) struct MessageStream {
    transport: Transport,
    received: Received,
    reading: Deadline,
    writing: Deadline,
    read_len: usize,
    /// The other end's address and ours, once somebody has asked for them.
    addresses: OnceCell<Box<Option<(SocketAddr, SocketAddr)>>>,
}

/// The bytes of one head, and where the head begins in them (empty lines may come before it).
#[derive(Debug)]
pub(crate) struct HeadText {
    pub(crate) text: Vec<u8>,
    pub(crate) start: usize,
}

/// Why no head could be read.
#[derive(Debug)]
pub(crate) enum ReadHeadError {
    /// The peer broke the protocol; the connection is of no further use.
    Head(HeadError),
    /// The socket failed, or the deadline passed.
    Io(io::Error),
    /// The peer closed before a head began; empty lines do not begin one.
    Closed,
    /// The peer closed in the middle of a head.
    CutOff,
}

impl MessageStream {
    /// `read_len` is the most that one read takes, in bytes.
    pub(crate) fn new(transport: Transport, deadlines: &Rc<Deadlines>, read_len: usize) -> Self {
        Self {
            transport,
            received: Received::default(),
            reading: deadlines.slot(),
            writing: deadlines.slot(),
            read_len,
            addresses: OnceCell::new(),
        }
    }

    /// The two directions, to be used at the same time.
    pub(crate) fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let (read_half, write_half) = self.transport.split();
        let reader = Reader {
            half: read_half,
            received: &mut self.received,
            deadline: &self.reading,
            read_len: self.read_len,
        };
        let writer = Writer {
            half: write_half,
            deadline: &self.writing,
        };
        (reader, writer)
    }

    pub(crate) fn reader(&mut self) -> Reader<'_> {
        self.split().0
    }

    pub(crate) fn writer(&mut self) -> Writer<'_> {
        self.split().1
    }

    /// Whether requests on it are HTTP/2: it is a stream of such a connection, or TLS has agreed on it (ALPN).
    pub(crate) fn speaks_http2(&self) -> bool {
        self.is_channel() || self.transport.speaks_http2()
    }

    /// Whether TLS has agreed on HTTP by its name (ALPN).
    pub(crate) fn is_named_http(&self) -> bool {
        self.is_channel() || self.transport.has_agreed_protocol()
    }

    /// Whether it is one of many on a connection.
    pub(crate) fn is_channel(&self) -> bool {
        matches!(self.transport, Transport::Channel(_))
    }

    /// Where the peer has connected to; none for one of many on a connection.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.transport.link().local_addr()
    }

    /// The other end's address and ours; none for one of many on a connection. The system is asked once.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let asked = || Box::new(self.transport.link().addresses());
        **self.addresses.get_or_init(asked)
    }

    /// The number of its descriptor; none for one of many on a connection.
    pub(crate) fn descriptor(&self) -> Option<u64> {
        match self.transport.link() {
            Link::Socket(socket) => Some(open_files::number_of(socket)),
            Link::Channel(_) => None,
        }
    }

    /// Bytes that were received and consumed so far, those of tunnels and of bodies that the kernel moves left out.
    pub(crate) fn consumed(&self) -> u64 {
        self.received.total
    }

    /// Whether received bytes wait to be read.
    pub(crate) fn has_buffered(&self) -> bool {
        !self.received.is_empty()
    }

    /// Waits until there is a byte to read, holding no buffer meanwhile. `Ok(false)`: the peer closed.
    /// `stop` is asked again whenever the wait is woken; `true` ends it as if the peer had closed.
    pub(crate) async fn wait_for_bytes(
        &mut self,
        within: Duration,
        stop: impl Fn() -> bool,
    ) -> io::Result<bool> {
        if self.has_buffered() {
            return Ok(true);
        }
        self.reading.arm(within);
        let mut reader = self.reader();
        std::future::poll_fn(|cx| match reader.poll_fill(cx) {
            Poll::Pending if stop() => Poll::Ready(Ok(false)),
            polled => polled.map_ok(|len| len > 0),
        })
        .await
    }

    /// Ends when the peer has gone: it has reset the connection, or it has closed its direction for as long as
    /// `half_closed`. Uses the deadline of the receiving direction. Cancel safe.
    pub(crate) async fn gone(&self, half_closed: Duration) {
        let link = self.transport.link();
        begin_to_watch(&self.reading).await;
        let departure = link.departure().await;
        wait_for_end(departure, link, &self.reading, half_closed, &[]).await;
    }

    /// Whether an idle connection may be used again: open, and nothing has arrived that nobody asked for.
    /// Looks at the readiness that the event loop already knows, which costs no system call while all is quiet.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.has_buffered() && self.transport.is_quiet()
    }

    /// As [`is_quiet`](Self::is_quiet), but asks the kernel: for a request that could not be sent a second time.
    pub(crate) fn is_quiet_now(&self) -> bool {
        !self.has_buffered() && self.transport.is_quiet_now()
    }

    /// Ready once an idle connection may not be used again, see [`is_quiet`](Self::is_quiet).
    pub(crate) fn poll_unquiet(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.has_buffered() {
            true => Poll::Ready(()),
            false => self.transport.poll_unquiet(cx),
        }
    }

    /// The connection and the bytes that were received and not yet consumed.
    pub(crate) fn into_parts(mut self) -> (Transport, Vec<u8>) {
        let rest = self.received.take_rest();
        (self.transport, rest)
    }

    /// Says goodbye so that the peer can read what was sent last although it is still sending: closes our
    /// direction, then swallows what comes until the peer closes too, at most for `limit` (RFC 9112 §9.6).
    pub(crate) async fn linger(&mut self, limit: Duration) {
        let (mut reader, mut writer) = self.split();
        if writer.close(limit).await.is_err() {
            return;
        }
        reader.deadline.arm(limit);
        loop {
            reader.received.clear();
            match reader.fill().await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Makes the coming close say that the request was not processed, where there is a way to say so.
    pub(crate) fn refuse_on_close(&self) {
        self.transport.link().refuse_on_close();
    }

    /// Makes the coming close a reset, so that the peer cannot take what it got for the whole.
    pub(crate) fn reset_on_close(&self) {
        self.transport.link().reset_on_close();
    }
}

/// Begins to watch at the next tick only: most waits are over by then, and watching costs more than they do.
async fn begin_to_watch(deadline: &Deadline) {
    deadline.arm(Duration::ZERO);
    std::future::poll_fn(|cx| deadline.poll_passed(cx)).await;
}

/// Ends when a peer that has departed like this is of no use any more: at once after a reset; otherwise when nothing has
/// moved for `half_closed`, as far as the deadlines of `others` show it.
async fn wait_for_end(
    departure: Departure,
    link: Link<'_>,
    deadline: &Deadline,
    half_closed: Duration,
    others: &[&Deadline],
) {
    if departure == Departure::HalfClosed {
        deadline.arm(half_closed);
        link.reset_or_late(deadline, others).await;
    }
}

/// The receiving direction of a [`MessageStream`].
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    half: ReadHalf<'a>,
    received: &'a mut Received,
    deadline: &'a Deadline,
    read_len: usize,
}

impl<'a> Reader<'a> {
    /// What bounds the waits of this direction.
    pub(crate) fn deadline(&self) -> &'a Deadline {
        self.deadline
    }

    /// The socket, if its bytes are the message's own and not TLS.
    pub(crate) fn plain_socket(&self) -> Option<&TcpStream> {
        self.half.plain()
    }

    /// As [`MessageStream::is_channel`].
    pub(crate) fn is_channel(&self) -> bool {
        matches!(self.half, ReadHalf::Channel(_))
    }

    /// The connection, for those who watch it while they read.
    pub(crate) fn link(&self) -> Link<'_> {
        self.half.link()
    }

    /// Ends when the peer has gone: it has reset the connection; or it has closed its direction, and nothing has moved
    /// since for `half_closed`, as far as the deadlines of `others` show it. Uses `deadline`. Cancel safe: bytes of TLS
    /// that are read to find its end are kept.
    pub(crate) async fn gone(
        &mut self,
        deadline: &Deadline,
        half_closed: Duration,
        others: &[&Deadline],
    ) {
        begin_to_watch(deadline).await;
        let departure = match self.half {
            // A `close_notify` is for TLS to see. What comes before it is the next request, and waits.
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

    /// The bytes received and not yet consumed.
    pub(crate) fn buffered(&self) -> &[u8] {
        self.received.rest()
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.received.consume(len);
    }

    /// Counts bytes of the peer's that have not come through the buffer.
    pub(crate) fn note_spliced(&mut self, len: u64) {
        self.received.total += len;
    }

    /// Reads once, behind what is buffered. `Ok(0)`: the peer closed its direction. The caller has set the deadline;
    /// past it the error is `TimedOut`. Cancel safe: no byte is lost.
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

    /// Reads up to the end of a head and hands the head's bytes over; what came behind it stays buffered. `on_begun` is
    /// called when the head's first byte is here; empty lines before a request do not count.
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
    /// Reads the head of a response. What breaks the grammar is repaired as far as RFC 9112 lets a proxy do so, and
    /// further where `is_relaxed` says that it may be, which is asked only then. `on_begun` is called when its first byte
    /// is here, or for a repaired head a second time once the head is.
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
                parsed.map_err(|refused| settle(*refused))
            }
            // What was read is still there.
            Err(ReadHeadError::Head(_)) if is_relaxed() => {
                let relaxed = self.read_head(HeadKind::RelaxedResponse, limits, &on_begun);
                let HeadText { text, start } = Box::pin(relaxed).await?;
                ResponseHead::parse_relaxed(text, start, buffers::lines(), limits)
                    .map_err(|refused| settle(*refused))
            }
            Err(error) => Err(error),
        }
    }
}

/// Gives the buffers of a refused head back.
fn settle(refused: Refused) -> ReadHeadError {
    buffers::give_back_head((refused.text, refused.lines));
    ReadHeadError::Head(refused.error)
}

/// Whether a client that has sent no more than empty lines has run out of time: it has asked nothing.
fn is_idle_request(kind: HeadKind, scanner: &HeadScanner, filled: &io::Result<usize>) -> bool {
    let is_late = matches!(filled, Err(error) if error.kind() == io::ErrorKind::TimedOut);
    is_late && kind == HeadKind::Request && !scanner.has_begun()
}

/// The sending direction of a [`MessageStream`].
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    half: WriteHalf<'a>,
    deadline: &'a Deadline,
}

impl<'a> Writer<'a> {
    /// As [`Reader::plain_socket`].
    pub(crate) fn plain_socket(&self) -> Option<&TcpStream> {
        self.half.plain()
    }

    /// What bounds the waits of this direction.
    pub(crate) fn deadline(&self) -> &'a Deadline {
        self.deadline
    }

    /// Ends when the peer has reset the connection. Uses the deadline of this direction. Cancel safe.
    pub(crate) async fn reset(&self) {
        begin_to_watch(self.deadline).await;
        self.half.link().reset().await;
    }

    /// What follows has no other end than the close. Until [`end_until_close`](Self::end_until_close), the close is a reset,
    /// whatever causes it, the end of this process included: nobody takes a part for the whole.
    pub(crate) fn begin_until_close(&self) {
        self.half.link().reset_on_close();
    }

    /// What has no other end than the close is over.
    pub(crate) fn end_until_close(&self) {
        self.half.link().close_in_order();
    }

    /// What the bytes go to, for those who bound their waits themselves.
    pub(crate) fn half(&mut self) -> &mut WriteHalf<'a> {
        &mut self.half
    }

    /// Writes all of `bytes`; `TimedOut` when the peer takes nothing for as long as `stall`.
    pub(crate) async fn write_all(&mut self, mut bytes: &[u8], stall: Duration) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self
                .write_some(stall, |half, cx| half.poll_write(cx, bytes))
                .await?;
            bytes = &bytes[written..];
        }
        if self.half.may_hold_back() {
            self.flush(stall).await?;
        }
        Ok(())
    }

    /// As [`write_all`](Self::write_all), for bytes that lie in several places.
    pub(crate) async fn write_all_vectored(
        &mut self,
        mut slices: &mut [io::IoSlice<'_>],
        stall: Duration,
    ) -> io::Result<()> {
        io::IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let written = self
                .write_some(stall, |half, cx| half.poll_write_vectored(cx, slices))
                .await?;
            io::IoSlice::advance_slices(&mut slices, written);
        }
        if self.half.may_hold_back() {
            self.flush(stall).await?;
        }
        Ok(())
    }

    /// Writes what the peer takes. The caller has set the deadline; past it the error is `TimedOut`.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match self.half.poll_write(cx, bytes) {
            Poll::Ready(result) => result?,
            Poll::Pending => {
                ready!(self.deadline.poll_passed(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        };
        if self.half.may_hold_back() {
            // What stays behind goes with the next write, or with the end.
            let _ = self.half.poll_flush(cx)?;
        }
        Poll::Ready(Ok(written))
    }

    /// Ready when nothing that was written is held back here. As [`poll_write`](Self::poll_write).
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.half.poll_flush(cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                ready!(self.deadline.poll_passed(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Closes this direction, once what was written is on its way.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half.poll_shutdown(cx)
    }

    /// What TLS could not hand to the socket at once, at most the 64 KiB that a session buffers.
    async fn flush(&mut self, stall: Duration) -> io::Result<()> {
        self.bounded(stall, WriteHalf::poll_flush).await
    }

    /// Closes this direction; the peer has at most `limit` to take what is still under way to it.
    async fn close(&mut self, limit: Duration) -> io::Result<()> {
        self.bounded(limit, WriteHalf::poll_shutdown).await
    }

    async fn write_some(
        &mut self,
        stall: Duration,
        mut write: impl FnMut(&mut WriteHalf<'_>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> io::Result<usize> {
        self.bounded(stall, |half, cx| match write(half, cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            polled => polled,
        })
        .await
    }

    /// `TimedOut` when the peer makes `step` wait for as long as `stall`.
    async fn bounded<T>(
        &mut self,
        stall: Duration,
        mut step: impl FnMut(&mut WriteHalf<'a>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        self.deadline.arm(stall);
        std::future::poll_fn(|cx| match step(&mut self.half, cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self
                .deadline
                .poll_passed(cx)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
        })
        .await
    }
}

/// Bytes received and not yet consumed. Owns a buffer only while it is not empty, or while a read is under way.
#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
    start: usize,
    /// The last read filled the buffer: more is coming, a larger one pays.
    is_filling: bool,
    /// Bytes consumed so far.
    total: u64,
}

impl Received {
    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn consume(&mut self, len: usize) {
        self.start += len;
        self.total += len as u64;
        debug_assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            self.is_filling = self.bytes.len() == self.bytes.capacity();
            self.release();
        }
    }

    fn clear(&mut self) {
        self.consume(self.bytes.len() - self.start);
    }

    fn make_room(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = if self.is_filling {
                buffers::large()
            } else {
                buffers::small()
            };
        } else if self.bytes.len() == self.bytes.capacity() {
            if self.start > 0 {
                self.bytes.drain(..self.start);
                self.start = 0;
            } else {
                self.bytes.reserve(self.bytes.len());
            }
        }
    }

    fn release_if_empty(&mut self) {
        if self.is_empty() {
            self.release();
        }
    }

    fn release(&mut self) {
        self.start = 0;
        if self.bytes.capacity() > 0 {
            buffers::give_back(std::mem::take(&mut self.bytes));
        }
    }

    fn take_head(&mut self, bounds: &HeadBounds) -> HeadText {
        self.total += bounds.end as u64;
        let mut text = std::mem::take(&mut self.bytes);
        if self.start > 0 {
            text.drain(..self.start);
            self.start = 0;
        }
        if bounds.end < text.len() {
            let mut rest = buffers::small();
            rest.extend_from_slice(&text[bounds.end..]);
            self.bytes = rest;
            text.truncate(bounds.end);
        }
        HeadText {
            text,
            start: bounds.start,
        }
    }

    fn take_rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.bytes);
        rest.drain(..self.start);
        self.start = 0;
        rest
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_head_begins_with_its_first_byte_however_late_the_others_come() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = MessageStream::new(Transport::Plain(socket), &Deadlines::new(), 4096);
        let (has_begun, is_over) = (Cell::new(0), Cell::new(false));
        let limits = HeadLimits::default();
        let mut reader = stream.reader();
        let reading = async {
            let on_begun = || has_begun.set(has_begun.get() + 1);
            let read = reader.read_head(HeadKind::Request, &limits, on_begun).await;
            is_over.set(true);
            read.unwrap()
        };
        let sending = async {
            client.write_all(b"\r\n").await.unwrap();
            client.write_all(b"\r\nG").await.unwrap();
            while has_begun.get() == 0 {
                tokio::task::yield_now().await;
            }
            assert!(!is_over.get());
            client.write_all(b"ET / HTTP/1.1\r\n\r\n").await.unwrap();
        };
        let (head, ()) = tokio::join!(reading, sending);
        assert_eq!(&head.text[head.start..], b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(has_begun.get(), 1);
    }
}
