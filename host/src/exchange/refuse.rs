//! The response to a request whose head is invalid, and its access log line.
//!
//! There is no exchange, so plugins are not called. The line shows the parts of the request that could be read, or the
//! protocol that the client speaks instead, and what to do.

use std::time::Instant;

use super::answer::{GONE, error_word, send_reply, why_answered};
use super::connection::Connection;
use super::next::Next;
use super::persistence::{CloseReason, Persistence};
use crate::error::{Cause, ExchangeError};
use crate::generation::WorkerGeneration;
use crate::http1::{Foreign, Glimpse};
use crate::reply::{Reply, ReplyForm};
use crate::stream::MessageStream;
use crate::telemetry::{AccessDetails, AccessRecord};
use crate::worker_context::{self, WorkerContext};

/// Why there is no request, and what there is in its place.
pub(super) struct Unread {
    error: ExchangeError,
    began_at: Instant,
    foreign: Option<Foreign>,
    glimpse: Box<Glimpse>,
}

impl Unread {
    /// `began_at` is when its first byte arrived, `received` what has come of the head.
    pub(super) fn new(error: ExchangeError, began_at: Instant, received: &[u8]) -> Self {
        let foreign = Foreign::of(received);
        let glimpse = match foreign {
            Some(_) => Glimpse::default(),
            None => Glimpse::of(received),
        };
        Self {
            error,
            began_at,
            foreign,
            glimpse: Box::new(glimpse),
        }
    }
}

/// Answers, logs, and closes.
pub(super) async fn refuse(
    client: &mut MessageStream,
    connection: &Connection,
    generation: &WorkerGeneration,
    unread: Unread,
) -> Next {
    let Unread {
        error,
        began_at,
        foreign,
        glimpse,
    } = unread;
    let (config, worker) = (&generation.config, &generation.worker);
    tracing::debug!(client.address = %connection.client, %error, "refused a request");
    let reply = Reply::for_error(&error, &config.via);
    let form = ReplyForm {
        is_head: false,
        is_last: true,
    };
    let is_gone = matches!(error.cause, Cause::Io(_) | Cause::Channel(_))
        || send_reply(client, worker, &reply, form, config.timeouts.stall)
            .await
            .is_err();
    if worker.logs_access() {
        let answered = match is_gone {
            true => GONE.to_owned(),
            false => why_answered(&error),
        };
        let note = match foreign {
            Some(foreign) => format!("{answered} - {}", advice(foreign, connection)),
            None => answered,
        };
        let details = AccessDetails {
            status: if is_gone { 0 } else { reply.status },
            answered_by: if is_gone { "" } else { "proxy" },
            error: error_word(&error),
            ..AccessDetails::default()
        };
        log_refused(connection, worker, &glimpse, began_at, &note, details);
    }
    Next::Answered(Persistence::Close(match is_gone {
        true => CloseReason::Gone,
        false => CloseReason::Malformed,
    }))
}

/// Writes the access log line of a request that cannot be read; `glimpse` is what could be read of it.
pub(super) fn log_refused(
    connection: &Connection,
    worker: &WorkerContext,
    glimpse: &Glimpse,
    began_at: Instant,
    note: &str,
    details: AccessDetails<'_>,
) {
    if !worker.logs_access() {
        return;
    }
    let details = AccessDetails {
        exchange_id: match worker.access_needs().ids {
            true => worker_context::next_exchange_id(),
            false => 0,
        },
        connection_id: connection.id,
        ..details
    };
    let asked = glimpse.authority.as_ref();
    worker.log_access(&AccessRecord {
        client: connection.client,
        method: match &glimpse.method[..] {
            "" => "-",
            method => method,
        },
        is_web: false,
        upstream: None,
        path: match &glimpse.path[..] {
            b"" => b"-",
            path => path,
        },
        status: None,
        reason: b"",
        response_bytes: 0,
        elapsed: began_at.elapsed(),
        note: Some(note),
        asked: asked.map(|(host, port)| (host.as_str(), *port)),
        user: connection
            .origin
            .as_ref()
            .map_or("", |origin| origin.user()),
        fields: &[],
        details: Some(&details),
    });
}

/// What an operator should know of a client that speaks something else.
fn advice(foreign: Foreign, connection: &Connection) -> String {
    let Foreign { name, remedy } = foreign;
    match &connection.origin {
        Some(_) => format!("this tunnel is intercepted as HTTP; the client sent {name}"),
        None => format!("this port speaks HTTP; the client sent {name}: {remedy}"),
    }
}
