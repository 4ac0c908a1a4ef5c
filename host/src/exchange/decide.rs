//! The decisions of plugins about a request before it is forwarded.

use super::{CloseReason, Exchange, Persistence, unless_gone};
use crate::error::{ExchangeError, Peer, PluginFailure, PluginFailureKind, Refusal, Step};
use crate::http1::FieldId;
use crate::plugins::{AnsweredBy, Hook, Subject, Verdict};
use crate::reply::PluginReply;
use crate::reply::Reply;
use crate::stream::MessageStream;

impl Exchange {
    /// Asks who the client is: the configured credential first, then the plugins. The answer, if it may not go on.
    pub(super) async fn authenticate(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Option<Persistence>, ExchangeError> {
        if self.client.origin.is_some() {
            // Was asked when the tunnel was made.
            return Ok(None);
        }
        if let Some(expected) = &self.generation.config.basic_auth {
            let mut given = self.head.fields().all(FieldId::ProxyAuthorization);
            let is_right = match (given.next(), given.next()) {
                (Some(credentials), None) => expected.matches(credentials),
                _ => false,
            };
            if !is_right {
                return Err(ExchangeError::new(
                    Peer::Client,
                    Step::Route,
                    Refusal::Unauthorized,
                ));
            }
            self.record.has_credential = true;
            if let Some(session) = &self.session {
                session.set_user(expected.user());
            }
        }
        match self.has_listeners(Hook::Authenticate) {
            true => self.ask(Hook::Authenticate, client).await,
            false => Ok(None),
        }
    }

    /// Runs the hooks that see a request before it goes anywhere; the answer if one of them has it.
    pub(super) async fn ask_plugins(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Option<Persistence>, ExchangeError> {
        for hook in [Hook::BeforeUpstreamConnection, Hook::HandleClientRequest] {
            if self.has_listeners(hook)
                && let Some(next) = self.ask(hook, client).await?
            {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    fn has_listeners(&self, hook: Hook) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.has_listeners(hook))
    }

    async fn ask(
        &mut self,
        hook: Hook,
        client: &mut MessageStream,
    ) -> Result<Option<Persistence>, ExchangeError> {
        let half_closed = self.timeouts().half_closed;
        let Some(session) = &self.session else {
            return Ok(None);
        };
        let subject = Subject {
            request: &mut self.head,
            response: None,
        };
        let Some(walk) = session.walk(hook, subject) else {
            return Ok(None);
        };
        let decided = async { Ok(walk.verdict().await) };
        let verdict = unless_gone(client.gone(half_closed), decided).await?;
        match verdict {
            Verdict::Proceed => Ok(None),
            verdict => Box::pin(self.follow(verdict, client)).await,
        }
    }

    fn promises_tunnel(&self, reply: &PluginReply) -> bool {
        self.head.is_method("CONNECT") && (200..300).contains(&reply.status)
    }

    /// Does what plugins have decided; `None` when the request goes on.
    pub(super) async fn follow(
        &mut self,
        verdict: Verdict,
        client: &mut MessageStream,
    ) -> Result<Option<Persistence>, ExchangeError> {
        match verdict {
            Verdict::Proceed | Verdict::Retry => Ok(None),
            Verdict::Reply(reply, plugin) if self.promises_tunnel(&reply) => {
                let failure = PluginFailure {
                    plugin,
                    hook: "a reply",
                    message: format!(
                        "a 2xx reply to CONNECT ({}) announces a tunnel, but a plugin reply cannot open one",
                        reply.status
                    ),
                    kind: PluginFailureKind::Broken,
                };
                Err(ExchangeError::new(Peer::Plugin, Step::Hook, failure))
            }
            Verdict::Reply(reply, plugin) => {
                let reply = Reply::from_plugin(reply);
                self.record.note = Some(format!("answered {} by {plugin}", reply.status));
                self.record.answered_by = AnsweredBy::Plugin(plugin.into());
                Ok(Some(self.answer(client, &reply).await))
            }
            Verdict::Close(plugin) => {
                self.record.note = Some(format!("closed by {plugin}"));
                Ok(Some(Persistence::Close(CloseReason::Plugin)))
            }
            Verdict::Failed(failure) => Err(ExchangeError::new(Peer::Plugin, Step::Hook, failure)),
        }
    }
}
