//! One request and its response, top to bottom.
//!
//! read the head → authenticate → answer if it is addressed to the proxy → plugins, with the content if one needs it
//! whole → connect → send → the final response (interim ones are forwarded) → plugins → relay the body → log. CONNECT
//! ends here with a tunnel, which the connection then relays or intercepts. Every exchange writes an access log line
//! and calls the last hooks of the plugins.

mod client;
mod connect;
mod connection;
mod converse;
mod decide;
mod itself;
mod next;
mod origin;
mod persistence;
mod phase;
mod progress;
mod reach;
mod record;
mod refuse;
mod response;
mod timeline;
mod upload;
mod web;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::buffers;
use crate::ca;
use crate::config::{Config, Timeouts};
use crate::error::{Cause, ExchangeError, Peer, Refusal, Step};
use crate::events::EventKind;
use crate::generation::WorkerGeneration;
use crate::http1::{
    self, BodyDecoder, BodyFraming, HeadKind, RequestHead, Scheme, TargetForm, Version,
};
use crate::interception::Treatment;
use crate::plugins::web::WebTask;
use crate::plugins::{AnsweredBy, ExchangeFacts, ExchangePlugins};
use crate::reply::{Reply, ReplyForm, classify};
use crate::stream::{MessageStream, ReadHeadError};
use crate::worker_context::{self, WorkerContext};

use client::{Binding, ClientSide};
use connect::TunnelRoute;
pub(crate) use connect::{FailedTls, Secured};
pub(crate) use connection::Connection;
pub(crate) use itself::OwnTunnel;
pub(crate) use next::{CloseReason, LookStart, Next, TunnelStart};
pub(crate) use origin::Origin;
use persistence::{AnswerEnd, Persistence, RequestEnd};
use progress::{Passing, Progress};
use reach::Destination;
use record::Record;
use refuse::{Unread, refuse};
use timeline::{Moment, Timeline};
use upload::Upload;
use web::ForwardedTo;

/// What is known of a request while it is served.
pub(crate) struct Exchange {
    /// What has sent it where it goes, as long as the tunnel lives that it has become.
    held_task: Option<Box<WebTask>>,
    /// What is in force for it, from its head to its end.
    generation: Rc<WorkerGeneration>,
    client: ClientSide,
    head: RequestHead,
    framing: BodyFraming,
    /// The request's content, where it is not simply passed on.
    upload: Upload,
    /// None when no plugin is loaded.
    session: Option<ExchangePlugins>,
    /// The tunnel leads to an address, and that the request's host is there is what the client says.
    is_host_claimed: bool,
    tunnel: TunnelRoute,
    /// Where a plugin of the web server has sent it.
    forwarded_to: Option<Box<ForwardedTo>>,
    /// Which entry of its generation's `host_timeouts` counts, from 1; 0: none.
    host_timeouts: u32,
    /// It has become a WebSocket, and some plugin listens to its messages.
    is_watched_websocket: bool,
    record: Record,
}

/// How a response was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivered {
    /// Whole: the upstream's, or a plugin's in its place.
    Answered {
        persistence: Persistence,
        upstream_is_reusable: bool,
    },
    /// The upstream has switched protocols.
    Upgraded,
}

/// Serves the next request of a connection on which bytes have arrived.
pub(crate) async fn serve(client: &mut MessageStream, connection: &Connection) -> Next {
    let consumed = client.consumed();
    let generation = connection.current.get();
    let (head, began_at) = match next_request(client, connection, &generation).await {
        Ok(received) => received,
        Err(next) => return next,
    };
    let mut exchange = Exchange::new(connection, generation, head, began_at);
    exchange.record.received = client.consumed() - consumed;
    exchange.note_event(EventKind::RequestStarted);
    let outcome = match exchange.run(client).await {
        Ok(outcome) => outcome,
        Err((error, progress)) => {
            Outcome::Answered(exchange.answer_failure(client, &error, &progress).await)
        }
    };
    exchange.record.received = client.consumed() - consumed;
    exchange.client.leave_pinned(connection);
    exchange.conclude(outcome)
}

/// Where an exchange leads.
enum Outcome {
    /// The client has its answer, or will have none.
    Answered(Persistence),
    /// The request leads to this proxy itself, whose web server is to answer.
    ForWebServer,
    /// A tunnel to this proxy itself.
    OwnTunnel(Rc<OwnTunnel>),
    Tunnel(MessageStream),
    /// A tunnel that may be intercepted.
    Look {
        upstream: Option<MessageStream>,
        treatment: Treatment,
        secured: Option<Secured>,
    },
}

/// The next request and when it began, or what becomes of the connection if there is none.
async fn next_request(
    client: &mut MessageStream,
    connection: &Connection,
    generation: &WorkerGeneration,
) -> Result<(RequestHead, Instant), Next> {
    match read_request(client, &generation.config).await {
        Ok(Some((mut head, began_at))) => {
            if connection.is_http2 {
                head.set_version(Version::Http2);
            }
            Ok((head, began_at))
        }
        Ok(None) => Err(Next::Close(CloseReason::Gone)),
        // Boxed: it would make every idle client connection larger.
        Err(unread) => Err(Box::pin(refuse(client, connection, generation, unread)).await),
    }
}

async fn read_request(
    client: &mut MessageStream,
    config: &Config,
) -> Result<Option<(RequestHead, Instant)>, Unread> {
    let began_at = Cell::new(None);
    let mut reader = client.reader();
    reader.deadline().arm(config.timeouts.header_read);
    let limits = config.limits.head();
    let on_begun = || began_at.set(Some(Instant::now()));
    let read = reader.read_head(HeadKind::Request, &limits, on_begun);
    let read = read.await;
    // What has not begun is no request, and takes no time.
    let began_at = began_at.get().unwrap_or_else(Instant::now);
    let received = match read {
        Ok(received) => received,
        Err(ReadHeadError::Closed) => return Ok(None),
        Err(ReadHeadError::Io(error))
            if error.kind() != io::ErrorKind::TimedOut && reader.buffered().is_empty() =>
        {
            return Ok(None);
        }
        Err(error) => {
            let error = ExchangeError::head(Peer::Client, error);
            return Err(Unread::new(error, began_at, reader.buffered()));
        }
    };
    match RequestHead::parse(received.text, received.start, buffers::lines(), &limits) {
        Ok(head) => Ok(Some((head, began_at))),
        Err(refused) => {
            let error = ExchangeError::new(Peer::Client, Step::ReadHead, refused.error);
            let unread = Unread::new(error, began_at, &refused.text);
            buffers::give_back_head((refused.text, refused.lines));
            Err(unread)
        }
    }
}

async fn send_reply(
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

impl Exchange {
    fn new(
        connection: &Connection,
        generation: Rc<WorkerGeneration>,
        mut head: RequestHead,
        began_at: Instant,
    ) -> Self {
        let facts = ExchangeFacts {
            connection_id: connection.id,
            exchange_id: match generation.numbers_exchanges() {
                true => worker_context::next_exchange_id(),
                false => 0,
            },
            client: connection.client,
        };
        let has_plugins = !generation.chain.is_empty();
        if has_plugins {
            // What plugins add is not for the client to name as its own hop's.
            head.fields_mut().settle_connection();
        }
        let session = has_plugins.then(|| {
            let client = connection.plugins_of(&generation.chain);
            ExchangePlugins::new(&generation.chain, client, connection.end.as_ref(), facts)
        });
        let is_told = session
            .as_ref()
            .is_some_and(ExchangePlugins::has_listeners_at_end);
        let timeline = Timeline::new(began_at, is_told || generation.events.has_subscribers());
        timeline.note(Moment::HeadRead);
        Self {
            session,
            generation,
            client: ClientSide::new(connection, facts),
            head,
            framing: BodyFraming::Empty,
            upload: Upload::default(),
            is_host_claimed: false,
            tunnel: TunnelRoute::default(),
            forwarded_to: None,
            held_task: None,
            host_timeouts: 0,
            is_watched_websocket: false,
            record: Record::new(timeline),
        }
    }

    /// What becomes of the connection; the exchange ends here, unless it has become a tunnel.
    fn conclude(mut self, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Answered(persistence) => {
                self.finish();
                match persistence {
                    Persistence::Again => Next::Again,
                    Persistence::Close(reason) => Next::Close(reason),
                }
            }
            // Has been answered by then.
            Outcome::ForWebServer => {
                self.finish();
                Next::Close(CloseReason::BodyUnread)
            }
            Outcome::OwnTunnel(tunnel) => {
                self.finish_look("the destination of the tunnel is this proxy itself");
                Next::OwnTunnel(tunnel)
            }
            Outcome::Tunnel(upstream) => {
                self.compact();
                Next::Tunnel(Box::new(TunnelStart {
                    exchange: self,
                    upstream,
                    refused: None,
                }))
            }
            Outcome::Look {
                upstream,
                treatment,
                secured,
            } => {
                self.compact();
                Next::Look(Box::new(LookStart {
                    exchange: self,
                    upstream,
                    treatment,
                    secured,
                }))
            }
        }
    }

    /// Lets go of what a tunnel does not need: tunnels live long and may be many.
    fn compact(&mut self) {
        if let Some(session) = &self.session {
            session.forget_request();
        }
        buffers::give_back_head(self.head.compact());
    }

    async fn run(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Outcome, (ExchangeError, Progress)> {
        let at_start = |error| (error, Progress::default());
        let settled = self.settle().map_err(at_start)?;
        if self.is_for_web_server() {
            return self.serve_web(client).await;
        }
        let admitted = match self.admit(settled, client).await.map_err(at_start)? {
            ControlFlow::Continue(admitted) => admitted,
            ControlFlow::Break(answered) => return Ok(Outcome::Answered(answered)),
        };
        let decided = match self.decide(admitted, client).await.map_err(at_start)? {
            ControlFlow::Continue(decided) => decided,
            ControlFlow::Break(answered) => return Ok(Outcome::Answered(answered)),
        };
        if self.head.is_method("CONNECT") {
            return Box::pin(self.connect(decided, client))
                .await
                .map_err(at_start);
        }
        let ready = match self.prepare(decided, client).await.map_err(at_start)? {
            ControlFlow::Continue(ready) => ready,
            ControlFlow::Break(answered) => return Ok(Outcome::Answered(answered)),
        };
        match self.forward(ready, client).await? {
            // Boxed: it would make every idle client connection larger.
            Outcome::ForWebServer => Box::pin(self.serve_here(client)).await,
            outcome => Ok(outcome),
        }
    }

    // ---- requests that end here ------------------------------------------------------------------------------

    /// The answer to a request that is meant for the proxy itself, or the reason why it is not served.
    fn own_answer(&self) -> Result<Option<Reply>, ExchangeError> {
        let refuse = |refusal| Err(ExchangeError::new(Peer::Client, Step::Route, refusal));
        if self.client.origin.is_some() {
            return Ok(self.last_hop_answer());
        }
        match self.head.target().form {
            TargetForm::Asterisk => return Ok(Some(Reply::options())),
            TargetForm::Authority if self.generation.config.disable_http_proxy => {
                return refuse(Refusal::NotAProxy);
            }
            TargetForm::Origin => return refuse(Refusal::NotAProxyRequest),
            TargetForm::Absolute if self.head.target().scheme == Some(Scheme::Https) => {
                return refuse(Refusal::SecureTarget);
            }
            TargetForm::Absolute | TargetForm::Authority => {}
        }
        if let Some(page) = self.ca_page() {
            return Ok(Some(page));
        }
        Ok(self.last_hop_answer())
    }

    /// The answer to a request that may go no further (RFC 9110 §7.6.2).
    fn last_hop_answer(&self) -> Option<Reply> {
        (http1::max_forwards(&self.head) == Some(0)).then(|| match self.head.method() {
            "TRACE" => Reply::trace(http1::trace_content(&self.head)),
            _ => Reply::options(),
        })
    }

    /// The page at `http://proxy.local/`, which hands out the certificate of the CA.
    fn ca_page(&self) -> Option<Reply> {
        if self.head.host() != ca::page::HOST || self.head.is_method("CONNECT") {
            return None;
        }
        let certificate = self.generation.interception.as_ref();
        let certificate = certificate.map(|interception| interception.ca_der());
        let address = self.generation.connector.own_addresses().first();
        let proxy = address.map_or_else(String::new, SocketAddr::to_string);
        let path = self.head.path();
        let page = ca::page::answer(self.head.method(), path, &proxy, certificate);
        Some(Reply::page(page))
    }

    /// Sends an answer of our own. The connection goes on if the next request's beginning is known.
    async fn answer(&mut self, client: &mut MessageStream, reply: &Reply) -> Persistence {
        // What came behind a CONNECT is meant for a tunnel that there will not be.
        let is_early = self.head.is_method("CONNECT") && client.has_buffered();
        let request = match is_early {
            true => RequestEnd::Unread,
            false => self.request_end(),
        };
        let next = self.persistence(request, AnswerEnd::Framed);
        self.send_answer(client, reply, next).await
    }

    async fn send_answer(
        &mut self,
        client: &mut MessageStream,
        reply: &Reply,
        next: Persistence,
    ) -> Persistence {
        let form = ReplyForm {
            is_head: self.head.client_method() == "HEAD",
            is_last: next != Persistence::Again,
        };
        let stall = self.timeouts().stall;
        let result = send_reply(client, &self.generation.worker, reply, form, stall).await;
        self.record.answered = reply.status;
        if self.record.answered_by == AnsweredBy::Nobody {
            self.record.answered_by = AnsweredBy::Proxy("");
        }
        self.keep_reply(reply, form);
        self.record.answer_len = *result.as_ref().unwrap_or(&0);
        if self.record.is_web {
            self.record.sent = std::mem::take(&mut self.record.answer_len);
        } else if self.record.note.is_none() {
            self.record.note = Some(format!("answered {}", reply.status));
        }
        match result {
            Ok(_) => next,
            Err(_) => Persistence::Close(CloseReason::Gone),
        }
    }

    /// Answers a request that could not be served, or makes the failure visible if an answer has begun.
    async fn answer_failure(
        &mut self,
        client: &mut MessageStream,
        error: &ExchangeError,
        progress: &Progress,
    ) -> Persistence {
        self.report(error);
        let is_started = progress.is_started();
        if let Cause::ClosedByPlugin(plugin) = &error.cause {
            self.record.note = Some(format!("closed by {plugin}"));
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
        // Whatever the client did not take of a head or a body, nothing can follow the part that it has.
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
        if self.is_for_client_to_repeat(error, progress) {
            self.record.note = Some("refused, the upstream did not process the request".to_owned());
            return Persistence::Close(CloseReason::Unprocessed);
        }
        let reply = Reply::for_error(error, &self.generation.config.via);
        self.record.note = Some(why_answered(error));
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

    fn report(&self, error: &ExchangeError) {
        let client = self.client.facts.client;
        let (method, host, port) = (self.head.method(), self.head.host(), self.head.port());
        match error.peer {
            // A decision, and the access log tells it.
            Peer::Plugin if matches!(error.cause, Cause::ClosedByPlugin(_)) => {
                tracing::debug!(client.address = %client, method, host, port, %error, "exchange closed");
            }
            Peer::Upstream if matches!(error.cause, Cause::PinnedClosed(_)) => {
                tracing::debug!(client.address = %client, method, host, port, %error, "exchange closed");
            }
            Peer::Client => {
                tracing::debug!(client.address = %client, method, host, port, %error, "exchange failed")
            }
            Peer::Upstream => {
                tracing::warn!(client.address = %client, method, host, port, %error, "exchange failed")
            }
            Peer::Plugin => {
                tracing::error!(client.address = %client, method, host, port, %error, "exchange failed");
            }
        }
    }

    /// What is in force for it.
    pub(crate) fn generation(&self) -> &Rc<WorkerGeneration> {
        &self.generation
    }

    /// How long the steps of this exchange may take.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        self.own_timeouts()
            .unwrap_or(&self.generation.config.timeouts)
    }

    /// Those of its host, else those of its tunnel's; `None` where both have the ordinary ones.
    fn own_timeouts(&self) -> Option<&Timeouts> {
        let entries = &self.generation.config.host_timeouts;
        match (self.host_timeouts as usize).checked_sub(1) {
            Some(at) => entries.get(at).map(|entry| &entry.timeouts),
            None => self.client.origin.as_ref()?.timeouts.as_deref(),
        }
    }

    /// Finds out whether the request's host has timeouts of its own, or the host that it is sent to.
    fn settle_timeouts(&mut self, destination: Option<&Destination>) {
        let entries = &self.generation.config.host_timeouts;
        if entries.is_empty() {
            return;
        }
        let sent_to = destination.map(|destination| self.route(destination).host);
        let at = entries.iter().position(|entry| {
            entry.names(self.head.host()) || sent_to.is_some_and(|host| entry.names(host))
        });
        self.host_timeouts = at.map_or(0, |at| at as u32 + 1);
    }

    /// Reads a body of this exchange; its trailers may be as long as a head.
    fn body_decoder(&self, framing: BodyFraming) -> BodyDecoder {
        BodyDecoder::new(framing)
            .with_trailer_limit(self.generation.config.limits.head().max_head_len)
    }

    /// The same for a response.
    fn response_decoder(&self, framing: BodyFraming) -> BodyDecoder {
        BodyDecoder::of_response(framing)
            .with_trailer_limit(self.generation.config.limits.head().max_head_len)
    }

    fn has_content(&self) -> bool {
        !matches!(self.framing, BodyFraming::Empty | BodyFraming::Length(0))
    }
}

/// What the access log says of an exchange that ended in an answer of the proxy's own, sent or not.
fn why_answered(error: &ExchangeError) -> String {
    let (status, error_type) = classify(error);
    match error.is_client_gone() {
        // It may have closed its direction only, and read the answer.
        true => format!("answered {status}, {GONE}"),
        false => format!("answered {status}, {error_type}"),
    }
}

/// What the access log says of an exchange that ended with a part of the answer.
fn why_cut_off(error: &ExchangeError) -> String {
    match &error.cause {
        _ if error.is_client_gone() => format!("cut off, {GONE}"),
        Cause::TimedOut if error.peer == Peer::Client => "cut off, the client timed out".to_owned(),
        _ => format!("cut off by {}", classify(error).1),
    }
}

/// What is said of a client that has closed or reset its connection.
const GONE: &str = "the client disconnected";

/// `work`, or an error as soon as the client disconnected: nobody waits for the result any more.
async fn unless_gone<T>(
    gone: impl Future<Output = ()>,
    work: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    tokio::select! {
        biased;
        result = work => result,
        () = gone => Err(client_has_gone()),
    }
}

fn client_has_gone() -> ExchangeError {
    ExchangeError {
        peer: Peer::Client,
        step: Step::Route,
        cause: Cause::Io(io::ErrorKind::ConnectionReset.into()),
    }
}
