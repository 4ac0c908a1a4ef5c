//! Transfers bytes between sockets inside the kernel: splice(2) through a pipe from the worker's pool.
//!
//! A pipe is held only while data flows. For short streams, copying is cheaper, so callers switch to splice after
//! [`WORTH_IT`] bytes. On systems without splice, callers copy.

#[cfg(target_os = "linux")]
pub(crate) use linux::{IS_AVAILABLE, PipeInUse, empty, fill, poll_empty, poll_fill};
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::{IS_AVAILABLE, PipeInUse, empty, fill, poll_empty, poll_fill};

/// The length from which a stream is spliced, in bytes. Creating a pipe costs more than copying a few records.
pub(crate) const WORTH_IT: u64 = 512 * 1024;

/// The number of pieces that a stream moves before other connections of the worker get their turn.
pub(crate) const PIECES_PER_TURN: u32 = 16;

/// The result of filling a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The number of bytes in it; 0: the peer closed its direction.
    Bytes(u64),
    /// No pipe can be created now: the caller must copy.
    NoPipe,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::cell::RefCell;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::task::{Context, Poll, ready};
    use std::time::Duration;

    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
    use tokio::io::Interest;
    use tokio::net::TcpStream;

    use super::Filled;
    use crate::stream::{Reader, Writer};

    pub(crate) const IS_AVAILABLE: bool = true;

    /// The maximum number of bytes per call, and the requested size of a pipe.
    const PIPE_LEN: usize = 1024 * 1024;
    const PIPES_KEPT: usize = 32;

    #[derive(Debug)]
    struct Pipe {
        read_end: OwnedFd,
        write_end: OwnedFd,
    }

    thread_local! {
        static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    }

    /// A pipe that is in use, and the number of bytes in it.
    #[derive(Debug, Default)]
    pub(crate) struct PipeInUse {
        pipe: Option<Pipe>,
        len: u64,
    }

    impl PipeInUse {
        pub(crate) fn is_empty(&self) -> bool {
            self.len == 0
        }

        fn get(&mut self) -> io::Result<&Pipe> {
            if self.pipe.is_none() {
                self.pipe = Some(match PIPES.with_borrow_mut(Vec::pop) {
                    Some(pipe) => pipe,
                    None => new_pipe()?,
                });
            }
            self.pipe
                .as_ref()
                .ok_or_else(|| io::ErrorKind::Other.into())
        }

        /// Returns an empty pipe to the pool; one with bytes in it is closed.
        fn release(&mut self) {
            let Some(pipe) = self.pipe.take() else { return };
            if self.len > 0 {
                return;
            }
            // The pool may already be gone if the thread is ending; then the pipe is closed.
            let _ = PIPES.try_with(|pipes| {
                let pipes = &mut *pipes.borrow_mut();
                if pipes.len() < PIPES_KEPT {
                    pipes.push(pipe);
                }
            });
        }
    }

    impl Drop for PipeInUse {
        fn drop(&mut self) {
            self.release();
        }
    }

    fn new_pipe() -> io::Result<Pipe> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Above the user's limit, the kernel refuses the larger size; the pipe still works.
        let _ = fcntl_setpipe_size(&write_end, PIPE_LEN);
        Ok(Pipe {
            read_end,
            write_end,
        })
    }

    /// Moves up to `limit` bytes from a socket into the empty pipe. `Ok(0)`: the peer closed its direction.
    pub(crate) fn poll_fill(
        from: &TcpStream,
        pipe: &mut PipeInUse,
        limit: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Filled>> {
        debug_assert!(
            pipe.is_empty(),
            "otherwise a full pipe would look like a quiet socket"
        );
        let limit = usize::try_from(limit).unwrap_or(PIPE_LEN).min(PIPE_LEN);
        loop {
            let Ok(Pipe { write_end, .. }) = pipe.get() else {
                return Poll::Ready(Ok(Filled::NoPipe));
            };
            let moved = from.try_io(Interest::READABLE, || move_bytes(from, write_end, limit));
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pipe.release();
                    ready!(from.poll_read_ready(cx))?;
                }
                Ok(len) => {
                    pipe.len = len;
                    return Poll::Ready(Ok(Filled::Bytes(len)));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Moves the pipe's bytes to a socket until it is empty; calls `progress` for each part.
    pub(crate) fn poll_empty(
        pipe: &mut PipeInUse,
        to: &TcpStream,
        cx: &mut Context<'_>,
        mut progress: impl FnMut(),
    ) -> Poll<io::Result<()>> {
        while pipe.len > 0 {
            let limit = usize::try_from(pipe.len).unwrap_or(PIPE_LEN);
            let read_end = &pipe.get()?.read_end;
            match to.try_io(Interest::WRITABLE, || move_bytes(read_end, to, limit)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(to.poll_write_ready(cx))?
                }
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(len) => {
                    pipe.len -= len;
                    progress();
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Like [`poll_fill`], limited by the reader's deadline, which the caller has set.
    pub(crate) async fn fill(
        from: &Reader<'_>,
        pipe: &mut PipeInUse,
        limit: u64,
    ) -> io::Result<Filled> {
        let Some(socket) = from.plain_socket() else {
            return Ok(Filled::NoPipe);
        };
        std::future::poll_fn(|cx| match poll_fill(socket, pipe, limit, cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => from
                .deadline()
                .poll_passed(cx)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
        })
        .await
    }

    /// Like [`poll_empty`]; `TimedOut` if the peer accepts nothing for `stall`.
    pub(crate) async fn empty(
        pipe: &mut PipeInUse,
        to: &Writer<'_>,
        stall: Duration,
    ) -> io::Result<()> {
        let Some(socket) = to.plain_socket() else {
            // Nothing may bypass the encryption.
            return Err(io::ErrorKind::Unsupported.into());
        };
        to.deadline().arm(stall);
        std::future::poll_fn(
            |cx| match poll_empty(pipe, socket, cx, || to.deadline().arm(stall)) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => to
                    .deadline()
                    .poll_passed(cx)
                    .map(|()| Err(io::ErrorKind::TimedOut.into())),
            },
        )
        .await
    }

    fn move_bytes(from: impl AsFd, to: impl AsFd, limit: usize) -> io::Result<u64> {
        loop {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            match splice(&from, None, &to, None, limit, flags) {
                Ok(len) => return Ok(len as u64),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::io;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use tokio::net::TcpStream;

    use super::Filled;
    use crate::stream::{Reader, Writer};

    pub(crate) const IS_AVAILABLE: bool = false;

    /// Replaces a pipe on systems without splice; never filled.
    #[derive(Debug, Default)]
    pub(crate) struct PipeInUse;

    impl PipeInUse {
        pub(crate) fn is_empty(&self) -> bool {
            true
        }
    }

    pub(crate) fn poll_fill(
        _: &TcpStream,
        _: &mut PipeInUse,
        _: u64,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<Filled>> {
        Poll::Ready(Ok(Filled::NoPipe))
    }

    pub(crate) fn poll_empty(
        _: &mut PipeInUse,
        _: &TcpStream,
        _: &mut Context<'_>,
        _: impl FnMut(),
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    pub(crate) async fn fill(_: &Reader<'_>, _: &mut PipeInUse, _: u64) -> io::Result<Filled> {
        Ok(Filled::NoPipe)
    }

    pub(crate) async fn empty(_: &mut PipeInUse, _: &Writer<'_>, _: Duration) -> io::Result<()> {
        Ok(())
    }
}
