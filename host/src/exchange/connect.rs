//! CONNECT: a tunnel, relayed or intercepted.
//!
//! If TLS is going to be intercepted, TLS with the upstream comes first: a client gets its 200 only if the upstream is
//! reachable and authentic, and otherwise the reason. An upstream that does not speak TLS is connected without it, and
//! then the bytes of the client decide.

use super::phase::Decided;
use super::reach::{Destination, Reached};
use super::{Exchange, Origin, Outcome, unless_gone};
use crate::error::{Cause, ExchangeError, Peer, Step};
use crate::http1::Scheme;
use crate::interception::{self, RelayReason, Treatment};
use crate::plugins::{AnsweredBy, Hook, ShownHello, Subject, Verdict};
use crate::stream::MessageStream;
use crate::upstream::{self, DialFailure, Freshness, HttpVersions, Route, TlsFault};

/// Ports on which nobody begins with TLS; servers there may wait for a line that never comes.
const CLEAR_PORTS: [u16; 4] = [21, 22, 25, 80];

/// How the upstream of a tunnel is spoken to while the tunnel is made, and where that was found.
pub(super) struct TunnelRoute {
    pub(super) scheme: Scheme,
    pub(super) versions: HttpVersions,
    /// Plugins' addresses included.
    pub(super) destination: Destination,
}

impl Default for TunnelRoute {
    fn default() -> Self {
        Self {
            scheme: Scheme::Http,
            versions: HttpVersions::Any,
            destination: Destination::default(),
        }
    }
}

/// How a tunnel begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Approach {
    /// It is relayed unseen.
    Unseen,
    /// The client's first bytes are looked at; the connection is there to be relayed.
    Clear,
    /// TLS with the upstream first.
    Secure,
}

impl Exchange {
    /// Connects, and only then promises a tunnel.
    pub(super) async fn connect(
        &mut self,
        _: Decided,
        client: &mut MessageStream,
    ) -> Result<Outcome, ExchangeError> {
        self.seek_upstream();
        let (mut approach, mut treatment) = self.approach();
        let mut secured = None;
        let mut upstream = None;
        if approach == Approach::Secure {
            self.tunnel.scheme = Scheme::Https;
            match self.reach(client, Freshness::Any).await {
                Ok((_, Reached::Answered(next))) => return Ok(Outcome::Answered(next)),
                Ok((_, Reached::Itself)) => return self.tunnel_here(client).await,
                Ok((destination, Reached::Upstream(reached))) => {
                    secured = Some(self.keep_secured(reached.stream, &self.route(&destination)));
                    self.tunnel.destination = destination;
                }
                Err(error) if tls_fault(&error).is_some_and(TlsFault::is_no_protocol) => {
                    // What it speaks is no HTTP, or has another name: the client will say.
                    self.tunnel.versions = HttpVersions::Unnamed;
                    let Ok((destination, Reached::Upstream(reached))) =
                        self.reach(client, Freshness::New).await
                    else {
                        return Err(error);
                    };
                    self.tunnel.versions = HttpVersions::Any;
                    secured = Some(Secured::Unnamed(Box::new(reached.stream)));
                    self.tunnel.destination = destination;
                }
                Err(error) => {
                    treatment = self.may_go_on_in_clear(&error).ok_or(error)?;
                    approach = self.approach_in_clear(treatment);
                }
            }
            self.tunnel.scheme = Scheme::Http;
        }
        if approach != Approach::Secure {
            match self.reach(client, Freshness::New).await? {
                (_, Reached::Answered(next)) => return Ok(Outcome::Answered(next)),
                (_, Reached::Itself) => return self.tunnel_here(client).await,
                (destination, Reached::Upstream(reached)) => {
                    upstream = Some(reached.stream);
                    self.tunnel.destination = destination;
                }
            }
        }
        let destination = std::mem::take(&mut self.tunnel.destination);
        self.settle_timeouts(Some(&destination));
        self.tunnel.destination = destination;
        self.promise_tunnel(client).await?;
        Ok(match upstream {
            Some(upstream) if approach == Approach::Unseen => {
                if let Treatment::Relay(reason) = treatment {
                    self.note_relay(reason);
                }
                Outcome::Tunnel(upstream)
            }
            upstream => Outcome::Look {
                upstream,
                treatment,
                secured,
            },
        })
    }

    /// Keeps a connection on which TLS with the upstream has begun: one that speaks HTTP by name for the requests to
    /// come, any other for the tunnel, which may turn out to carry something else.
    fn keep_secured(&self, stream: MessageStream, route: &Route<'_>) -> Secured {
        if !stream.is_named_http() {
            return Secured::Unnamed(Box::new(stream));
        }
        let speaks_http2 = stream.speaks_http2();
        self.generation.connector.pool().put(route, stream);
        Secured::Http { speaks_http2 }
    }

    pub(super) async fn promise_tunnel(
        &mut self,
        client: &mut MessageStream,
    ) -> Result<(), ExchangeError> {
        let stall = self.timeouts().stall;
        client
            .writer()
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n", stall)
            .await
            .map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))?;
        self.record.answered = 200;
        self.record.answered_by = AnsweredBy::Proxy("connected");
        Ok(())
    }

    /// How the tunnel begins, and what becomes of it as far as that is known already.
    fn approach(&self) -> (Approach, Treatment) {
        let (host, port) = (self.head.host(), self.head.port());
        let interception = self.generation.interception.as_ref();
        let treatment = match interception {
            Some(interception) => interception.treatment(self.client.facts.client.ip(), host, port),
            None => Treatment::Relay(RelayReason::NoInterception),
        };
        // The certificate of an address is seldom for the address, nor that of a front for the front: the name comes with
        // the client's hello.
        let is_clear = interception::is_address(host)
            || CLEAR_PORTS.contains(&port)
            || interception.is_some_and(|interception| {
                interception.clear.knows(host, port) || interception.allows_fronting(host)
            });
        let approach = if treatment == Treatment::Intercept && !is_clear {
            Approach::Secure
        } else {
            self.approach_in_clear(treatment)
        };
        (approach, treatment)
    }

    /// How a tunnel begins whose upstream's TLS is not looked at first: there is nothing to see if nobody wants to.
    fn approach_in_clear(&self, treatment: Treatment) -> Approach {
        let listens = |hook| {
            let session = self.session.as_ref();
            session.is_some_and(|session| session.has_listeners(hook))
        };
        let may_intercept = self.generation.interception.is_some();
        let is_address = interception::is_address(self.head.host());
        match !matches!(treatment, Treatment::Relay(_))
            || listens(Hook::HandleTlsHello)
            || may_intercept && (is_address || listens(Hook::DoIntercept))
        {
            true => Approach::Clear,
            false => Approach::Unseen,
        }
    }

    /// What becomes of a tunnel whose upstream speaks no TLS, or none that can be ended here; `None`: it is refused.
    fn may_go_on_in_clear(&self, error: &ExchangeError) -> Option<Treatment> {
        let interception = self.generation.interception.as_ref()?;
        let (host, port) = (self.head.host(), self.head.port());
        let fault = tls_fault(error)?;
        // One that is silent may wait for something else than TLS. If the client speaks TLS, that is tried again.
        if fault.is_not_tls() || fault.is_silence() {
            interception.clear.remember(host, port);
            return Some(Treatment::Intercept);
        }
        if fault.is_version_too_old() && interception.skips_verification(host) {
            tracing::warn!(
                client.address = %self.client.facts.client,
                host,
                port,
                "a host in insecure_hosts supports only obsolete TLS versions: relaying without decryption"
            );
            return Some(Treatment::RelayTls(RelayReason::OldTls));
        }
        None
    }

    // ---- while the tunnel is looked at -------------------------------------------------------------------------------

    pub(crate) fn host(&self) -> &str {
        self.head.host()
    }

    pub(crate) fn port(&self) -> u16 {
        self.head.port()
    }

    /// A connection for a tunnel that has been promised, to be relayed: to where its request has led.
    pub(crate) async fn reach_in_clear(
        &mut self,
        client: &MessageStream,
    ) -> Result<MessageStream, ExchangeError> {
        let half_closed = self.timeouts().half_closed;
        let route = self.route(&self.tunnel.destination);
        let connected = async {
            upstream::connect(&self.generation.connector, &route, Freshness::Any)
                .await
                .map_err(|error| ExchangeError::new(Peer::Upstream, Step::Dial, error))
        };
        Ok(unless_gone(client.gone(half_closed), connected)
            .await?
            .stream)
    }

    /// Keeps a connection that was to be relayed for the requests that come through the tunnel instead.
    pub(crate) fn pool_clear(&self, upstream: MessageStream) {
        let route = self.route(&self.tunnel.destination);
        if route.parent.is_none() {
            self.generation.connector.pool().put(&route, upstream);
        }
    }

    /// Keeps a connection on which TLS has begun for the requests that come through the tunnel.
    pub(crate) fn pool_secured(&self, origin: &Origin, upstream: MessageStream) {
        self.generation
            .connector
            .pool()
            .put(&self.route_inside(origin), upstream);
    }

    /// The way of what comes through the tunnel by TLS.
    fn route_inside<'a>(&'a self, origin: &'a Origin) -> Route<'a> {
        let mut route = self.route(&self.tunnel.destination);
        // Where plugins have sent the tunnel, the client's name for its host does not lead.
        if route.host == self.head.host() {
            let found = route.addresses;
            route = origin.lead(&origin.host, route);
            if !found.is_empty() {
                route.addresses = found;
            }
        }
        route.scheme = Scheme::Https;
        route.versions = HttpVersions::Any;
        Route {
            versions: self.versions(&route),
            ..route
        }
    }

    /// A connection on which TLS with the origin has begun without naming HTTP (ALPN).
    pub(crate) async fn reach_unnamed(
        &self,
        client: &MessageStream,
        origin: &Origin,
    ) -> Result<MessageStream, ExchangeError> {
        let route = Route {
            versions: HttpVersions::Unnamed,
            ..self.route_inside(origin)
        };
        let connected = async {
            upstream::connect(&self.generation.connector, &route, Freshness::Any)
                .await
                .map_err(|error| ExchangeError::new(Peer::Upstream, Step::Dial, error))
        };
        let half_closed = self.timeouts().half_closed;
        let reached = unless_gone(client.gone(half_closed), connected).await?;
        Ok(reached.stream)
    }

    /// Begins TLS with the origin, as far as that can be done already. What fails here fails again for the first request,
    /// and is told there.
    ///
    /// # Errors
    /// There is no TLS, and whether that is because the origin does not speak it.
    pub(crate) async fn try_tls(
        &self,
        client: &MessageStream,
        origin: &Origin,
    ) -> Result<Secured, FailedTls> {
        let route = self.route_inside(origin);
        let reached = match upstream::idle(&self.generation.connector, &route, Freshness::Any) {
            Some(reached) => reached,
            None => {
                let half_closed = self.timeouts().half_closed;
                let connected = async {
                    upstream::connect(&self.generation.connector, &route, Freshness::Any)
                        .await
                        .map_err(|error| ExchangeError::new(Peer::Upstream, Step::Dial, error))
                };
                unless_gone(client.gone(half_closed), connected)
                    .await
                    .map_err(|error| FailedTls::of(&error))?
            }
        };
        Ok(self.keep_secured(reached.stream, &route))
    }

    /// Shows the plugins what the client has said. `Err`: its tunnel is to be closed, and why.
    pub(crate) async fn show_hello(
        &mut self,
        client: &MessageStream,
        hello: Option<Box<ShownHello>>,
    ) -> Result<(), String> {
        let half_closed = self.timeouts().half_closed;
        let (Some(session), Some(hello)) = (&self.session, hello) else {
            return Ok(());
        };
        session.show_hello(hello);
        if session.has_listeners(Hook::HandleTlsHello) {
            let subject = Subject {
                request: &mut self.head,
                response: None,
            };
            let walk = async { Ok(session.run(Hook::HandleTlsHello, subject).await) };
            match unless_gone(client.gone(half_closed), walk).await {
                Ok(Verdict::Proceed | Verdict::Retry) => {}
                Ok(Verdict::Reply(_, plugin) | Verdict::Close(plugin)) => {
                    return Err(format!("closed by {plugin}"));
                }
                Ok(Verdict::Failed(failure)) => {
                    self.report(&ExchangeError::new(Peer::Plugin, Step::Hook, failure));
                    return Err("a plugin failed".to_owned());
                }
                Err(_) => return Err("the client disconnected".to_owned()),
            }
        }
        Ok(())
    }

    /// Whether a plugin will be asked if the client's TLS is to be ended here.
    pub(crate) fn asks_about_interception(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.has_listeners(Hook::DoIntercept))
    }

    /// Asks the plugins whether the client's TLS is to be ended here. `Err`: its tunnel is to be closed, and why.
    pub(crate) fn ask_about_interception(
        &self,
        is_server_name_proven: bool,
    ) -> Result<Option<bool>, String> {
        let Some(session) = &self.session else {
            return Ok(None);
        };
        session.set_server_name_proven(is_server_name_proven);
        session
            .ask_about_interception(&self.head)
            .map_err(|_| "a plugin failed".to_owned())
    }

    /// Says in the access log why the tunnel is relayed.
    pub(crate) fn note_relay(&mut self, reason: RelayReason) {
        self.record.note = reason.note().map(str::to_owned);
    }

    /// Says in the log that a tunnel leads nowhere, since TLS with its upstream failed.
    pub(crate) fn fail_unnamed(self, error: &ExchangeError) {
        self.report(error);
        self.finish_look("closed, not HTTP, and TLS with the upstream failed");
    }

    /// Says in the access log why a tunnel was closed that was to be relayed.
    pub(crate) fn note_guarded(&mut self) {
        let note = "closed, HTTP or TLS after the upstream spoke first";
        self.record.note = Some(note.to_owned());
    }

    /// Whether plugins have sent the tunnel to another host than the client has asked for.
    pub(crate) fn is_redirected(&self) -> bool {
        self.redirected().is_some()
    }

    /// Ends an exchange whose tunnel is not relayed, but served or closed.
    pub(crate) fn finish_look(mut self, note: &str) {
        self.record.note = Some(note.to_owned());
        self.finish();
    }

    /// Ends an exchange whose tunnel has been promised and leads nowhere.
    pub(crate) fn fail_tunnel(self, error: &ExchangeError) {
        self.report(error);
        self.finish_look("closed, no connection to the upstream");
    }
}

/// TLS with the upstream of a tunnel.
pub(crate) enum Secured {
    /// It has named HTTP (ALPN). Its connection is kept for the requests to come.
    Http { speaks_http2: bool },
    /// It has named nothing, and may be a server of HTTP/1.1 or of something else.
    /// Boxed, as it would make every idle client connection larger.
    Unnamed(Box<MessageStream>),
}

impl Secured {
    pub(crate) fn speaks_http2(&self) -> bool {
        matches!(self, Self::Http { speaks_http2: true })
    }
}

/// How TLS with an upstream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedTls {
    /// It speaks TLS, but is not accepted or does not go on.
    Spoken,
    /// It does not speak TLS, or cannot be reached.
    Unspoken,
}

impl FailedTls {
    fn of(error: &ExchangeError) -> Self {
        match tls_fault(error) {
            Some(TlsFault::Certificate(_) | TlsFault::Alert(_) | TlsFault::Protocol(_)) => {
                Self::Spoken
            }
            _ => Self::Unspoken,
        }
    }
}

fn tls_fault(error: &ExchangeError) -> Option<&TlsFault> {
    match &error.cause {
        Cause::Dial(error) => match &error.failure {
            DialFailure::Tls(failure) => Some(&failure.fault),
            _ => None,
        },
        _ => None,
    }
}
