//! The content of an answer that is sent piece by piece.
//!
//! What is put here is framed and kept until the client takes it, up to a bound; then whoever sends has to wait. Small
//! pieces gather until the sender pauses. An answer of which less came than was announced is never made to look whole.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::buffers;
use crate::http1::BodyEncoder;
use crate::reply::{Reply, ReplyForm, ReplyFraming};
use crate::stream::Writer;

/// From here on what waits for the client keeps the sender waiting, in bytes.
const MUCH: usize = 64 * 1024;

/// An answer under way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) status: u16,
    out: Vec<u8>,
    written: usize,
    framing: ReplyFraming,
    /// Content that was announced and has not come; `None` where nothing was announced.
    left: Option<u64>,
    /// The client gets content and not the head alone.
    has_content: bool,
    /// A write waits; its time has begun.
    is_waiting: bool,
    /// Bytes that the client has taken.
    pub(crate) sent: u64,
}

/// Content that is more than was announced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

impl Outgoing {
    /// Begins with the head of `reply`; its content has to be pushed. `len` is what is announced of the content's
    /// length, `speaks_http10` says that the client can only be told its end by the connection's.
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

    /// Puts bytes before everything else, of which nothing has been sent.
    pub(crate) fn put_before(&mut self, bytes: &[u8]) {
        drop(self.out.splice(..0, bytes.iter().copied()));
    }

    /// Whether its end is the connection's.
    pub(crate) fn is_unframed(&self) -> bool {
        self.has_content && self.framing == ReplyFraming::UntilClose
    }

    /// Whether nobody gets content, however much is pushed.
    pub(crate) fn is_in_vain(&self) -> bool {
        !self.has_content
    }

    /// Whether so much waits that more has to.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() - self.written >= MUCH
    }

    /// Puts content behind the rest; for as much of it as there is room, which is told.
    ///
    /// # Errors
    /// It is more than was announced.
    pub(crate) fn push(&mut self, content: &[u8]) -> Result<usize, TooMuch> {
        let content = &content[..content.len().min(MUCH)];
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

    /// No more comes; `false`: less came than was announced.
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
