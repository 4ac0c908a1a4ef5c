//! Answers of the proxy itself: to requests that end here, and to those that failed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::client::ClientProtocol;
use super::conclusion::Failure;
use super::persistence::{CloseReason, Persistence};
use super::request::RequestEnd;
use super::state::Exchange;
use crate::buffers;
use crate::ca;
use crate::error::{Cause, ExchangeError, Peer, Refusal, Step};
use crate::http1::{Scheme, TargetForm, Version};
use crate::plugins::AnsweredBy;
use crate::reply::{Reply, ReplyForm, classify};
use crate::stream::MessageStream;
use crate::worker_context::WorkerContext;

impl Exchange {
    /// The answer to a request for the proxy itself, or the error for one that is not served; None: it is forwarded.
    pub(super) fn own_answer(&self) -> Result<Option<Reply>, ExchangeError> {
        let refuse = |refusal| Err(ExchangeError::new(Peer::Client, Step::Route, refusal));
        if self.client.origin.is_some() {
            return Ok(self.request.last_hop_answer());
        }
        match self.request.head.target().form {
            TargetForm::Asterisk => return Ok(Some(Reply::options())),
            TargetForm::Authority if self.generation.config.disable_http_proxy => {
                return refuse(Refusal::NotAProxy);
            }
            TargetForm::Origin => return refuse(Refusal::NotAProxyRequest),
            TargetForm::Absolute if self.request.head.target().scheme == Some(Scheme::Https) => {
                return refuse(Refusal::SecureTarget);
            }
            TargetForm::Absolute | TargetForm::Authority => {}
        }
        if let Some(page) = self.ca_page() {
            return Ok(Some(page));
        }
        Ok(self.request.last_hop_answer())
    }

    /// The page at `http://proxy.local/`, which hands out the certificate of the CA.
    fn ca_page(&self) -> Option<Reply> {
        if self.request.head.host() != ca::page::HOST || self.request.head.is_method("CONNECT") {
            return None;
        }
        let certificate = self.generation.interception.as_ref();
        let certificate = certificate.map(|interception| interception.ca_der());
        let address = self.generation.connector.own_addresses().first();
        let proxy = address.map_or_else(String::new, SocketAddr::to_string);
        let path = self.request.head.path();
        let page = ca::page::answer(self.request.head.method(), path, &proxy, certificate);
        Some(Reply::page(page))
    }

    /// Sends an answer of our own. The connection stays open if the beginning of the next request is known.
    pub(super) async fn answer(
        &mut self,
        client: &mut MessageStream,
        reply: &Reply,
    ) -> Persistence {
        // Bytes behind a CONNECT are for the tunnel, which is not opened.
        let is_early = self.request.head.is_method("CONNECT") && client.has_buffered();
        let request = match is_early {
            true => RequestEnd::Unread,
            false => self.request.end(),
        };
        let persistence = self.persistence(request);
        self.send_answer(client, reply, persistence).await
    }

    async fn send_answer(
        &mut self,
        client: &mut MessageStream,
        reply: &Reply,
        persistence: Persistence,
    ) -> Persistence {
        let form = ReplyForm {
            is_head: self.request.head.client_method() == "HEAD",
            is_last: persistence.is_close(),
        };
        let stall = self.timeouts().stall;
        let result = match self.client.protocol {
            ClientProtocol::Http => {
                send_reply(client, &self.generation.worker, reply, form, stall).await
            }
            ClientProtocol::Socks5 => {
                let refusal = reply.socks.encode();
                let sent = client.writer().write_all(&refusal, stall).await;
                sent.map(|()| refusal.len() as u64)
            }
        };
        self.record.answered = reply.status;
        if self.record.answered_by == AnsweredBy::Nobody {
            self.record.answered_by = AnsweredBy::Proxy("");
        }
        self.keep_reply(reply, form);
        self.record.answer_len = *result.as_ref().unwrap_or(&0);
        if self.record.is_web {
            self.record.sent = std::mem::take(&mut self.record.answer_len);
        } else if self.record.note.is_none() {
            self.record.note = Some(self.answered_with(reply));
        }
        match result {
            Ok(_) => persistence,
            Err(_) => Persistence::Close(CloseReason::Gone),
        }
    }

    /// Answers a request that failed; if a response has begun, the client must be able to see that it is incomplete.
    pub(super) async fn answer_failure(
        &mut self,
        client: &mut MessageStream,
        failure: &Failure,
    ) -> Persistence {
        let Failure { error, progress } = failure;
        self.report(error);
        self.record.error = error_word(error);
        if let Cause::Plugin(failure) = &error.cause {
            self.record.ended_by = Some((failure.plugin.as_str().into(), "failed"));
        }
        let is_started = progress.is_started();
        if let Cause::ClosedByPlugin(plugin) = &error.cause {
            self.record.note = Some(format!("closed by {plugin}"));
            self.record.ended_by = Some((plugin.as_str().into(), "closed"));
            self.record.error = "";
            return Persistence::Close(match is_started {
                true => CloseReason::ResponseCutOff {
                    framed: progress.is_framed(),
                },
                false => CloseReason::Plugin,
            });
        }
        if matches!(error.cause, Cause::PinnedClosed(_)) {
            self.record.note =
                Some("closed, the authenticated upstream connection closed".to_owned());
            return Persistence::Close(CloseReason::Upstream);
        }
        // Nothing can follow a head or a body that was sent in part.
        let is_torn =
            error.peer == Peer::Client && matches!(error.step, Step::SendHead | Step::SendBody);
        if is_started || is_torn {
            self.record.note = Some(why_cut_off(error));
            return Persistence::Close(CloseReason::ResponseCutOff {
                framed: progress.is_framed(),
            });
        }
        if error.is_client_gone() && matches!(error.cause, Cause::Io(_) | Cause::Channel(_)) {
            self.record.note = Some(GONE.to_owned());
            return Persistence::Close(CloseReason::Gone);
        }
        if self.is_for_client_to_repeat(failure) {
            self.record.note = Some("refused, the upstream did not process the request".to_owned());
            return Persistence::Close(CloseReason::Unprocessed);
        }
        let reply = Reply::for_error(error, &self.generation.config.via);
        self.record.note = Some(match self.client.protocol {
            ClientProtocol::Http => why_answered(error),
            ClientProtocol::Socks5 => {
                format!("{}, {}", self.answered_with(&reply), classify(error).1)
            }
        });
        self.record.answered_by = AnsweredBy::Proxy(classify(error).1);
        let is_about_policy = matches!(error.cause, Cause::Refused(_) | Cause::Content(_));
        let is_malformed = error.peer == Peer::Client && !is_about_policy;
        if is_malformed {
            return self
                .send_answer(client, &reply, Persistence::Close(CloseReason::Malformed))
                .await;
        }
        self.answer(client, &reply).await
    }

    /// The beginning of the note in the access log for a reply.
    pub(super) fn answered_with(&self, reply: &Reply) -> String {
        match self.client.protocol {
            ClientProtocol::Http => format!("answered {}", reply.status),
            ClientProtocol::Socks5 => format!("answered SOCKS5 {}", reply.socks as u8),
        }
    }

    /// Whether the client should repeat a request that the upstream has not processed: its content is not kept here, and
    /// HTTP/2 can report that.
    fn is_for_client_to_repeat(&self, failure: &Failure) -> bool {
        let is_lost = self.request.has_content()
            && !self.request.upload.is_done
            && self.request.upload.kept.is_none();
        is_lost && self.request.head.version() == Version::Http2 && failure.is_unprocessed()
    }
}

/// Sends a reply; how many bytes that were.
pub(super) async fn send_reply(
    client: &mut MessageStream,
    worker: &WorkerContext,
    reply: &Reply,
    form: ReplyForm,
    stall: Duration,
) -> io::Result<u64> {
    let mut out = buffers::small();
    worker.with_date(|date| reply.encode(form, date, &mut out));
    let result = client.writer().write_all(&out, stall).await;
    let len = out.len() as u64;
    buffers::give_back(out);
    result.map(|()| len)
}

/// The note in the access log for an exchange that the proxy has answered itself, or tried to.
pub(super) fn why_answered(error: &ExchangeError) -> String {
    let (status, error_type) = classify(error);
    match error.is_client_gone() {
        // It may have closed its direction only, and still read the answer.
        true => format!("answered {status}, {GONE}"),
        false => format!("answered {status}, {error_type}"),
    }
}

/// Why an exchange failed, in one word: an error type of RFC 9209, or why the client got no answer.
pub(super) fn error_word(error: &ExchangeError) -> &'static str {
    match &error.cause {
        _ if error.is_client_gone() => "client_disconnected",
        Cause::TimedOut if error.peer == Peer::Client => "client_timeout",
        _ => classify(error).1,
    }
}

/// The note in the access log for an exchange whose answer is incomplete.
fn why_cut_off(error: &ExchangeError) -> String {
    match &error.cause {
        _ if error.is_client_gone() => format!("cut off, {GONE}"),
        Cause::TimedOut if error.peer == Peer::Client => "cut off, the client timed out".to_owned(),
        _ => format!("cut off by {}", classify(error).1),
    }
}

/// The note for a client that has closed or reset its connection.
pub(super) const GONE: &str = "the client disconnected";
