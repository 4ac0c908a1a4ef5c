//! Relays a message body between connections: decoded, checked, and framed again.
//!
//! Streams with back-pressure: nothing is read before the previous bytes have been written. A body with invalid
//! framing, or that is truncated, is never completed on the other side. Content goes out in one write with whatever is
//! still unsent before it (a head, the frame of the last chunk), large pieces straight from the buffer they were read
//! into. The beginning of a request body may be kept as it was sent, for a retry on another connection.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::buffers;
use crate::error::{Cause, ContentError};
use crate::held::HeldBytes;
use crate::http1::{BodyDecoder, BodyEncoder, DecodedPiece, Trailers};
use crate::splice::{self, Filled, PIECES_PER_TURN};
use crate::stream::{Reader, Writer};
use crate::turn::Steps;

/// Observes content while it is relayed.
pub(crate) trait ContentHook {
    /// Ready when it can be given content.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Called with each piece of content, and with an empty one at the end. `Replaced`: `replacement` is relayed instead.
    fn see(
        &mut self,
        content: &[u8],
        is_end: bool,
        replacement: &mut Vec<u8>,
    ) -> Result<Seen, ContentError>;

    /// The most content of one call, in bytes.
    fn max_piece(&self) -> usize;

    /// Called with the trailers before they are forwarded.
    fn see_trailers(&mut self, trailers: &mut Trailers) -> Result<(), ContentError>;
}

/// What a [`ContentHook`] made of a piece of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Unchanged,
    Replaced,
}

/// Chunks with less content than this, in bytes, are shown to hooks together with the chunks after them.
const GATHERED_BELOW: usize = 1024;
/// About how much is gathered, in bytes.
const GATHERED_LEN: usize = 8 * 1024;
/// What it costs to show hooks a piece, in steps.
const STEPS_PER_HOOK: u32 = 8;

/// Content that is kept at most, in bytes; a longer body cannot be sent again.
const KEPT_CONTENT: usize = 64 * 1024;
/// The same with the frames around it, in bytes: tiny chunks have more frame than content.
const KEPT_TEXT: usize = buffers::LARGE;

/// How long each side may be idle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) sender: Duration,
    pub(crate) receiver: Duration,
}

/// Whose side a relay failed on.
#[derive(Debug)]
pub(crate) enum RelayError {
    Sender(Cause),
    Receiver(io::Error),
    Hook(ContentError),
}

/// One body that is being relayed.
pub(crate) struct BodyRelay<'a> {
    pub(crate) decoder: BodyDecoder,
    pub(crate) encoder: BodyEncoder,
    /// What has to be written before the body; then the bytes that are not written yet, or kept for a retry.
    pub(crate) out: Vec<u8>,
    /// Content that was read before and is relayed first.
    pub(crate) begun: Vec<u8>,
    /// All of the body is in `out`, or has been written.
    pub(crate) is_over: bool,
    /// Set while what is written is kept. Boxed, as for most bodies there is nothing.
    pub(crate) keeping: Option<Box<Keeping<'a>>>,
    pub(crate) hook: Option<&'a mut dyn ContentHook>,
    pub(crate) patience: Patience,
    /// Whether splicing is possible; [`splice::IS_AVAILABLE`] at first.
    pub(crate) may_splice: bool,
    /// Work since the last pause: chunks, and pieces that were shown to the hook.
    pub(crate) steps: Steps,
    /// Bytes written so far, also valid after a failure.
    pub(crate) written: &'a mut u64,
}

/// A body's beginning that is kept in [`BodyRelay::out`] as it is written.
pub(crate) struct Keeping<'a> {
    /// Whether it is no longer needed.
    pub(crate) is_answered: &'a dyn Fn() -> bool,
    /// Bytes of `out` that come before the body.
    pub(crate) head_len: usize,
    /// Bytes of content in `out`.
    pub(crate) content_len: usize,
    /// Bytes of `out` that were written.
    pub(crate) written: usize,
    /// Everything that was read of the body is in `out`.
    pub(crate) is_intact: bool,
    /// Counts `out` towards the limit of the worker.
    pub(crate) held: HeldBytes,
}

impl BodyRelay<'_> {
    /// Relays to the end of the body; called once.
    pub(crate) async fn run(
        &mut self,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
    ) -> Result<(), RelayError> {
        let result = self.relay(from, to).await;
        if self.keeping.is_none() {
            buffers::give_back(std::mem::take(&mut self.out));
        }
        result
    }

    /// The caller has written what comes before the body.
    pub(crate) fn note_head_written(&mut self) {
        match &mut self.keeping {
            Some(kept) => kept.written = self.out.len(),
            None => self.out.clear(),
        }
    }

    /// Whether what has been read of the body can be written again.
    pub(crate) fn is_kept(&self) -> bool {
        self.keeping.as_ref().is_some_and(|kept| kept.is_intact)
    }

    /// Frees what is kept of a body that has been written, once the response has begun.
    pub(crate) fn release_if_answered(&mut self) {
        if self
            .keeping
            .as_ref()
            .is_some_and(|kept| (kept.is_answered)())
        {
            self.keeping = None;
            buffers::give_back(std::mem::take(&mut self.out));
        }
    }

    /// Whether this much more content is kept. If not, nothing is from now on.
    fn keep(&mut self, content_len: usize) -> bool {
        let Some(kept) = &mut self.keeping else {
            return false;
        };
        kept.content_len += content_len;
        let text_len = self.out.len() + content_len;
        let has_room = kept.content_len <= KEPT_CONTENT
            && text_len <= kept.head_len + KEPT_TEXT
            && kept.held.set(text_len as u64).is_ok();
        if has_room && !(kept.is_answered)() {
            if text_len > buffers::SMALL - 2 && self.out.capacity() == buffers::SMALL {
                let mut larger = buffers::large();
                larger.extend_from_slice(&self.out);
                buffers::give_back(std::mem::replace(&mut self.out, larger));
            }
            return true;
        }
        self.out.drain(..kept.written);
        self.keeping = None;
        false
    }

    fn set_intact(&mut self, is_intact: bool) {
        if let Some(kept) = &mut self.keeping {
            kept.is_intact = is_intact;
        }
    }

    async fn relay(
        &mut self,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
    ) -> Result<(), RelayError> {
        if self.is_over {
            return self.flush(to).await;
        }
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            self.set_intact(false);
            self.pass(&begun, false, to).await?;
            self.set_intact(true);
        }
        loop {
            self.is_over = self.pass_buffered(from, to).await?;
            self.flush(to).await?;
            if self.is_over {
                return Ok(());
            }
            if self.pays_to_splice(from, to) {
                self.splice(from, to).await?;
                continue;
            }
            from.deadline().arm(self.patience.sender);
            let len = from.fill().await.map_err(RelayError::sender)?;
            if len == 0 {
                self.decoder
                    .end_of_input()
                    .map_err(|_| RelayError::Sender(Cause::Closed))?;
                self.finish().await?;
                self.is_over = true;
                return self.flush(to).await;
            }
        }
    }

    /// Relays everything that is buffered; `true` at the end of the body.
    async fn pass_buffered(
        &mut self,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
    ) -> Result<bool, RelayError> {
        loop {
            if self.steps.is_due() {
                self.steps.pay().await;
            }
            // Until what the decoder has consumed is in `out`.
            self.set_intact(false);
            let step = self
                .decoder
                .decode(from.buffered())
                .map_err(|error| RelayError::Sender(error.into()))?;
            self.steps.add(1);
            let is_small = step.content.len() < GATHERED_BELOW && !step.end;
            if is_small && self.hook.is_some() && step.consumed < from.buffered().len() {
                let is_end = Box::pin(self.pass_gathered(step, from, to)).await?;
                self.set_intact(true);
                if is_end {
                    return Ok(true);
                }
                continue;
            }
            let content = &from.buffered()[step.content.clone()];
            if !content.is_empty() {
                self.pass(content, step.end, to).await?;
            }
            from.consume(step.consumed);
            if step.end {
                if step.content.is_empty() {
                    self.finish().await?;
                } else {
                    self.end().await?;
                }
                self.set_intact(true);
                return Ok(true);
            }
            self.set_intact(true);
            if step.consumed == 0 {
                return Ok(false);
            }
        }
    }

    /// Shows a small chunk together with the buffered ones after it: a hook costs as much for a byte as for a large piece.
    /// `true` at the end of the body.
    async fn pass_gathered(
        &mut self,
        first: DecodedPiece,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
    ) -> Result<bool, RelayError> {
        let mut gathered = buffers::small();
        let mut step = first;
        let end = loop {
            gathered.extend_from_slice(&from.buffered()[step.content.clone()]);
            from.consume(step.consumed);
            if step.end || step.consumed == 0 || gathered.len() >= GATHERED_LEN {
                break step.end;
            }
            if self.steps.is_due() {
                self.steps.pay().await;
            }
            step = match self.decoder.decode(from.buffered()) {
                Ok(step) => step,
                // What came before is relayed first; then the decoder fails again.
                Err(_) if !gathered.is_empty() => break false,
                Err(error) => return Err(RelayError::Sender(error.into())),
            };
            self.steps.add(1);
        };
        let is_empty = gathered.is_empty();
        let passed = match is_empty {
            true => Ok(()),
            false => self.pass(&gathered, end, to).await,
        };
        buffers::give_back(gathered);
        passed?;
        match (end, is_empty) {
            (true, true) => self.finish().await?,
            (true, false) => self.end().await?,
            (false, _) => {}
        }
        Ok(end)
    }

    async fn pass(
        &mut self,
        content: &[u8],
        is_end: bool,
        to: &mut Writer<'_>,
    ) -> Result<(), RelayError> {
        let Some(hook) = self.hook.as_deref_mut() else {
            return self.send(content, to).await;
        };
        let max_piece = hook.max_piece();
        // Boxed: plugins observe few bodies.
        if content.len() <= max_piece {
            return Box::pin(self.show(content, is_end, to)).await;
        }
        Box::pin(self.show_in_pieces(content, is_end, max_piece, to)).await
    }

    async fn show_in_pieces(
        &mut self,
        content: &[u8],
        is_end: bool,
        max_piece: usize,
        to: &mut Writer<'_>,
    ) -> Result<(), RelayError> {
        let mut pieces = content.chunks(max_piece).peekable();
        while let Some(piece) = pieces.next() {
            let is_last = pieces.peek().is_none();
            self.show(piece, is_end && is_last, to).await?;
            // Lets the other tasks of the worker run.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Shows the hook a piece, and sends the result.
    async fn show(
        &mut self,
        content: &[u8],
        is_end: bool,
        to: &mut Writer<'_>,
    ) -> Result<(), RelayError> {
        let Some(hook) = self.hook.as_deref_mut() else {
            return Ok(());
        };
        poll_fn(|cx| hook.poll_ready(cx)).await;
        self.steps.add(STEPS_PER_HOOK);
        let mut replacement = Vec::new();
        let seen = hook
            .see(content, is_end, &mut replacement)
            .map_err(RelayError::Hook)?;
        let result = match seen {
            Seen::Unchanged => content,
            Seen::Replaced => &replacement,
        };
        self.send(result, to).await
    }

    async fn send(&mut self, content: &[u8], to: &mut Writer<'_>) -> Result<(), RelayError> {
        if content.is_empty() {
            return Ok(());
        }
        let is_kept = self.keep(content.len());
        self.encoder.begin_chunk(&mut self.out, content.len());
        if is_kept || self.out.len() + content.len() <= buffers::SMALL - 2 {
            self.out.extend_from_slice(content);
            self.encoder.end_chunk(&mut self.out);
            return Ok(());
        }
        let chunk_end: &[u8] = match self.encoder {
            BodyEncoder::Identity => b"",
            BodyEncoder::Chunked => b"\r\n",
        };
        let mut slices = [
            io::IoSlice::new(&self.out),
            io::IoSlice::new(content),
            io::IoSlice::new(chunk_end),
        ];
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        to.write_all_vectored(&mut slices, self.patience.receiver)
            .await
            .map_err(RelayError::Receiver)?;
        *self.written += len as u64;
        self.out.clear();
        Ok(())
    }

    /// The end of a body that came without content: hooks may still add some.
    async fn finish(&mut self) -> Result<(), RelayError> {
        if let Some(hook) = self.hook.as_deref_mut() {
            poll_fn(|cx| hook.poll_ready(cx)).await;
            let mut last = Vec::new();
            let seen = hook.see(b"", true, &mut last).map_err(RelayError::Hook)?;
            if seen == Seen::Replaced && !last.is_empty() {
                self.encoder.begin_chunk(&mut self.out, last.len());
                self.out.extend_from_slice(&last);
                self.encoder.end_chunk(&mut self.out);
            }
        }
        self.end().await
    }

    async fn end(&mut self) -> Result<(), RelayError> {
        if let (Some(hook), Some(trailers)) =
            (self.hook.as_deref_mut(), self.decoder.trailers_mut())
        {
            poll_fn(|cx| hook.poll_ready(cx)).await;
            hook.see_trailers(trailers).map_err(RelayError::Hook)?;
        }
        self.encoder.finish(&mut self.out, self.decoder.trailers());
        Ok(())
    }

    async fn flush(&mut self, to: &mut Writer<'_>) -> Result<(), RelayError> {
        let written = self.keeping.as_ref().map_or(0, |kept| kept.written);
        to.write_all(&self.out[written..], self.patience.receiver)
            .await
            .map_err(RelayError::Receiver)?;
        *self.written += (self.out.len() - written) as u64;
        match &mut self.keeping {
            Some(kept) => kept.written = self.out.len(),
            None => self.out.clear(),
        }
        Ok(())
    }

    /// Whether the rest of the body can go from socket to socket without passing through this process.
    fn pays_to_splice(&self, from: &Reader<'_>, to: &Writer<'_>) -> bool {
        let is_long = self
            .decoder
            .remaining_length()
            .is_some_and(|len| len >= splice::WORTH_IT);
        let is_plain = matches!(self.encoder, BodyEncoder::Identity)
            && self.hook.is_none()
            && self.keeping.is_none();
        self.may_splice
            && is_long
            && is_plain
            && from.buffered().is_empty()
            && from.plain_socket().is_some()
            && to.plain_socket().is_some()
    }

    async fn splice(
        &mut self,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
    ) -> Result<(), RelayError> {
        let mut left = self.decoder.remaining_length().unwrap_or(0);
        let mut pipe = splice::PipeInUse::default();
        let mut pieces = 0_u32;
        while left > 0 {
            from.deadline().arm(self.patience.sender);
            let filled = splice::fill(from, &mut pipe, left)
                .await
                .map_err(RelayError::sender)?;
            let len = match filled {
                Filled::Bytes(0) => return Err(RelayError::Sender(Cause::Closed)),
                Filled::Bytes(len) => len,
                Filled::NoPipe => {
                    self.may_splice = false;
                    return Ok(());
                }
            };
            splice::empty(&mut pipe, to, self.patience.receiver)
                .await
                .map_err(RelayError::Receiver)?;
            left -= len;
            *self.written += len;
            from.note_spliced(len);
            self.decoder.skip(len);
            pieces += 1;
            if pieces.is_multiple_of(PIECES_PER_TURN) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

impl RelayError {
    fn sender(error: io::Error) -> Self {
        Self::Sender(Cause::io(error))
    }
}
