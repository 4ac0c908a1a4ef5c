//! The summary of an exchange, for the last hooks and events.

use std::time::Duration;

use abi_stable::std_types::RStr;
use plugin_api::abi::{SummaryView, TimelineView, answered};

use super::views;

/// Who gave the client its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    /// Nobody.
    #[default]
    Nobody,
    Upstream,
    /// The plugin of this name.
    Plugin(Box<str>),
    /// The proxy, for this reason: an error type (RFC 9209 §2.3), or empty for what is its own.
    Proxy(&'static str),
}

/// What an exchange came to.
#[derive(Clone, Debug)]
pub(crate) struct Summary<'a> {
    /// The status that the client was given; 0 if it was given none.
    pub(crate) status: u16,
    pub(crate) answered_by: &'a AnsweredBy,
    pub(crate) note: &'a str,
    /// In bytes.
    pub(crate) from_client: u64,
    /// In bytes.
    pub(crate) to_client: u64,
    pub(crate) elapsed: Duration,
    pub(crate) timeline: &'a TimelineView,
}

/// No summary yet.
pub(crate) const NO_SUMMARY: SummaryView = SummaryView {
    status: 0,
    answered_by: answered::NOBODY,
    answerer: RStr::empty(),
    note: RStr::empty(),
    from_client: 0,
    to_client: 0,
    elapsed: 0,
    reserved: [0; 4],
};

/// A view of the summary; its texts and its timeline are those of `summary`, without their lifetime.
pub(crate) fn view(summary: &Summary<'_>) -> SummaryView {
    let (answered_by, answerer) = match summary.answered_by {
        AnsweredBy::Nobody => (answered::NOBODY, ""),
        AnsweredBy::Upstream => (answered::UPSTREAM, ""),
        AnsweredBy::Plugin(name) => (answered::PLUGIN, &**name),
        AnsweredBy::Proxy(reason) => (answered::PROXY, *reason),
    };
    SummaryView {
        status: u32::from(summary.status),
        answered_by,
        answerer: views::text(answerer.as_bytes()),
        note: views::text(summary.note.as_bytes()),
        from_client: summary.from_client,
        to_client: summary.to_client,
        elapsed: u64::try_from(summary.elapsed.as_micros()).unwrap_or(u64::MAX),
        ..NO_SUMMARY
    }
    .with_timeline(summary.timeline)
}
