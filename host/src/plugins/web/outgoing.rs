//! The content of an answer that is sent piece by piece.
//!
//! What is put here is framed and buffered until the client takes it, up to a limit, at which the sender has to wait.
//! Small pieces are gathered until the sender pauses. An answer with less content than announced is never completed.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::buffers;
use crate::http1::BodyEncoder;
use crate::reply::{Reply, ReplyForm, ReplyFraming};
use crate::stream::Writer;

/// The most that is buffered before the sender has to wait, in bytes.
const MAX_BUFFERED: usize = 64 * 1024;

/// An answer under way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) status: u16,
    out: Vec<u8>,
    written: usize,
    framing: ReplyFraming,
    /// Content that was announced and has not been pushed yet; `None` if no length was announced.
    left: Option<u64>,
    /// The client gets content and not the head alone.
    has_content: bool,
    /// A write waits, and its deadline is set.
    is_waiting: bool,
    /// Bytes that the client has taken.
    pub(crate) sent: u64,
}

/// More content than announced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

impl Outgoing {
    /// Begins with the head of `reply`; its content has to be pushed. `len` is the length to announce; without one, the
    /// content of a client that `speaks_http10` ends with the connection.
    pub(crate) fn new(
        reply: &Reply,
        len: Option<u64>,
        form: ReplyForm,
        speaks_http10: bool,
        date: &str,
    ) -> Self {
        let framing = match len {
            Some(len) => ReplyFraming::Length(len),
            None if speaks_http10 => ReplyFraming::UntilClose,
            None => ReplyFraming::Chunked,
        };
        let mut out = buffers::small();
        reply.encode_head(framing, form, date, &mut out);
        Self {
            status: reply.status,
            out,
            written: 0,
            framing,
            left: len,
            has_content: !form.is_head && reply.may_have_content(),
            is_waiting: false,
            sent: 0,
        }
    }

    /// Puts bytes before everything else, nothing of which has been sent.
    pub(crate) fn put_before(&mut self, bytes: &[u8]) {
        drop(self.out.splice(..0, bytes.iter().copied()));
    }

    /// Whether its end is the connection's.
    pub(crate) fn is_unframed(&self) -> bool {
        self.has_content && self.framing == ReplyFraming::UntilClose
    }

    /// Whether the client gets the head alone, however much content is pushed.
    pub(crate) fn discards_content(&self) -> bool {
        !self.has_content
    }

    /// Whether the sender has to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() - self.written >= MAX_BUFFERED
    }

    /// Appends as much of the content as there is room for; returns how much that is, in bytes.
    ///
    /// # Errors
    /// It is more than announced.
    pub(crate) fn push(&mut self, content: &[u8]) -> Result<usize, TooMuch> {
        let content = &content[..content.len().min(MAX_BUFFERED)];
        let len = content.len() as u64;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(len).ok_or(TooMuch)?;
        }
        if self.has_content && !content.is_empty() {
            let encoder = self.encoder();
            encoder.begin_chunk(&mut self.out, content.len());
            self.out.extend_from_slice(content);
            encoder.end_chunk(&mut self.out);
        }
        Ok(content.len())
    }

    /// The content is complete; `false`: there was less than announced.
    pub(crate) fn finish(&mut self) -> bool {
        if self.left.is_some_and(|left| left > 0) && self.has_content {
            return false;
        }
        if self.has_content {
            self.encoder().finish(&mut self.out, None);
        }
        true
    }

    /// Ready when the client has taken everything. Each wait lasts at most for `stall`.
    pub(crate) fn poll_flush(
        &mut self,
        writer: &mut Writer<'_>,
        stall: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sent == 0 && self.is_unframed() {
            writer.begin_until_close();
        }
        while self.written < self.out.len() {
            if !std::mem::replace(&mut self.is_waiting, true) {
                writer.deadline().arm(stall);
            }
            let len = ready!(writer.poll_write(cx, &self.out[self.written..]))?;
            self.is_waiting = false;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += len;
            self.sent += len as u64;
        }
        self.out.clear();
        self.written = 0;
        writer.poll_flush(cx)
    }

    fn encoder(&self) -> BodyEncoder {
        match self.framing {
            ReplyFraming::Chunked => BodyEncoder::Chunked,
            ReplyFraming::Length(_) | ReplyFraming::UntilClose => BodyEncoder::Identity,
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        buffers::give_back(std::mem::take(&mut self.out));
    }
}
