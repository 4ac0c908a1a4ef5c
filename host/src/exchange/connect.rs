//! CONNECT: a tunnel, relayed or intercepted.
//!
//! If TLS is going to be intercepted, TLS with the upstream comes first: a client gets its 200 only if the upstream is
//! reachable and authentic, and otherwise the reason. An upstream that does not speak TLS is connected without it, and
//! then the bytes of the client decide.

use std::rc::Rc;

use super::client::ClientProtocol;
use super::conclusion::{Conclusion, Detection, Tunnel, UpstreamTls};
use super::decide::Decided;
use super::origin::OwnTunnel;
use super::state::Exchange;
use crate::error::{ExchangeError, Peer, Step};
use crate::http1::Scheme;
use crate::interception::{self, RelayReason, Treatment};
use crate::plugins::{AnsweredBy, Hook};
use crate::socks5::server::SocksReply;
use crate::stream::MessageStream;
use crate::upstream::{Freshness, HttpVersions, Route, TlsFault};

/// Ports of protocols that do not begin with TLS: servers there may wait for a line of text.
const CLEAR_PORTS: [u16; 4] = [21, 22, 25, 80];

impl Exchange {
    /// Connects to the upstream, and only then announces a tunnel.
    pub(super) async fn connect(
        &mut self,
        decided: Decided,
        client: &mut MessageStream,
    ) -> Result<Tunnel, Conclusion> {
        self.note_decided();
        let mut detection = match self.reach_tunnel(&decided, client).await {
            Ok(detection) => detection,
            Err(Conclusion::Itself) => return self.tunnel_here(client).await,
            Err(conclusion) => return Err(conclusion),
        };
        let destination = std::mem::take(&mut self.routing.tunnel.destination);
        self.select_timeouts(Some(&destination));
        self.routing.tunnel.destination = destination;
        self.announce_tunnel(client).await?;
        if let Treatment::Relay(reason) = detection.treatment
            && !self.needs_detection()
            && let Some(upstream) = detection.upstream.take()
        {
            self.note_relay(reason);
            return Ok(Tunnel::Relay(upstream));
        }
        Ok(Tunnel::Detect(detection))
    }

    /// Connects to the upstream of a tunnel, with TLS if that is to be intercepted.
    async fn reach_tunnel(
        &mut self,
        decided: &Decided,
        client: &mut MessageStream,
    ) -> Result<Detection, Conclusion> {
        let mut treatment = self.treatment();
        if treatment == Treatment::Intercept && !self.is_clear_first() {
            self.routing.tunnel.scheme = Scheme::Https;
            let secured = self.reach_tls(decided, client).await;
            self.routing.tunnel.scheme = Scheme::Http;
            match secured {
                Ok(upstream_tls) => {
                    return Ok(Detection {
                        upstream: None,
                        treatment,
                        upstream_tls: Some(upstream_tls),
                    });
                }
                Err(Conclusion::Failed(failure)) => {
                    let without_tls = self.treatment_without_tls(&failure.error);
                    treatment = without_tls.ok_or(failure)?;
                }
                Err(conclusion) => return Err(conclusion),
            }
        }
        let connected = self.reach(decided, client, Freshness::New).await?;
        self.routing.tunnel.destination = connected.destination;
        Ok(Detection {
            upstream: Some(connected.upstream.stream),
            treatment,
            upstream_tls: None,
        })
    }

    /// Sets up TLS with the upstream of a tunnel. If the upstream accepts no protocol that is offered, without ALPN: it
    /// speaks another protocol than HTTP or does not name it, and the bytes of the client will decide.
    async fn reach_tls(
        &mut self,
        decided: &Decided,
        client: &mut MessageStream,
    ) -> Result<UpstreamTls, Conclusion> {
        let failure = match self.reach(decided, client, Freshness::Any).await {
            Ok(connected) => {
                let route = self.route(&connected.destination);
                let upstream_tls = self.keep_secured(connected.upstream.stream, &route);
                self.routing.tunnel.destination = connected.destination;
                return Ok(upstream_tls);
            }
            Err(Conclusion::Failed(failure))
                if failure
                    .error
                    .tls_fault()
                    .is_some_and(TlsFault::is_no_protocol) =>
            {
                failure
            }
            Err(conclusion) => return Err(conclusion),
        };
        self.routing.tunnel.versions = HttpVersions::Unnamed;
        let unnamed = self.reach(decided, client, Freshness::New).await;
        self.routing.tunnel.versions = HttpVersions::Any;
        match unnamed {
            Ok(connected) => {
                self.routing.tunnel.destination = connected.destination;
                Ok(UpstreamTls::Unnamed(Box::new(connected.upstream.stream)))
            }
            Err(Conclusion::Failed(_) | Conclusion::Itself) => Err(failure.into()),
            Err(answered) => Err(answered),
        }
    }

    /// Keeps a connection with TLS: in the pool if HTTP was negotiated by ALPN, otherwise for the tunnel, which may turn out
    /// to carry another protocol.
    pub(super) fn keep_secured(&self, stream: MessageStream, route: &Route<'_>) -> UpstreamTls {
        if !stream.is_named_http() {
            return UpstreamTls::Unnamed(Box::new(stream));
        }
        let speaks_http2 = stream.speaks_http2();
        self.generation.connector.pool().put(route, stream);
        UpstreamTls::Http { speaks_http2 }
    }

    async fn announce_tunnel(&mut self, client: &mut MessageStream) -> Result<(), ExchangeError> {
        let stall = self.timeouts().stall;
        let announcement: &[u8] = match self.client.protocol {
            ClientProtocol::Http => b"HTTP/1.1 200 Connection established\r\n\r\n",
            ClientProtocol::Socks5 => &SocksReply::Succeeded.encode(),
        };
        client
            .writer()
            .write_all(announcement, stall)
            .await
            .map_err(|error| ExchangeError::io(Peer::Client, Step::SendHead, error))?;
        self.record.answered = 200;
        self.record.answered_by = AnsweredBy::Proxy("connected");
        Ok(())
    }

    /// What the configuration says about the tunnel.
    fn treatment(&self) -> Treatment {
        let (host, port) = (self.request.head.host(), self.request.head.port());
        match self.generation.interception.as_ref() {
            Some(interception) => interception.treatment(self.client.facts.client.ip(), host, port),
            None => Treatment::Relay(RelayReason::NoInterception),
        }
    }

    /// Whether the upstream of a tunnel to be intercepted is connected without TLS at first. The certificate of an
    /// address is seldom for the address, nor that of a front for the front: the name comes with the ClientHello.
    fn is_clear_first(&self) -> bool {
        let (host, port) = (self.request.head.host(), self.request.head.port());
        let interception = self.generation.interception.as_ref();
        interception::is_address(host)
            || CLEAR_PORTS.contains(&port)
            || interception.is_some_and(|interception| {
                interception.clear.knows(host, port) || interception.allows_fronting(host)
            })
    }

    /// Whether the protocol of a tunnel is detected although the tunnel is relayed in any case: for plugins, or because
    /// the ClientHello may change that.
    fn needs_detection(&self) -> bool {
        let listens = |hook| {
            let plugins = self.plugins.as_ref();
            plugins.is_some_and(|plugins| plugins.has_listeners(hook))
        };
        let may_intercept = self.generation.interception.is_some();
        let is_address = interception::is_address(self.request.head.host());
        listens(Hook::HandleTlsHello) || may_intercept && (is_address || listens(Hook::DoIntercept))
    }

    /// The treatment of a tunnel whose upstream does not speak TLS, or only obsolete versions; `None`: it is refused.
    fn treatment_without_tls(&self, error: &ExchangeError) -> Option<Treatment> {
        let interception = self.generation.interception.as_ref()?;
        let (host, port) = (self.request.head.host(), self.request.head.port());
        let fault = error.tls_fault()?;
        // A silent upstream may wait for another protocol. If the client speaks TLS, TLS is tried again.
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

    /// Opens a tunnel to this proxy itself.
    async fn tunnel_here(&mut self, client: &mut MessageStream) -> Result<Tunnel, Conclusion> {
        self.announce_tunnel(client).await?;
        let user = self.user();
        Ok(Tunnel::Own(Rc::new(OwnTunnel {
            port: self.request.head.port(),
            user,
        })))
    }

    /// Records for the access log why the tunnel is relayed.
    pub(super) fn note_relay(&mut self, reason: RelayReason) {
        self.record.note = reason.note().map(str::to_owned);
    }
}
