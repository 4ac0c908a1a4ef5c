//! Memory for messages that plugins need whole: one limit for all connections of a worker.
//!
//! Each message has its own limit, but their number is not limited: bodies that are being buffered, and WebSocket
//! messages that are incomplete or wait for a slow peer. Counting is an addition in the memory of the worker.

use std::cell::Cell;

thread_local! {
    static TOTAL: Cell<u64> = const { Cell::new(0) };
    static LIMIT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Sets the maximum number of bytes that this worker may hold.
pub(crate) fn set_limit(bytes: u64) {
    LIMIT.set(bytes);
}

/// The bytes of a message, counted until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct HeldBytes(u64);

/// The worker's limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the content buffered for plugins exceeds the limit of the worker (limits.max_buffer_total)"
)]
pub(crate) struct Full;

impl HeldBytes {
    /// Sets the number of bytes.
    ///
    /// # Errors
    /// The number grew, and the worker exceeds its limit. The bytes are counted nevertheless, until this is dropped.
    pub(crate) fn set(&mut self, len: u64) -> Result<(), Full> {
        let has_grown = len > self.0;
        let total = TOTAL.get().saturating_sub(self.0).saturating_add(len);
        TOTAL.set(total);
        self.0 = len;
        match has_grown && total > LIMIT.get() {
            true => Err(Full),
            false => Ok(()),
        }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        // Nothing is counted any more if the thread is ending.
        let _ = TOTAL.try_with(|total| total.set(total.get().saturating_sub(self.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_applies_to_all_messages_of_a_worker() {
        set_limit(100);
        let (mut one, mut other) = (HeldBytes::default(), HeldBytes::default());
        assert_eq!(one.set(60), Ok(()));
        assert_eq!(other.set(40), Ok(()));
        assert_eq!(other.set(41), Err(Full));
        assert_eq!(other.set(41), Ok(()), "it has not grown");
        drop(one);
        assert_eq!(other.set(100), Ok(()));
        assert_eq!(other.set(0), Ok(()));
        assert_eq!(TOTAL.get(), 0);
    }
}
