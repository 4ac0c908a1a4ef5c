//! Notices that a peer has gone, while the other direction is in use.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::transport::{Departure, Link};

/// Begins to watch at the next tick only: most waits are over by then, and watching costs more than they do.
pub(super) async fn begin_to_watch(deadline: &Deadline) {
    deadline.arm(Duration::ZERO);
    std::future::poll_fn(|cx| deadline.poll_passed(cx)).await;
}

/// Ends when a peer that has departed like this is of no use any more: at once after a reset; otherwise when nothing has
/// moved for `half_closed`, as far as the deadlines of `others` show it.
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
