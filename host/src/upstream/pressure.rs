//! Descriptors that run short, and idle connections that are given up for them.
//!
//! The system hands out the lowest number that is free, so the number of a new descriptor tells how many are open at
//! least: the higher it is above a mark, the more idle connections its worker closes. The rest above the mark is for files,
//! name servers and pipes. Where none is left all the same, a new connection of either side waits for those that are given
//! up. A worker without idle connections asks the others, which look for that at each tick. None of this costs a system
//! call.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections that are given up at once when no descriptor is left.
pub(crate) const RELIEF: usize = 8;

/// The most that are given up for one new descriptor.
const MOST: u64 = 32;

/// Connections that workers have asked the others to give up.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Asks other workers to give up so many idle connections.
pub(crate) fn ask(count: usize) {
    ASKED.fetch_max(count, Ordering::Relaxed);
}

/// So many have been asked for; whoever calls this gives them up.
pub(super) fn take_asked() -> usize {
    match ASKED.load(Ordering::Relaxed) {
        0 => 0,
        _ => ASKED.swap(0, Ordering::Relaxed),
    }
}

/// The number of a descriptor from which on they run short, of at most `limit` open ones.
pub(super) fn mark(limit: u64) -> u64 {
    let reserve = (limit / 32).clamp(32, 1024).min(limit / 4);
    limit - reserve
}

/// Connections to be given up for a new descriptor of this number.
pub(super) fn excess(number: u64, mark: u64) -> usize {
    match number.checked_sub(mark) {
        Some(above) => (above + 1).min(MOST) as usize,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_descriptors_is_kept_free() {
        for (limit, expected) in [
            (0, 0),
            (64, 48),
            (256, 224),
            (1024, 992),
            (20_000, 19_375),
            (1_048_576, 1_047_552),
        ] {
            assert_eq!(mark(limit), expected, "{limit}");
        }
    }

    #[test]
    fn the_fewer_are_left_the_more_is_given_up() {
        let given_up = [0, 991, 992, 993, 1023, 5000].map(|number| excess(number, 992));
        assert_eq!(given_up, [0, 0, 1, 2, 32, 32]);
    }
}
