//! Sends a response with the content of a file.
//!
//! Short content is written together with the head. Long content goes from the page cache to a plain socket inside the
//! kernel (sendfile(2)) where available; through TLS and channels, it is copied through a buffer of the worker. It is
//! sent in pieces, between which other connections get their turn, so no file is ever in memory as a whole. The client
//! must accept data within the stall limit. The announced length is sent, or the client can see that it was not: if the
//! file has been truncated, the connection is closed; if it has grown, the rest is not sent.
//!
//! Files are read on the worker's thread, because reading from the page cache is cheaper than a switch to another
//! thread. For long files, the kernel is told which part comes next, so that the disk works while the network does; if
//! a piece is not in memory yet, the worker waits for the disk.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::Duration;

use thiserror::Error;

use super::answer::FileContent;
use super::below::read_at;
use crate::buffers;
use crate::content_coding::{Coding, EncodeError, Encoder};
use crate::http1::BodyEncoder;
use crate::stream::Writer;

/// Content up to this length, in bytes, is written together with the head. Above it, copying twice costs more than a
/// second system call. Measured: 4 to 32 KiB cost the same, 64 KiB a quarter more.
const ONE_WRITE: u64 = 16 * 1024;

/// The maximum sent before other connections get their turn, and the length of the read-ahead, in bytes.
const PIECE: u64 = 1024 * 1024;

/// How much is compressed at a time, in bytes: takes half a millisecond.
const CODED_PIECE: usize = 32 * 1024;

/// A piece of a response's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Text(Vec<u8>),
    /// These bytes of the file.
    Part(Range<u64>),
}

impl Segment {
    /// In bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Part(part) => part.end - part.start,
        }
    }
}

/// Why a response is incomplete. The connection must be closed, because announced content is missing.
#[derive(Debug, Error)]
pub(crate) enum SendFileError {
    /// The client closed the connection, or accepted nothing for too long (`TimedOut`).
    #[error("the client stopped reading")]
    Client(#[source] io::Error),
    #[error("the file was truncated while it was sent")]
    Shrunk,
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A response that is ready to be sent.
#[derive(Debug)]
pub(crate) struct FileResponse {
    head: Vec<u8>,
    body: FileContent,
}

impl FileResponse {
    pub(super) fn new(head: Vec<u8>, body: FileContent) -> Self {
        Self { head, body }
    }

    /// Sends the response; called once. `stall`: how long the client may accept nothing. `sent` grows by the bytes
    /// written, including the head.
    pub(crate) async fn send(
        self,
        to: &mut Writer<'_>,
        stall: Duration,
        sent: &mut u64,
    ) -> Result<(), SendFileError> {
        let mut sending = FileSender {
            to,
            stall,
            sent,
            out: self.head,
        };
        let result = match self.body {
            FileContent::None => sending.flush().await,
            FileContent::Text(text) => sending.text(&text).await,
            FileContent::File {
                file,
                segments,
                len,
            } => sending.file(&file, &segments, len).await,
            FileContent::OnTheFly {
                file,
                len,
                coding,
                permit,
            } => {
                // Boxed, so that not every connection reserves room for an encoder.
                let result = Box::pin(sending.coded(&file, len, coding)).await;
                drop(permit);
                result
            }
        };
        buffers::give_back(sending.out);
        result
    }
}

struct FileSender<'a, 'w> {
    to: &'a mut Writer<'w>,
    stall: Duration,
    sent: &'a mut u64,
    /// Bytes to write next.
    out: Vec<u8>,
}

impl FileSender<'_, '_> {
    async fn text(&mut self, text: &[u8]) -> Result<(), SendFileError> {
        self.out.extend_from_slice(text);
        self.flush().await
    }

    async fn file(
        &mut self,
        file: &File,
        segments: &[Segment],
        len: u64,
    ) -> Result<(), SendFileError> {
        if len > ONE_WRITE {
            return self.long_file(file, segments).await;
        }
        self.make_room(len as usize);
        for segment in segments {
            match segment {
                Segment::Text(text) => self.out.extend_from_slice(text),
                Segment::Part(part) => {
                    read(
                        file,
                        part.start,
                        (part.end - part.start) as usize,
                        &mut self.out,
                    )?;
                }
            }
        }
        self.flush().await
    }

    async fn long_file(&mut self, file: &File, segments: &[Segment]) -> Result<(), SendFileError> {
        for segment in segments {
            match segment {
                Segment::Text(text) => self.out.extend_from_slice(text),
                Segment::Part(part) => {
                    let left = self.move_part(file, part.clone()).await?;
                    self.copy_part(file, left).await?;
                }
            }
        }
        self.flush().await
    }

    /// Sends a part through a buffer.
    async fn copy_part(&mut self, file: &File, mut part: Range<u64>) -> Result<(), SendFileError> {
        if part.is_empty() {
            return Ok(());
        }
        self.make_room(buffers::SMALL);
        while !part.is_empty() {
            let end = part.end.min(part.start + PIECE);
            will_need(file, &(end..part.end));
            while part.start < end {
                let room = (buffers::LARGE - self.out.len().min(buffers::SMALL)) as u64;
                let len = room.min(end - part.start);
                read(file, part.start, len as usize, &mut self.out)?;
                self.flush().await?;
                part.start += len;
                let_others_go_on(&part).await;
            }
        }
        Ok(())
    }

    async fn coded(&mut self, file: &File, len: u64, coding: Coding) -> Result<(), SendFileError> {
        let (mut content, mut coded) = (buffers::large(), buffers::large());
        let result = self.code(file, len, coding, &mut content, &mut coded).await;
        buffers::give_back(content);
        buffers::give_back(coded);
        result
    }

    async fn code(
        &mut self,
        file: &File,
        len: u64,
        coding: Coding,
        content: &mut Vec<u8>,
        coded: &mut Vec<u8>,
    ) -> Result<(), SendFileError> {
        let mut encoder = Encoder::new(coding);
        let mut offset = 0;
        while offset < len {
            let piece = (len - offset).min(CODED_PIECE as u64);
            content.clear();
            read(file, offset, piece as usize, content)?;
            encoder.encode(content, coded)?;
            offset += piece;
            if !coded.is_empty() && offset < len {
                self.put_chunk(coded);
                self.flush().await?;
            }
            tokio::task::yield_now().await;
        }
        encoder.finish(coded)?;
        self.put_chunk(coded);
        BodyEncoder::Chunked.finish(&mut self.out, None);
        self.flush().await
    }

    fn put_chunk(&mut self, content: &mut Vec<u8>) {
        if !content.is_empty() {
            BodyEncoder::Chunked.begin_chunk(&mut self.out, content.len());
            self.out.extend_from_slice(content);
            BodyEncoder::Chunked.end_chunk(&mut self.out);
            content.clear();
        }
    }

    /// Reserves room for `len` bytes after the waiting ones, in a buffer of the worker if possible.
    fn make_room(&mut self, len: usize) {
        if self.out.capacity() - self.out.len() < len {
            let mut larger = buffers::large();
            larger.extend_from_slice(&self.out);
            buffers::give_back(std::mem::replace(&mut self.out, larger));
        }
    }

    async fn flush(&mut self) -> Result<(), SendFileError> {
        let written = self.to.write_all(&self.out, self.stall).await;
        written.map_err(SendFileError::Client)?;
        *self.sent += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Sends as much of a part as possible inside the kernel; returns the rest, which must be copied.
    #[cfg(not(target_os = "linux"))]
    async fn move_part(&mut self, _: &File, part: Range<u64>) -> Result<Range<u64>, SendFileError> {
        Ok(part)
    }
}

/// Yields between the pieces of a part. A part of one piece does not pay for this.
async fn let_others_go_on(rest: &Range<u64>) {
    if !rest.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// Appends exactly `len` bytes of the file.
fn read(file: &File, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), SendFileError> {
    let start = out.len();
    out.resize(start + len, 0);
    let mut filled = 0;
    while filled < len {
        match read_at(file, &mut out[start + filled..], offset + filled as u64) {
            Ok(0) => return Err(SendFileError::Shrunk),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SendFileError::Read(error)),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn will_need(_: &File, _: &Range<u64>) {}

#[cfg(target_os = "linux")]
use linux::will_need;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::future::poll_fn;
    use std::io;
    use std::num::NonZeroU64;
    use std::ops::Range;
    use std::task::{Poll, ready};

    use rustix::fs::{Advice, fadvise, sendfile};
    use rustix::io::Errno;
    use rustix::net::{SendFlags, send};
    use tokio::io::Interest;
    use tokio::net::TcpStream;
    use tokio::task::coop::consume_budget;

    use super::{FileSender, PIECE, SendFileError, let_others_go_on};

    /// Bytes that count as one write; tokio allows 128 in a turn.
    const COUNTED: usize = 64 * 1024;

    impl FileSender<'_, '_> {
        /// Sends as much of a part as possible inside the kernel; returns the rest, which must be copied.
        pub(super) async fn move_part(
            &mut self,
            file: &File,
            mut part: Range<u64>,
        ) -> Result<Range<u64>, SendFileError> {
            if self.to.plain_socket().is_none() {
                return Ok(part);
            }
            self.send_before_more().await?;
            while !part.is_empty() {
                let end = part.end.min(part.start + PIECE);
                will_need(file, &(end..part.end));
                while part.start < end {
                    let len = (end - part.start) as usize;
                    let mut offset = part.start;
                    let moved = self
                        .whenever_writable(|socket| sendfile(socket, file, Some(&mut offset), len))
                        .await;
                    match moved.map_err(|error| failure(&error).ok_or(error)) {
                        Ok(0) => return Err(SendFileError::Shrunk),
                        Ok(moved) => {
                            part.start += moved as u64;
                            *self.sent += moved as u64;
                            count(moved).await;
                        }
                        Err(Ok(SendfileFailure::Unsupported)) => return Ok(part),
                        Err(Ok(SendfileFailure::File(error))) => {
                            return Err(SendFileError::Read(error));
                        }
                        Err(Err(error)) => return Err(SendFileError::Client(error)),
                    }
                }
                let_others_go_on(&part).await;
            }
            Ok(part)
        }

        /// Writes the waiting bytes and lets the kernel hold them back (`MSG_MORE`), so that they share a packet with
        /// the next.
        async fn send_before_more(&mut self) -> Result<(), SendFileError> {
            let out = std::mem::take(&mut self.out);
            let mut start = 0;
            while start < out.len() {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                let written = self
                    .whenever_writable(|socket| send(socket, &out[start..], flags))
                    .await;
                let written = written.map_err(SendFileError::Client)?;
                start += written;
                *self.sent += written as u64;
            }
            self.out = out;
            self.out.clear();
            Ok(())
        }

        /// `TimedOut` if the client accepts nothing for the stall limit.
        async fn whenever_writable(
            &self,
            mut write: impl FnMut(&TcpStream) -> Result<usize, Errno>,
        ) -> io::Result<usize> {
            let Some(socket) = self.to.plain_socket() else {
                // Nothing may bypass the encryption.
                return Err(io::ErrorKind::Unsupported.into());
            };
            self.to.deadline().arm(self.stall);
            poll_fn(|cx| {
                loop {
                    match socket.try_io(Interest::WRITABLE, || Ok(write(socket)?)) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            if socket.poll_write_ready(cx)?.is_pending() {
                                ready!(self.to.deadline().poll_passed(cx));
                                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                            }
                        }
                        result => return Poll::Ready(result),
                    }
                }
            })
            .await
        }
    }

    /// Counts moved bytes toward this connection's turn, as tokio does for its own writes, and yields at the end of the
    /// turn: a client that requests file after file must not monopolise the worker.
    async fn count(moved: usize) {
        for _ in 0..=moved / COUNTED {
            consume_budget().await;
        }
    }

    /// Why sendfile failed, other than because of the client.
    enum SendfileFailure {
        File(io::Error),
        /// The file system does not support it.
        Unsupported,
    }

    fn failure(error: &io::Error) -> Option<SendfileFailure> {
        match Errno::from_io_error(error)? {
            Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => Some(SendfileFailure::Unsupported),
            errno @ (Errno::IO | Errno::STALE | Errno::NOMEM | Errno::OVERFLOW) => {
                Some(SendfileFailure::File(errno.into()))
            }
            _ => None,
        }
    }

    /// Tells the kernel which part is read next, one piece of `part` at most. Only a hint.
    pub(super) fn will_need(file: &File, part: &Range<u64>) {
        let len = part.end.saturating_sub(part.start).min(PIECE);
        if let Some(len) = NonZeroU64::new(len) {
            let _ = fadvise(file, part.start, Some(len), Advice::WillNeed);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::pin::pin;

        #[tokio::test]
        async fn many_files_take_many_turns() {
            for (len, files, most) in [(17_000, 1000, 128), (PIECE as usize, 100, 8)] {
                let mut sending = pin!(async {
                    for _ in 0..files {
                        count(len).await;
                    }
                });
                let mut turns = 0;
                poll_fn(|cx| {
                    turns += 1;
                    sending.as_mut().poll(cx)
                })
                .await;
                assert!(
                    turns >= files / most,
                    "{turns} turns for files of {len} bytes"
                );
            }
        }
    }
}
