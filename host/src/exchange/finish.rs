//! The end of every exchange: the access log line and the last hooks.

use std::time::Duration;

use super::state::Exchange;
use crate::buffers;
use crate::events::{EventKind, EventRequest, ExchangeEnd, QueuedEvent};
use crate::http1::{ResponseHead, Scheme, Version};
use crate::plugins::{AnsweredBy, ExchangePlugins, Hook, Summary};
use crate::reply::{Reply, ReplyForm, ReplyFraming};
use crate::telemetry::{AccessDetails, AccessRecord, AccessTls};

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
            if self.generation.worker.access_needs().content_type {
                let media_type = head.fields().named("content-type").next();
                media_type
                    .unwrap_or_default()
                    .clone_into(&mut self.record.content_type);
            }
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
        let needs_details = self.generation.worker.access_needs().details;
        let details = needs_details.then(|| self.access_details());
        self.generation.worker.log_access(&AccessRecord {
            details: details.as_ref(),
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

    /// What formats other than the default show.
    fn access_details(&self) -> AccessDetails<'_> {
        let (head, record) = (&self.request.head, &self.record);
        let tls = self.client.end.as_ref().and_then(|end| end.tls.as_ref());
        AccessDetails {
            exchange_id: self.client.facts.exchange_id,
            connection_id: self.client.facts.connection_id,
            scheme: match head.target().scheme {
                Some(Scheme::Https) => "https",
                Some(Scheme::Http) => "http",
                None if record.is_web && self.generation.tls_listener().is_some() => "https",
                None => "",
            },
            host: head.host(),
            port: head.port(),
            version: match head.version() {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
                Version::Http2 => "HTTP/2.0",
            },
            request_fields: Some(head.fields()),
            status: record.answered,
            bytes_sent: record.sent + record.answer_len,
            bytes_received: record.received,
            content_type: &record.content_type,
            upstream_address: record.upstream_ends.as_ref().map(|ends| ends.0),
            has_upstream: record.has_upstream,
            timeline: record.timeline.view(),
            answered_by: match &record.answered_by {
                AnsweredBy::Nobody => "",
                AnsweredBy::Upstream => "upstream",
                AnsweredBy::Plugin(_) => "plugin",
                AnsweredBy::Proxy(_) => "proxy",
            },
            verdict: match (&record.answered_by, &record.ended_by) {
                (_, Some((plugin, verdict))) => Some((&**plugin, *verdict)),
                (AnsweredBy::Plugin(plugin), None) => Some((&**plugin, "answered")),
                _ => None,
            },
            intercepted: self.interception_outcome(),
            error: record.error,
            tls: tls.map(|tls| AccessTls {
                version: tls.version,
                cipher: tls.cipher,
                protocol: &tls.protocol,
                server_name: &tls.server_name,
            }),
        }
    }

    /// Whether the exchange was intercepted, or why not; empty if it has nothing to do with a tunnel.
    fn interception_outcome(&self) -> &str {
        let is_tunnel = self.request.head.is_method("CONNECT") && self.record.answered == 200;
        match &self.record.note {
            _ if self.client.origin.is_some() => "yes",
            _ if !is_tunnel => "",
            Some(note) if !note.starts_with("cut off") => note,
            _ => "no",
        }
    }
}
