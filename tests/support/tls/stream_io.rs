//! An HTTP/2 stream as a connection: the result of a CONNECT or an extended CONNECT.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Any connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Any connection, of whatever type.
pub(super) type Io = Box<dyn Duplex>;

/// Both directions of a stream.
pub(super) struct StreamIo {
    send: SendStream<Bytes>,
    receive: RecvStream,
    left: Bytes,
}

impl StreamIo {
    pub(super) fn new(send: SendStream<Bytes>, receive: RecvStream) -> StreamIo {
        StreamIo {
            send,
            receive,
            left: Bytes::new(),
        }
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(data) => {
                    self.left = data.map_err(reset)?;
                    let len = self.left.len();
                    self.receive
                        .flow_control()
                        .release_capacity(len)
                        .map_err(reset)?;
                }
            }
        }
        let len = self.left.len().min(out.remaining());
        out.put_slice(&self.left.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(bytes.len());
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(capacity) => capacity.map_err(reset)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let len = bytes.len().min(self.send.capacity());
        self.send
            .send_data(Bytes::copy_from_slice(&bytes[..len]), false)
            .map_err(reset)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(reset))
    }
}

fn reset(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

/// Sends `bytes` as far as the peer's windows allow, and waits for more.
pub(super) async fn send_all(
    send: &mut SendStream<Bytes>,
    bytes: &[u8],
    is_last: bool,
) -> Result<(), h2::Error> {
    let mut left = Bytes::copy_from_slice(bytes);
    while !left.is_empty() {
        send.reserve_capacity(left.len());
        while send.capacity() == 0 {
            match poll_fn(|cx| send.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                // The stream accepts no more; the reset has the reason.
                None => return Err(poll_fn(|cx| send.poll_reset(cx)).await?.into()),
            };
        }
        let part = left.split_to(left.len().min(send.capacity()));
        let ends = is_last && left.is_empty();
        send.send_data(part, ends)?;
    }
    if is_last && bytes.is_empty() {
        send.send_data(Bytes::new(), true)?;
    }
    Ok(())
}
