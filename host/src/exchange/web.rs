//! Requests addressed to the proxy itself, answered by its web server.
//!
//! Filters are not called for them. A plugin with a matching route answers in a task that is polled here. If the task
//! forwards the request, this is done here as with any other exchange, including filters, and the task gets the result.

use std::error::Error;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use plugin_api::abi::web::fault;

use super::conclusion::{Conclusion, Failure, Tunnel};
use super::destination::ForwardedTo;
use super::persistence::{CloseReason, Persistence};
use super::request::RequestEnd;
use super::state::{Exchange, client_has_gone};
use crate::deadline::Deadline;
use crate::error::{Cause, ExchangeError, Peer, PluginFailure, PluginFailureKind, Step};
use crate::http1::{self, RequestHead, Scheme, TargetForm};
use crate::in_flight::ExchangeKind;
use crate::plugins::AnsweredBy;
use crate::plugins::instance::{Instance, Web};
use crate::plugins::web::{
    EndedTask, ForwardOutcome, Outgoing, TaskAccess, TaskAnswer, TaskStep, WantedForward,
    WebRequest, WebTask,
};
use crate::reply::{Reply, ReplyForm};
use crate::stream::MessageStream;
use crate::telemetry::AccessRecord;
use crate::transport::{Departure, Link};
use crate::web::files::{Files, SendFileError};
use crate::web::{Handler, Matched, NoRoute};
use crate::websocket::{Handshake, HandshakeRefused, ServerSocket};

/// The status codes for closing a WebSocket at its end, and when its plugin failed (RFC 6455 §7.4.1).
const NORMAL_CLOSURE: u16 = 1000;
const INTERNAL_ERROR: u16 = 1011;

/// How a forward for a task ended that has opened no tunnel.
enum Forwarded {
    Answered(Persistence),
    /// With the request as filters have changed it.
    Failed(Failure, Box<RequestHead>),
}

/// The web server's part in an exchange.
pub(super) struct WebService<'a> {
    pub(super) exchange: &'a mut Exchange,
    pub(super) client: &'a mut MessageStream,
}

impl WebService<'_> {
    /// Whether the web server answers.
    pub(super) fn is_meant(exchange: &Exchange) -> bool {
        let is_meant = match exchange.request.head.target().form {
            TargetForm::Origin => true,
            // An origin has to understand this form as well (RFC 9112 §3.2.2).
            TargetForm::Absolute => exchange.generation.config.disable_http_proxy,
            TargetForm::Asterisk | TargetForm::Authority => false,
        };
        is_meant && exchange.client.origin.is_none() && exchange.generation.web().is_some()
    }

    /// Finds the route, the page or the file, and answers.
    pub(super) async fn serve(&mut self) -> Result<Tunnel, Conclusion> {
        self.exchange.record.is_web = true;
        let generation = Rc::clone(&self.exchange.generation);
        let is_secure = generation.tls_listener().is_some();
        self.exchange.request.head.set_scheme(match is_secure {
            true => Scheme::Https,
            false => Scheme::Http,
        });
        let found = match generation.web() {
            Some(web) => web.find(&self.exchange.request.head, is_secure),
            None => Handler::NoRoute(NoRoute::Path),
        };
        let persistence = match found {
            // Boxed, as most requests are not for the web server.
            Handler::Plugin(plugin, matched) => {
                return Box::pin(self.serve_route(plugin, matched)).await;
            }
            Handler::Pac(pac) => {
                let reply = Reply::page(pac.answer(&self.exchange.request.head)).of_server();
                self.answer_web(&reply).await
            }
            // Boxed like the plugin's.
            Handler::Files(files) => Box::pin(self.serve_file(files)).await,
            Handler::NoRoute(no_route) => {
                if no_route == NoRoute::Encoding {
                    let path = self.exchange.request.head.path().escape_ascii();
                    tracing::debug!(%path, "refused a path with invalid percent-encoding");
                }
                let reply = no_route_reply(no_route);
                self.answer_web(&reply).await
            }
        };
        Err(Conclusion::Answered(persistence))
    }

    /// Lets the web server answer. Before its line in the access log comes one for the request that led here.
    pub(super) async fn serve_redirected(mut self) -> Result<Tunnel, Conclusion> {
        let served = self.serve().await;
        let exchange = &mut *self.exchange;
        // Other formats have one line for it, that of the answer.
        let is_default = !exchange.generation.worker.access_needs().details;
        let is_line_due = is_default && !matches!(served, Err(Conclusion::Failed(_)));
        if is_line_due && exchange.record.is_web && exchange.generation.worker.logs_access() {
            let redirected = exchange.redirected();
            let upstream = match &redirected {
                Some((host, port)) => (host.as_str(), *port),
                None => (exchange.request.head.host(), exchange.request.head.port()),
            };
            exchange.generation.worker.log_access(&AccessRecord {
                client: exchange.client.facts.client,
                method: exchange.request.head.method(),
                is_web: false,
                upstream: Some(upstream),
                path: exchange.request.head.path(),
                status: exchange.record.status,
                reason: &exchange.record.reason,
                response_bytes: exchange.record.sent,
                elapsed: exchange.record.timeline.elapsed(),
                note: None,
                asked: None,
                user: "",
                fields: &[],
                details: None,
            });
        }
        served
    }

    /// Sends an answer of the web server.
    async fn answer_web(&mut self, reply: &Reply) -> Persistence {
        self.note_status(reply.status, reply.reason.as_bytes());
        self.exchange.answer(self.client, reply).await
    }

    /// Records the status for the access log.
    fn note_status(&mut self, status: u16, reason: &[u8]) {
        self.exchange.record.is_web = true;
        self.exchange.record.status = Some(status);
        self.exchange.record.answered = status;
        if self.exchange.record.answered_by == AnsweredBy::Nobody {
            self.exchange.record.answered_by = AnsweredBy::Proxy("");
        }
        if self.exchange.generation.worker.logs_access() {
            reason.clone_into(&mut self.exchange.record.reason);
        }
    }

    /// Sends a file, or the error.
    async fn serve_file(&mut self, files: &Files) -> Persistence {
        let answer = files.answer(&self.exchange.request.head);
        self.note_status(
            answer.status,
            http1::reason_phrase(answer.status).as_bytes(),
        );
        let persistence = self.exchange.persistence(self.exchange.request.end());
        let form = ReplyForm {
            is_head: self.exchange.request.head.client_method() == "HEAD",
            is_last: persistence.is_close(),
        };
        let response = self
            .exchange
            .generation
            .worker
            .with_date(|date| answer.into_response(form, date));
        let stall = self.exchange.timeouts().stall;
        let mut writer = self.client.writer();
        match response
            .send(&mut writer, stall, &mut self.exchange.record.sent)
            .await
        {
            Ok(()) => persistence,
            Err(error) => {
                match &error {
                    SendFileError::Client(_) => tracing::debug!(%error, "sending a file failed"),
                    _ => tracing::warn!(error = &error as &dyn Error, "sending a file failed"),
                }
                self.exchange.record.note = Some(format!("cut off: {error}"));
                Persistence::Close(CloseReason::ResponseCutOff { framed: true })
            }
        }
    }

    // ---- plugins -------------------------------------------------------------------------------------------------

    /// Runs the task of a plugin that answers.
    async fn serve_route(
        &mut self,
        plugin: &Arc<Instance<Web>>,
        matched: Matched,
    ) -> Result<Tunnel, Conclusion> {
        let handshake = match matched
            .is_websocket
            .then(|| Handshake::read(&self.exchange.request.head))
        {
            Some(Err(refused)) => {
                let reply = refused_reply(refused);
                let persistence = self.answer_web(&reply).await;
                return Err(Conclusion::Answered(persistence));
            }
            Some(Ok(handshake)) => Some(handshake),
            None => None,
        };
        // The client's Connection field must not remove what the plugin adds.
        self.exchange.request.head.fields_mut().settle_connection();
        let asked = WebRequest {
            route: matched.number,
            captures: matched.captures,
            handshake,
            facts: self.exchange.client.facts,
            local: self.client.local_addr(),
            framing: self.exchange.request.framing,
            is_last: self.exchange.persistence(RequestEnd::Read).is_close(),
        };
        if asked.handshake.is_some() {
            self.exchange.become_long(ExchangeKind::WebSocket);
        }
        let mut task =
            WebTask::begin(plugin, asked, &self.exchange.request.head).map_err(hook_failed)?;
        let mut forwarded = None;
        let over = loop {
            let wanted = match self.poll_task(&mut task).await {
                Ok(ControlFlow::Break(over)) => break over,
                Ok(ControlFlow::Continue(wanted)) => wanted,
                Err(error) => {
                    self.note_unfinished(task);
                    return Err(error.into());
                }
            };
            let ended = match self.forward_for(*wanted).await {
                Ok(tunnel) => {
                    // The task ends with the tunnel: what it holds may belong to it.
                    self.exchange
                        .record
                        .fields
                        .append(&mut task.take_log_fields());
                    self.exchange.held_task = Some(Box::new(task));
                    return Ok(tunnel);
                }
                Err(ended) => ended,
            };
            task.forwarded(self.forward_outcome(&ended), &self.exchange.request.head);
            forwarded = Some(ended);
        };
        // Ended before the request that it reads may change.
        let ended = task.end();
        self.conclude_route(plugin.name(), over, ended, forwarded)
            .await
    }

    /// The result of a forward, for its task.
    fn forward_outcome(&self, forwarded: &Forwarded) -> ForwardOutcome {
        let failure = match forwarded {
            Forwarded::Answered(_) => {
                return ForwardOutcome {
                    status: self.exchange.record.answered,
                    is_answered: true,
                    has_read_on: self.exchange.request.has_content(),
                    fault: fault::NONE,
                    error: String::new(),
                };
            }
            Forwarded::Failed(failure, _) => failure,
        };
        let is_answered = self.is_final_failure(failure);
        let error = &failure.error;
        ForwardOutcome {
            status: 0,
            is_answered,
            has_read_on: self.exchange.request.has_content()
                && (is_answered || self.exchange.request.upload.collected.is_some()),
            fault: match error.peer {
                Peer::Upstream if error.step == Step::Dial => fault::UNREACHED,
                Peer::Upstream => fault::UPSTREAM,
                Peer::Client => fault::CLIENT,
                Peer::Plugin => fault::FILTER,
            },
            error: error.to_string(),
        }
    }

    /// Sends the answer of a plugin, or the rest of it.
    async fn conclude_route(
        &mut self,
        plugin: &str,
        over: Result<(), PluginFailure>,
        mut ended: EndedTask,
        forwarded: Option<Forwarded>,
    ) -> Result<Tunnel, Conclusion> {
        self.exchange.record.fields.append(&mut ended.log_fields);
        self.finish_continue(ended.rest_of_continue).await?;
        let is_read = ended.has_read_request;
        let persistence = match (ended.answer, forwarded, over) {
            (Some(TaskAnswer::Socket(socket)), _, over) => {
                self.exchange.record.answered_by = AnsweredBy::Plugin(plugin.into());
                self.close_socket(*socket, over).await
            }
            (Some(TaskAnswer::Started(outgoing)), _, over) => {
                self.exchange.record.answered_by = AnsweredBy::Plugin(plugin.into());
                self.finish_answer(*outgoing, over, is_read).await
            }
            (_, Some(Forwarded::Answered(persistence)), over) => {
                self.is_well(over);
                persistence
            }
            (Some(TaskAnswer::Reply(reply)), _, over) if over.is_ok() || reply.status >= 400 => {
                self.is_well(over);
                self.exchange.record.answered_by = AnsweredBy::Plugin(plugin.into());
                self.exchange.request.upload.is_read |= is_read;
                let reply = Reply::from_plugin(reply).of_server();
                self.answer_web(&reply).await
            }
            (_, Some(Forwarded::Failed(failure, tried)), _) => {
                self.exchange.request.head = *tried;
                return Err(failure.into());
            }
            (_, None, over) => return Err(no_answer(plugin, ended.fault, over).into()),
        };
        Err(Conclusion::Answered(persistence))
    }

    /// Whether a task that has answered did not fail afterwards; reports the failure.
    fn is_well(&mut self, over: Result<(), PluginFailure>) -> bool {
        over.map_err(|failure| self.exchange.report(&hook_failed(failure)))
            .is_ok()
    }

    /// Polls the task until it ends or forwards. A client that disconnects ends it, unless it has a WebSocket: then the task
    /// finds out itself.
    async fn poll_task(&mut self, task: &mut WebTask) -> Result<TaskStep, ExchangeError> {
        let half_closed = self.exchange.timeouts().half_closed;
        let (mut reader, mut writer) = self.client.split();
        let mut departing = Departing::new(writer.deadline(), half_closed);
        loop {
            let mut access = TaskAccess {
                reader: &mut reader,
                writer: &mut writer,
                request: &mut self.exchange.request.head,
                worker: &self.exchange.generation.worker,
                config: &self.exchange.generation.config,
            };
            let polled = poll_fn(|cx| Poll::Ready(task.poll(&mut access, cx))).await;
            if let Poll::Ready(step) = polled {
                return Ok(step);
            }
            let watched = (!task.is_websocket()).then(|| reader.link());
            woken_unless(&mut departing, watched).await?;
        }
    }

    /// Records how far a task had come that is cancelled.
    fn note_unfinished(&mut self, task: WebTask) {
        let mut ended = task.end();
        self.exchange.record.fields.append(&mut ended.log_fields);
        if let Some(TaskAnswer::Started(outgoing)) = ended.answer {
            self.note_status(
                outgoing.status,
                http1::reason_phrase(outgoing.status).as_bytes(),
            );
            self.exchange.record.sent = outgoing.sent;
        }
    }

    /// Sends the rest of an interim response.
    async fn finish_continue(&mut self, rest: &[u8]) -> Result<(), ExchangeError> {
        if rest.is_empty() {
            return Ok(());
        }
        let stall = self.exchange.timeouts().stall;
        let written = self.client.writer().write_all(rest, stall).await;
        written.map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))
    }

    /// Sends the rest of an answer that a task has begun.
    async fn finish_answer(
        &mut self,
        mut outgoing: Outgoing,
        over: Result<(), PluginFailure>,
        is_read: bool,
    ) -> Persistence {
        self.note_status(
            outgoing.status,
            http1::reason_phrase(outgoing.status).as_bytes(),
        );
        let cut_off = Persistence::Close(CloseReason::ResponseCutOff {
            framed: !outgoing.is_unframed(),
        });
        let is_whole = self.is_well(over) && outgoing.finish();
        let stall = self.exchange.timeouts().stall;
        let mut writer = self.client.writer();
        let sent = poll_fn(|cx| outgoing.poll_flush(&mut writer, stall, cx)).await;
        self.exchange.record.sent = outgoing.sent;
        if !is_whole || sent.is_err() {
            self.exchange.record.note = Some("cut off".to_owned());
        } else if outgoing.is_unframed() {
            writer.end_until_close();
        }
        let request = match is_read {
            true => RequestEnd::Read,
            false => RequestEnd::Unread,
        };
        match is_whole && sent.is_ok() {
            true => self
                .exchange
                .persistence(request)
                .unless_unframed(outgoing.is_unframed()),
            false => cut_off,
        }
    }

    /// Ends a WebSocket whose task is over.
    async fn close_socket(
        &mut self,
        mut socket: ServerSocket,
        over: Result<(), PluginFailure>,
    ) -> Persistence {
        self.note_status(101, http1::reason_phrase(101).as_bytes());
        let code = match self.is_well(over) {
            true => NORMAL_CLOSURE,
            false => INTERNAL_ERROR,
        };
        let (mut reader, mut writer) = self.client.split();
        socket.close(code, &mut reader, &mut writer).await;
        self.exchange.record.sent = socket.sent();
        Persistence::Close(CloseReason::Gone)
    }

    /// Forwards the request as a plugin wants it. After a failure the exchange has the plugin's own request again, so that
    /// filters see the next attempt as they saw this one; what they made of it comes with the failure.
    async fn forward_for(&mut self, wanted: WantedForward) -> Result<Tunnel, Forwarded> {
        let own = std::mem::replace(&mut self.exchange.request.head, wanted.head);
        let to = ForwardedTo {
            scheme: wanted.scheme,
            host: wanted.host,
            port: wanted.port,
        };
        let conclusion = match self.forward_past_filters(to).await {
            Ok(tunnel) => {
                crate::buffers::give_back_head(own.into_buffers());
                return Ok(tunnel);
            }
            Err(conclusion) => conclusion,
        };
        match conclusion.into_answer() {
            Ok(persistence) => {
                crate::buffers::give_back_head(own.into_buffers());
                Err(Forwarded::Answered(persistence))
            }
            Err(failure) => {
                // Filters hold views of a head that is moved away here.
                if let Some(plugins) = &self.exchange.plugins {
                    plugins.forget_request();
                }
                let tried = std::mem::replace(&mut self.exchange.request.head, own);
                Err(Forwarded::Failed(failure, Box::new(tried)))
            }
        }
    }

    async fn forward_past_filters(&mut self, to: ForwardedTo) -> Result<Tunnel, Conclusion> {
        if let Some(plugins) = &self.exchange.plugins {
            let is_elsewhere = self.exchange.request.head.host() != to.host
                || self.exchange.request.head.port() != to.port;
            // A Host that is kept says nothing about the destination, and is the client's choice.
            plugins.begin_again(is_elsewhere.then(|| (to.host.clone(), to.port)));
        }
        let admitted = self.exchange.admit_forwarded()?;
        self.exchange.record.is_web = false;
        self.exchange.routing.forwarded_to = Some(Box::new(to));
        let decided = self.exchange.decide(admitted, self.client).await?;
        let ready = self.exchange.prepare(decided, self.client).await?;
        self.exchange.forward(ready, self.client).await
    }

    /// Whether this failure is final: the task can neither retry nor answer.
    fn is_final_failure(&self, failure: &Failure) -> bool {
        let Failure { error, progress } = failure;
        let has_all = self.exchange.request.is_whole();
        progress.is_started()
            || error.peer == Peer::Client
            || matches!(error.cause, Cause::ClosedByPlugin(_))
            || !has_all && error.step != Step::Dial
    }
}

/// Detects a client that disconnects while a task answers it.
struct Departing<'a> {
    /// Set once the client has closed its direction: how long it is still answered.
    half_closed: Option<Deadline>,
    limit: Duration,
    /// Shows when bytes were last sent to the client.
    sending: &'a Deadline,
}

impl<'a> Departing<'a> {
    fn new(sending: &'a Deadline, limit: Duration) -> Self {
        Self {
            half_closed: None,
            limit,
            sending,
        }
    }

    /// Ends when the client has disconnected: it has reset the connection, or has closed its direction and nothing was sent
    /// for the limit. Cancel safe.
    async fn gone(&mut self, link: Link<'_>) {
        if self.half_closed.is_none() {
            match link.departure().await {
                Departure::Reset => return,
                Departure::HalfClosed => {
                    let deadline = self.sending.another();
                    deadline.arm(self.limit);
                    self.half_closed = Some(deadline);
                }
            }
        }
        if let Some(deadline) = &self.half_closed {
            link.reset_or_late(deadline, &[self.sending]).await;
        }
    }
}

/// Ends when the task is woken by anything; with an error if the watched client has disconnected.
async fn woken_unless(
    departing: &mut Departing<'_>,
    watched: Option<Link<'_>>,
) -> Result<(), ExchangeError> {
    let mut gone = pin!(async {
        match watched {
            Some(link) => departing.gone(link).await,
            None => std::future::pending().await,
        }
    });
    let mut has_waited = false;
    // Not `select!`: without budget it returns before it has polled either, and the wake for that would count.
    poll_fn(|cx| {
        if gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(client_has_gone()));
        }
        match std::mem::replace(&mut has_waited, true) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await
}

/// The error of a task that has ended without an answer or a forward.
fn no_answer(plugin: &str, fault: Option<Cause>, over: Result<(), PluginFailure>) -> ExchangeError {
    match (over, fault) {
        (Err(_), Some(cause)) => ExchangeError::new(Peer::Client, Step::ReadBody, cause),
        (Err(failure), None) => hook_failed(failure),
        (Ok(()), _) => hook_failed(PluginFailure {
            plugin: plugin.to_owned(),
            hook: "handle_request",
            message: "it returned without a reply".to_owned(),
            kind: PluginFailureKind::Broken,
        }),
    }
}

fn hook_failed(failure: PluginFailure) -> ExchangeError {
    ExchangeError::new(Peer::Plugin, Step::Hook, failure)
}

/// The answer to an invalid request for a WebSocket.
fn refused_reply(refused: HandshakeRefused) -> Reply {
    let reply = Reply::status_text(refused.status(), &refused.to_string()).of_server();
    let fields = refused.fields().iter();
    fields.fold(reply, |reply, (name, value)| reply.with_field(name, *value))
}

/// The answer if no route matches.
fn no_route_reply(no_route: NoRoute) -> Reply {
    match no_route {
        NoRoute::Path => Reply::fixed_text(
            404,
            "404 Not Handler: the web server of the proxy has nothing at this path\n",
        ),
        NoRoute::Method(allowed) => Reply::fixed_text(
            405,
            "405 Method Not Allowed: this path does not support this method\n",
        )
        .with_field("Allow", allowed),
        NoRoute::Encoding => Reply::fixed_text(
            400,
            "400 Bad Request: the path contains invalid percent-encoding\n",
        ),
        NoRoute::WebSocketOnly => refused_reply(HandshakeRefused::NotAsked),
    }
    .of_server()
}
