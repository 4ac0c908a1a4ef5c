//! The phases of an exchange before it is forwarded: the checks, then the decisions of plugins.
//!
//! Each phase is a value that only the one before leads to, so none can be skipped: nothing is forwarded without the
//! decision of the plugins, and plugins are not called for a request that is refused. The later phases are
//! [`Connected`](super::reach::Connected), [`Sent`](super::progress::Sent), [`Answered`](super::response::Answered),
//! [`Accepted`](super::response::Accepted) and [`Delivered`](super::response::Delivered).

use super::conclusion::Conclusion;
use super::persistence::{CloseReason, Persistence};
use super::state::{Exchange, unless_gone};
use crate::error::{ExchangeError, Peer, PluginFailure, PluginFailureKind, Refusal, Step};
use crate::http1::{self, FieldId, TargetForm};
use crate::plugins::{AnsweredBy, Hook, Subject, TunnelEnd, Verdict};
use crate::reply::{PluginReply, Reply};
use crate::stream::MessageStream;

/// The request is well-formed, and belongs to its connection.
pub(super) struct Checked(());

/// The request's client may use the proxy.
pub(super) struct Admitted(());

/// Plugins have let the request pass.
pub(super) struct Decided(());

/// Plugins that need the request's content whole have seen it.
pub(super) struct Ready(Decided);

impl Ready {
    /// The phase before, which is all that a connection needs.
    pub(super) fn decided(&self) -> &Decided {
        &self.0
    }
}

impl Exchange {
    /// Checks the request, and completes it with what is known about its connection.
    pub(super) fn check(&mut self) -> Result<Checked, ExchangeError> {
        self.request.framing = http1::request_framing(&self.request.head)
            .map_err(|error| ExchangeError::new(Peer::Client, Step::ReadHead, error))?;
        self.check_origin()?;
        self.check_own_tunnel()?;
        self.select_timeouts(None);
        Ok(Checked(()))
    }

    /// Authenticates the client, and answers requests that are not forwarded.
    pub(super) async fn admit(
        &mut self,
        _: Checked,
        client: &mut MessageStream,
    ) -> Result<Admitted, Conclusion> {
        self.request.refuse_loop(&self.generation.marked_via)?;
        self.authenticate(client).await?;
        if let Some(reply) = self.own_answer()? {
            let persistence = self.answer(client, &reply).await;
            return Err(Conclusion::Answered(persistence));
        }
        Ok(Admitted(()))
    }

    /// For a request that a route of the web server forwards: authenticating its client is left to that route.
    pub(super) fn admit_forwarded(&mut self) -> Result<Admitted, ExchangeError> {
        self.request.refuse_loop(&self.generation.marked_via)?;
        Ok(Admitted(()))
    }

    /// Lets the plugins decide about the request.
    pub(super) async fn decide(
        &mut self,
        _: Admitted,
        client: &mut MessageStream,
    ) -> Result<Decided, Conclusion> {
        self.ask_plugins(client).await?;
        Ok(Decided(()))
    }

    /// Reads the request's content if a plugin needs it whole; what was read for an earlier attempt is still there.
    pub(super) async fn prepare(
        &mut self,
        decided: Decided,
        client: &mut MessageStream,
    ) -> Result<Ready, Conclusion> {
        let is_taken = self.request.upload.collected.is_some();
        if self.request.has_content() && !is_taken {
            // Boxed: most requests have no content.
            Box::pin(self.take_content(client)).await?;
        }
        Ok(Ready(decided))
    }

    // ---- the checks ----------------------------------------------------------------------------------------------

    /// Checks that the request is for the origin of its connection, and completes it.
    fn check_origin(&mut self) -> Result<(), ExchangeError> {
        let Some(origin) = &self.client.origin else {
            return Ok(());
        };
        if self.request.head.is_method("CONNECT") {
            return Err(ExchangeError::new(
                Peer::Client,
                Step::Route,
                Refusal::NestedConnect,
            ));
        }
        self.request
            .head
            .settle_origin(origin.scheme, &origin.host, origin.port);
        let host = self.request.head.host();
        if !origin.is_for(host) {
            return Err(ExchangeError::new(
                Peer::Client,
                Step::Route,
                Refusal::Misdirected,
            ));
        }
        let other = origin.other_than(host);
        self.request.is_host_claimed = other.is_some();
        let Some(plugins) = &self.plugins else {
            return Ok(());
        };
        if let Some(other) = other {
            plugins.set_tunnel(TunnelEnd {
                host: other.to_owned(),
                scheme: origin.scheme,
                is_verified: origin.is_verified_as(host, self.generation.interception.as_deref()),
            });
        }
        if !origin.user.is_empty() {
            plugins.set_user(&origin.user);
        }
        Ok(())
    }
    /// Refuses requests for other hosts from a tunnel to this proxy itself.
    fn check_own_tunnel(&self) -> Result<(), ExchangeError> {
        let Some(tunnel) = &self.client.own_tunnel else {
            return Ok(());
        };
        if let TargetForm::Absolute | TargetForm::Authority = self.request.head.target().form {
            let refusal = Refusal::OwnTunnel;
            return Err(ExchangeError::new(Peer::Client, Step::Route, refusal));
        }
        if let Some(plugins) = self.plugins.as_ref().filter(|_| !tunnel.user.is_empty()) {
            plugins.set_user(&tunnel.user);
        }
        Ok(())
    }
    // ---- the decisions -------------------------------------------------------------------------------------------

    /// Authenticates the client: the configured credential first, then the plugins.
    async fn authenticate(&mut self, client: &mut MessageStream) -> Result<(), Conclusion> {
        if self.client.origin.is_some() {
            // Was authenticated when the tunnel was opened.
            return Ok(());
        }
        if let Some(expected) = &self.generation.config.basic_auth {
            let mut given = self.request.head.fields().all(FieldId::ProxyAuthorization);
            let is_right = match (given.next(), given.next()) {
                (Some(credentials), None) => expected.matches(credentials),
                _ => false,
            };
            if !is_right {
                let refusal = Refusal::Unauthorized;
                return Err(ExchangeError::new(Peer::Client, Step::Route, refusal).into());
            }
            self.record.has_credential = true;
            if let Some(plugins) = &self.plugins {
                plugins.set_user(expected.user());
            }
        }
        match self.has_listeners(Hook::Authenticate) {
            true => self.ask(Hook::Authenticate, client).await,
            false => Ok(()),
        }
    }

    /// Runs the hooks that see a request before it is forwarded.
    async fn ask_plugins(&mut self, client: &mut MessageStream) -> Result<(), Conclusion> {
        for hook in [Hook::BeforeUpstreamConnection, Hook::HandleClientRequest] {
            if self.has_listeners(hook) {
                self.ask(hook, client).await?;
            }
        }
        Ok(())
    }

    fn has_listeners(&self, hook: Hook) -> bool {
        self.plugins
            .as_ref()
            .is_some_and(|plugins| plugins.has_listeners(hook))
    }

    async fn ask(&mut self, hook: Hook, client: &mut MessageStream) -> Result<(), Conclusion> {
        let half_closed = self.timeouts().half_closed;
        let Some(plugins) = &self.plugins else {
            return Ok(());
        };
        let subject = Subject {
            request: &mut self.request.head,
            response: None,
        };
        let Some(walk) = plugins.walk(hook, subject) else {
            return Ok(());
        };
        let decided = async { Ok(walk.verdict().await) };
        let verdict = unless_gone(client.gone(half_closed), decided).await?;
        match verdict {
            Verdict::Proceed => Ok(()),
            verdict => Box::pin(self.follow(verdict, client)).await,
        }
    }

    fn promises_tunnel(&self, reply: &PluginReply) -> bool {
        self.request.head.is_method("CONNECT") && (200..300).contains(&reply.status)
    }

    /// Carries out what plugins have decided.
    pub(super) async fn follow(
        &mut self,
        verdict: Verdict,
        client: &mut MessageStream,
    ) -> Result<(), Conclusion> {
        match verdict {
            Verdict::Proceed | Verdict::Retry => Ok(()),
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
                Err(ExchangeError::new(Peer::Plugin, Step::Hook, failure).into())
            }
            Verdict::Reply(reply, plugin) => {
                let reply = Reply::from_plugin(reply);
                self.record.note = Some(format!("{} by {plugin}", self.answered_with(&reply)));
                self.record.answered_by = AnsweredBy::Plugin(plugin.into());
                Err(Conclusion::Answered(self.answer(client, &reply).await))
            }
            Verdict::Close(plugin) => {
                self.record.note = Some(format!("closed by {plugin}"));
                self.record.ended_by = Some((plugin.into(), "closed"));
                Err(Conclusion::Answered(Persistence::Close(
                    CloseReason::Plugin,
                )))
            }
            Verdict::Failed(failure) => {
                Err(ExchangeError::new(Peer::Plugin, Step::Hook, failure).into())
            }
        }
    }
}
