//! Intercepted TLS whose client offers no ALPN: HTTP of old clients, or any other protocol, such as IMAP, SMTP, MQTT or
//! LDAP.
//!
//! The side that sends first decides. Anything that begins like HTTP is served; silence does not decide, because HTTP
//! clients connect early and wait. Other protocols are relayed in both directions between the TLS connections with
//! client and upstream, whose certificate is verified as usual; plugins that observe tunnels see the decrypted bytes.
//! The rules are the same as for tunnels without TLS: [`Opening`] and [`Guard`](crate::interception::Guard) apply them.

use std::io;
use std::rc::Rc;
use std::task::Poll;

use super::super::{Ends, run_tunnel, serve_http1};
use super::OpenTunnel;
use crate::config::UnknownProtocol;
use crate::exchange::{Connection, Origin, TunnelStart, UpstreamTls};
use crate::interception::{Opening, RefusedProtocols, RelayReason};
use crate::stream::MessageStream;

/// What every response of HTTP/1 begins with.
const RESPONSE: &[u8] = b"HTTP/";

/// A tunnel whose TLS is terminated here.
pub(super) struct Inside {
    pub(super) tunnel: OpenTunnel,
    pub(super) origin: Origin,
    /// The decrypted side.
    pub(super) client: MessageStream,
}

/// Which side has sent first.
enum Begun {
    /// The client; its bytes are this.
    ByClient(Opening),
    /// The upstream, and it does not speak HTTP.
    ByUpstream,
    /// Neither: the client has closed its direction without a byte, or the proxy shuts down.
    Never,
}

/// What has happened.
enum Event {
    Client(io::Result<usize>),
    Upstream(io::Result<usize>),
    Stopped,
}

impl Inside {
    /// Detects the protocol, and serves the tunnel to its end.
    pub(super) async fn serve(mut self, connection: Connection, ends: Ends) {
        let begun = match self.begun(&connection).await {
            Ok(begun) => begun,
            Err(error) => {
                tracing::debug!(client.address = %connection.client, %error, "the client sent nothing over intercepted TLS");
                Begun::Never
            }
        };
        match begun {
            Begun::Never => self.tunnel.exchange.finish("intercepted"),
            Begun::ByClient(Opening::Http | Opening::Http2) => self.serve_http(connection, ends),
            Begun::ByClient(Opening::Tls | Opening::Ssl2) => {
                self.tunnel.exchange.finish("closed, TLS inside TLS");
            }
            Begun::ByClient(Opening::Other | Opening::Undecided) | Begun::ByUpstream => {
                self.relay(ends).await;
            }
        }
    }

    /// Waits until the client has sent enough to detect its protocol, or the upstream sends first.
    async fn begun(&mut self, connection: &Connection) -> io::Result<Begun> {
        let current = Rc::clone(&connection.current);
        let timeouts = self.tunnel.exchange.generation().config.timeouts;
        let tunnel_idle = self.tunnel.exchange.timeouts().tunnel_idle;
        let mut from_client = self.client.reader();
        // If only the client can send first, it has as long as between two requests.
        from_client
            .deadline()
            .arm(match &mut self.tunnel.known.upstream_tls {
                Some(UpstreamTls::Unnamed(upstream)) => {
                    upstream.reader().deadline().arm(tunnel_idle);
                    tunnel_idle
                }
                _ => timeouts.client_idle,
            });
        loop {
            let has_begun = !from_client.buffered().is_empty();
            let opening = Opening::of(from_client.buffered());
            if opening != Opening::Undecided {
                return Ok(Begun::ByClient(opening));
            }
            let mut from_upstream = match &mut self.tunnel.known.upstream_tls {
                Some(UpstreamTls::Unnamed(upstream)) => Some(upstream.reader()),
                _ => None,
            };
            let event = std::future::poll_fn(|cx| {
                // The client first: a request is answered.
                if let Poll::Ready(filled) = from_client.poll_fill(cx) {
                    return Poll::Ready(Event::Client(filled));
                }
                if let Some(from_upstream) = &mut from_upstream
                    && let Poll::Ready(filled) = from_upstream.poll_fill(cx)
                {
                    return Poll::Ready(Event::Upstream(filled));
                }
                match current.closes_idle() && !has_begun {
                    true => Poll::Ready(Event::Stopped),
                    false => Poll::Pending,
                }
            });
            match event.await {
                Event::Stopped => return Ok(Begun::Never),
                Event::Client(Ok(0)) if has_begun => {
                    return Ok(Begun::ByClient(Opening::of_all(from_client.buffered())));
                }
                Event::Client(Ok(0)) => return Ok(Begun::Never),
                Event::Client(Ok(_)) if !has_begun => {
                    from_client.deadline().arm(timeouts.header_read);
                }
                Event::Client(Ok(_)) => {}
                // Late, too: stalling must not bypass inspection.
                Event::Client(Err(error)) => return Err(error),
                Event::Upstream(Ok(1..)) => {
                    let said = from_upstream
                        .as_ref()
                        .map_or(&[][..], |reader| reader.buffered());
                    let len = said.len().min(RESPONSE.len());
                    if said[..len] != RESPONSE[..len] {
                        return Ok(Begun::ByUpstream);
                    }
                    // HTTP servers send 408 when they have waited too long.
                    if len == RESPONSE.len() {
                        self.tunnel.known.upstream_tls = None;
                    }
                }
                // It has closed the connection, as HTTP servers do when no request arrives.
                Event::Upstream(_) => {
                    self.tunnel.known.upstream_tls = None;
                    if !has_begun {
                        from_client.deadline().arm(timeouts.client_idle);
                    }
                }
            }
        }
    }

    fn serve_http(mut self, connection: Connection, ends: Ends) {
        self.tunnel.pool_secured(&self.origin);
        self.tunnel.exchange.finish("intercepted");
        let connection = Connection {
            origin: Some(Rc::new(self.origin)),
            ..connection
        };
        tokio::task::spawn_local(serve_http1(self.client, connection, ends));
    }

    /// Relays what is inside, or closes the tunnel, as configured.
    async fn relay(mut self, ends: Ends) {
        let interception = self.tunnel.exchange.generation().interception.as_ref();
        if interception.is_some_and(|all| all.unknown == UnknownProtocol::Close) {
            return self.tunnel.exchange.finish("closed, not HTTP inside TLS");
        }
        self.tunnel.exchange.note_relay(RelayReason::NoHttpInside);
        let upstream = match self.tunnel.known.upstream_tls.take() {
            Some(UpstreamTls::Unnamed(upstream)) => *upstream,
            _ => {
                let reached = self
                    .tunnel
                    .exchange
                    .reach_unnamed(&self.client, &self.origin);
                match reached.await {
                    Ok(upstream) => upstream,
                    Err(error) => {
                        self.tunnel.exchange.fail_unnamed(&error);
                        return self.client.reset_on_close();
                    }
                }
            }
        };
        let start = TunnelStart {
            exchange: self.tunnel.exchange,
            upstream,
            // The client may still send HTTP or TLS after an upstream that sent first.
            refused: Some(RefusedProtocols::TlsAndHttp),
        };
        run_tunnel(self.client, Box::new(start), ends).await;
    }
}
