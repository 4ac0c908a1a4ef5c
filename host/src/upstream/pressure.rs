//! Closes idle connections when descriptors run short.
//!
//! The system assigns the lowest free number, so the number of a new descriptor shows how many are open at least. The
//! further it is above a threshold, the more idle connections its worker closes; the numbers above the threshold remain
//! for files, name servers and pipes. If there are no free descriptors all the same, a new connection of either side
//! waits until idle ones are closed. A worker without idle connections requests that of the others, which check for it
//! in each tick. None of this costs a system call.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many connections are closed when there are no free descriptors.
pub(crate) const RELIEF: usize = 8;

/// How many are closed at most for one new descriptor.
const MAX_CLOSED: u64 = 32;

/// How many connections workers have requested others to close.
static REQUESTED: AtomicUsize = AtomicUsize::new(0);

/// Requests other workers to close so many idle connections.
pub(crate) fn request(count: usize) {
    REQUESTED.fetch_max(count, Ordering::Relaxed);
}

/// Takes over the request of other workers: the caller closes so many idle connections.
pub(super) fn take_requested() -> usize {
    match REQUESTED.load(Ordering::Relaxed) {
        0 => 0,
        _ => REQUESTED.swap(0, Ordering::Relaxed),
    }
}

/// From this number on, descriptors are running short, if at most `limit` may be open.
pub(super) fn threshold(limit: u64) -> u64 {
    let reserve = (limit / 32).clamp(32, 1024).min(limit / 4);
    limit - reserve
}

/// How many connections are to be closed when a descriptor gets this number.
pub(super) fn excess(number: u64, threshold: u64) -> usize {
    match number.checked_sub(threshold) {
        Some(above) => (above + 1).min(MAX_CLOSED) as usize,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_descriptors_is_reserved() {
        for (limit, expected) in [
            (0, 0),
            (64, 48),
            (256, 224),
            (1024, 992),
            (20_000, 19_375),
            (1_048_576, 1_047_552),
        ] {
            assert_eq!(threshold(limit), expected, "{limit}");
        }
    }

    #[test]
    fn the_fewer_are_free_the_more_are_closed() {
        let closed = [0, 991, 992, 993, 1023, 5000].map(|number| excess(number, 992));
        assert_eq!(closed, [0, 0, 1, 2, 32, 32]);
    }
}
