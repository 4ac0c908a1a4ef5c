//! The end of every exchange: the access log line and the last hooks.

use std::time::Duration;

use super::state::Exchange;
use crate::buffers;
use crate::events::{EventKind, EventRequest, ExchangeEnd, QueuedEvent};
use crate::http1::ResponseHead;
use crate::plugins::{ExchangePlugins, Hook, Summary};
use crate::reply::{Reply, ReplyForm, ReplyFraming};
use crate::telemetry::AccessRecord;

/// Every exchange is reported at its end, also one that is dropped before, as at the end of the process.
impl Drop for Exchange {
    fn drop(&mut self) {
        if self.record.is_over {
            return;
        }
        self.generation.worker.drop_exchange(self.record.kind);
        self.record.cut_off(&self.generation.worker);
        if std::thread::panicking() {
            // Plugins are not called while a panic of the proxy unwinds.
            self.log(self.record.timeline.elapsed());
        } else {
            self.end();
        }
    }
}

impl Exchange {
    pub(super) fn note_response(&mut self, head: &ResponseHead) {
        self.record.status = Some(head.status());
        self.note_event(EventKind::ResponseStarted);
        if self.generation.worker.logs_access() {
            self.record.reason.clear();
            self.record.reason.extend_from_slice(head.reason());
        }
    }

    /// Notifies the subscribers of an event of the exchange.
    pub(super) fn note_event(&self, kind: EventKind) {
        self.generation.events.publish(|| QueuedEvent {
            request: Some(self.event_request()),
            exchange_id: self.client.facts.exchange_id,
            status: self.record.status.unwrap_or(0),
            note: self.record.note.clone().unwrap_or_default(),
            local: self.client.end.as_ref().and_then(|end| end.local),
            ..QueuedEvent::new(
                kind,
                self.client.facts.connection_id,
                self.client.facts.client,
            )
        });
    }

    fn event_request(&self) -> EventRequest {
        EventRequest {
            method: self.request.head.client_method().to_owned(),
            host: self.request.head.host().to_owned(),
            port: self.request.head.port(),
            path: self.request.head.path().to_vec(),
        }
    }

    /// Notifies the subscribers of the end of the exchange.
    fn note_end(&self, elapsed: Duration) {
        self.generation.events.publish(|| QueuedEvent {
            request: Some(self.event_request()),
            exchange_id: self.client.facts.exchange_id,
            status: self.record.answered,
            note: self.record.note.clone().unwrap_or_default(),
            bytes: self.record.sent,
            elapsed,
            local: self.client.end.as_ref().and_then(|end| end.local),
            ended: Some(Box::new(ExchangeEnd {
                answered_by: self.record.answered_by.clone(),
                from_client: self.record.received,
                to_client: self.record.sent + self.record.answer_len,
                timeline: self.record.timeline.view(),
                upstream: self.record.upstream_ends.as_ref().map(|ends| ends.0),
                tls: self.client.end.as_ref().and_then(|end| end.tls.clone()),
            })),
            ..QueuedEvent::new(
                EventKind::ExchangeEnded,
                self.client.facts.connection_id,
                self.client.facts.client,
            )
        });
    }

    /// Keeps the head of an answer of our own for the last hooks, as if an upstream had sent it.
    pub(super) fn keep_reply(&self, reply: &Reply, form: ReplyForm) {
        let Some(plugins) = &self.plugins else {
            return;
        };
        if !plugins.has_listeners_at_end() {
            return;
        }
        let mut text = Vec::new();
        self.generation.worker.with_date(|date| {
            let framing = ReplyFraming::Length(reply.body.len() as u64);
            reply.encode_head(framing, form, date, &mut text);
        });
        let limits = &self.generation.config.limits.head();
        // A head that exceeds the limits for upstreams is not shown.
        if let Ok(head) = ResponseHead::parse(text, 0, Vec::new(), limits) {
            plugins.keep_response(head);
        }
    }

    pub(super) fn keep_response(&mut self, head: ResponseHead) {
        match &self.plugins {
            Some(plugins) => plugins.keep_response(head),
            None => buffers::give_back_head(head.into_buffers()),
        }
    }

    /// Runs the last hooks, writes the access log line, and frees the head's buffers.
    pub(super) fn finish(mut self) {
        self.generation.worker.end_exchange(self.record.kind);
        self.end();
    }

    fn end(&mut self) {
        self.record.is_over = true;
        let is_logged = self.generation.worker.logs_access();
        let has_listeners = self
            .plugins
            .as_ref()
            .is_some_and(ExchangePlugins::has_listeners_at_end);
        let elapsed = match is_logged || has_listeners || self.generation.events.has_subscribers() {
            true => self.record.timeline.elapsed(),
            false => Duration::ZERO,
        };
        let may_log = !has_listeners || self.notify_at_end(Hook::OnAccessLog, elapsed);
        if may_log && is_logged {
            self.log(elapsed);
        }
        self.note_end(elapsed);
        if has_listeners && self.record.has_upstream {
            self.notify_at_end(Hook::OnUpstreamConnectionClose, elapsed);
        }
        drop(self.plugins.take());
        buffers::give_back_head(self.request.head.take_buffers());
    }

    /// Runs a hook that ends the exchange. `false`: suppress the log line.
    fn notify_at_end(&self, hook: Hook, elapsed: Duration) -> bool {
        let Some(plugins) = &self.plugins else {
            return true;
        };
        let timeline = self.record.timeline.view();
        let summary = Summary {
            status: self.record.answered,
            answered_by: &self.record.answered_by,
            note: self.record.note.as_deref().unwrap_or_default(),
            from_client: self.record.received,
            to_client: self.record.sent + self.record.answer_len,
            elapsed,
            timeline: &timeline,
        };
        plugins.with_summary(&summary, || plugins.run_at_end(hook, &self.request.head))
    }

    fn log(&mut self, elapsed: Duration) {
        let mut fields = std::mem::take(&mut self.record.fields);
        let redirected = self.redirected();
        let to = redirected.as_ref().map(|(host, port)| (&**host, *port));
        match &self.plugins {
            Some(plugins) => {
                fields.append(&mut plugins.take_log_fields());
                plugins.with_user(|user| self.write_line(elapsed, to, user, &fields));
            }
            None => self.write_line(elapsed, to, "", &fields),
        }
    }

    /// Writes the access log line. The state of plugins may be borrowed meanwhile, so `user` is given.
    fn write_line(
        &self,
        elapsed: Duration,
        redirected: Option<(&str, u16)>,
        user: &str,
        fields: &[(String, String)],
    ) {
        let upstream = match (redirected, &self.routing.forwarded_to, self.unproven_host()) {
            (Some(to), ..) => to,
            (None, Some(to), _) if !self.request.head.has_new_host() => (to.host.as_str(), to.port),
            (None, _, Some(end)) => (end, self.request.head.port()),
            (None, _, None) => (self.request.head.host(), self.request.head.port()),
        };
        let upstream = self.record.seeks_upstream.then_some(upstream);
        let asked = Some((self.request.head.host(), self.request.head.port()))
            .filter(|asked| !self.record.is_web && !asked.0.is_empty() && upstream != Some(*asked));
        self.generation.worker.log_access(&AccessRecord {
            client: self.client.facts.client,
            method: self.request.head.client_method(),
            is_web: self.record.is_web,
            upstream,
            path: self.request.head.path(),
            status: self.record.status,
            reason: &self.record.reason,
            response_bytes: self.record.sent,
            elapsed,
            note: self.record.note.as_deref(),
            asked,
            user: match user {
                "" => self.known_user(),
                user => user,
            },
            fields,
        });
    }
}
