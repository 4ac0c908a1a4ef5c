//! What is recorded of an exchange, for the access log, plugins and subscribers.

use std::net::SocketAddr;
use std::rc::Rc;

use super::timeline::Timeline;
use crate::in_flight::{ExchangeKind, LongExchange};
use crate::plugins::AnsweredBy;
use crate::worker_context::{AbortReason, WorkerContext};

/// What the access log, plugins and subscribers get to know about an exchange.
pub(super) struct Record {
    pub(super) timeline: Timeline,
    /// The request was to be forwarded, whether or not it was; then the access log names the upstream.
    pub(super) seeks_upstream: bool,
    /// The web server answers.
    pub(super) is_web: bool,
    /// The client has authenticated with the configured credentials.
    pub(super) has_credential: bool,
    /// A connection to the upstream was made.
    pub(super) has_upstream: bool,
    /// The upstream's final response; `None` when the answer was ours.
    pub(super) status: Option<u16>,
    pub(super) reason: Vec<u8>,
    /// The media type of the upstream's response, if the access log shows it.
    pub(super) content_type: Vec<u8>,
    /// Why it failed: an error type of RFC 9209, or why it was cut off. Empty if it did not.
    pub(super) error: &'static str,
    /// The plugin that has ended it without an answer, and how.
    pub(super) ended_by: Option<(Box<str>, &'static str)>,
    /// The status that the client was given; 0 if it was given none.
    pub(super) answered: u16,
    pub(super) answered_by: AnsweredBy,
    /// The other end of the upstream connection, and ours, if plugins or subscribers see them.
    pub(super) upstream_ends: Option<Box<(SocketAddr, SocketAddr)>>,
    /// Bytes read from the client.
    pub(super) received: u64,
    /// Bytes of an answer of our own, which `sent` leaves out.
    pub(super) answer_len: u64,
    /// Bytes sent to the client.
    pub(super) sent: u64,
    /// What the web server's plugins add.
    pub(super) fields: Vec<(String, String)>,
    pub(super) note: Option<String>,
    pub(super) kind: ExchangeKind,
    /// What is listed of an exchange that ends only if a peer ends it, such as a tunnel.
    pub(super) long: Option<Rc<LongExchange>>,
    /// The end has been reported.
    pub(super) is_over: bool,
}

impl Record {
    pub(super) fn new(timeline: Timeline) -> Self {
        Self {
            timeline,
            seeks_upstream: false,
            is_web: false,
            has_credential: false,
            has_upstream: false,
            status: None,
            reason: Vec::new(),
            content_type: Vec::new(),
            error: "",
            ended_by: None,
            answered: 0,
            answered_by: AnsweredBy::Nobody,
            upstream_ends: None,
            received: 0,
            answer_len: 0,
            sent: 0,
            fields: Vec::new(),
            note: None,
            kind: ExchangeKind::default(),
            long: None,
            is_over: false,
        }
    }

    /// Records that the exchange was dropped before its end.
    pub(super) fn cut_off(&mut self, worker: &WorkerContext) {
        let (cut_off, error) = match worker.abort_reason() {
            Some(AbortReason::Shutdown) => ("cut off by shutdown", "shutdown"),
            Some(AbortReason::Panic) => ("cut off by a panic of the worker", "worker_panic"),
            None => ("cut off", "cut_off"),
        };
        self.error = error;
        self.note = Some(match self.note.take() {
            Some(note) => format!("{note}, {cut_off}"),
            None => cut_off.to_owned(),
        });
        if let Some(long) = &self.long {
            self.sent += long.moved.to_client.get();
            self.received += long.moved.to_upstream.get();
        }
    }
}
