//! The request content, for plugins: whole before connecting, or as a stream.

use super::conclusion::Conclusion;
use super::state::{Exchange, unless_gone};
use super::upload::KeptContent;
use crate::buffers;
use crate::collect::Collected;
use crate::error::{ContentRefused, ExchangeError, Peer, Step};
use crate::held::HeldBytes;
use crate::http1::{self, BodyFraming, FieldId, Version};
use crate::plugins::{
    BodyFacts, BodyPlan, ContentHooks, ExchangePlugins, Hook, Subject, WholeOutcome,
};
use crate::side::Side;
use crate::stream::MessageStream;

impl Exchange {
    /// Determines which plugins listen to the request's content, and collects it for those that need it whole.
    pub(super) async fn take_content(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<(), Conclusion> {
        let Some(plugins) = self
            .plugins
            .as_ref()
            .filter(|plugins| plugins.wants_bodies(Side::Client))
            .cloned()
        else {
            return Ok(());
        };
        let facts = BodyFacts::of(self.request.head.fields());
        let plan = plugins.body_plan(Side::Client, facts).map_err(refused)?;
        let Some(mut plan) = plan else {
            return Ok(());
        };
        if let BodyFraming::Length(len) = self.request.framing {
            plan.note_length(len, &plugins).map_err(refused)?;
        }
        if plan.is_recoded() {
            http1::forget_digests(&mut self.request.head.fields_mut());
            plugins.forget_request();
        }
        if plan.has_whole() {
            Box::pin(self.collect_content(client, &plugins, &mut plan)).await?;
        }
        self.request.upload.plan = Some(plan);
        Ok(())
    }

    async fn collect_content(
        &mut self,
        client: &mut MessageStream,
        plugins: &ExchangePlugins,
        plan: &mut BodyPlan,
    ) -> Result<(), Conclusion> {
        self.send_continue(client, plugins).await?;
        let patience = self.timeouts().stall;
        let half_closed = self.timeouts().half_closed;
        let mut collected = Collected::new(self.body_decoder(self.request.framing));
        while let Some(limit) = plan.largest_limit() {
            let read = collected.read(&mut client.reader(), limit, patience).await;
            let is_whole =
                read.map_err(|cause| ExchangeError::new(Peer::Client, Step::ReadBody, cause))?;
            let len = collected.content.len() as u64;
            self.request.upload.is_read = collected.decoder.is_complete();
            plan.note_length(len, plugins).map_err(refused)?;
            if !is_whole {
                continue;
            }
            if collected.content.is_empty() {
                // There are only trailers to show.
                plan.end_content();
                return Ok(self.content_is_here(collected, plugins)?);
            }
            let subject = Subject {
                request: &mut self.request.head,
                response: None,
            };
            let content = std::mem::take(&mut collected.content);
            let run = async {
                plugins
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
                        http1::forget_digests(&mut self.request.head.fields_mut());
                        plugins.forget_request();
                    }
                    return Ok(self.content_is_here(collected, plugins)?);
                }
                WholeOutcome::Ended(verdict) => {
                    self.request.upload.collected = Some(Box::new(collected));
                    return self.follow(verdict, client).await;
                }
                WholeOutcome::TooLong { content, len } => {
                    collected.content = content;
                    plan.note_decoded_length(len, plugins).map_err(refused)?;
                }
            }
        }
        self.request.upload.collected = Some(Box::new(collected));
        Ok(())
    }

    /// Shows the trailers, and keeps the content for sending.
    fn content_is_here(
        &mut self,
        mut collected: Collected,
        plugins: &ExchangePlugins,
    ) -> Result<(), ExchangeError> {
        if let Some(trailers) = collected.decoder.trailers_mut() {
            plugins.show_request(&self.request.head);
            plugins
                .run_trailers(Hook::HandleClientTrailers, trailers)
                .map_err(|failure| ExchangeError::new(Peer::Plugin, Step::Hook, failure))?;
        }
        self.request.upload.is_done = true;
        self.request.upload.collected = Some(Box::new(collected));
        Ok(())
    }

    /// Sends 100 (Continue) to a client that waits for it (RFC 9110 §10.1.1): the origin cannot, since it gets the request
    /// only when the content is here.
    async fn send_continue(
        &mut self,
        client: &mut MessageStream,
        plugins: &ExchangePlugins,
    ) -> Result<(), ExchangeError> {
        if !self.request.head.fields().has(FieldId::Expect) {
            return Ok(());
        }
        let awaits_continue =
            self.request.head.version() != Version::Http10 && !client.has_buffered();
        self.request.head.fields_mut().remove("expect");
        plugins.forget_request();
        if !awaits_continue {
            return Ok(());
        }
        client
            .writer()
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n", self.timeouts().stall)
            .await
            .map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))
    }

    /// What is sent after this head: content that is still to arrive, or the kept part of it.
    pub(super) fn content_with(&mut self, head: Vec<u8>) -> KeptContent {
        if let Some(kept) = self.request.upload.kept.take() {
            let mut kept = *kept;
            let len = head.len();
            kept.text.splice(..kept.head_len, head.iter().copied());
            kept.head_len = len;
            buffers::give_back(head);
            if let (Some(plugins), Some(_)) = (&self.plugins, &kept.hooks) {
                plugins.show_request(&self.request.head);
            }
            return kept;
        }
        let (mut begun, mut decoder) = (Vec::new(), self.body_decoder(self.request.framing));
        if !self.request.upload.is_done
            && let Some(collected) = self.request.upload.collected.take()
        {
            (begun, decoder) = (collected.content, collected.decoder);
        }
        let hooks = match (&self.plugins, &self.request.upload.plan) {
            (Some(plugins), Some(plan)) if !self.request.upload.is_done => {
                Some(ContentHooks::new(plugins, plan, &self.request.head, None))
            }
            _ => None,
        };
        KeptContent {
            head_len: head.len(),
            text: head,
            content_len: 0,
            held: HeldBytes::default(),
            is_over: false,
            decoder,
            begun,
            hooks,
        }
    }
}

fn refused(refused: ContentRefused) -> ExchangeError {
    ExchangeError::new(Peer::Client, Step::ReadBody, refused)
}
