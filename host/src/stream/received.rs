//! The receive buffer of a stream.

use crate::buffers;
use crate::http1::HeadBounds;

/// Bytes that were received but not consumed. Owns a buffer only while it is not empty, or during a read.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    start: usize,
    /// The last read filled the buffer, so a larger one pays.
    is_filling: bool,
    /// Bytes consumed so far.
    pub(super) total: u64,
}

/// The bytes of a head, and where it begins in them (empty lines may precede it).
#[derive(Debug)]
pub(crate) struct HeadText {
    pub(crate) text: Vec<u8>,
    pub(crate) start: usize,
}

impl Received {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.start += len;
        self.total += len as u64;
        debug_assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            self.is_filling = self.bytes.len() == self.bytes.capacity();
            self.release();
        }
    }

    pub(super) fn clear(&mut self) {
        self.consume(self.bytes.len() - self.start);
    }

    pub(super) fn make_room(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = if self.is_filling {
                buffers::large()
            } else {
                buffers::small()
            };
        } else if self.bytes.len() == self.bytes.capacity() {
            if self.start > 0 {
                self.bytes.drain(..self.start);
                self.start = 0;
            } else {
                self.bytes.reserve(self.bytes.len());
            }
        }
    }

    pub(super) fn release_if_empty(&mut self) {
        if self.is_empty() {
            self.release();
        }
    }

    fn release(&mut self) {
        self.start = 0;
        if self.bytes.capacity() > 0 {
            buffers::give_back(std::mem::take(&mut self.bytes));
        }
    }

    pub(super) fn take_head(&mut self, bounds: &HeadBounds) -> HeadText {
        self.total += bounds.end as u64;
        let mut text = std::mem::take(&mut self.bytes);
        if self.start > 0 {
            text.drain(..self.start);
            self.start = 0;
        }
        if bounds.end < text.len() {
            let mut rest = buffers::small();
            rest.extend_from_slice(&text[bounds.end..]);
            self.bytes = rest;
            text.truncate(bounds.end);
        }
        HeadText {
            text,
            start: bounds.start,
        }
    }

    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.bytes);
        rest.drain(..self.start);
        self.start = 0;
        rest
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.release();
    }
}
