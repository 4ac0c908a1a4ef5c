//! One request and its response, top to bottom.
//!
//! read the head → answer ourselves if it is meant for us → plugins → dial → send → the final response (interim ones
//! are passed on) → plugins → relay the body → log. CONNECT ends here with a tunnel that the connection then runs.
//! Every way out writes its line to the access log and tells the plugins.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use crate::buffers;
use crate::connection::{CloseReason, Connection, Next, TunnelStart};
use crate::error::{Cause, ExchangeError, Peer, Refusal, Step};
use crate::http1::{
    self, BodyDecoder, BodyEncoder, BodyFraming, ConnectionAnnouncement, HeadKind, OutFraming,
    RequestForward, RequestHead, ResponseForward, ResponseHead, Scheme, TargetForm, Version,
};
use crate::plugins::{ChunkHooks, ExchangeFacts, Hook, Session, Subject, Verdict};
use crate::relay::{BodyRelay, ContentHook, Patience, RelayError};
use crate::reply::{Reply, ReplyForm};
use crate::stream::{MessageStream, ReadHeadError, Reader, Writer};
use crate::telemetry::AccessRecord;
use crate::tunnel::Relayed;
use crate::upstream::{self, Freshness};
use crate::worker::Worker;

/// Interim responses that are passed on for one request.
const MAX_INTERIM: usize = 100;

/// What is known of a request while it is served.
pub(crate) struct Exchange {
    worker: Rc<Worker>,
    facts: ExchangeFacts,
    head: RequestHead,
    framing: BodyFraming,
    /// None when no plugin is loaded.
    session: Option<Session>,
    record: Record,
}

/// What the access log says of an exchange.
struct Record {
    started_at: Instant,
    /// A connection to the upstream was made.
    has_upstream: bool,
    /// The upstream's final response; `None` when the answer was ours.
    status: Option<u16>,
    reason: Vec<u8>,
    /// Bytes sent to the client.
    sent: u64,
    note: Option<String>,
}

/// How far the response has come.
#[derive(Default)]
struct Progress {
    /// Something has arrived from the upstream: the request must not be sent again.
    has_answer: bool,
    /// The final response's head has been sent on: no other answer is possible.
    is_started: bool,
    /// The response ends where the connection ends.
    is_unframed: bool,
}

/// How a response was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivered {
    /// Whole.
    Final {
        upstream_is_reusable: bool,
        client_may_continue: bool,
    },
    /// By a plugin in place of the upstream's.
    Replaced(Next1),
    /// The upstream has switched protocols.
    Upgraded,
}

/// What follows an answer of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next1 {
    Again,
    Close(CloseReason),
}

/// What became of a request body.
enum Upload {
    /// It was sent whole.
    Done,
    /// The upstream takes no more of it; it may still answer.
    Refused,
    /// The client did not send it whole, or not correctly.
    Failed(ExchangeError),
}

/// Serves the next request of a connection on which bytes have arrived.
pub(crate) async fn serve(client: &mut MessageStream, connection: &Connection) -> Next {
    let worker = &connection.worker;
    let head = match read_request(client, worker).await {
        Ok(Some(head)) => head,
        Ok(None) => return Next::Close(CloseReason::Client),
        Err(error) => return refuse(client, connection, &error).await,
    };
    let mut exchange = Exchange::new(connection, head);
    let next = match exchange.run(client).await {
        Ok(Outcome::Next(next)) => next,
        Ok(Outcome::Tunnel(upstream)) => {
            return Next::Tunnel(Box::new(TunnelStart { exchange, upstream }));
        }
        Err((error, progress)) => exchange.answer_failure(client, &error, &progress).await,
    };
    exchange.finish();
    match next {
        Next1::Again => Next::Again,
        Next1::Close(reason) => Next::Close(reason),
    }
}

/// Where an exchange leads.
enum Outcome {
    Next(Next1),
    Tunnel(MessageStream),
}

async fn read_request(
    client: &mut MessageStream,
    worker: &Worker,
) -> Result<Option<RequestHead>, ExchangeError> {
    let mut reader = client.reader();
    reader.deadline().arm(worker.config.timeouts.header_read);
    let received = match reader
        .read_head(HeadKind::Request, &worker.head_limits)
        .await
    {
        Ok(received) => received,
        Err(ReadHeadError::Closed) => return Ok(None),
        Err(ReadHeadError::Io(error)) if error.kind() != io::ErrorKind::TimedOut => {
            return Ok(None);
        }
        Err(error) => return Err(ExchangeError::head(Peer::Client, error)),
    };
    match RequestHead::parse(
        received.text,
        received.start,
        buffers::lines(),
        &worker.head_limits,
    ) {
        Ok(head) => Ok(Some(head)),
        Err(refused) => {
            buffers::give_back_head((refused.text, refused.lines));
            Err(ExchangeError::new(
                Peer::Client,
                Step::ReadHead,
                refused.error,
            ))
        }
    }
}

/// Answers a request whose head is unusable.
async fn refuse(
    client: &mut MessageStream,
    connection: &Connection,
    error: &ExchangeError,
) -> Next {
    let worker = &connection.worker;
    tracing::debug!(client.address = %connection.client, %error, "refused a request");
    let reply = Reply::for_error(error, &worker.config.via);
    let form = ReplyForm {
        is_head: false,
        is_last: true,
    };
    let mut sent = 0;
    if send_reply(client, worker, &reply, form, &mut sent)
        .await
        .is_ok()
        && worker.logs_access()
    {
        worker.log_access(&AccessRecord {
            client: connection.client,
            method: "-",
            upstream: None,
            path: b"-",
            status: None,
            reason: b"",
            response_bytes: 0,
            elapsed: std::time::Duration::ZERO,
            note: Some(&format!("answered {} ({error})", reply.status)),
            fields: &[],
        });
    }
    Next::Close(CloseReason::Malformed)
}

async fn send_reply(
    client: &mut MessageStream,
    worker: &Worker,
    reply: &Reply,
    form: ReplyForm,
    sent: &mut u64,
) -> io::Result<()> {
    let mut out = buffers::small();
    worker.with_date(|date| reply.encode(form, date, &mut out));
    let result = client
        .writer()
        .write_all(&out, worker.config.timeouts.client_idle)
        .await;
    if result.is_ok() {
        *sent += out.len() as u64;
    }
    buffers::give_back(out);
    result
}

impl Exchange {
    fn new(connection: &Connection, head: RequestHead) -> Self {
        let worker = &connection.worker;
        let facts = ExchangeFacts {
            connection_id: connection.id,
            exchange_id: worker.next_id(),
            client: connection.client,
        };
        let has_plugins = !worker.chain.is_empty();
        Self {
            session: has_plugins.then(|| Session::new(&worker.chain, &worker.deadlines, facts)),
            worker: Rc::clone(worker),
            facts,
            head,
            framing: BodyFraming::Empty,
            record: Record {
                started_at: Instant::now(),
                has_upstream: false,
                status: None,
                reason: Vec::new(),
                sent: 0,
                note: None,
            },
        }
    }

    async fn run(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Outcome, (ExchangeError, Progress)> {
        let at_start = |error| (error, Progress::default());
        self.framing = http1::request_framing(&self.head)
            .map_err(|error| at_start(ExchangeError::new(Peer::Client, Step::ReadHead, error)))?;
        if let Some(reply) = self.own_answer().map_err(at_start)? {
            let next = self.answer(client, &reply).await;
            return Ok(Outcome::Next(next));
        }
        if let Some(next) = self.ask_plugins(client).await.map_err(at_start)? {
            return Ok(Outcome::Next(next));
        }
        if self.head.is_method("CONNECT") {
            return self.connect(client).await.map_err(at_start);
        }
        self.forward(client).await
    }

    // ---- requests that end here ------------------------------------------------------------------------------

    /// The answer to a request that is meant for the proxy itself, or the reason why it is not served.
    fn own_answer(&self) -> Result<Option<Reply>, ExchangeError> {
        let refuse = |refusal| Err(ExchangeError::new(Peer::Client, Step::Route, refusal));
        if !self.is_authorized() {
            return refuse(Refusal::Unauthorized);
        }
        match self.head.target().form {
            TargetForm::Asterisk => return Ok(Some(Reply::options())),
            TargetForm::Origin => return refuse(Refusal::NotAProxyRequest),
            TargetForm::Absolute if self.head.target().scheme == Some(Scheme::Https) => {
                return refuse(Refusal::SecureTarget);
            }
            TargetForm::Absolute | TargetForm::Authority => {}
        }
        if http1::max_forwards(&self.head) == Some(0) {
            return Ok(Some(match self.head.method() {
                "TRACE" => Reply::trace(http1::trace_content(&self.head)),
                _ => Reply::options(),
            }));
        }
        Ok(None)
    }

    fn is_authorized(&self) -> bool {
        let Some(expected) = &self.worker.config.basic_auth else {
            return true;
        };
        let mut given = self.head.fields().all(http1::FieldId::ProxyAuthorization);
        match (given.next(), given.next()) {
            (Some(credentials), None) => expected.matches(credentials),
            _ => false,
        }
    }

    /// Runs the hooks that see a request before it goes anywhere; the answer if one of them has it.
    async fn ask_plugins(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Option<Next1>, ExchangeError> {
        for hook in [Hook::BeforeUpstreamConnection, Hook::HandleClientRequest] {
            let Some(session) = self
                .session
                .as_mut()
                .filter(|session| session.has_listeners(hook))
            else {
                continue;
            };
            let subject = Subject {
                request: &mut self.head,
                response: None,
            };
            match session.run(hook, subject).await {
                Verdict::Proceed => {}
                Verdict::Reply(reply, plugin) => {
                    let reply = Reply::from_plugin(reply);
                    self.record.note = Some(format!("answered {} by {plugin}", reply.status));
                    return Ok(Some(self.answer(client, &reply).await));
                }
                Verdict::Close(plugin) => {
                    self.record.note = Some(format!("closed by {plugin}"));
                    return Ok(Some(Next1::Close(CloseReason::Plugin)));
                }
                Verdict::Failed(failure) => {
                    return Err(ExchangeError::new(Peer::Plugin, Step::Hook, failure));
                }
            }
        }
        Ok(None)
    }

    /// Sends an answer of our own. The connection goes on if the next request's beginning is known.
    async fn answer(&mut self, client: &mut MessageStream, reply: &Reply) -> Next1 {
        let next = if self.framing != BodyFraming::Empty && self.framing != BodyFraming::Length(0) {
            Next1::Close(CloseReason::BodyUnread)
        } else if self.head.is_method("CONNECT") && client.has_buffered() {
            // Meant for a tunnel that there will not be.
            Next1::Close(CloseReason::BodyUnread)
        } else {
            self.reason_to_close().map_or(Next1::Again, Next1::Close)
        };
        self.send_answer(client, reply, next).await
    }

    async fn send_answer(
        &mut self,
        client: &mut MessageStream,
        reply: &Reply,
        next: Next1,
    ) -> Next1 {
        let form = ReplyForm {
            is_head: self.head.is_method("HEAD"),
            is_last: next != Next1::Again,
        };
        let mut sent = 0;
        let result = send_reply(client, &self.worker, reply, form, &mut sent).await;
        if self.record.note.is_none() {
            self.record.note = Some(format!("answered {}", reply.status));
        }
        match result {
            Ok(()) => next,
            Err(_) => Next1::Close(CloseReason::Client),
        }
    }

    /// Answers a request that could not be served, or makes the failure visible if an answer has begun.
    async fn answer_failure(
        &mut self,
        client: &mut MessageStream,
        error: &ExchangeError,
        progress: &Progress,
    ) -> Next1 {
        self.report(error);
        if progress.is_started {
            self.record.note = Some(format!("cut off ({error})"));
            return Next1::Close(CloseReason::ResponseCutOff {
                framed: !progress.is_unframed,
            });
        }
        if error.peer == Peer::Client && matches!(error.cause, Cause::Io(_)) {
            self.record.note = Some("the client has gone".to_owned());
            return Next1::Close(CloseReason::Client);
        }
        let reply = Reply::for_error(error, &self.worker.config.via);
        self.record.note = Some(format!("answered {} ({error})", reply.status));
        let is_malformed = error.peer == Peer::Client && !matches!(error.cause, Cause::Refused(_));
        if is_malformed {
            return self
                .send_answer(client, &reply, Next1::Close(CloseReason::Malformed))
                .await;
        }
        self.answer(client, &reply).await
    }

    fn report(&self, error: &ExchangeError) {
        let client = self.facts.client;
        let (method, host, port) = (self.head.method(), self.head.host(), self.head.port());
        match error.peer {
            Peer::Client => {
                tracing::debug!(client.address = %client, method, host, port, %error, "exchange failed")
            }
            Peer::Upstream => {
                tracing::warn!(client.address = %client, method, host, port, %error, "exchange failed")
            }
            Peer::Plugin | Peer::Proxy => {
                tracing::error!(client.address = %client, method, host, port, %error, "exchange failed");
            }
        }
    }

    // ---- requests that go on -------------------------------------------------------------------------------------

    /// The host and port to dial: the request's, unless a plugin has chosen others.
    fn destination(&mut self) -> (String, u16) {
        let redirected = self.session.as_mut().and_then(Session::redirected_to);
        redirected.unwrap_or_else(|| (self.head.host().to_owned(), self.head.port()))
    }

    /// Connects, and only then promises a tunnel.
    async fn connect(&mut self, client: &mut MessageStream) -> Result<Outcome, ExchangeError> {
        let (host, port) = self.destination();
        let upstream = upstream::obtain(&self.worker, &host, port, Freshness::New)
            .await
            .map_err(|error| ExchangeError::new(Peer::Upstream, Step::Dial, error))?;
        self.record.has_upstream = true;
        let stall = self.worker.config.timeouts.client_idle;
        client
            .writer()
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n", stall)
            .await
            .map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))?;
        Ok(Outcome::Tunnel(upstream.stream))
    }

    /// Sends the request on and delivers the response, on a second connection if a reused one turns out to be dead.
    async fn forward(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Outcome, (ExchangeError, Progress)> {
        let may_repeat = self.framing == BodyFraming::Empty && is_idempotent(self.head.method());
        let mut freshness = if may_repeat {
            Freshness::Any
        } else {
            Freshness::Verified
        };
        let redirected = self.session.as_mut().and_then(Session::redirected_to);
        loop {
            let mut progress = Progress::default();
            let (host, port) = match &redirected {
                Some((host, port)) => (host.as_str(), *port),
                None => (self.head.host(), self.head.port()),
            };
            let mut upstream = match upstream::obtain(&self.worker, host, port, freshness).await {
                Ok(upstream) => upstream,
                Err(error) => {
                    return Err((
                        ExchangeError::new(Peer::Upstream, Step::Dial, error),
                        progress,
                    ));
                }
            };
            self.record.has_upstream = true;
            match self
                .converse(client, &mut upstream.stream, &mut progress)
                .await
            {
                Ok(delivered) => {
                    return Ok(self.conclude(delivered, upstream.stream, redirected.as_ref()));
                }
                Err(error) if upstream.is_reused && may_repeat && is_stale(&error, &progress) => {
                    tracing::debug!(%error, "the idle connection was dead, trying a new one");
                    freshness = Freshness::New;
                }
                Err(error) => return Err((error, progress)),
            }
        }
    }

    /// What follows a delivered response, for both connections.
    fn conclude(
        &mut self,
        delivered: Delivered,
        upstream: MessageStream,
        redirected: Option<&(String, u16)>,
    ) -> Outcome {
        match delivered {
            Delivered::Upgraded => Outcome::Tunnel(upstream),
            Delivered::Replaced(next) => Outcome::Next(next),
            Delivered::Final {
                upstream_is_reusable,
                client_may_continue,
            } => {
                if upstream_is_reusable && !self.worker.is_draining() {
                    let (host, port) = match redirected {
                        Some((host, port)) => (host.as_str(), *port),
                        None => (self.head.host(), self.head.port()),
                    };
                    self.worker.pool.put(host, port, upstream);
                }
                Outcome::Next(match self.reason_to_close() {
                    _ if !client_may_continue => Next1::Close(CloseReason::BodyUnread),
                    Some(reason) => Next1::Close(reason),
                    None => Next1::Again,
                })
            }
        }
    }

    /// Why the client connection is not kept after this exchange, as far as the request tells.
    fn reason_to_close(&self) -> Option<CloseReason> {
        if self.head.version() == Version::Http10 {
            Some(CloseReason::Http10)
        } else if self.head.fields().connection_options().close {
            Some(CloseReason::Client)
        } else if self.worker.is_draining() {
            Some(CloseReason::Draining)
        } else {
            None
        }
    }

    /// One attempt: the request there, the response back, both at once when there is a body.
    async fn converse(
        &mut self,
        client: &mut MessageStream,
        upstream: &mut MessageStream,
        progress: &mut Progress,
    ) -> Result<Delivered, ExchangeError> {
        let worker = Rc::clone(&self.worker);
        let timeouts = &worker.config.timeouts;
        let mut out = buffers::small();
        let options = RequestForward {
            via: &self.worker.config.via,
            drop_fields: &self.worker.config.disable_headers,
            framing: self.framing,
            upgrade: http1::requested_upgrade(&self.head),
        };
        http1::forward_request(&self.head, &options, &mut out);
        let (mut from_client, mut to_client) = client.split();
        let (mut from_upstream, mut to_upstream) = upstream.split();
        let answer_within = from_upstream.deadline();
        answer_within.arm(timeouts.upstream_response);
        if matches!(self.framing, BodyFraming::Empty | BodyFraming::Length(0)) {
            let sent = to_upstream.write_all(&out, timeouts.upstream_idle).await;
            buffers::give_back(out);
            sent.map_err(|error| ExchangeError::io(Peer::Upstream, Step::SendHead, error))?;
            return self
                .receive(&mut from_upstream, &mut to_client, progress)
                .await;
        }
        let patience = Patience {
            sender: timeouts.client_idle,
            receiver: timeouts.upstream_idle,
        };
        let upload = send_body(
            out,
            self.framing,
            patience,
            &mut from_client,
            &mut to_upstream,
            || {
                answer_within.arm(timeouts.upstream_response);
            },
        );
        let (upload, delivered) = both(
            Box::pin(upload),
            self.receive(&mut from_upstream, &mut to_client, progress),
        )
        .await;
        match (upload, delivered) {
            (Some(Upload::Failed(error)), _) => Err(error),
            (Some(Upload::Done), delivered) => delivered,
            // Answered before the request was over: neither connection can be used again.
            (_, Ok(Delivered::Final { .. })) => Ok(Delivered::Final {
                upstream_is_reusable: false,
                client_may_continue: false,
            }),
            (_, Ok(Delivered::Upgraded)) => Err(ExchangeError::new(
                Peer::Upstream,
                Step::ReadHead,
                Refusal::UnaskedUpgrade,
            )),
            (_, other) => other,
        }
    }

    /// Reads the response, interim ones included, and delivers it to the client.
    async fn receive(
        &mut self,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
        progress: &mut Progress,
    ) -> Result<Delivered, ExchangeError> {
        let mut head = self.final_response(from, to, progress).await?;
        if head.status() == 101 {
            return self.upgrade(head, to, progress).await;
        }
        let framing = http1::response_framing(&head, self.head.method())
            .map_err(|error| ExchangeError::new(Peer::Upstream, Step::ReadHead, error))?;
        self.note_response(&head);
        if let Some(delivered) = self.ask_plugins_about(&mut head, to, progress).await? {
            return Ok(delivered);
        }
        self.deliver(head, framing, from, to, progress).await
    }

    /// The final response's head; interim responses on the way to it go to the client.
    async fn final_response(
        &mut self,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
        progress: &mut Progress,
    ) -> Result<ResponseHead, ExchangeError> {
        let limits = self.worker.head_limits;
        for _ in 0..=MAX_INTERIM {
            let received = from.read_head(HeadKind::Response, &limits).await;
            progress.has_answer |=
                !matches!(received, Err(ReadHeadError::Closed | ReadHeadError::Io(_)))
                    || !from.buffered().is_empty();
            let received = received.map_err(|error| ExchangeError::head(Peer::Upstream, error))?;
            let head =
                match ResponseHead::parse(received.text, received.start, buffers::lines(), &limits)
                {
                    Ok(head) => head,
                    Err(refused) => {
                        buffers::give_back_head((refused.text, refused.lines));
                        return Err(ExchangeError::new(
                            Peer::Upstream,
                            Step::ReadHead,
                            refused.error,
                        ));
                    }
                };
            if !(100..200).contains(&head.status()) || head.status() == 101 {
                return Ok(head);
            }
            self.pass_interim(head, to).await?;
            from.deadline()
                .arm(self.worker.config.timeouts.upstream_response);
        }
        Err(ExchangeError::new(
            Peer::Upstream,
            Step::ReadHead,
            Refusal::TooManyInterim,
        ))
    }

    async fn pass_interim(
        &mut self,
        head: ResponseHead,
        to: &mut Writer<'_>,
    ) -> Result<(), ExchangeError> {
        // An HTTP/1.0 client would take it for the answer (RFC 9110 §15.2).
        if self.head.version() == Version::Http11 {
            let options =
                self.response_options(OutFraming::None, ConnectionAnnouncement::Nothing, None);
            self.send_head(&head, &options, to).await?;
        }
        buffers::give_back_head(head.into_buffers());
        Ok(())
    }

    async fn upgrade(
        &mut self,
        head: ResponseHead,
        to: &mut Writer<'_>,
        progress: &mut Progress,
    ) -> Result<Delivered, ExchangeError> {
        if http1::requested_upgrade(&self.head).is_none() || !http1::upgrade_accepted(&head) {
            return Err(ExchangeError::new(
                Peer::Upstream,
                Step::ReadHead,
                Refusal::UnaskedUpgrade,
            ));
        }
        self.note_response(&head);
        progress.is_started = true;
        let options =
            self.response_options(OutFraming::None, ConnectionAnnouncement::Upgrade, None);
        self.send_head(&head, &options, to).await?;
        self.keep_response(head);
        Ok(Delivered::Upgraded)
    }

    async fn ask_plugins_about(
        &mut self,
        head: &mut ResponseHead,
        to: &mut Writer<'_>,
        progress: &mut Progress,
    ) -> Result<Option<Delivered>, ExchangeError> {
        let hook = Hook::HandleUpstreamResponse;
        let Some(session) = self
            .session
            .as_mut()
            .filter(|session| session.has_listeners(hook))
        else {
            return Ok(None);
        };
        let subject = Subject {
            request: &mut self.head,
            response: Some(head),
        };
        match session.run(hook, subject).await {
            Verdict::Proceed => Ok(None),
            Verdict::Reply(reply, plugin) => {
                let reply = Reply::from_plugin(reply);
                self.record.note = Some(format!("answered {} by {plugin}", reply.status));
                self.replace(&reply, to, progress).await.map(Some)
            }
            Verdict::Close(plugin) => {
                self.record.note = Some(format!("closed by {plugin}"));
                Ok(Some(Delivered::Replaced(Next1::Close(CloseReason::Plugin))))
            }
            Verdict::Failed(failure) => Err(ExchangeError::new(Peer::Plugin, Step::Hook, failure)),
        }
    }

    /// Sends a plugin's reply instead of the upstream's response.
    async fn replace(
        &mut self,
        reply: &Reply,
        to: &mut Writer<'_>,
        progress: &mut Progress,
    ) -> Result<Delivered, ExchangeError> {
        let is_body_open = !matches!(self.framing, BodyFraming::Empty | BodyFraming::Length(0));
        let next = match self.reason_to_close() {
            _ if is_body_open => Next1::Close(CloseReason::BodyUnread),
            Some(reason) => Next1::Close(reason),
            None => Next1::Again,
        };
        let form = ReplyForm {
            is_head: self.head.is_method("HEAD"),
            is_last: next != Next1::Again,
        };
        let mut out = buffers::small();
        self.worker
            .with_date(|date| reply.encode(form, date, &mut out));
        progress.is_started = true;
        let sent = to
            .write_all(&out, self.worker.config.timeouts.client_idle)
            .await;
        self.record.sent += out.len() as u64;
        buffers::give_back(out);
        sent.map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))?;
        Ok(Delivered::Replaced(next))
    }

    /// Sends the final response on, head and body.
    async fn deliver(
        &mut self,
        mut head: ResponseHead,
        framing: BodyFraming,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
        progress: &mut Progress,
    ) -> Result<Delivered, ExchangeError> {
        let has_chunk_hooks = framing != BodyFraming::Empty
            && self
                .session
                .as_ref()
                .is_some_and(|session| session.has_listeners(Hook::HandleUpstreamChunk));
        let out_framing = self.out_framing(&head, framing, has_chunk_hooks);
        progress.is_unframed = out_framing == OutFraming::UntilClose;
        let is_last = progress.is_unframed || self.reason_to_close().is_some();
        let announcement = if is_last {
            ConnectionAnnouncement::Close
        } else {
            ConnectionAnnouncement::Nothing
        };
        let mut out = buffers::small();
        self.worker.with_date(|date| {
            let options = self.response_options(out_framing, announcement, Some(date));
            http1::forward_response(&head, &options, &mut out);
        });
        let worker = Rc::clone(&self.worker);
        let timeouts = &worker.config.timeouts;
        let mut chunk_hooks = match &mut self.session {
            Some(session) if has_chunk_hooks => {
                let subject = Subject {
                    request: &mut self.head,
                    response: Some(&mut head),
                };
                Some(ChunkHooks::new(session, subject))
            }
            _ => None,
        };
        progress.is_started = true;
        let relay = BodyRelay {
            decoder: BodyDecoder::new(framing),
            encoder: match out_framing {
                OutFraming::Chunked => BodyEncoder::Chunked,
                _ => BodyEncoder::Identity,
            },
            out,
            hook: chunk_hooks
                .as_mut()
                .map(|hooks| hooks as &mut dyn ContentHook),
            patience: Patience {
                sender: timeouts.upstream_idle,
                receiver: timeouts.client_idle,
            },
            written: &mut self.record.sent,
        };
        let relayed = relay.run(from, to, || ()).await;
        drop(chunk_hooks);
        let upstream_is_reusable = framing != BodyFraming::UntilClose
            && http1::is_persistent(&head)
            && from.buffered().is_empty();
        self.keep_response(head);
        relayed.map_err(|error| response_error(error))?;
        Ok(Delivered::Final {
            upstream_is_reusable,
            client_may_continue: true,
        })
    }

    /// How the client will know where the response's body ends.
    fn out_framing(
        &self,
        head: &ResponseHead,
        framing: BodyFraming,
        is_edited: bool,
    ) -> OutFraming {
        let is_chunkable = self.head.version() == Version::Http11;
        match framing {
            BodyFraming::Empty if matches!(head.status(), 204 | 205) => OutFraming::None,
            BodyFraming::Empty => OutFraming::Keep,
            BodyFraming::Length(len) if !is_edited => OutFraming::Length(len),
            _ if is_chunkable => OutFraming::Chunked,
            _ => OutFraming::UntilClose,
        }
    }

    fn response_options<'a>(
        &'a self,
        framing: OutFraming,
        connection: ConnectionAnnouncement,
        date: Option<&'a str>,
    ) -> ResponseForward<'a> {
        ResponseForward {
            via: &self.worker.config.via,
            framing,
            connection,
            date,
            trailers: true,
        }
    }

    async fn send_head(
        &self,
        head: &ResponseHead,
        options: &ResponseForward<'_>,
        to: &mut Writer<'_>,
    ) -> Result<(), ExchangeError> {
        let mut out = buffers::small();
        http1::forward_response(head, options, &mut out);
        let sent = to
            .write_all(&out, self.worker.config.timeouts.client_idle)
            .await;
        buffers::give_back(out);
        sent.map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))
    }

    // ---- the end -----------------------------------------------------------------------------------------------

    fn note_response(&mut self, head: &ResponseHead) {
        self.record.status = Some(head.status());
        if self.worker.logs_access() {
            self.record.reason.clear();
            self.record.reason.extend_from_slice(head.reason());
        }
    }

    fn keep_response(&mut self, head: ResponseHead) {
        match &mut self.session {
            Some(session) => session.keep_response(head),
            None => buffers::give_back_head(head.into_buffers()),
        }
    }

    /// Ends an exchange that has become a tunnel.
    pub(crate) fn finish_tunnel(mut self, relayed: &Relayed) {
        self.record.sent = relayed.to_client;
        tracing::debug!(
            client.address = %self.facts.client,
            to_upstream = relayed.to_upstream,
            to_client = relayed.to_client,
            end = ?relayed.end,
            "tunnel ended"
        );
        self.finish();
    }

    /// Tells the plugins and the access log, and gives the head's buffers back.
    fn finish(mut self) {
        let may_log = match &mut self.session {
            Some(session) => session.run_at_end(Hook::OnAccessLog, &mut self.head),
            None => true,
        };
        if may_log && self.worker.logs_access() {
            self.log();
        }
        if let Some(session) = &mut self.session
            && self.record.has_upstream
        {
            session.run_at_end(Hook::OnUpstreamConnectionClose, &mut self.head);
        }
        drop(self.session.take());
        buffers::give_back_head(self.head.into_buffers());
    }

    fn log(&mut self) {
        let redirected = self.session.as_mut().and_then(Session::redirected_to);
        let upstream = match &redirected {
            Some((host, port)) => (host.as_str(), *port),
            None => (self.head.host(), self.head.port()),
        };
        let fields = self.session.as_mut().map_or(&[][..], Session::log_fields);
        self.worker.log_access(&AccessRecord {
            client: self.facts.client,
            method: self.head.method(),
            upstream: self.record.has_upstream.then_some(upstream),
            path: self.head.path(),
            status: self.record.status,
            reason: &self.record.reason,
            response_bytes: self.record.sent,
            elapsed: self.record.started_at.elapsed(),
            note: self.record.note.as_deref(),
            fields,
        });
    }
}

/// Sends the request, head and body, as the client's bytes arrive.
async fn send_body(
    out: Vec<u8>,
    framing: BodyFraming,
    patience: Patience,
    from: &mut Reader<'_>,
    to: &mut Writer<'_>,
    on_progress: impl Fn(),
) -> Upload {
    let mut written = 0;
    let relay = BodyRelay {
        decoder: BodyDecoder::new(framing),
        encoder: match framing {
            BodyFraming::Chunked => BodyEncoder::Chunked,
            _ => BodyEncoder::Identity,
        },
        out,
        hook: None,
        patience,
        written: &mut written,
    };
    match relay.run(from, to, on_progress).await {
        Ok(()) => Upload::Done,
        Err(RelayError::Receiver(_)) => Upload::Refused,
        Err(RelayError::Sender(cause)) => Upload::Failed(ExchangeError {
            peer: Peer::Client,
            step: Step::ReadBody,
            cause,
        }),
        Err(RelayError::Hook(failure)) => {
            Upload::Failed(ExchangeError::new(Peer::Plugin, Step::Hook, failure))
        }
    }
}

/// Runs the upload beside the download. Ends with the download, or when the client fails to send its body.
async fn both(
    mut upload: std::pin::Pin<Box<impl Future<Output = Upload>>>,
    download: impl Future<Output = Result<Delivered, ExchangeError>>,
) -> (Option<Upload>, Result<Delivered, ExchangeError>) {
    let mut download = std::pin::pin!(download);
    let mut sent = None;
    loop {
        tokio::select! {
            biased;
            end = &mut upload, if sent.is_none() => {
                if let Upload::Failed(_) = end {
                    let never = ExchangeError { peer: Peer::Client, step: Step::ReadBody, cause: Cause::Closed };
                    return (Some(end), Err(never));
                }
                sent = Some(end);
            }
            delivered = &mut download => return (sent, delivered),
        }
    }
}

fn response_error(error: RelayError) -> ExchangeError {
    match error {
        RelayError::Sender(cause) => ExchangeError {
            peer: Peer::Upstream,
            step: Step::ReadBody,
            cause,
        },
        RelayError::Receiver(error) => ExchangeError::io(Peer::Client, Step::SendBody, error),
        RelayError::Hook(failure) => ExchangeError::new(Peer::Plugin, Step::Hook, failure),
    }
}

/// Methods that may be sent twice with the effect of once (RFC 9110 §9.2.2).
fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}

/// Whether a reused connection has failed in a way that says that the peer had closed it before the request.
fn is_stale(error: &ExchangeError, progress: &Progress) -> bool {
    error.peer == Peer::Upstream
        && !progress.has_answer
        && !progress.is_started
        && matches!(error.cause, Cause::Closed | Cause::Io(_))
}
