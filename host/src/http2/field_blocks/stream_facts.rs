//! What `h2` does not tell about a stream, for the code that handles the stream.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::super::message::MessageError;

/// How many reasons are kept; older ones are dropped.
const REASONS_KEPT: usize = 64;
/// How many original paths are kept for requests that have not been accepted yet, and their total length in bytes; if
/// either is exceeded, no more requests are accepted.
const PATHS_KEPT: usize = 4096;
pub(super) const PATHS_LEN_KEPT: usize = 1024 * 1024;
/// How many cancelled streams are remembered; older ones are forgotten.
const CANCELLED_KEPT: usize = 1024;

/// Facts about the streams of a connection, recorded as their frames pass.
#[derive(Debug, Default)]
pub(in crate::http2) struct StreamFacts {
    pub(super) reasons: RefCell<VecDeque<(u32, MessageError)>>,
    pub(super) paths: RefCell<VecDeque<(u32, Rc<[u8]>)>>,
    pub(super) paths_len: Cell<usize>,
    pub(super) is_unchecked: Cell<bool>,
    /// Streams whose response has begun before their request was complete; one entry for each such channel.
    answered: RefCell<Vec<EarlyAnswer>>,
    pub(super) cancelled: RefCell<VecDeque<u32>>,
}

#[derive(Debug)]
struct EarlyAnswer {
    stream: u32,
    has_ended: bool,
    /// The task that waits for the end.
    waker: Option<Waker>,
}

impl StreamFacts {
    /// Why the stream's message is malformed, if it is.
    pub(in crate::http2) fn reason(&self, stream: u32) -> Option<MessageError> {
        let reasons = self.reasons.borrow();
        let found = reasons.iter().rev().find(|(of, _)| *of == stream);
        found.map(|(_, reason)| *reason)
    }

    /// The original path of a request, if `h2` has another one. To be called in the order of streams.
    pub(in crate::http2) fn take_path(&self, stream: u32) -> Option<Rc<[u8]>> {
        let mut paths = self.paths.borrow_mut();
        while paths.front().is_some_and(|(of, _)| *of <= stream) {
            let Some((of, path)) = paths.pop_front() else {
                break;
            };
            self.paths_len.set(self.paths_len.get() - path.len());
            // Otherwise the stream was reset before it was accepted.
            if of == stream {
                return Some(path);
            }
        }
        None
    }

    /// Whether blocks are no longer checked, because the connection is about to end.
    pub(in crate::http2) fn is_unchecked(&self) -> bool {
        self.is_unchecked.get()
    }

    /// Records that a request to an upstream was cancelled before its response had ended.
    pub(in crate::http2) fn add_cancelled(&self, stream: u32) {
        let mut cancelled = self.cancelled.borrow_mut();
        if cancelled.len() == CANCELLED_KEPT {
            cancelled.pop_front();
        }
        cancelled.push_back(stream);
    }

    /// Records that the response to an incomplete request begins: from now on, the end of the request is hidden from
    /// `h2`.
    pub(in crate::http2) fn add_answered(&self, stream: u32) {
        self.answered.borrow_mut().push(EarlyAnswer {
            stream,
            has_ended: false,
            waker: None,
        });
    }

    /// Undoes [`add_answered`](Self::add_answered).
    pub(in crate::http2) fn forget_answered(&self, stream: u32) {
        let mut answered = self.answered.borrow_mut();
        answered.retain(|answered| answered.stream != stream);
    }

    /// Whether such a request has ended, which is hidden from `h2`.
    pub(in crate::http2) fn has_ended(&self, stream: u32) -> bool {
        let answered = self.answered.borrow();
        answered
            .iter()
            .any(|answered| answered.stream == stream && answered.has_ended)
    }

    /// Ready once such a request [`has_ended`](Self::has_ended). One task can wait for each stream.
    pub(in crate::http2) fn poll_ended(&self, stream: u32, cx: &mut Context<'_>) -> Poll<()> {
        let mut answered = self.answered.borrow_mut();
        match answered.iter_mut().find(|of| of.stream == stream) {
            Some(answered) if answered.has_ended => Poll::Ready(()),
            Some(answered) => {
                answered.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    /// Whether the end of this request, which is here, is to be hidden from `h2`.
    pub(super) fn hides_end(&self, stream: u32) -> bool {
        let mut answered = self.answered.borrow_mut();
        let Some(answered) = answered.iter_mut().find(|of| of.stream == stream) else {
            return false;
        };
        answered.has_ended = true;
        if let Some(waker) = answered.waker.take() {
            waker.wake();
        }
        true
    }

    pub(super) fn add_reason(&self, stream: u32, reason: MessageError) {
        let mut reasons = self.reasons.borrow_mut();
        if reasons.len() == REASONS_KEPT {
            reasons.pop_front();
        }
        reasons.push_back((stream, reason));
    }

    pub(super) fn add_path(&self, stream: u32, path: Rc<[u8]>) {
        let mut paths = self.paths.borrow_mut();
        let len = self.paths_len.get() + path.len();
        match paths.len() < PATHS_KEPT && len <= PATHS_LEN_KEPT {
            true => {
                self.paths_len.set(len);
                paths.push_back((stream, path));
            }
            false => self.is_unchecked.set(true),
        }
    }
}
