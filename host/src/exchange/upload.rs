//! The request content, for plugins: whole before connecting, or as a stream.

use super::{Exchange, Persistence, unless_gone};
use crate::buffers;
use crate::collect::Collected;
use crate::error::{ContentRefused, ExchangeError, Peer, Step};
use crate::held::Held;
use crate::http1::{self, BodyDecoder, BodyFraming, FieldId, Version};
use crate::plugins::{
    BodyFacts, BodyPlan, ContentHooks, ExchangePlugins, Hook, Subject, WholeOutcome,
};
use crate::side::Side;
use crate::stream::MessageStream;

/// What is known of a request's content.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// The plugins that see it pass.
    pub(super) plan: Option<BodyPlan>,
    /// What was read of it. Boxed, as for most requests there is nothing.
    pub(super) collected: Option<Box<Collected>>,
    /// All of it was read, and seen by everybody who wants to see it.
    pub(super) is_done: bool,
    /// What has been read of it went out to an upstream that may not have processed it, and can go out again.
    pub(super) kept: Option<Box<KeptContent>>,
    /// The client has been read to the end of its request.
    pub(super) is_read: bool,
}

/// The beginning of a request, as it went out, and how to go on with it.
pub(super) struct KeptContent {
    /// The head, then the body as it was framed; whatever plugins have changed in it stays so.
    pub(super) text: Vec<u8>,
    pub(super) head_len: usize,
    pub(super) content_len: usize,
    pub(super) held: Held,
    /// The body is all there.
    pub(super) is_over: bool,
    pub(super) decoder: BodyDecoder,
    /// Content that was read and has not gone out.
    pub(super) begun: Vec<u8>,
    /// The plugins that have seen it so far.
    pub(super) hooks: Option<ContentHooks>,
}

impl KeptContent {
    /// Whether the client has begun to send content.
    pub(super) fn has_content(&self) -> bool {
        self.is_over || self.text.len() > self.head_len
    }
}

impl std::fmt::Debug for KeptContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptContent").finish_non_exhaustive()
    }
}

impl Upload {
    /// Whether the client has been listened to, to the end of its request.
    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }
}

impl Exchange {
    /// Finds out who wants the request's content, and collects it for those who want it whole. The answer, if a plugin
    /// has one.
    pub(super) async fn take_content(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Option<Persistence>, ExchangeError> {
        let Some(session) = self
            .session
            .as_ref()
            .filter(|session| session.wants_bodies(Side::Client))
            .cloned()
        else {
            return Ok(None);
        };
        let facts = BodyFacts::of(self.head.fields());
        let plan = session.body_plan(Side::Client, facts).map_err(refused)?;
        let Some(mut plan) = plan else {
            return Ok(None);
        };
        if let BodyFraming::Length(len) = self.framing {
            plan.note_length(len, &session).map_err(refused)?;
        }
        if plan.is_recoded() {
            http1::forget_digests(&mut self.head.fields_mut());
            session.forget_request();
        }
        let next = match plan.has_whole() {
            true => Box::pin(self.collect_content(client, &session, &mut plan)).await?,
            false => None,
        };
        self.upload.plan = Some(plan);
        Ok(next)
    }

    async fn collect_content(
        &mut self,
        client: &mut MessageStream,
        session: &ExchangePlugins,
        plan: &mut BodyPlan,
    ) -> Result<Option<Persistence>, ExchangeError> {
        self.send_continue(client, session).await?;
        let patience = self.timeouts().stall;
        let half_closed = self.timeouts().half_closed;
        let mut collected = Collected::new(self.body_decoder(self.framing));
        while let Some(limit) = plan.largest_limit() {
            let read = collected.read(&mut client.reader(), limit, patience).await;
            let is_whole =
                read.map_err(|cause| ExchangeError::new(Peer::Client, Step::ReadBody, cause))?;
            let len = collected.content.len() as u64;
            self.upload.is_read = collected.decoder.is_complete();
            plan.note_length(len, session).map_err(refused)?;
            if !is_whole {
                continue;
            }
            if collected.content.is_empty() {
                // Nothing to be seen but trailers.
                plan.end_content();
                return self.content_is_here(collected, session).map(|()| None);
            }
            let subject = Subject {
                request: &mut self.head,
                response: None,
            };
            let content = std::mem::take(&mut collected.content);
            let run = async {
                session
                    .run_whole(plan, content, subject)
                    .await
                    .map_err(|error| ExchangeError::content(Peer::Client, error))
            };
            match unless_gone(client.gone(half_closed), run).await? {
                WholeOutcome::Content {
                    content,
                    is_changed,
                } => {
                    collected.content = content;
                    if is_changed {
                        http1::forget_digests(&mut self.head.fields_mut());
                        session.forget_request();
                    }
                    return self.content_is_here(collected, session).map(|()| None);
                }
                WholeOutcome::Ended(verdict) => {
                    self.upload.collected = Some(Box::new(collected));
                    return self.follow(verdict, client).await;
                }
                WholeOutcome::TooLong { content, len } => {
                    collected.content = content;
                    plan.note_decoded_length(len, session).map_err(refused)?;
                }
            }
        }
        self.upload.collected = Some(Box::new(collected));
        Ok(None)
    }

    /// Keeps content that everybody has seen, once its trailers have been seen too.
    fn content_is_here(
        &mut self,
        mut collected: Collected,
        session: &ExchangePlugins,
    ) -> Result<(), ExchangeError> {
        if let Some(trailers) = collected.decoder.trailers_mut() {
            session.show_request(&self.head);
            session
                .run_trailers(Hook::HandleClientTrailers, trailers)
                .map_err(|failure| ExchangeError::new(Peer::Plugin, Step::Hook, failure))?;
        }
        self.upload.is_done = true;
        self.upload.collected = Some(Box::new(collected));
        Ok(())
    }

    /// Says that the content may come, to a client that waits for this word (RFC 9110 §10.1.1): the origin cannot,
    /// since it is not asked before the content is here.
    async fn send_continue(
        &mut self,
        client: &mut MessageStream,
        session: &ExchangePlugins,
    ) -> Result<(), ExchangeError> {
        if !self.head.fields().has(FieldId::Expect) {
            return Ok(());
        }
        let is_invited = self.head.version() != Version::Http10 && !client.has_buffered();
        self.head.fields_mut().remove("expect");
        session.forget_request();
        if !is_invited {
            return Ok(());
        }
        client
            .writer()
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n", self.timeouts().stall)
            .await
            .map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))
    }

    /// What goes out behind this head: content that is still to come, or what is kept of it.
    pub(super) fn content_with(&mut self, head: Vec<u8>) -> KeptContent {
        if let Some(kept) = self.upload.kept.take() {
            let mut kept = *kept;
            let len = head.len();
            kept.text.splice(..kept.head_len, head.iter().copied());
            kept.head_len = len;
            buffers::give_back(head);
            if let (Some(session), Some(_)) = (&self.session, &kept.hooks) {
                session.show_request(&self.head);
            }
            return kept;
        }
        let (mut begun, mut decoder) = (Vec::new(), self.body_decoder(self.framing));
        if !self.upload.is_done
            && let Some(collected) = self.upload.collected.take()
        {
            (begun, decoder) = (collected.content, collected.decoder);
        }
        let hooks = match (&self.session, &self.upload.plan) {
            (Some(session), Some(plan)) if !self.upload.is_done => {
                Some(ContentHooks::new(session, plan, &self.head, None))
            }
            _ => None,
        };
        KeptContent {
            head_len: head.len(),
            text: head,
            content_len: 0,
            held: Held::default(),
            is_over: false,
            decoder,
            begun,
            hooks,
        }
    }

    /// How the request's content will be framed.
    pub(super) fn outbound_framing(&self) -> BodyFraming {
        let Upload {
            plan: Some(plan),
            collected,
            is_done,
            ..
        } = &self.upload
        else {
            return self.framing;
        };
        match collected {
            Some(collected) if *is_done && collected.decoder.trailers().is_none() => {
                BodyFraming::Length(collected.content.len() as u64)
            }
            _ if plan.may_edit() => BodyFraming::Chunked,
            _ => self.framing,
        }
    }
}

fn refused(refused: ContentRefused) -> ExchangeError {
    ExchangeError::new(Peer::Client, Step::ReadBody, refused)
}
