//! The sending direction of a stream.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;

use super::watch::begin_to_watch;
use crate::deadline::Deadline;
use crate::transport::WriteHalf;

/// The sending direction of a [`MessageStream`](super::MessageStream).
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(super) half: WriteHalf<'a>,
    pub(super) deadline: &'a Deadline,
}

impl<'a> Writer<'a> {
    /// As [`Reader::plain_socket`](super::Reader::plain_socket).
    pub(crate) fn plain_socket(&self) -> Option<&TcpStream> {
        self.half.plain()
    }

    /// The deadline that limits waits in this direction.
    pub(crate) fn deadline(&self) -> &'a Deadline {
        self.deadline
    }

    /// Ends when the peer has reset the connection. Uses the deadline of this direction. Cancel safe.
    pub(crate) async fn reset(&self) {
        begin_to_watch(self.deadline).await;
        self.half.link().reset().await;
    }

    /// What follows is delimited by the close. Until [`end_until_close`](Self::end_until_close), every close is a reset, also
    /// that of a process that ends: so a truncated message cannot be taken for a complete one.
    pub(crate) fn begin_until_close(&self) {
        self.half.link().reset_on_close();
    }

    /// A message that is delimited by the close is complete.
    pub(crate) fn end_until_close(&self) {
        self.half.link().close_in_order();
    }

    /// The transport, for callers that limit their waits themselves.
    pub(crate) fn half(&mut self) -> &mut WriteHalf<'a> {
        &mut self.half
    }

    /// Writes all of `bytes`; the error is `TimedOut` if the peer accepts nothing for `stall`.
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

    /// As [`write_all`](Self::write_all), for several slices.
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

    /// Writes as much as the peer accepts. The caller has set the deadline; when it passes, the error is `TimedOut`.
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
            // The rest is flushed by the next write, or at the end.
            let _ = self.half.poll_flush(cx)?;
        }
        Poll::Ready(Ok(written))
    }

    /// Ready when everything that was written has reached the kernel. As [`poll_write`](Self::poll_write).
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.half.poll_flush(cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                ready!(self.deadline.poll_passed(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Closes this direction, after what was written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half.poll_shutdown(cx)
    }

    /// Writes what the TLS session still buffers, at most 64 KiB.
    async fn flush(&mut self, stall: Duration) -> io::Result<()> {
        self.bounded(stall, WriteHalf::poll_flush).await
    }

    /// Closes this direction; the peer has at most `limit` to accept what is still buffered.
    pub(super) async fn close(&mut self, limit: Duration) -> io::Result<()> {
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

    /// The error is `TimedOut` if `step` has to wait for the peer for `stall`.
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
