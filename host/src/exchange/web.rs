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

use super::{
    AnswerEnd, CloseReason, Exchange, Outcome, Persistence, Progress, RequestEnd, client_has_gone,
};
use crate::deadline::Deadline;
use crate::error::{Cause, ExchangeError, Peer, PluginFailure, PluginFailureKind, Step};
use crate::http1::{self, RequestHead, Scheme, TargetForm};
use crate::plugins::AnsweredBy;
use crate::plugins::instance::{Instance, Web};
use crate::plugins::web::{
    Ended, ForwardOutcome, Lent, Outgoing, WantedForward, WebAnswer, WebAsked, WebStep, WebTask,
};
use crate::reply::{Reply, ReplyForm};
use crate::stream::MessageStream;
use crate::transport::{Departure, Link};
use crate::web::files::{Files, SendFileError};
use crate::web::{Handler, Matched, NoRoute};
use crate::websocket::{Handshake, HandshakeRefused, ServerSocket};

/// What a WebSocket is closed with at its end, and when its plugin failed (RFC 6455 §7.4.1).
const NORMAL_CLOSURE: u16 = 1000;
const INTERNAL_ERROR: u16 = 1011;

/// Where a plugin of the web server has sent the exchange.
#[derive(Debug)]
pub(super) struct ForwardedTo {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
}

/// A failure with how far the answer had come.
type Failed = (ExchangeError, Progress);

impl Exchange {
    /// Whether the web server answers.
    pub(super) fn is_for_web_server(&self) -> bool {
        let is_meant = match self.head.target().form {
            TargetForm::Origin => true,
            // An origin has to understand this form as well (RFC 9112 §3.2.2).
            TargetForm::Absolute => self.generation.config.disable_http_proxy,
            TargetForm::Asterisk | TargetForm::Authority => false,
        };
        is_meant && self.client.origin.is_none() && self.generation.web.is_some()
    }

    pub(super) async fn serve_web(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Outcome, Failed> {
        self.record.is_web = true;
        let generation = Rc::clone(&self.generation);
        let is_secure = generation.tls_listener.is_some();
        self.head.set_scheme(match is_secure {
            true => Scheme::Https,
            false => Scheme::Http,
        });
        let found = match &generation.web {
            Some(web) => web.find(&self.head, is_secure),
            None => Handler::NoRoute(NoRoute::Path),
        };
        match found {
            // Boxed: it would make every idle client connection larger.
            Handler::Plugin(plugin, matched) => {
                Box::pin(self.serve_route(client, plugin, matched)).await
            }
            Handler::Pac(pac) => {
                let reply = Reply::page(pac.answer(&self.head)).of_server();
                Ok(Outcome::Answered(self.answer_web(client, &reply).await))
            }
            // Boxed like the plugin's.
            Handler::Files(files) => Ok(Outcome::Answered(
                Box::pin(self.serve_file(client, files)).await,
            )),
            Handler::NoRoute(no_route) => {
                if no_route == NoRoute::Encoding {
                    let path = self.head.path().escape_ascii();
                    tracing::debug!(%path, "refused a path with invalid percent-encoding");
                }
                let reply = no_route_reply(no_route);
                Ok(Outcome::Answered(self.answer_web(client, &reply).await))
            }
        }
    }

    /// Sends an answer of the web server's.
    async fn answer_web(&mut self, client: &mut MessageStream, reply: &Reply) -> Persistence {
        self.note_status(reply.status, reply.reason.as_bytes());
        self.answer(client, reply).await
    }

    /// For the access log.
    fn note_status(&mut self, status: u16, reason: &[u8]) {
        self.record.is_web = true;
        self.record.status = Some(status);
        self.record.answered = status;
        if self.record.answered_by == AnsweredBy::Nobody {
            self.record.answered_by = AnsweredBy::Proxy("");
        }
        if self.generation.worker.logs_access() {
            reason.clone_into(&mut self.record.reason);
        }
    }

    /// Sends a file, or why there is none.
    async fn serve_file(&mut self, client: &mut MessageStream, files: &Files) -> Persistence {
        let answer = files.answer(&self.head);
        self.note_status(
            answer.status,
            http1::reason_phrase(answer.status).as_bytes(),
        );
        let next = self.persistence(self.request_end(), AnswerEnd::Framed);
        let form = ReplyForm {
            is_head: self.head.client_method() == "HEAD",
            is_last: next != Persistence::Again,
        };
        let response = self
            .generation
            .worker
            .with_date(|date| answer.into_response(form, date));
        let stall = self.timeouts().stall;
        let mut writer = client.writer();
        match response
            .send(&mut writer, stall, &mut self.record.sent)
            .await
        {
            Ok(()) => next,
            Err(error) => {
                match &error {
                    SendFileError::Client(_) => tracing::debug!(%error, "sending a file failed"),
                    _ => tracing::warn!(error = &error as &dyn Error, "sending a file failed"),
                }
                self.record.note = Some(format!("cut off: {error}"));
                Persistence::Close(CloseReason::ResponseCutOff { framed: true })
            }
        }
    }

    // ---- plugins -------------------------------------------------------------------------------------------------

    /// Has a plugin answer.
    async fn serve_route(
        &mut self,
        client: &mut MessageStream,
        plugin: &Arc<Instance<Web>>,
        matched: Matched,
    ) -> Result<Outcome, Failed> {
        let handshake = match matched.is_websocket.then(|| Handshake::read(&self.head)) {
            Some(Err(refused)) => {
                let reply = refused_reply(refused);
                return Ok(Outcome::Answered(self.answer_web(client, &reply).await));
            }
            Some(Ok(handshake)) => Some(handshake),
            None => None,
        };
        // What the plugin adds is not for the client to name as its own hop's.
        self.head.fields_mut().settle_connection();
        let asked = WebAsked {
            route: matched.number,
            captures: matched.captures,
            handshake,
            facts: self.client.facts,
            local: client.local_addr(),
            framing: self.framing,
            is_last: self.persistence(RequestEnd::Read, AnswerEnd::Framed) != Persistence::Again,
        };
        let mut task = WebTask::begin(plugin, asked, &self.head).map_err(hook_failed)?;
        let mut forwarded = None;
        let over = loop {
            let wanted = match self.poll_task(&mut task, client).await {
                Ok(WebStep::Over(over)) => break over,
                Ok(WebStep::Forward(wanted)) => wanted,
                Err(failed) => {
                    self.note_unfinished(task);
                    return Err(failed);
                }
            };
            let result = self.forward_for(client, *wanted).await;
            let outcome = match &result {
                Ok(Outcome::Answered(_)) => ForwardOutcome {
                    status: self.record.answered,
                    is_answered: true,
                    has_read_on: self.has_content(),
                    fault: fault::NONE,
                    error: String::new(),
                },
                Err((failed, _)) => self.failed_forward(failed),
                // A tunnel: what the task holds counts for as long as that is there.
                Ok(_) => {
                    self.record.fields.append(&mut task.take_log_fields());
                    self.held_task = Some(Box::new(task));
                    return result.map_err(|(failed, _)| failed);
                }
            };
            task.forwarded(outcome, &self.head);
            forwarded = Some(result);
        };
        // Ended before the request may change that it sees.
        let ended = task.end();
        self.conclude_route(client, plugin.name(), over, ended, forwarded)
            .await
    }

    /// What a task is told of a forward that has failed.
    fn failed_forward(&self, failed: &Failed) -> ForwardOutcome {
        let is_answered = self.is_beyond_another_try(failed);
        let (error, _) = failed;
        ForwardOutcome {
            status: 0,
            is_answered,
            has_read_on: self.has_content() && (is_answered || self.upload.collected.is_some()),
            fault: match error.peer {
                Peer::Upstream if error.step == Step::Dial => fault::UNREACHED,
                Peer::Upstream => fault::UPSTREAM,
                Peer::Client => fault::CLIENT,
                Peer::Plugin => fault::FILTER,
            },
            error: error.to_string(),
        }
    }

    /// Sends what a plugin has answered, or the rest of it.
    async fn conclude_route(
        &mut self,
        client: &mut MessageStream,
        plugin: &str,
        over: Result<(), PluginFailure>,
        mut ended: Ended,
        forwarded: Option<Result<Outcome, (Failed, RequestHead)>>,
    ) -> Result<Outcome, Failed> {
        self.record.fields.append(&mut ended.log_fields);
        self.finish_invitation(client, ended.invitation).await?;
        let is_read = ended.has_read_request;
        match (ended.answer, forwarded, over) {
            (Some(WebAnswer::Socket(socket)), _, over) => {
                self.record.answered_by = AnsweredBy::Plugin(plugin.into());
                Ok(Outcome::Answered(
                    self.close_socket(client, *socket, over).await,
                ))
            }
            (Some(WebAnswer::Started(outgoing)), _, over) => {
                self.record.answered_by = AnsweredBy::Plugin(plugin.into());
                self.finish_answer(client, *outgoing, over, is_read).await
            }
            (_, Some(Ok(outcome)), over) => {
                self.is_well(over);
                Ok(outcome)
            }
            (Some(WebAnswer::Reply(reply)), _, over) if over.is_ok() || reply.status >= 400 => {
                self.is_well(over);
                self.record.answered_by = AnsweredBy::Plugin(plugin.into());
                self.upload.is_read |= is_read;
                let reply = Reply::from_plugin(reply).of_server();
                Ok(Outcome::Answered(self.answer_web(client, &reply).await))
            }
            (_, Some(Err((failed, tried))), _) => {
                self.head = tried;
                Err(failed)
            }
            (_, None, Err(failure)) => Err(match ended.fault {
                Some(cause) => (
                    ExchangeError::new(Peer::Client, Step::ReadBody, cause),
                    Progress::default(),
                ),
                None => hook_failed(failure),
            }),
            (_, None, Ok(())) => Err(hook_failed(PluginFailure {
                plugin: plugin.to_owned(),
                hook: "handle_request",
                message: "it returned without a reply".to_owned(),
                kind: PluginFailureKind::Broken,
            })),
        }
    }

    /// Whether a task that has answered did not fail behind that; reports it if it did.
    fn is_well(&mut self, over: Result<(), PluginFailure>) -> bool {
        over.map_err(|failure| self.report(&hook_failed(failure).0))
            .is_ok()
    }

    /// Lets the task go on until it is over or wants something of us. A client that goes ends it, unless it has a
    /// WebSocket: what becomes of that is for the task to hear.
    async fn poll_task(
        &mut self,
        task: &mut WebTask,
        client: &mut MessageStream,
    ) -> Result<WebStep, Failed> {
        let half_closed = self.timeouts().half_closed;
        let (mut reader, mut writer) = client.split();
        let mut departing = Departing::new(writer.deadline(), half_closed);
        loop {
            let mut lent = Lent {
                reader: &mut reader,
                writer: &mut writer,
                request: &mut self.head,
                worker: &self.generation.worker,
                config: &self.generation.config,
            };
            let polled = poll_fn(|cx| Poll::Ready(task.poll(&mut lent, cx))).await;
            if let Poll::Ready(step) = polled {
                return Ok(step);
            }
            let watched = (!task.is_websocket()).then(|| reader.link());
            woken_unless(&mut departing, watched)
                .await
                .map_err(|error| (error, Progress::default()))?;
        }
    }

    /// Takes down how far a task had come that is given up.
    fn note_unfinished(&mut self, task: WebTask) {
        let mut ended = task.end();
        self.record.fields.append(&mut ended.log_fields);
        if let Some(WebAnswer::Started(outgoing)) = ended.answer {
            self.note_status(
                outgoing.status,
                http1::reason_phrase(outgoing.status).as_bytes(),
            );
            self.record.sent = outgoing.sent;
        }
    }

    /// Sends what the client still has to get before an answer.
    async fn finish_invitation(
        &self,
        client: &mut MessageStream,
        rest: &[u8],
    ) -> Result<(), Failed> {
        if rest.is_empty() {
            return Ok(());
        }
        let stall = self.timeouts().stall;
        let written = client.writer().write_all(rest, stall).await;
        written.map_err(|error| {
            let error = ExchangeError::io(Peer::Client, Step::SendHead, error);
            (error, Progress::default())
        })
    }

    /// Sends the rest of an answer that a task has begun.
    async fn finish_answer(
        &mut self,
        client: &mut MessageStream,
        mut outgoing: Outgoing,
        over: Result<(), PluginFailure>,
        is_read: bool,
    ) -> Result<Outcome, Failed> {
        self.note_status(
            outgoing.status,
            http1::reason_phrase(outgoing.status).as_bytes(),
        );
        let cut_off = Persistence::Close(CloseReason::ResponseCutOff {
            framed: !outgoing.is_unframed(),
        });
        let is_whole = self.is_well(over) && outgoing.finish();
        let stall = self.timeouts().stall;
        let mut writer = client.writer();
        let sent = poll_fn(|cx| outgoing.poll_flush(&mut writer, stall, cx)).await;
        self.record.sent = outgoing.sent;
        if !is_whole || sent.is_err() {
            self.record.note = Some("cut off".to_owned());
        } else if outgoing.is_unframed() {
            writer.end_until_close();
        }
        let request = match is_read {
            true => RequestEnd::Read,
            false => RequestEnd::Unread,
        };
        let answer = match outgoing.is_unframed() {
            true => AnswerEnd::Connection,
            false => AnswerEnd::Framed,
        };
        Ok(Outcome::Answered(match is_whole && sent.is_ok() {
            true => self.persistence(request, answer),
            false => cut_off,
        }))
    }

    /// Ends a WebSocket whose task is over.
    async fn close_socket(
        &mut self,
        client: &mut MessageStream,
        mut socket: ServerSocket,
        over: Result<(), PluginFailure>,
    ) -> Persistence {
        self.note_status(101, http1::reason_phrase(101).as_bytes());
        let code = match self.is_well(over) {
            true => NORMAL_CLOSURE,
            false => INTERNAL_ERROR,
        };
        let (mut reader, mut writer) = client.split();
        socket.close(code, &mut reader, &mut writer).await;
        self.record.sent = socket.sent();
        Persistence::Close(CloseReason::Gone)
    }

    /// Forwards the request as a plugin wants it. After a failure the exchange has the plugin's own request again, for
    /// another try that filters see as they saw this one; what they made of it comes with the failure.
    async fn forward_for(
        &mut self,
        client: &mut MessageStream,
        wanted: WantedForward,
    ) -> Result<Outcome, (Failed, RequestHead)> {
        let own = std::mem::replace(&mut self.head, wanted.head);
        let to = ForwardedTo {
            scheme: wanted.scheme,
            host: wanted.host,
            port: wanted.port,
        };
        match self.forward_past_filters(client, to).await {
            Ok(outcome) => {
                crate::buffers::give_back_head(own.into_buffers());
                Ok(outcome)
            }
            Err(failed) => {
                // What filters were shown goes with the failure, and may be gone when they look next.
                if let Some(session) = &self.session {
                    session.forget_request();
                }
                Err((failed, std::mem::replace(&mut self.head, own)))
            }
        }
    }

    async fn forward_past_filters(
        &mut self,
        client: &mut MessageStream,
        to: ForwardedTo,
    ) -> Result<Outcome, Failed> {
        let at_start = |error| (error, Progress::default());
        if let Some(session) = &self.session {
            let is_elsewhere = self.head.host() != to.host || self.head.port() != to.port;
            // A Host that is kept says nothing of where the request goes, and is the client's to choose.
            session.begin_again(is_elsewhere.then(|| (to.host.clone(), to.port)));
        }
        let admitted = self.admit_forwarded().map_err(at_start)?;
        self.record.is_web = false;
        self.forwarded_to = Some(Box::new(to));
        let decided = match self.decide(admitted, client).await.map_err(at_start)? {
            ControlFlow::Continue(decided) => decided,
            ControlFlow::Break(answered) => return Ok(Outcome::Answered(answered)),
        };
        let ready = match self.prepare(decided, client).await.map_err(at_start)? {
            ControlFlow::Continue(ready) => ready,
            ControlFlow::Break(answered) => return Ok(Outcome::Answered(answered)),
        };
        self.forward(ready, client).await
    }

    /// Whether no other upstream can be tried after this failure, and nothing else be answered.
    fn is_beyond_another_try(&self, (error, progress): &Failed) -> bool {
        let has_all = !self.has_content() || self.upload.is_done;
        progress.is_started()
            || error.peer == Peer::Client
            || matches!(error.cause, Cause::ClosedByPlugin(_))
            || !has_all && error.step != Step::Dial
    }
}

/// A client that leaves while a task answers it.
struct Departing<'a> {
    /// The client has closed its direction; then this is the time for which it is still answered.
    half_closed: Option<Deadline>,
    limit: Duration,
    /// Shows when the client was sent something.
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

    /// Ends when the client disconnected: it has reset the connection, or closed its direction and got nothing since for as
    /// long as it may. Goes on where it was when it is dropped and called again.
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

/// Ends when whoever waits for it is woken, by anything; with an error if the client that is watched has gone.
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
    // Not `select!`: out of turns, it would wait before it has looked at either, and take the wake for its first.
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

fn hook_failed(failure: PluginFailure) -> Failed {
    let error = ExchangeError::new(Peer::Plugin, Step::Hook, failure);
    (error, Progress::default())
}

/// What is answered to a request for a WebSocket that is not as it should be.
fn refused_reply(refused: HandshakeRefused) -> Reply {
    let reply = Reply::status_text(refused.status(), &refused.to_string()).of_server();
    let fields = refused.fields().iter();
    fields.fold(reply, |reply, (name, value)| reply.with_field(name, *value))
}

/// What is answered where there is no route.
fn no_route_reply(no_route: NoRoute) -> Reply {
    match no_route {
        NoRoute::Path => Reply::fixed_text(
            404,
            "404 Not Found: the web server of the proxy has nothing at this path\n",
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
