//! Forwarding the response: interim responses, protocol switches, plugins, the body.

use std::time::Duration;

use super::{
    AnswerEnd, Binding, CloseReason, Delivered, Exchange, Moment, Passing, Persistence, Progress,
    unless_gone,
};
use crate::buffers;
use crate::collect::Collected;
use crate::error::{Cause, ContentRefused, ExchangeError, Peer, Refusal, Step};
use crate::http1::{
    self, BodyDecoder, BodyEncoder, BodyFraming, ConnectionAnnouncement, ConnectionChallenge,
    FieldId, HeadLimits, OutFraming, ResponseForward, ResponseHead, Version,
};
use crate::plugins::{
    AnsweredBy, BodyFacts, BodyPlan, ContentHooks, ExchangePlugins, Hook, Subject, Verdict,
    WholeOutcome,
};
use crate::relay::{BodyRelay, ContentHook, Patience, RelayError};
use crate::reply::{Reply, ReplyForm};
use crate::side::Side;
use crate::splice;
use crate::stream::{ReadHeadError, Reader, Writer};
use crate::turn::Steps;

/// Bytes of responses that may arrive while an interim one is on its way to the client.
const MAX_UNREAD_INTERIM: usize = 256 * 1024;
/// Interim responses that are passed on for one request.
const MAX_INTERIM: usize = 100;

/// What is agreed about the frames of a WebSocket beyond RFC 6455.
const EXTENSIONS: &str = "sec-websocket-extensions";

impl Exchange {
    /// Reads the response, interim ones included, and delivers it to the client.
    pub(super) async fn receive(
        &mut self,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        let mut head = self.final_response(from, to, progress).await?;
        if head.status() == 407 && progress.is_for_parent {
            return Err(ExchangeError::new(
                Peer::Upstream,
                Step::ReadHead,
                Refusal::UnauthorizedAtParent,
            ));
        }
        if self.session.is_some() {
            head.fields_mut().settle_connection();
        }
        if head.status() == 101 {
            return Box::pin(self.upgrade(head, to, progress)).await;
        }
        let framing = http1::response_framing(&head, self.head.method())
            .map_err(|error| ExchangeError::new(Peer::Upstream, Step::ReadHead, error))?;
        self.note_response(&head);
        if head.status() == 401 {
            self.note_challenge(&mut head);
        }
        if let Some(delivered) = self.ask_plugins_about(&mut head, to, progress).await? {
            return Ok(delivered);
        }
        if self.head.method() != self.head.client_method() {
            match (self.head.method(), self.head.client_method()) {
                (_, "HEAD") if framing != BodyFraming::Empty => {
                    // The client takes no content, and nobody else needs it.
                    let body = Body::unread();
                    return Box::pin(self.deliver(head, body, from, to, progress)).await;
                }
                ("HEAD", _) => {
                    http1::forget_digests(&mut head.fields_mut());
                    head.fields_mut().remove("content-encoding");
                }
                _ => {}
            }
        }
        let plan = self.download_plan(&head, framing)?;
        match plan {
            Some(plan) if plan.has_whole() && framing != BodyFraming::Empty => {
                let turn = self.deliver_whole(head, framing, plan, from, to, progress);
                Box::pin(turn).await
            }
            plan => {
                let decoder = self.response_decoder(framing);
                let body = Body::arriving(framing, plan, Collected::new(decoder));
                self.deliver(head, body, from, to, progress).await
            }
        }
    }

    /// Notes whether the upstream has begun to authenticate the connection, and says that this proxy keeps it for the
    /// client: one that knows of the proxy must not go on otherwise (RFC 4559 §6).
    fn note_challenge(&mut self, head: &mut ResponseHead) {
        let Some(challenge) = http1::connection_challenge(head) else {
            return;
        };
        if challenge == ConnectionChallenge::Begun {
            self.client.binding = Binding::Bound;
        }
        let is_to_proxy = self.client.origin.is_none() && self.forwarded_to.is_none();
        if is_to_proxy && self.head.version() == Version::Http11 {
            // A name and a value that may stand in a field line.
            let _ = head
                .fields_mut()
                .set("Proxy-Support", b"Session-Based-Authentication");
        }
    }

    /// Who wants the response's content, if it has any.
    fn download_plan(
        &self,
        head: &ResponseHead,
        framing: BodyFraming,
    ) -> Result<Option<BodyPlan>, ExchangeError> {
        let Some(session) = self
            .session
            .as_ref()
            .filter(|session| session.wants_bodies(Side::Upstream))
        else {
            return Ok(None);
        };
        let mut facts = BodyFacts::of(head.fields());
        facts.is_partial |= head.status() == 206;
        let plan = session.body_plan(Side::Upstream, facts);
        match (plan, framing) {
            (_, BodyFraming::Length(0)) => Ok(None),
            // What is refused here concerns content that does not come.
            (plan, BodyFraming::Empty) => Ok(plan.ok().flatten()),
            (Ok(Some(mut plan)), BodyFraming::Length(len)) => {
                plan.note_length(len, session).map_err(refused)?;
                Ok(Some(plan))
            }
            (plan, _) => plan.map_err(refused),
        }
    }

    /// Collects the content for the plugins that want all of it, and delivers what they make of it.
    async fn deliver_whole(
        &mut self,
        mut head: ResponseHead,
        framing: BodyFraming,
        mut plan: BodyPlan,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        let mut collected = Collected::new(self.response_decoder(framing));
        let patience = self.timeouts().upstream_idle;
        let Some(session) = self.session.clone() else {
            let body = Body::arriving(framing, Some(plan), collected);
            return self.deliver(head, body, from, to, progress).await;
        };
        while let Some(limit) = plan.largest_limit() {
            let read = collected.read(from, limit, patience).await;
            let is_whole =
                read.map_err(|cause| ExchangeError::new(Peer::Upstream, Step::ReadBody, cause))?;
            let len = collected.content.len() as u64;
            plan.note_length(len, &session).map_err(refused)?;
            if !is_whole {
                continue;
            }
            if collected.content.is_empty() {
                let body = Body::collected(framing, plan, collected);
                return self.deliver(head, body, from, to, progress).await;
            }
            let subject = Subject {
                request: &mut self.head,
                response: Some(&mut head),
            };
            let content = std::mem::take(&mut collected.content);
            let run = session.run_whole(&plan, content, subject).await;
            match run.map_err(|error| ExchangeError::content(Peer::Upstream, error))? {
                WholeOutcome::Content {
                    content,
                    is_changed,
                } => {
                    if is_changed {
                        http1::forget_digests(&mut head.fields_mut());
                    }
                    collected.content = content;
                    let body = Body::collected(framing, plan, collected);
                    return self.deliver(head, body, from, to, progress).await;
                }
                WholeOutcome::Ended(verdict) => {
                    let answered = self.follow_instead(verdict, to, progress).await?;
                    return answered.ok_or_else(|| {
                        ExchangeError::new(Peer::Plugin, Step::Hook, Cause::Closed)
                    });
                }
                WholeOutcome::TooLong { content, len } => {
                    collected.content = content;
                    plan.note_decoded_length(len, &session).map_err(refused)?;
                }
            }
        }
        let body = Body::arriving(framing, Some(plan), collected);
        self.deliver(head, body, from, to, progress).await
    }

    /// The final response's head; interim responses on the way to it go to the client.
    async fn final_response(
        &mut self,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
        progress: &Progress,
    ) -> Result<ResponseHead, ExchangeError> {
        let mut is_relaxed = false;
        for _ in 0..=MAX_INTERIM {
            let limits = self.generation.config.limits.head();
            let compatibility = &self.generation.config.compatibility;
            let may_relax = || compatibility.is_relaxed(self.head.host());
            let on_begun = || self.record.timeline.note(Moment::AnswerBegun);
            let received = match self.has_content() && !progress.is_sent() {
                false => from.read_response(&limits, may_relax, on_begun).await,
                // Boxed: few exchanges need it. Whoever sends content to an upstream that takes none of it is not read.
                true => Box::pin(unless_reset(from, to, &limits, may_relax, on_begun)).await?,
            };
            let is_silence = matches!(received, Err(ReadHeadError::Closed | ReadHeadError::Io(_)))
                && from.buffered().is_empty();
            if !is_silence {
                progress.note_begun();
            }
            let mut head = received.map_err(|error| ExchangeError::head(Peer::Upstream, error))?;
            if head.is_relaxed() {
                let host = self.head.host();
                tracing::debug!(host, "repaired a malformed response head");
            }
            is_relaxed |= head.is_relaxed();
            if from.is_channel() {
                head.set_version(Version::Http2);
            }
            if !(100..200).contains(&head.status()) || head.status() == 101 {
                progress.note_answered();
                head.set_relaxed(is_relaxed);
                return Ok(head);
            }
            let is_invitation = head.status() == 100;
            self.pass_interim(head, from, to).await?;
            if is_invitation && progress.awaits_invitation() {
                progress.note_invited();
            } else if progress.is_sent() || progress.awaits_invitation() {
                from.deadline().arm(self.timeouts().upstream_response);
            }
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
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
    ) -> Result<(), ExchangeError> {
        // An HTTP/1.0 client would take it for the answer (RFC 9110 §15.2).
        if self.head.version() != Version::Http10 {
            let options =
                self.response_options(OutFraming::None, ConnectionAnnouncement::Nothing, None);
            let sent = self.send_head(&head, &options, to);
            match from.is_channel() {
                false => sent.await?,
                true => Box::pin(unless_flooded(sent, from)).await?,
            }
        }
        buffers::give_back_head(head.into_buffers());
        Ok(())
    }

    /// Takes out of a request for a WebSocket what plugins that listen to its messages could not read: compression,
    /// or whatever else changes what frames mean (RFC 6455 §9).
    pub(super) fn decline_extensions(&mut self) {
        if !self.watches_websocket() || !self.head.fields().named(EXTENSIONS).any(|_| true) {
            return;
        }
        self.head.fields_mut().remove(EXTENSIONS);
        if let Some(session) = &self.session {
            session.forget_request();
        }
    }

    /// Whether this request asks for a WebSocket to whose messages some plugin listens.
    fn watches_websocket(&self) -> bool {
        let hook = Hook::HandleWebSocketMessage;
        let has_listeners = |session: &ExchangePlugins| session.has_listeners(hook);
        self.session.as_ref().is_some_and(has_listeners) && http1::requests_websocket(&self.head)
    }

    async fn upgrade(
        &mut self,
        head: ResponseHead,
        to: &mut Writer<'_>,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        if http1::requested_upgrade(&self.head).is_none()
            || !http1::upgrade_accepted(&head, &self.head)
        {
            return Err(ExchangeError::new(
                Peer::Upstream,
                Step::ReadHead,
                Refusal::UnaskedUpgrade,
            ));
        }
        if self.watches_websocket() && http1::switches_to_websocket(&head) {
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
            self.is_watched_websocket = true;
        }
        self.note_response(&head);
        progress.note_started(Passing::SHORT);
        self.record.answered = head.status();
        self.record.answered_by = AnsweredBy::Upstream;
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
        progress: &Progress,
    ) -> Result<Option<Delivered>, ExchangeError> {
        let hook = Hook::HandleUpstreamResponse;
        let Some(session) = self
            .session
            .as_ref()
            .filter(|session| session.has_listeners(hook))
        else {
            return Ok(None);
        };
        let subject = Subject {
            request: &mut self.head,
            response: Some(head),
        };
        let Some(walk) = session.walk(hook, subject) else {
            return Ok(None);
        };
        let verdict = walk.verdict().await;
        match verdict {
            Verdict::Proceed => Ok(None),
            verdict => Box::pin(self.follow_instead(verdict, to, progress)).await,
        }
    }

    /// Does what plugins have decided about a response; `None` when it is delivered.
    async fn follow_instead(
        &mut self,
        verdict: Verdict,
        to: &mut Writer<'_>,
        progress: &Progress,
    ) -> Result<Option<Delivered>, ExchangeError> {
        match verdict {
            Verdict::Proceed | Verdict::Retry => Ok(None),
            Verdict::Reply(reply, plugin) => {
                let reply = Reply::from_plugin(reply);
                self.record.note = Some(format!("answered {} by {plugin}", reply.status));
                self.record.answered_by = AnsweredBy::Plugin(plugin.into());
                self.replace(&reply, to, progress).await.map(Some)
            }
            Verdict::Close(plugin) => {
                self.record.note = Some(format!("closed by {plugin}"));
                Ok(Some(Delivered::Answered {
                    persistence: Persistence::Close(CloseReason::Plugin),
                    upstream_is_reusable: false,
                }))
            }
            Verdict::Failed(failure) => Err(ExchangeError::new(Peer::Plugin, Step::Hook, failure)),
        }
    }

    /// Sends a plugin's reply instead of the upstream's response.
    async fn replace(
        &mut self,
        reply: &Reply,
        to: &mut Writer<'_>,
        progress: &Progress,
    ) -> Result<Delivered, ExchangeError> {
        let request = self.request_end_in(progress);
        let persistence = self.persistence(request, AnswerEnd::Framed);
        let form = ReplyForm {
            is_head: self.head.client_method() == "HEAD",
            is_last: persistence != Persistence::Again,
        };
        let mut out = buffers::small();
        self.generation
            .worker
            .with_date(|date| reply.encode(form, date, &mut out));
        progress.note_started(Passing::SHORT);
        self.record.answered = reply.status;
        self.keep_reply(reply, form);
        let sent = to.write_all(&out, self.timeouts().stall).await;
        self.record.sent += out.len() as u64;
        buffers::give_back(out);
        sent.map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))?;
        Ok(Delivered::Answered {
            persistence,
            upstream_is_reusable: false,
        })
    }

    /// Sends the final response on, head and body.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn has its arguments twice, and these are large"
    )]
    fn deliver(
        &mut self,
        mut head: ResponseHead,
        body: Body,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
        progress: &Progress,
    ) -> impl Future<Output = Result<Delivered, ExchangeError>> {
        async move {
            let framing = body.framing;
            let plan = &body.plan;
            let is_edited = plan.as_ref().is_some_and(BodyPlan::may_edit);
            if plan.as_ref().is_some_and(BodyPlan::is_recoded) {
                http1::forget_digests(&mut head.fields_mut());
            }
            let out_framing = self.out_framing(&head, framing, is_edited);
            let answer = match out_framing {
                OutFraming::UntilClose => AnswerEnd::Connection,
                _ => AnswerEnd::Framed,
            };
            let is_upstream_kept = !body.ends_connection && http1::is_persistent(&head);
            if self.client.binding == Binding::Bound && !is_upstream_kept {
                self.client.binding = Binding::Over;
            }
            // What is announced holds, even if the request has been sent whole by the end.
            let persistence = self.persistence(self.request_end_in(progress), answer);
            let announcement = match persistence {
                Persistence::Close(_) => ConnectionAnnouncement::Close,
                Persistence::Again => ConnectionAnnouncement::Nothing,
            };
            let mut out = buffers::small();
            if head.fields().has(FieldId::Date) {
                let options = self.response_options(out_framing, announcement, None);
                http1::forward_response(&head, &options, &mut out);
            } else {
                self.generation.worker.with_date(|date| {
                    let options = self.response_options(out_framing, announcement, Some(date));
                    http1::forward_response(&head, &options, &mut out);
                });
            }
            let (patience, is_event_stream) = self.patience_with(&head, framing);
            let mut hooks = match (&self.session, plan) {
                (Some(session), Some(plan)) if framing != BodyFraming::Empty => {
                    Some(ContentHooks::new(session, plan, &self.head, Some(&head)))
                }
                _ => None,
            };
            progress.note_started(Passing {
                is_framed: answer == AnswerEnd::Framed,
                is_event_stream,
            });
            self.record.answered = head.status();
            self.record.answered_by = AnsweredBy::Upstream;
            if answer == AnswerEnd::Connection {
                to.begin_until_close();
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
                written: &mut self.record.sent,
            };
            let relayed = relay.run(from, to).await;
            drop(hooks);
            // A body that breaks before anything of the response was sent can still be answered with an error.
            let is_started = self.record.sent > 0
                || !matches!(relayed, Err(RelayError::Sender(_) | RelayError::Hook(_)));
            let upstream_is_reusable = is_upstream_kept && from.buffered().is_empty();
            if answer == AnswerEnd::Connection && (relayed.is_ok() || !is_started) {
                to.end_until_close();
            }
            if !is_started {
                progress.note_answered();
                self.record.answered = 0;
                self.record.answered_by = AnsweredBy::Nobody;
            }
            self.keep_response(head);
            relayed.map_err(response_error)?;
            Ok(Delivered::Answered {
                persistence,
                upstream_is_reusable,
            })
        }
    }

    /// How long either side may do nothing while the response's body is under way, and whether it is a stream of events.
    fn patience_with(&self, head: &ResponseHead, framing: BodyFraming) -> (Patience, bool) {
        let timeouts = self.timeouts();
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

    /// How the client will know where the response's body ends.
    fn out_framing(
        &self,
        head: &ResponseHead,
        framing: BodyFraming,
        is_edited: bool,
    ) -> OutFraming {
        let is_chunkable = self.head.version() != Version::Http10;
        let is_answer_to_head = self.head.is_method("HEAD");
        match framing {
            // The client has asked for content, of which there is none.
            BodyFraming::Empty
                if is_answer_to_head
                    && self.head.client_method() != "HEAD"
                    && !matches!(head.status(), 204 | 304) =>
            {
                OutFraming::Length(0)
            }
            BodyFraming::Empty if matches!(head.status(), 204 | 205) => OutFraming::None,
            // The length that the origin tells is not that of what plugins would make of the content.
            BodyFraming::Empty if is_edited => OutFraming::None,
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
            via: &self.generation.config.via,
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
        let sent = to.write_all(&out, self.timeouts().stall).await;
        buffers::give_back(out);
        sent.map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))
    }
}

/// Reads a head, unless the client resets its connection before one is here.
async fn unless_reset(
    from: &mut Reader<'_>,
    to: &Writer<'_>,
    limits: &HeadLimits,
    may_relax: impl Fn() -> bool,
    on_begun: impl Fn(),
) -> Result<Result<ResponseHead, ReadHeadError>, ExchangeError> {
    let received = async { Ok(from.read_response(limits, may_relax, on_begun).await) };
    unless_gone(to.reset(), received).await
}

/// Reads on while an interim response is on its way to a slow client: heads of HTTP/2 have no flow control, and would
/// pile up unread.
async fn unless_flooded(
    sent: impl Future<Output = Result<(), ExchangeError>>,
    from: &mut Reader<'_>,
) -> Result<(), ExchangeError> {
    let mut sent = std::pin::pin!(sent);
    let mut may_come_more = true;
    loop {
        tokio::select! {
            biased;
            sent = &mut sent => return sent,
            filled = from.fill(), if may_come_more => {
                // Whatever has happened shows again when the next head is read.
                may_come_more = matches!(filled, Ok(len) if len > 0);
                if from.buffered().len() <= MAX_UNREAD_INTERIM {
                    continue;
                }
                // The final response has a window.
                may_come_more &= !holds_final(from.buffered());
                if may_come_more {
                    return Err(ExchangeError::new(
                        Peer::Upstream,
                        Step::ReadHead,
                        Refusal::TooManyInterim,
                    ));
                }
            }
        }
    }
}

/// Whether a final response has begun in what was received, which is a row of heads until then.
fn holds_final(mut received: &[u8]) -> bool {
    while let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
        if !received.starts_with(b"HTTP/1.1 1") {
            return true;
        }
        received = &received[end + 4..];
    }
    false
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

/// A response's body on its way to the client.
struct Body {
    /// How it arrives, or would if it were not here already.
    framing: BodyFraming,
    /// Its end is, or was, that of the upstream's connection.
    ends_connection: bool,
    /// The plugins that see it.
    plan: Option<BodyPlan>,
    /// What was read of it.
    collected: Collected,
}

impl Body {
    /// A body that is still arriving, or that nobody has seen.
    fn arriving(framing: BodyFraming, plan: Option<BodyPlan>, collected: Collected) -> Self {
        Self {
            framing,
            ends_connection: framing == BodyFraming::UntilClose,
            plan,
            collected,
        }
    }

    /// A body that is not read, so that its connection is of no further use.
    fn unread() -> Self {
        let decoder = BodyDecoder::new(BodyFraming::Empty);
        Self {
            ends_connection: true,
            ..Self::arriving(BodyFraming::Empty, None, Collected::new(decoder))
        }
    }

    /// A body that is all here, as the plugins have made it.
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

#[cfg(test)]
mod tests {
    use super::holds_final;

    #[test]
    fn a_final_response_is_found_behind_interim_ones() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n".repeat(3);
        assert!(!holds_final(&interim));
        let with_final = [&interim[..], b"HTTP/1.1 200 OK\r\n\r\nbody"].concat();
        assert!(holds_final(&with_final));
        assert!(!holds_final(&with_final[..interim.len() + 10]));
    }
}
