//! A tunnel that may be intercepted: the protocol of its client is detected before anything is relayed.
//!
//! The upstream is known and the client has got its 200. Then the first bytes of the client decide: TLS is terminated
//! with a certificate for the host, or relayed without decryption if plugins or the configuration require it; anything
//! that begins like HTTP is served or refused, but never relayed; anything that cannot be HTTP is relayed or closed, as
//! configured. If the upstream sends first, the bytes of the client are checked in the same way. The access log has the
//! reason for every relay and every close.

mod inside;

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::Accepted;
use rustls::{AlertDescription, ServerConfig};
use tokio_rustls::{StartHandshake, TlsStream};

use super::{Ends, message_stream, run_tunnel, serve_http1, spawn};
use crate::config::UnknownProtocol;
use crate::exchange::{
    Connection, DetectStart, Detection, Origin, TunnelExchange, TunnelStart, UpstreamTls,
};
use crate::http1::Scheme;
use crate::interception::ca::MintError;
use crate::interception::{
    Hello, HelloReader, Interception, Leaf, OfferedProtocols, Opening, RefusedProtocols,
    RelayReason, Treatment, is_address,
};
use crate::server_tls::Protocols;
use crate::stream::MessageStream;
use crate::transport::Transport;

use inside::Inside;

/// A fatal alert: the server name is unknown (RFC 6066 §3).
const UNRECOGNIZED_NAME: &[u8] = b"\x15\x03\x03\x00\x02\x02\x70";
/// A fatal alert: none of the offered protocols is supported (RFC 7301 §3.2).
const NO_APPLICATION_PROTOCOL: &[u8] = b"\x15\x03\x03\x00\x02\x02\x78";
/// A fatal alert: the handshake failed (RFC 8446 §6.2).
const HANDSHAKE_FAILURE: &[u8] = b"\x15\x03\x03\0\x02\x02\x28";

/// A tunnel whose protocol is being detected.
struct OpenTunnel {
    exchange: TunnelExchange,
    known: Detection,
    /// Protocols that end the tunnel if the client turns out to speak them while it is relayed.
    refused: Option<RefusedProtocols>,
}

/// Detects the protocol, and serves the tunnel to its end.
pub(super) async fn run(
    mut client: MessageStream,
    start: Box<DetectStart>,
    connection: Connection,
    ends: Ends,
) {
    let DetectStart {
        exchange,
        detection,
    } = *start;
    let mut tunnel = OpenTunnel {
        exchange,
        known: detection,
        refused: None,
    };
    let begun = match tunnel.begun(&mut client).await {
        Ok(begun) => begun,
        Err(error) => {
            tracing::debug!(client.address = %connection.client, %error, "the client sent nothing through a tunnel");
            return tunnel.exchange.finish("closed, the client sent nothing");
        }
    };
    let opening = match (begun, tunnel.known.treatment) {
        (Begun::ByClient(Opening::Tls), _) => {
            return Box::pin(tunnel.answer_tls(client, connection, ends)).await;
        }
        (Begun::ByUpstream, treatment) => {
            let reason = match treatment {
                Treatment::Relay(reason) => reason,
                _ => RelayReason::Unknown,
            };
            return tunnel.relay_unknown(reason, client, ends).await;
        }
        (_, Treatment::Relay(reason)) => {
            return tunnel.relay(reason, client, ends).await;
        }
        (Begun::Never, _) => {
            let reason = RelayReason::Nothing;
            return tunnel.relay_unknown(reason, client, ends).await;
        }
        (Begun::ByClient(opening), _) => opening,
    };
    match opening {
        Opening::Http => {
            let origin = tunnel.exchange.origin(Scheme::Http);
            if let Some(upstream) = tunnel.known.upstream.take() {
                tunnel.exchange.pool_clear(upstream);
            }
            tunnel.exchange.finish("served as plain HTTP");
            let connection = Connection {
                origin: Some(Rc::new(origin)),
                ..connection
            };
            tokio::task::spawn_local(serve_http1(client, connection, ends));
        }
        Opening::Http2 => {
            tracing::warn!(
                client.address = %connection.client,
                host = tunnel.exchange.host(),
                "a client speaks plain HTTP/2, which cannot be intercepted: closing its tunnel"
            );
            tunnel.exchange.finish("closed, plain HTTP/2");
        }
        Opening::Ssl2 => tunnel.exchange.finish("closed, SSL 2 ClientHello"),
        Opening::Other | Opening::Undecided | Opening::Tls => {
            let reason = RelayReason::Unknown;
            tunnel.relay_unknown(reason, client, ends).await;
        }
    }
}

/// Which side has sent first.
enum Begun {
    /// The client; its bytes are this.
    ByClient(Opening),
    /// The upstream, before the client has sent enough to detect its protocol.
    ByUpstream,
    /// Neither: the client has closed its direction without a byte.
    Never,
}

impl OpenTunnel {
    /// Waits until the client has sent enough to detect its protocol, or the upstream sends first.
    async fn begun(&mut self, client: &mut MessageStream) -> io::Result<Begun> {
        let is_unseen = matches!(self.known.treatment, Treatment::Relay(_));
        let timeouts = self.exchange.generation().config.timeouts;
        let tunnel_idle = self.exchange.timeouts().tunnel_idle;
        let mut from_client = client.reader();
        let mut from_upstream = self.known.upstream.as_mut().map(MessageStream::reader);
        // With TLS the client sends first; without, either side may, at any time.
        from_client.deadline().arm(match &from_upstream {
            None => timeouts.client_idle,
            Some(from_upstream) => {
                from_upstream.deadline().arm(tunnel_idle);
                tunnel_idle
            }
        });
        loop {
            let received = from_client.buffered();
            let opening = match Opening::of(received) {
                // Its protocol makes no difference.
                opening if is_unseen && !received.is_empty() && opening != Opening::Tls => {
                    Opening::Other
                }
                opening => opening,
            };
            let has_begun = !received.is_empty();
            if opening != Opening::Undecided {
                return Ok(Begun::ByClient(opening));
            }
            let filled = std::future::poll_fn(|cx| {
                if let Some(from_upstream) = &mut from_upstream
                    && from_upstream.poll_fill(cx).is_ready()
                {
                    return std::task::Poll::Ready(None);
                }
                from_client.poll_fill(cx).map(Some)
            });
            match filled.await {
                None => return Ok(Begun::ByUpstream),
                Some(Ok(0)) if has_begun => {
                    return Ok(Begun::ByClient(Opening::of_all(from_client.buffered())));
                }
                Some(Ok(0)) if from_upstream.is_none() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Some(Ok(0)) => return Ok(Begun::Never),
                Some(Ok(_)) if !has_begun => from_client.deadline().arm(timeouts.header_read),
                Some(Ok(_)) => {}
                // Late, too: stalling must not bypass inspection.
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Relays a tunnel whose protocol is unknown, or closes it, as configured. The first bytes of a client that has not
    /// sent any yet are checked when they arrive.
    async fn relay_unknown(mut self, reason: RelayReason, client: MessageStream, ends: Ends) {
        let unknown = match (
            &self.exchange.generation().interception,
            self.known.treatment,
        ) {
            (_, Treatment::Relay(_)) | (None, _) => UnknownProtocol::Relay,
            (Some(interception), _) => interception.unknown,
        };
        if unknown == UnknownProtocol::Close {
            return self.exchange.finish(match reason {
                RelayReason::Nothing => "closed, the client sent nothing",
                _ => "closed, not HTTP or TLS",
            });
        }
        self.refused = Some(match self.known.treatment {
            Treatment::Relay(_) => RefusedProtocols::Tls,
            Treatment::Intercept | Treatment::RelayTls(_) => RefusedProtocols::TlsAndHttp,
        });
        self.relay(reason, client, ends).await;
    }

    /// Relays the tunnel without decryption.
    async fn relay(mut self, reason: RelayReason, client: MessageStream, ends: Ends) {
        self.exchange.note_relay(reason);
        let upstream = match self.known.upstream.take() {
            Some(upstream) => upstream,
            None => match self.exchange.reach_in_clear(&client).await {
                Ok(upstream) => upstream,
                Err(error) => {
                    self.exchange.fail(&error);
                    return client.reset_on_close();
                }
            },
        };
        let start = TunnelStart {
            refused: self.refused,
            exchange: self.exchange,
            upstream,
        };
        run_tunnel(client, Box::new(start), ends).await;
    }

    /// The client speaks TLS: reads its ClientHello, and decides whether it is intercepted, relayed or closed.
    async fn answer_tls(mut self, mut client: MessageStream, connection: Connection, ends: Ends) {
        let address = connection.client;
        let read = read_hello(&mut client, &connection).await;
        let (accepted, taken) = match read {
            Ok(read) => read,
            Err(unread) => {
                if let Some((hello, reason)) = self.odd_hello(&mut client) {
                    return self.relay_odd(hello, reason, client, ends).await;
                }
                tracing::warn!(
                    client.address = %address,
                    host = self.exchange.host(),
                    error = %unread.error,
                    "TLS handshake with a client failed, invalid ClientHello: closing its tunnel"
                );
                refuse_hello(&mut client, &unread.alert, &connection).await;
                return self.exchange.finish("closed, invalid ClientHello");
            }
        };
        let mut hello = Hello::of(&accepted);
        let shown = self.exchange.show_hello(&client, hello.take_shown());
        if let Err(note) = shown.await {
            return self.exchange.finish(&note);
        }
        let Some(interception) = self.exchange.generation().interception.clone() else {
            let reason = RelayReason::NoInterception;
            return self.relay(reason, client, ends).await;
        };
        let server_name = hello.server_name.as_deref();
        let is_proven = self.proves(server_name, &client, &interception).await;
        let opinion = match self.exchange.ask_about_interception(is_proven) {
            Ok(opinion) => opinion,
            Err(note) => return self.exchange.finish(&note),
        };
        let (host, port) = (self.exchange.host(), self.exchange.port());
        let treatment = match (opinion, server_name) {
            (Some(true), _) => Treatment::Intercept,
            (Some(false), _) => Treatment::Relay(RelayReason::Plugin),
            (None, Some(name))
                if is_address(host) || name != host && interception.allows_fronting(host) =>
            {
                interception.treatment_of_name(address.ip(), host, (name, is_proven), port)
            }
            (None, _) => self.known.treatment,
        };
        if let Treatment::Relay(reason) | Treatment::RelayTls(reason) = treatment {
            return self.relay(reason, client, ends).await;
        }
        if !hello.protocols.is_http() {
            // Upstreams may ignore the offer and serve HTTP nevertheless.
            if interception.relays_protocols(accepted.client_hello().alpn().into_iter().flatten()) {
                let reason = RelayReason::Protocol;
                return self.relay(reason, client, ends).await;
            }
            refuse_hello(&mut client, NO_APPLICATION_PROTOCOL, &connection).await;
            return self
                .exchange
                .finish("closed, the client offers no h2 or http/1.1 (ALPN)");
        }
        let host = self.exchange.host();
        let is_front = interception.allows_fronting(host);
        let name = match name_asked_for(host, is_front, hello.server_name.as_deref()) {
            Ok(name) => name,
            Err(server_name) => {
                tracing::warn!(
                    client.address = %address,
                    host = self.exchange.host(),
                    server_name,
                    "the server name (SNI) of a client differs from the host of its CONNECT: closing its tunnel"
                );
                refuse_hello(&mut client, UNRECOGNIZED_NAME, &connection).await;
                return self.exchange.finish("closed, SNI and CONNECT differ");
            }
        };
        let mut origin = self.exchange.origin(Scheme::Https);
        origin.rename(&name);
        if self.known.upstream_tls.is_none() {
            let is_unspoken = match self.exchange.try_tls(&client, &origin).await {
                Ok(secured) => {
                    self.known.upstream_tls = Some(secured);
                    false
                }
                Err(error) => !error.is_after_tls(),
            };
            let is_invented = name != self.exchange.host() && is_unspoken;
            if is_invented && interception.certificates.cached(&name).is_none() {
                refuse_hello(&mut client, HANDSHAKE_FAILURE, &connection).await;
                let note = "closed, TLS with the upstream failed for the server name of the client";
                return self.exchange.finish(note);
            }
        }
        // Plain TCP that was to be relayed.
        drop(self.known.upstream.take());
        let leaf = match interception.certificates.cached(&name) {
            Some(leaf) => leaf,
            None => match self.leaf(&interception, &name).await {
                Ok(leaf) => leaf,
                Err(error) => {
                    tracing::error!(client.address = %address, host = name, %error, "cannot create a certificate");
                    return self
                        .exchange
                        .finish("closed, creating a certificate failed");
                }
            },
        };
        let speaks_http2 = self
            .known
            .upstream_tls
            .as_ref()
            .map(UpstreamTls::speaks_http2);
        let protocols = choose(hello.protocols, speaks_http2);
        let config = leaf.server_config(protocols);
        match shake_hands(client, accepted, taken, config, &connection).await {
            Ok(transport) if !hello.names_protocols => {
                let mut connection = connection;
                connection.note_tls(&transport);
                let inside = Inside {
                    tunnel: self,
                    origin,
                    client: message_stream(transport, &connection),
                };
                // A task of its own: the memory of the handshake is freed.
                tokio::task::spawn_local(inside.serve(connection, ends));
            }
            Ok(transport) => {
                self.pool_secured(&origin);
                self.exchange.finish("intercepted");
                let mut connection = Connection {
                    origin: Some(Rc::new(origin)),
                    is_http2: transport.speaks_http2(),
                    ..connection
                };
                connection.note_tls(&transport);
                // A task of its own: the memory of the handshake is freed.
                spawn(transport, connection, ends);
            }
            Err(error) => {
                let refused = is_refusal(&error);
                let lifetime = interception.rejected.lifetime();
                if refused {
                    let (host, port) = (self.exchange.host(), self.exchange.port());
                    interception.reject(address.ip(), host, &name, port);
                }
                if refused && !lifetime.is_zero() {
                    tracing::warn!(
                        client.address = %address,
                        host = name,
                        %error,
                        "a client rejected our certificate: its TLS with this host is relayed without decryption for \
                         {lifetime:?}"
                    );
                } else {
                    tracing::warn!(client.address = %address, host = name, %error, "TLS handshake with an intercepted client failed");
                }
                self.exchange.finish("closed, TLS with the client failed");
            }
        }
    }
}

impl OpenTunnel {
    /// A ClientHello that rustls rejects, if the TLS of its host is relayed anyway: the name of the host is invalid, or the
    /// host supports only obsolete versions. The ClientHello must be for the tunnel's host.
    fn odd_hello(&self, client: &mut MessageStream) -> Option<(Hello, RelayReason)> {
        let reader = client.reader();
        let received = reader.buffered();
        let host = self.exchange.host();
        let (hello, reason) = match self.known.treatment {
            Treatment::RelayTls(RelayReason::NameInvalid) => (
                Hello::from_unusable_name(received)?,
                RelayReason::NameInvalid,
            ),
            Treatment::RelayTls(RelayReason::OldTls) => {
                (Hello::scanned(received)?, RelayReason::OldTls)
            }
            _ => return None,
        };
        let is_for_host = hello.server_name.as_deref().is_none_or(|name| name == host);
        is_for_host.then_some((hello, reason))
    }

    /// Relays TLS that cannot be terminated, if plugins allow it.
    async fn relay_odd(
        mut self,
        mut hello: Hello,
        reason: RelayReason,
        client: MessageStream,
        ends: Ends,
    ) {
        let shown = self.exchange.show_hello(&client, hello.take_shown());
        if let Err(note) = shown.await {
            return self.exchange.finish(&note);
        }
        let is_proven = !self.exchange.is_redirected();
        match self.exchange.ask_about_interception(is_proven) {
            Err(note) => self.exchange.finish(&note),
            Ok(Some(true)) => self.exchange.finish(match reason {
                RelayReason::NameInvalid => {
                    "closed, no certificate can be issued for this host name"
                }
                _ => "closed, the client speaks only old versions of TLS",
            }),
            Ok(opinion) => {
                let reason = match opinion {
                    Some(_) => RelayReason::Plugin,
                    None => reason,
                };
                self.relay(reason, client, ends).await;
            }
        }
    }

    /// The certificate for `name`. Without TLS with the upstream it is not stored: it is for this connection alone, whose
    /// requests are answered with the error.
    async fn leaf(&self, interception: &Interception, name: &str) -> Result<Arc<Leaf>, MintError> {
        match self.known.upstream_tls {
            Some(_) => interception.certificates.leaf(name).await,
            None => interception.certificates.transient_leaf(name).await,
        }
    }
}

impl OpenTunnel {
    /// Puts a connection to the upstream without ALPN into the pool, for the first request.
    fn pool_secured(&mut self, origin: &Origin) {
        if let Some(UpstreamTls::Unnamed(upstream)) = self.known.upstream_tls.take() {
            self.exchange.pool_secured(origin, *upstream);
        }
    }
}

/// Sends a fatal alert. The tunnel is closed in any case.
async fn refuse_hello(client: &mut MessageStream, alert: &[u8], connection: &Connection) {
    let stall = connection.current.get().config.timeouts.stall;
    let _ = client.writer().write_all(alert, stall).await;
}

impl OpenTunnel {
    /// Whether the server name of the client is proven to be the upstream's: the tunnel was requested for that name, or the
    /// certificate at the tunnel's address is valid for it. Checked only if it decides whether the tunnel is relayed
    /// without decryption: a mere claim must not lead to that.
    async fn proves(
        &mut self,
        server_name: Option<&str>,
        client: &MessageStream,
        interception: &Interception,
    ) -> bool {
        let Some(name) = server_name else {
            return false;
        };
        let host = self.exchange.host();
        if !is_address(host) {
            return name == host && !self.exchange.is_redirected();
        }
        let decides = interception.excludes(name) || self.exchange.asks_about_interception();
        if !decides || self.exchange.is_redirected() || interception.skips_verification(name) {
            return false;
        }
        let mut origin = self.exchange.origin(Scheme::Https);
        origin.rename(name);
        self.known.upstream_tls = self.exchange.try_tls(client, &origin).await.ok();
        self.known.upstream_tls.is_some()
    }
}

/// Reads the ClientHello; the length of it in the buffer.
async fn read_hello(
    client: &mut MessageStream,
    connection: &Connection,
) -> Result<(Accepted, usize), UnreadHello> {
    let timeouts = connection.current.get().config.timeouts;
    let mut hello = HelloReader::new();
    let mut reader = client.reader();
    reader.deadline().arm(timeouts.header_read);
    loop {
        match hello.read(reader.buffered()) {
            Ok(Some(accepted)) => return Ok((accepted, hello.taken())),
            Ok(None) => {}
            Err(refused) => {
                return Err(UnreadHello {
                    error: io::Error::other(refused.reason),
                    alert: refused.alert,
                });
            }
        }
        let error = match reader.fill().await {
            Ok(0) => io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => continue,
            Err(error) => error,
        };
        return Err(UnreadHello {
            error,
            alert: Vec::new(),
        });
    }
}

/// There is no ClientHello, or an invalid one.
struct UnreadHello {
    error: io::Error,
    /// The alert for the client; may be empty.
    alert: Vec<u8>,
}

async fn shake_hands(
    client: MessageStream,
    accepted: Accepted,
    taken: usize,
    config: Arc<ServerConfig>,
    connection: &Connection,
) -> io::Result<Transport> {
    let (transport, mut received) = client.into_parts();
    received.drain(..taken.min(received.len()));
    let (layer, carrier) = transport.into_layer_behind(received);
    let deadline = connection.worker.deadlines.slot();
    deadline.arm(connection.current.get().config.timeouts.header_read);
    let handshake = StartHandshake::from_parts(accepted, layer).into_stream(config);
    match deadline.bound(handshake).await {
        Some(session) => Ok(Transport::tls(TlsStream::Server(session?), carrier)),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The name that the client expects in the certificate; `Err`: its server name differs from the host of its CONNECT.
fn name_asked_for(host: &str, is_front: bool, server_name: Option<&str>) -> Result<String, String> {
    let host_name = host.trim_end_matches('.');
    match server_name {
        Some(name) if is_front || is_address(host) => Ok(name.to_owned()),
        Some(name) if name != host_name => Err(name.to_owned()),
        _ => Ok(host_name.to_owned()),
    }
}

/// The client gets the protocol of the upstream if it offers that; otherwise this proxy converts.
fn choose(offered: OfferedProtocols, upstream_speaks_http2: Option<bool>) -> Protocols {
    match (offered.http1, offered.http2, upstream_speaks_http2) {
        (true, true, Some(false)) => Protocols::Http1,
        (_, true, _) => Protocols::Http2,
        (_, false, _) => Protocols::Http1,
    }
}

/// Whether the client has rejected our certificate.
fn is_refusal(error: &io::Error) -> bool {
    use AlertDescription as Alert;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        inner,
        Some(rustls::Error::AlertReceived(
            Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::UnsupportedCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::AccessDenied
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_one_that_was_connected_to() {
        let ask = |host, name| name_asked_for(host, false, name).ok();
        let behind_front = name_asked_for("a.example", true, Some("b.example"));
        assert_eq!(behind_front.as_deref(), Ok("b.example"));
        assert_eq!(
            ask("a.example", Some("a.example")).as_deref(),
            Some("a.example")
        );
        assert_eq!(
            ask("a.example.", Some("a.example")).as_deref(),
            Some("a.example")
        );
        assert_eq!(ask("a.example", None).as_deref(), Some("a.example"));
        assert_eq!(ask("a.example", Some("b.example")), None);
        assert_eq!(
            ask("192.0.2.1", Some("b.example")).as_deref(),
            Some("b.example")
        );
        assert_eq!(ask("::1", None).as_deref(), Some("::1"));
    }

    #[test]
    fn the_protocol_is_that_of_the_upstream_where_the_client_speaks_it() {
        let offers = |http1, http2| OfferedProtocols { http1, http2 };
        for (offered, upstream, chosen) in [
            (offers(true, true), Some(true), Protocols::Http2),
            (offers(true, true), Some(false), Protocols::Http1),
            (offers(true, true), None, Protocols::Http2),
            (offers(true, false), Some(true), Protocols::Http1),
            (offers(false, true), Some(false), Protocols::Http2),
        ] {
            assert_eq!(choose(offered, upstream), chosen);
        }
    }
}
