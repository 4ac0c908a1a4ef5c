//! Requests for other hosts whose destination is this proxy itself, directly or through other proxies.
//!
//! The proxy does not connect to itself: the client would have another address and no user, and the request would come
//! back. The web server answers such requests directly, if there is one; it serves a tunnel with the certificate of the
//! listener if the listener uses TLS. Requests from there are not forwarded. Without a web server, they are refused
//! (508). So are requests that come back through other proxies, which are recognised by a mark in Via.

use std::rc::Rc;

use super::reach::Destination;
use super::{Exchange, Outcome, Progress};
use crate::error::{ExchangeError, Peer, Refusal, Step};
use crate::http1::{self, RequestForm, Scheme, TargetForm};
use crate::stream::MessageStream;
use crate::telemetry::AccessRecord;

/// A tunnel that leads to this proxy itself.
#[derive(Debug)]
pub(crate) struct OwnTunnel {
    /// Who the client is, as the tunnel's request has shown; empty if nobody was asked.
    user: String,
}

impl OwnTunnel {
    pub(super) fn user(&self) -> &str {
        &self.user
    }
}

impl Exchange {
    /// Whether the web server may answer a request that leads to this proxy itself.
    pub(super) fn is_served_here(&self, destination: &Destination) -> bool {
        let speaks_tls = self.generation.tls_listener.is_some();
        let route = self.route(destination);
        // What a tunnel has in it is for its client to choose.
        let is_spoken = route.is_tunnel || (route.scheme == Scheme::Https) == speaks_tls;
        let is_read = self.upload.collected.is_some() || self.upload.is_read();
        self.generation.web.is_some()
            && self.client.origin.is_none()
            && self.forwarded_to.is_none()
            && is_spoken
            && !is_read
    }

    /// Makes sure that this process has not forwarded the request before.
    pub(super) fn refuse_loop(&self) -> Result<(), ExchangeError> {
        match http1::is_named_in_via(&self.head, &self.generation.marked_via) {
            true => Err(ExchangeError::new(Peer::Client, Step::Route, Refusal::Loop)),
            false => Ok(()),
        }
    }

    /// The name in Via for the next hop. Where it may forward the request to yet another proxy, and so back here, it is
    /// one that no other process has.
    pub(super) fn via_for(&self, destination: &Destination, form: RequestForm<'_>) -> &str {
        let may_come_back = form != RequestForm::Origin
            || self.forwarded_to.is_some()
            || destination.is_redirected();
        match may_come_back {
            true => &self.generation.marked_via,
            false => &self.generation.config.via,
        }
    }

    /// Has the web server answer. Before its line the log has one for the request which led here.
    pub(super) async fn serve_here(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Outcome, (ExchangeError, Progress)> {
        let outcome = self.serve_web(client).await?;
        if self.record.is_web && self.generation.worker.logs_access() {
            let redirected = self.redirected();
            let upstream = match &redirected {
                Some((host, port)) => (host.as_str(), *port),
                None => (self.head.host(), self.head.port()),
            };
            self.generation.worker.log_access(&AccessRecord {
                client: self.client.facts.client,
                method: self.head.method(),
                is_web: false,
                upstream: Some(upstream),
                path: self.head.path(),
                status: self.record.status,
                reason: &self.record.reason,
                response_bytes: self.record.sent,
                elapsed: self.record.timeline.elapsed(),
                note: None,
                asked: None,
                user: "",
                fields: &[],
            });
        }
        Ok(outcome)
    }

    /// Promises a tunnel that leads nowhere else.
    pub(super) async fn tunnel_here(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<Outcome, ExchangeError> {
        self.promise_tunnel(client).await?;
        let session = self.session.as_ref();
        let user = session
            .map(|session| session.with_user(str::to_owned))
            .filter(|user| !user.is_empty())
            .unwrap_or_else(|| self.known_user().to_owned());
        Ok(Outcome::OwnTunnel(Rc::new(OwnTunnel { user })))
    }

    /// Makes sure that nothing is forwarded from a tunnel to this proxy itself.
    pub(super) fn settle_own_tunnel(&self) -> Result<(), ExchangeError> {
        let Some(tunnel) = &self.client.own_tunnel else {
            return Ok(());
        };
        if let TargetForm::Absolute | TargetForm::Authority = self.head.target().form {
            let refusal = Refusal::OwnTunnel;
            return Err(ExchangeError::new(Peer::Client, Step::Route, refusal));
        }
        if let Some(session) = self.session.as_ref().filter(|_| !tunnel.user.is_empty()) {
            session.set_user(&tunnel.user);
        }
        Ok(())
    }
}
