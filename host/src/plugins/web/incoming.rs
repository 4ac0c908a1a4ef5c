//! The content of a request that is answered here, read piece by piece as its reader has room for it.
//!
//! Decodes the framing: what follows the content stays where it is, for the next request. The first read sends 100
//! Continue to a client that waits for it (RFC 9110 §10.1.1).

use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::error::Cause;
use crate::http1::{BodyDecoder, BodyFraming};
use crate::stream::Reader;
use crate::turn::Steps;

/// How far a request's content has been read.
#[derive(Debug)]
pub(crate) struct Incoming {
    decoder: BodyDecoder,
    /// Content at the front of what is buffered, and framing behind it, in bytes.
    content: usize,
    frame: usize,
    has_begun: bool,
    /// A read waits, and its deadline is set.
    is_waiting: bool,
    steps: Steps,
}

impl Incoming {
    pub(crate) fn new(framing: BodyFraming) -> Self {
        Self {
            decoder: BodyDecoder::new(framing),
            content: 0,
            frame: 0,
            has_begun: false,
            is_waiting: false,
            steps: Steps::default(),
        }
    }

    /// Whether all of it has been read off the connection.
    pub(crate) fn is_over(&self) -> bool {
        self.decoder.is_complete() && self.content == 0 && self.frame == 0
    }

    /// Whether reading has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Reading begins.
    pub(crate) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// Reads content into `room`; 0: there is no more. Each wait lasts for `stall` at most.
    ///
    /// # Errors
    /// The client did not send what it announced.
    pub(crate) fn poll_read(
        &mut self,
        reader: &mut Reader<'_>,
        room: &mut [u8],
        stall: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Cause>> {
        self.has_begun = true;
        ready!(self.steps.poll_pay(cx));
        while self.content == 0 {
            reader.consume(std::mem::take(&mut self.frame));
            if self.decoder.is_complete() {
                return Poll::Ready(Ok(0));
            }
            let step = self.decoder.decode(reader.buffered())?;
            self.steps.add(1);
            reader.consume(step.content.start);
            self.content = step.content.len();
            self.frame = step.consumed - step.content.end;
            if step.consumed > 0 || step.end {
                continue;
            }
            if !std::mem::replace(&mut self.is_waiting, true) {
                reader.deadline().arm(stall);
            }
            let filled = ready!(reader.poll_fill(cx));
            self.is_waiting = false;
            if filled.map_err(Cause::io)? == 0 {
                self.decoder.end_of_input().map_err(|_| Cause::Closed)?;
            }
        }
        let len = self.content.min(room.len());
        room[..len].copy_from_slice(&reader.buffered()[..len]);
        reader.consume(len);
        self.content -= len;
        if self.content == 0 {
            reader.consume(std::mem::take(&mut self.frame));
        }
        Poll::Ready(Ok(len))
    }
}
