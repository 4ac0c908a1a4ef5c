//! Detects that a peer has gone while the connection is in use.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::transport::{Departure, Link};

/// Starts watching at the next tick: most operations are over by then, and watching costs more than they do.
pub(super) async fn begin_to_watch(deadline: &Deadline) {
    deadline.arm(Duration::ZERO);
    std::future::poll_fn(|cx| deadline.poll_passed(cx)).await;
}

/// Waits until a peer counts as gone: at once after a reset; after a half-close, when there has been no activity for
/// `half_closed`, according to the deadlines of `others`.
pub(super) async fn wait_for_end(
    departure: Departure,
    link: Link<'_>,
    deadline: &Deadline,
    half_closed: Duration,
    others: &[&Deadline],
) {
    if departure == Departure::HalfClosed {
        deadline.arm(half_closed);
        link.reset_or_late(deadline, others).await;
    }
}
