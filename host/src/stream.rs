//! The one place where a socket, a buffer and a deadline meet the parser.
//!
//! A [`MessageStream`] reads heads and bytes, and writes bytes. It holds a buffer only while there are bytes in it, so
//! waiting for a peer costs no memory. Every wait is limited by the deadline that the caller has set. The two
//! directions are `reader` and `writer`; both use `watch` to notice that the peer has gone, and `received` is the
//! buffer.

mod reader;
mod received;
mod watch;
mod writer;

use std::cell::OnceCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::deadline::{Deadline, Deadlines};
use crate::open_files;
use crate::transport::{Link, Transport};
pub(crate) use reader::{ReadHeadError, Reader};
use received::Received;
use watch::{begin_to_watch, wait_for_end};
pub(crate) use writer::Writer;

/// A connection that carries HTTP messages.
#[derive(Debug)]
pub(crate) struct MessageStream {
    transport: Transport,
    received: Received,
    reading: Deadline,
    writing: Deadline,
    read_len: usize,
    /// The addresses of the peer and of this end, once they have been queried.
    addresses: OnceCell<Box<Option<(SocketAddr, SocketAddr)>>>,
}

impl MessageStream {
    /// `read_len` is the most that is read at once, in bytes.
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

    /// The two directions, for concurrent use.
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

    /// Whether it uses HTTP/2: it is a stream of such a connection, or HTTP/2 was negotiated (ALPN).
    pub(crate) fn speaks_http2(&self) -> bool {
        self.is_channel() || self.transport.speaks_http2()
    }

    /// Whether any version of HTTP was negotiated (ALPN).
    pub(crate) fn is_named_http(&self) -> bool {
        self.is_channel() || self.transport.has_agreed_protocol()
    }

    /// Whether it is a stream of a shared connection.
    pub(crate) fn is_channel(&self) -> bool {
        matches!(self.transport, Transport::Channel(_))
    }

    /// The address of this end; none for a stream of a shared connection.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.transport.link().local_addr()
    }

    /// The addresses of the peer and of this end; none for a stream of a shared connection. The system is queried once.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let query = || Box::new(self.transport.link().addresses());
        **self.addresses.get_or_init(query)
    }

    /// The number of its descriptor; none for a stream of a shared connection.
    pub(crate) fn descriptor(&self) -> Option<u64> {
        match self.transport.link() {
            Link::Socket(socket) => Some(open_files::number_of(socket)),
            Link::Channel(_) => None,
        }
    }

    /// Bytes that were received and consumed so far, except those of tunnels and of bodies that the kernel moves.
    pub(crate) fn consumed(&self) -> u64 {
        self.received.total
    }

    /// Whether there are received bytes that have not been consumed.
    pub(crate) fn has_buffered(&self) -> bool {
        !self.received.is_empty()
    }

    /// Waits until there is a byte to read, without holding a buffer. `Ok(false)`: the peer has closed. `stop` is
    /// called whenever the task is woken; `true` ends the wait as if the peer had closed.
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

    /// Ends when the peer has gone: it has reset the connection, or closed its direction at least `half_closed` ago.
    /// Uses the deadline of the receiving direction. Cancel safe.
    pub(crate) async fn gone(&self, half_closed: Duration) {
        let link = self.transport.link();
        begin_to_watch(&self.reading).await;
        let departure = link.departure().await;
        wait_for_end(departure, link, &self.reading, half_closed, &[]).await;
    }

    /// Whether an idle connection can be reused: it is open, and no unexpected bytes have arrived. Checks the readiness
    /// that the event loop already knows, which costs no system call for a quiet connection.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.has_buffered() && self.transport.is_quiet()
    }

    /// As [`is_quiet`](Self::is_quiet), but queries the kernel: for requests that cannot be retried.
    pub(crate) fn is_quiet_now(&self) -> bool {
        !self.has_buffered() && self.transport.is_quiet_now()
    }

    /// Ready once an idle connection can no longer be reused, see [`is_quiet`](Self::is_quiet).
    pub(crate) fn poll_unquiet(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.has_buffered() {
            true => Poll::Ready(()),
            false => self.transport.poll_unquiet(cx),
        }
    }

    /// The transport, and the bytes that were received but not consumed.
    pub(crate) fn into_parts(mut self) -> (Transport, Vec<u8>) {
        let rest = self.received.take_rest();
        (self.transport, rest)
    }

    /// Closes the connection so that the peer can read everything that was sent, even if it is still sending: closes
    /// our direction, then discards what arrives until the peer closes, too, for at most `limit` (RFC 9112 §9.6).
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

    /// Makes the close report that the request was not processed, if the protocol can express that.
    pub(crate) fn refuse_on_close(&self) {
        self.transport.link().refuse_on_close();
    }

    /// Makes the close a reset, so that the peer does not take a truncated message for a complete one.
    pub(crate) fn reset_on_close(&self) {
        self.transport.link().reset_on_close();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::http1::{HeadKind, HeadLimits};

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
