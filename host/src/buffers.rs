//! Buffers of the worker, which its connections borrow.
//!
//! A connection holds a buffer only while it transfers bytes, so an idle connection has none. The pools are
//! thread-local because a worker is a thread; they are bounded, and buffers that do not fit are freed.

use std::cell::RefCell;

use crate::http1::FieldLine;

/// Room for a head, or for a piece of a small body. Not a power of two, because the starts of many such buffers would
/// share a few lines of the processor's caches.
pub(crate) const SMALL: usize = 16 * 1024 + 7 * 64;
/// Room for a piece of a large body.
pub(crate) const LARGE: usize = 128 * 1024;

/// The initial capacity of a list of field lines.
const LINES: usize = 24;

const SMALL_KEPT: usize = 128;
const LARGE_KEPT: usize = 8;
const LINES_KEPT: usize = 128;

#[derive(Default)]
struct Pools {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    lines: Vec<Vec<FieldLine>>,
}

thread_local! {
    static POOLS: RefCell<Pools> = RefCell::default();
}

/// An empty buffer of [`SMALL`] bytes.
pub(crate) fn small() -> Vec<u8> {
    with_pools(|pools| pools.small.pop()).unwrap_or_else(|| Vec::with_capacity(SMALL))
}

/// An empty buffer of [`LARGE`] bytes.
pub(crate) fn large() -> Vec<u8> {
    with_pools(|pools| pools.large.pop()).unwrap_or_else(|| Vec::with_capacity(LARGE))
}

/// Takes a buffer back, regardless of its contents.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    with_pools(|pools| match buffer.capacity() {
        SMALL if pools.small.len() < SMALL_KEPT => pools.small.push(buffer),
        LARGE if pools.large.len() < LARGE_KEPT => pools.large.push(buffer),
        _ => drop(buffer),
    });
}

/// An empty list for the fields of a head.
pub(crate) fn lines() -> Vec<FieldLine> {
    with_pools(|pools| pools.lines.pop()).unwrap_or_else(|| Vec::with_capacity(LINES))
}

/// Takes the two allocations of a head back.
pub(crate) fn give_back_head((text, mut lines): (Vec<u8>, Vec<FieldLine>)) {
    give_back(text);
    lines.clear();
    with_pools(|pools| {
        if pools.lines.len() < LINES_KEPT && lines.capacity() <= 256 {
            pools.lines.push(lines);
        }
    });
}

fn with_pools<R: Default>(work: impl FnOnce(&mut Pools) -> R) -> R {
    // The pools may already be gone if the thread is ending; then there is nothing to reuse.
    POOLS
        .try_with(|pools| work(&mut pools.borrow_mut()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_handed_out_again_empty() {
        let mut buffer = small();
        buffer.extend_from_slice(b"bytes");
        let at = buffer.as_ptr();
        give_back(buffer);
        let again = small();
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
    }

    #[test]
    fn a_buffer_that_has_grown_is_not_kept() {
        let mut buffer = small();
        buffer.reserve(SMALL + 1);
        give_back(buffer);
        assert_eq!(small().capacity(), SMALL);
    }
}
