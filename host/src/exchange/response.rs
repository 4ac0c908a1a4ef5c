//! Forwarding the response: interim responses, protocol switches, plugins, the body.

use std::ops::ControlFlow;
use std::time::Duration;

use super::client::Binding;
use super::interim::{unless_flooded, unless_reset};
use super::persistence::{CloseReason, Persistence};
use super::progress::{Passing, Progress, Sent};
use super::request::EXTENSIONS;
use super::state::Exchange;
use super::timeline::Moment;
use crate::buffers;
use crate::collect::Collected;
use crate::error::{Cause, ContentRefused, ExchangeError, Peer, Refusal, Step};
use crate::http1::{
    self, BodyDecoder, BodyEncoder, BodyFraming, ConnectionAnnouncement, ConnectionChallenge,
    FieldId, OutFraming, ResponseForward, ResponseHead, Version,
};
use crate::in_flight::ExchangeKind;
use crate::plugins::{
    AnsweredBy, BodyFacts, BodyPlan, ContentHooks, Hook, Subject, Verdict, WholeOutcome,
};
use crate::relay::{BodyRelay, ContentHook, Patience, RelayError};
use crate::reply::{Reply, ReplyForm};
use crate::side::Side;
use crate::splice;
use crate::stream::{ReadHeadError, Reader, Writer};
use crate::turn::Steps;

/// Interim responses that are forwarded for one request.
const MAX_INTERIM: usize = 100;

/// The response of one attempt, on its way to the client.
pub(super) struct Download<'a, 'u, 'c> {
    pub(super) exchange: &'a mut Exchange,
    pub(super) from: &'a mut Reader<'u>,
    pub(super) to: &'a mut Writer<'c>,
    pub(super) progress: &'a Progress,
}

/// The head of the final response has arrived.
pub(super) struct Answered {
    head: ResponseHead,
}

/// Plugins have let the response's head pass.
pub(super) struct Accepted(());

/// The client has the whole response: the upstream's, or a plugin's in its place.
pub(super) struct Delivered {
    /// None: the upstream has switched protocols.
    persistence: Option<Persistence>,
    is_upstream_reusable: bool,
}

impl Delivered {
    /// What happens to the client's connection. None: it becomes a tunnel to the upstream.
    pub(super) fn persistence(&self) -> Option<Persistence> {
        self.persistence
    }

    /// Whether the upstream's connection is ready for another request.
    pub(super) fn is_upstream_reusable(&self) -> bool {
        self.is_upstream_reusable
    }

    /// Neither connection can be used again: the response was over before the request.
    pub(super) fn before_request_end(self) -> Self {
        Self {
            is_upstream_reusable: false,
            ..self
        }
    }

    /// The upstream's response was not read to its end.
    fn without_upstream(persistence: Persistence) -> Self {
        Self {
            persistence: Some(persistence),
            is_upstream_reusable: false,
        }
    }
}

impl Download<'_, '_, '_> {
    /// Reads the response, interim ones included, and delivers it to the client.
    pub(super) async fn run(mut self, sent: Sent) -> Result<Delivered, ExchangeError> {
        let mut answered = self.final_response(sent).await?;
        let head = &mut answered.head;
        if head.status() == 407 && self.progress.is_for_parent {
            return Err(ExchangeError::new(
                Peer::Upstream,
                Step::ReadHead,
                Refusal::UnauthorizedAtParent,
            ));
        }
        if self.exchange.plugins.is_some() {
            head.fields_mut().settle_connection();
        }
        if head.status() == 101 {
            return Box::pin(self.upgrade(answered)).await;
        }
        let framing = http1::response_framing(head, self.exchange.request.head.method())
            .map_err(|error| ExchangeError::new(Peer::Upstream, Step::ReadHead, error))?;
        self.exchange.note_response(head);
        if head.status() == 401 {
            self.note_challenge(head);
        }
        let accepted = match self.accept(&mut answered).await? {
            ControlFlow::Continue(accepted) => accepted,
            ControlFlow::Break(delivered) => return Ok(delivered),
        };
        let head = &mut answered.head;
        if self.exchange.request.head.method() != self.exchange.request.head.client_method() {
            match (
                self.exchange.request.head.method(),
                self.exchange.request.head.client_method(),
            ) {
                (_, "HEAD") if framing != BodyFraming::Empty => {
                    // The client gets no content, and plugins do not need it.
                    let body = Body::unread();
                    return Box::pin(self.deliver(answered, accepted, body)).await;
                }
                ("HEAD", _) => {
                    http1::forget_digests(&mut head.fields_mut());
                    head.fields_mut().remove("content-encoding");
                }
                _ => {}
            }
        }
        let plan = self.body_plan(head, framing)?;
        match plan {
            Some(plan) if plan.has_whole() && framing != BodyFraming::Empty => {
                Box::pin(self.deliver_whole(answered, accepted, framing, plan)).await
            }
            plan => {
                let decoder = self.exchange.response_decoder(framing);
                let body = Body::arriving(framing, plan, Collected::new(decoder));
                self.deliver(answered, accepted, body).await
            }
        }
    }

    /// Records whether the upstream has begun to authenticate the connection, and announces that this proxy reserves it for
    /// the client: otherwise clients do not continue through a proxy (RFC 4559 §6).
    fn note_challenge(&mut self, head: &mut ResponseHead) {
        let Some(challenge) = http1::connection_challenge(head) else {
            return;
        };
        if challenge == ConnectionChallenge::Begun {
            self.exchange.client.binding = Binding::Bound;
        }
        let is_to_proxy =
            self.exchange.client.origin.is_none() && self.exchange.routing.forwarded_to.is_none();
        if is_to_proxy && self.exchange.request.head.version() == Version::Http11 {
            // A name and a value that may stand in a field line.
            let _ = head
                .fields_mut()
                .set("Proxy-Support", b"Session-Based-Authentication");
        }
    }

    /// The plugins that listen to the response's content, if it has any.
    fn body_plan(
        &self,
        head: &ResponseHead,
        framing: BodyFraming,
    ) -> Result<Option<BodyPlan>, ExchangeError> {
        let Some(plugins) = self
            .exchange
            .plugins
            .as_ref()
            .filter(|plugins| plugins.wants_bodies(Side::Upstream))
        else {
            return Ok(None);
        };
        let mut facts = BodyFacts::of(head.fields());
        facts.is_partial |= head.status() == 206;
        let plan = plugins.body_plan(Side::Upstream, facts);
        match (plan, framing) {
            (_, BodyFraming::Length(0)) => Ok(None),
            // There is no content to refuse.
            (plan, BodyFraming::Empty) => Ok(plan.ok().flatten()),
            (Ok(Some(mut plan)), BodyFraming::Length(len)) => {
                plan.note_length(len, plugins).map_err(refused)?;
                Ok(Some(plan))
            }
            (plan, _) => plan.map_err(refused),
        }
    }

    /// Collects the content for the plugins that need it whole, and delivers the result.
    async fn deliver_whole(
        &mut self,
        mut answered: Answered,
        accepted: Accepted,
        framing: BodyFraming,
        mut plan: BodyPlan,
    ) -> Result<Delivered, ExchangeError> {
        let mut collected = Collected::new(self.exchange.response_decoder(framing));
        let patience = self.exchange.timeouts().upstream_idle;
        let Some(plugins) = self.exchange.plugins.clone() else {
            let body = Body::arriving(framing, Some(plan), collected);
            return self.deliver(answered, accepted, body).await;
        };
        while let Some(limit) = plan.largest_limit() {
            let read = collected.read(self.from, limit, patience).await;
            let is_whole =
                read.map_err(|cause| ExchangeError::new(Peer::Upstream, Step::ReadBody, cause))?;
            let len = collected.content.len() as u64;
            plan.note_length(len, &plugins).map_err(refused)?;
            if !is_whole {
                continue;
            }
            if collected.content.is_empty() {
                let body = Body::collected(framing, plan, collected);
                return self.deliver(answered, accepted, body).await;
            }
            let subject = Subject {
                request: &mut self.exchange.request.head,
                response: Some(&mut answered.head),
            };
            let content = std::mem::take(&mut collected.content);
            let run = plugins.run_whole(&plan, content, subject).await;
            match run.map_err(|error| ExchangeError::content(Peer::Upstream, error))? {
                WholeOutcome::Content {
                    content,
                    is_changed,
                } => {
                    if is_changed {
                        http1::forget_digests(&mut answered.head.fields_mut());
                    }
                    collected.content = content;
                    let body = Body::collected(framing, plan, collected);
                    return self.deliver(answered, accepted, body).await;
                }
                WholeOutcome::Ended(verdict) => {
                    let replaced = self.follow_instead(verdict).await?;
                    return replaced.ok_or_else(|| {
                        ExchangeError::new(Peer::Plugin, Step::Hook, Cause::Closed)
                    });
                }
                WholeOutcome::TooLong { content, len } => {
                    collected.content = content;
                    plan.note_decoded_length(len, &plugins).map_err(refused)?;
                }
            }
        }
        let body = Body::arriving(framing, Some(plan), collected);
        self.deliver(answered, accepted, body).await
    }

    /// Reads the head of the final response; forwards the interim responses before it.
    async fn final_response(&mut self, _: Sent) -> Result<Answered, ExchangeError> {
        let mut is_relaxed = false;
        for _ in 0..=MAX_INTERIM {
            let limits = self.exchange.generation.config.limits.head();
            let compatibility = &self.exchange.generation.config.compatibility;
            let may_relax = || compatibility.is_relaxed(self.exchange.request.head.host());
            let on_begun = || self.exchange.record.timeline.note(Moment::AnswerBegun);
            let received = match self.exchange.request.has_content() && !self.progress.is_sent() {
                false => self.from.read_response(&limits, may_relax, on_begun).await,
                // Boxed: few exchanges need it. A client whose content the upstream does not read is not read either, so only its
                // socket shows a reset.
                true => {
                    let (from, to) = (&mut *self.from, &*self.to);
                    let reading = unless_reset(from, to, &limits, may_relax, on_begun);
                    Box::pin(reading).await?
                }
            };
            let is_silence = matches!(received, Err(ReadHeadError::Closed | ReadHeadError::Io(_)))
                && self.from.buffered().is_empty();
            if !is_silence {
                self.progress.note_begun();
            }
            let mut head = received.map_err(|error| ExchangeError::head(Peer::Upstream, error))?;
            if head.is_relaxed() {
                let host = self.exchange.request.head.host();
                tracing::debug!(host, "repaired a malformed response head");
            }
            is_relaxed |= head.is_relaxed();
            if self.from.is_channel() {
                head.set_version(Version::Http2);
            }
            if !(100..200).contains(&head.status()) || head.status() == 101 {
                self.progress.note_answered();
                head.set_relaxed(is_relaxed);
                return Ok(Answered { head });
            }
            let is_invitation = head.status() == 100;
            self.pass_interim(head).await?;
            if is_invitation && self.progress.awaits_continue() {
                self.progress.note_continue();
            } else if self.progress.is_sent() || self.progress.awaits_continue() {
                self.from
                    .deadline()
                    .arm(self.exchange.timeouts().upstream_response);
            }
        }
        Err(ExchangeError::new(
            Peer::Upstream,
            Step::ReadHead,
            Refusal::TooManyInterim,
        ))
    }

    async fn pass_interim(&mut self, head: ResponseHead) -> Result<(), ExchangeError> {
        // HTTP/1.0 clients do not know interim responses (RFC 9110 §15.2).
        if self.exchange.request.head.version() != Version::Http10 {
            let announcement = ConnectionAnnouncement::Nothing;
            let via = &self.exchange.generation.config.via;
            let options = response_options(via, OutFraming::None, announcement, None);
            let stall = self.exchange.timeouts().stall;
            let sent = send_head(&head, &options, stall, self.to);
            match self.from.is_channel() {
                false => sent.await?,
                true => Box::pin(unless_flooded(sent, self.from)).await?,
            }
        }
        buffers::give_back_head(head.into_buffers());
        Ok(())
    }

    async fn upgrade(&mut self, answered: Answered) -> Result<Delivered, ExchangeError> {
        let Answered { head } = answered;
        if http1::requested_upgrade(&self.exchange.request.head).is_none()
            || !http1::upgrade_accepted(&head, &self.exchange.request.head)
        {
            return Err(ExchangeError::new(
                Peer::Upstream,
                Step::ReadHead,
                Refusal::UnaskedUpgrade,
            ));
        }
        if self.exchange.watches_websocket() && http1::switches_to_websocket(&head) {
            if head
                .fields()
                .named(EXTENSIONS)
                .any(|value| !value.is_empty())
            {
                return Err(ExchangeError::new(
                    Peer::Upstream,
                    Step::ReadHead,
                    Refusal::UnaskedExtension,
                ));
            }
            self.exchange.is_watched_websocket = true;
        }
        self.exchange.note_response(&head);
        self.progress.note_started(Passing::SHORT);
        self.exchange.record.answered = head.status();
        self.exchange.record.answered_by = AnsweredBy::Upstream;
        let announcement = ConnectionAnnouncement::Upgrade;
        let via = &self.exchange.generation.config.via;
        let options = response_options(via, OutFraming::None, announcement, None);
        let stall = self.exchange.timeouts().stall;
        send_head(&head, &options, stall, self.to).await?;
        self.exchange.keep_response(head);
        Ok(Delivered {
            persistence: None,
            is_upstream_reusable: false,
        })
    }

    /// Lets the plugins decide about the response's head. `Break`: a plugin's response was delivered instead.
    async fn accept(
        &mut self,
        answered: &mut Answered,
    ) -> Result<ControlFlow<Delivered, Accepted>, ExchangeError> {
        let hook = Hook::HandleUpstreamResponse;
        let proceed = ControlFlow::Continue(Accepted(()));
        let Some(plugins) = self
            .exchange
            .plugins
            .as_ref()
            .filter(|plugins| plugins.has_listeners(hook))
        else {
            return Ok(proceed);
        };
        let subject = Subject {
            request: &mut self.exchange.request.head,
            response: Some(&mut answered.head),
        };
        let Some(walk) = plugins.walk(hook, subject) else {
            return Ok(proceed);
        };
        let verdict = walk.verdict().await;
        match verdict {
            Verdict::Proceed => Ok(proceed),
            verdict => {
                let replaced = Box::pin(self.follow_instead(verdict)).await?;
                Ok(replaced.map_or(proceed, ControlFlow::Break))
            }
        }
    }

    /// Carries out what plugins have decided about a response; None if it is to be delivered.
    async fn follow_instead(
        &mut self,
        verdict: Verdict,
    ) -> Result<Option<Delivered>, ExchangeError> {
        match verdict {
            Verdict::Proceed | Verdict::Retry => Ok(None),
            Verdict::Reply(reply, plugin) => {
                let reply = Reply::from_plugin(reply);
                self.exchange.record.note = Some(format!("answered {} by {plugin}", reply.status));
                self.exchange.record.answered_by = AnsweredBy::Plugin(plugin.into());
                self.replace(&reply).await.map(Some)
            }
            Verdict::Close(plugin) => {
                self.exchange.record.note = Some(format!("closed by {plugin}"));
                self.exchange.record.ended_by = Some((plugin.into(), "closed"));
                let persistence = Persistence::Close(CloseReason::Plugin);
                Ok(Some(Delivered::without_upstream(persistence)))
            }
            Verdict::Failed(failure) => Err(ExchangeError::new(Peer::Plugin, Step::Hook, failure)),
        }
    }

    /// Sends a plugin's reply instead of the upstream's response.
    async fn replace(&mut self, reply: &Reply) -> Result<Delivered, ExchangeError> {
        let request = self.exchange.request.end_in(self.progress);
        let persistence = self.exchange.persistence(request);
        let form = ReplyForm {
            is_head: self.exchange.request.head.client_method() == "HEAD",
            is_last: persistence.is_close(),
        };
        let mut out = buffers::small();
        self.exchange
            .generation
            .worker
            .with_date(|date| reply.encode(form, date, &mut out));
        self.progress.note_started(Passing::SHORT);
        self.exchange.record.answered = reply.status;
        self.exchange.keep_reply(reply, form);
        let sent = self
            .to
            .write_all(&out, self.exchange.timeouts().stall)
            .await;
        self.exchange.record.sent += out.len() as u64;
        buffers::give_back(out);
        sent.map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))?;
        Ok(Delivered::without_upstream(persistence))
    }

    /// Forwards the final response, head and body.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn has its arguments twice, and these are large"
    )]
    fn deliver(
        &mut self,
        answered: Answered,
        _: Accepted,
        body: Body,
    ) -> impl Future<Output = Result<Delivered, ExchangeError>> {
        async move {
            let mut head = answered.head;
            let framing = body.framing;
            let plan = &body.plan;
            let is_edited = plan.as_ref().is_some_and(BodyPlan::may_edit);
            if plan.as_ref().is_some_and(BodyPlan::is_recoded) {
                http1::forget_digests(&mut head.fields_mut());
            }
            let out_framing = self.out_framing(&head, framing, is_edited);
            let is_unframed = out_framing == OutFraming::UntilClose;
            let is_upstream_kept = !body.ends_connection && http1::is_persistent(&head);
            if self.exchange.client.binding == Binding::Bound && !is_upstream_kept {
                self.exchange.client.binding = Binding::Over;
            }
            // Once announced, a close is carried out, even if the request has been sent completely by then.
            let request = self.exchange.request.end_in(self.progress);
            let persistence = self.exchange.persistence(request);
            let persistence = persistence.unless_unframed(is_unframed);
            let announcement = match persistence {
                Persistence::Close(_) => ConnectionAnnouncement::Close,
                Persistence::KeepAlive => ConnectionAnnouncement::Nothing,
            };
            let via = &self.exchange.generation.config.via;
            let mut out = buffers::small();
            if head.fields().has(FieldId::Date) {
                let options = response_options(via, out_framing, announcement, None);
                http1::forward_response(&head, &options, &mut out);
            } else {
                self.exchange.generation.worker.with_date(|date| {
                    let options = response_options(via, out_framing, announcement, Some(date));
                    http1::forward_response(&head, &options, &mut out);
                });
            }
            let (patience, is_event_stream) = self.patience_with(&head, framing);
            let mut hooks = match (&self.exchange.plugins, plan) {
                (Some(plugins), Some(plan)) if framing != BodyFraming::Empty => Some(
                    ContentHooks::new(plugins, plan, &self.exchange.request.head, Some(&head)),
                ),
                _ => None,
            };
            if is_event_stream {
                self.exchange.become_long(ExchangeKind::EventStream);
            }
            self.progress.note_started(Passing {
                is_framed: !is_unframed,
                is_event_stream,
            });
            self.exchange.record.answered = head.status();
            self.exchange.record.answered_by = AnsweredBy::Upstream;
            if is_unframed {
                self.to.begin_until_close();
            }
            let mut relay = BodyRelay {
                decoder: body.collected.decoder,
                encoder: match out_framing {
                    OutFraming::Chunked => BodyEncoder::Chunked,
                    _ => BodyEncoder::Identity,
                },
                out,
                begun: body.collected.content,
                is_over: false,
                keeping: None,
                hook: hooks.as_mut().map(|hooks| hooks as &mut dyn ContentHook),
                patience,
                may_splice: splice::IS_AVAILABLE,
                steps: Steps::default(),
                written: &mut self.exchange.record.sent,
            };
            let relayed = relay.run(self.from, self.to).await;
            drop(hooks);
            // If the body fails before any part of the response was sent, the client still gets an error.
            let is_started = self.exchange.record.sent > 0
                || !matches!(relayed, Err(RelayError::Sender(_) | RelayError::Hook(_)));
            let is_upstream_reusable = is_upstream_kept && self.from.buffered().is_empty();
            if is_unframed && (relayed.is_ok() || !is_started) {
                self.to.end_until_close();
            }
            if !is_started {
                self.progress.note_answered();
                self.exchange.record.answered = 0;
                self.exchange.record.answered_by = AnsweredBy::Nobody;
            }
            self.exchange.keep_response(head);
            relayed.map_err(response_error)?;
            Ok(Delivered {
                persistence: Some(persistence),
                is_upstream_reusable,
            })
        }
    }

    /// How long either side may be idle while the response's body is relayed, and whether it is an event stream.
    fn patience_with(&self, head: &ResponseHead, framing: BodyFraming) -> (Patience, bool) {
        let timeouts = self.exchange.timeouts();
        // An event stream has no length, and few other responses have none.
        let may_be_events = matches!(framing, BodyFraming::Chunked | BodyFraming::UntilClose);
        let is_event_stream = may_be_events && http1::is_event_stream(head);
        let least = match is_event_stream {
            true => timeouts.tunnel_idle,
            false => Duration::ZERO,
        };
        let patience = Patience {
            sender: timeouts.upstream_idle.max(least),
            receiver: timeouts.stall.max(least),
        };
        (patience, is_event_stream)
    }

    /// How the client finds the end of the response's body.
    fn out_framing(
        &self,
        head: &ResponseHead,
        framing: BodyFraming,
        is_edited: bool,
    ) -> OutFraming {
        let is_chunkable = self.exchange.request.head.version() != Version::Http10;
        let is_answer_to_head = self.exchange.request.head.is_method("HEAD");
        match framing {
            // The client expects content, and there is none.
            BodyFraming::Empty
                if is_answer_to_head
                    && self.exchange.request.head.client_method() != "HEAD"
                    && !matches!(head.status(), 204 | 304) =>
            {
                OutFraming::Length(0)
            }
            BodyFraming::Empty if matches!(head.status(), 204 | 205) => OutFraming::None,
            // The origin's length is not that of the content after plugins.
            BodyFraming::Empty if is_edited => OutFraming::None,
            BodyFraming::Empty => OutFraming::Keep,
            BodyFraming::Length(len) if !is_edited => OutFraming::Length(len),
            _ if is_chunkable => OutFraming::Chunked,
            _ => OutFraming::UntilClose,
        }
    }
}

/// How a response is forwarded by the proxy of this name in Via.
fn response_options<'a>(
    via: &'a str,
    framing: OutFraming,
    connection: ConnectionAnnouncement,
    date: Option<&'a str>,
) -> ResponseForward<'a> {
    ResponseForward {
        via,
        framing,
        connection,
        date,
        trailers: true,
    }
}

/// Sends the head of a response to the client, which may take nothing of it for `stall`.
async fn send_head(
    head: &ResponseHead,
    options: &ResponseForward<'_>,
    stall: Duration,
    to: &mut Writer<'_>,
) -> Result<(), ExchangeError> {
    let mut out = buffers::small();
    http1::forward_response(head, options, &mut out);
    let sent = to.write_all(&out, stall).await;
    buffers::give_back(out);
    sent.map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))
}

fn response_error(error: RelayError) -> ExchangeError {
    match error {
        RelayError::Sender(cause) => ExchangeError {
            peer: Peer::Upstream,
            step: Step::ReadBody,
            cause,
        },
        RelayError::Receiver(error) => ExchangeError::io(Peer::Client, Step::SendBody, error),
        RelayError::Hook(error) => ExchangeError::content(Peer::Upstream, error),
    }
}

fn refused(refused: ContentRefused) -> ExchangeError {
    ExchangeError::new(Peer::Upstream, Step::ReadBody, refused)
}

/// The body of a response.
struct Body {
    /// Its framing as received; as if received, if it is here already.
    framing: BodyFraming,
    /// It ends with the upstream's connection.
    ends_connection: bool,
    /// The plugins that listen to it.
    plan: Option<BodyPlan>,
    /// What was read of it.
    collected: Collected,
}

impl Body {
    /// A body that is still to arrive, or that plugins have not seen.
    fn arriving(framing: BodyFraming, plan: Option<BodyPlan>, collected: Collected) -> Self {
        Self {
            framing,
            ends_connection: framing == BodyFraming::UntilClose,
            plan,
            collected,
        }
    }

    /// A body that is not read, so that its connection cannot be used again.
    fn unread() -> Self {
        let decoder = BodyDecoder::new(BodyFraming::Empty);
        Self {
            ends_connection: true,
            ..Self::arriving(BodyFraming::Empty, None, Collected::new(decoder))
        }
    }

    /// A body that is here whole, as changed by plugins.
    fn collected(framing: BodyFraming, mut plan: BodyPlan, collected: Collected) -> Self {
        plan.end_content();
        Self {
            framing: match collected.decoder.trailers() {
                Some(_) => BodyFraming::Chunked,
                None => BodyFraming::Length(collected.content.len() as u64),
            },
            ..Self::arriving(framing, Some(plan), collected)
        }
    }
}
