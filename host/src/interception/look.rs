//! A tunnel that is looked into: what its client speaks is seen before anybody relays it.
//!
//! Its upstream is known and the client has its 200. Then the first bytes decide: TLS is ended here with a certificate
//! made for the host, or relayed unseen if plugins or the client's protocols ask for that; a request in clear is
//! served; everything else, and an upstream that speaks first, is relayed as it is.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::Accepted;
use rustls::{AlertDescription, ServerConfig};
use tokio_rustls::{StartHandshake, TlsStream};

use super::hello::{Hello, HelloReader, OfferedProtocols};
use super::opening::Opening;
use crate::connection::{self, Connection, Ends, TunnelStart};
use crate::exchange::Exchange;
use crate::http1::Scheme;
use crate::server_tls::Protocols;
use crate::stream::MessageStream;
use crate::transport::Transport;

/// A fatal alert that says that the server name is not known here (RFC 6066 §3).
const UNRECOGNIZED_NAME: &[u8] = b"\x15\x03\x03\x00\x02\x02\x70";

/// A tunnel to be looked into.
pub(crate) struct Look {
    pub(crate) exchange: Exchange,
    /// The connection to the upstream that is there to be relayed; TLS that was tried out is in the pool.
    pub(crate) upstream: Option<MessageStream>,
    /// Whether its TLS is to be ended here as far as the configuration says.
    pub(crate) is_wanted: bool,
    /// Whether the upstream speaks HTTP/2, once it has been asked.
    pub(crate) upstream_speaks_http2: Option<bool>,
}

/// Looks, and serves the tunnel to its end.
pub(crate) async fn run(
    mut client: MessageStream,
    look: Box<Look>,
    connection: Connection,
    ends: Ends,
) {
    let mut look = *look;
    let opening = look.opening(&mut client, &connection).await;
    match opening {
        Ok(Opening::Tls) => Box::pin(look.answer_tls(client, connection, ends)).await,
        Ok(Opening::Http) if look.is_wanted => {
            let origin = look.exchange.origin(Scheme::Http);
            if let Some(upstream) = look.upstream.take() {
                look.exchange.pool_clear(upstream);
            }
            look.exchange.finish_look("served in clear");
            let connection = Connection {
                origin: Some(Rc::new(origin)),
                ..connection
            };
            tokio::task::spawn_local(connection::serve_http1(client, connection, ends));
        }
        Ok(Opening::Http2) if look.is_wanted => {
            tracing::warn!(
                client.address = %connection.client,
                host = look.exchange.host(),
                "a client speaks HTTP/2 in clear, which is not looked into: closing its tunnel"
            );
            look.exchange.finish_look("closed, HTTP/2 in clear");
        }
        Ok(_) => look.relay(client, connection, ends).await,
        Err(error) => {
            tracing::debug!(client.address = %connection.client, %error, "nothing came through a tunnel");
            look.exchange.finish_look("nothing sent");
        }
    }
}

impl Look {
    /// Waits until the client has said enough to tell what it speaks.
    async fn opening(
        &mut self,
        client: &mut MessageStream,
        connection: &Connection,
    ) -> io::Result<Opening> {
        let timeouts = connection.worker.config.timeouts;
        let mut from_client = client.reader();
        let mut from_upstream = self.upstream.as_mut().map(MessageStream::reader);
        // Where the upstream speaks TLS, it is the client's turn; elsewhere either side may begin when it likes.
        from_client.deadline().arm(match &from_upstream {
            None => timeouts.client_idle,
            Some(from_upstream) => {
                from_upstream.deadline().arm(timeouts.tunnel_idle);
                timeouts.tunnel_idle
            }
        });
        loop {
            let received = from_client.buffered();
            let opening = match received {
                // Nobody wants to know what it says.
                [first, ..] if !self.is_wanted && *first != 0x16 => Opening::Other,
                received => Opening::of(received),
            };
            let has_begun = !received.is_empty();
            if opening != Opening::Undecided {
                return Ok(opening);
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
                // Whatever it is, the client is to see it.
                None => return Ok(Opening::Other),
                Some(Ok(0)) if !has_begun && from_upstream.is_none() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Some(Ok(0)) => return Ok(Opening::Other),
                Some(Ok(_)) if !has_begun => from_client.deadline().arm(timeouts.header_read),
                Some(Ok(_)) => {}
                // Late, too: who begins and waits must not get past those who look.
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Relays the tunnel as it is.
    async fn relay(mut self, client: MessageStream, connection: Connection, ends: Ends) {
        let upstream = match self.upstream.take() {
            Some(upstream) => upstream,
            None => match self.exchange.reach_in_clear(&client).await {
                Ok(upstream) => upstream,
                Err(error) => {
                    self.exchange.fail_tunnel(&error);
                    return client.reset_on_close();
                }
            },
        };
        let start = TunnelStart {
            exchange: self.exchange,
            upstream,
        };
        connection::run_tunnel(client, Box::new(start), connection.worker, ends).await;
    }

    /// The client speaks TLS: finds out what it asks for, and who is to answer.
    async fn answer_tls(mut self, mut client: MessageStream, connection: Connection, ends: Ends) {
        let address = connection.client;
        let read = read_hello(&mut client, &connection).await;
        let (accepted, taken) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(
                    client.address = %address,
                    host = self.exchange.host(),
                    %error,
                    "a client's TLS hello is of no use, closing its tunnel"
                );
                return self.exchange.finish_look("no TLS hello");
            }
        };
        let mut hello = Hello::of(&accepted);
        let asked = self
            .exchange
            .ask_about_tls(&client, hello.take_shown())
            .await;
        let opinion = match asked {
            Ok(opinion) => opinion,
            Err(note) => return self.exchange.finish_look(&note),
        };
        let Some(interception) = connection.worker.interception.clone() else {
            return self.relay(client, connection, ends).await;
        };
        let (host, port) = (self.exchange.host(), self.exchange.port());
        let is_wanted = opinion.unwrap_or_else(|| match hello.server_name.as_deref() {
            Some(name) if is_address(host) => {
                interception.wants_name(address.ip(), host, name, port)
            }
            _ => self.is_wanted,
        });
        if !is_wanted || !hello.protocols.is_http() {
            return self.relay(client, connection, ends).await;
        }
        let name = match name_asked_for(self.exchange.host(), hello.server_name.as_deref()) {
            Ok(name) => name,
            Err(server_name) => {
                tracing::warn!(
                    client.address = %address,
                    host = self.exchange.host(),
                    server_name,
                    "a client asks for another server than it had itself connected to, closing its tunnel"
                );
                let stall = connection.worker.config.timeouts.client_idle;
                // Closed in any case.
                let _ = client.writer().write_all(UNRECOGNIZED_NAME, stall).await;
                return self.exchange.finish_look("closed, SNI and CONNECT differ");
            }
        };
        let mut origin = self.exchange.origin(Scheme::Https);
        origin.rename(&name);
        if self.upstream_speaks_http2.is_none() {
            let asked = self.exchange.try_tls(&client, &origin);
            self.upstream_speaks_http2 = asked.await;
        }
        // Plain TCP that was to be relayed.
        drop(self.upstream.take());
        let leaf = match interception.certificates.cached(&name) {
            Some(leaf) => leaf,
            None => match interception.certificates.leaf(&name).await {
                Ok(leaf) => leaf,
                Err(error) => {
                    tracing::error!(client.address = %address, host = name, %error, "cannot make a certificate");
                    return self.exchange.finish_look("no certificate");
                }
            },
        };
        let protocols = choose(hello.protocols, self.upstream_speaks_http2);
        let config = leaf.server_config(protocols);
        match shake_hands(client, accepted, taken, config, &connection).await {
            Ok(transport) => {
                self.exchange.finish_look("intercepted");
                let connection = Connection {
                    origin: Some(Rc::new(origin)),
                    is_http2: transport.speaks_http2(),
                    ..connection
                };
                // A task of its own: what the handshake needed is given back.
                connection::spawn(transport, connection, ends);
            }
            Err(error) => {
                let refused = is_refusal(&error);
                let lifetime = interception.rejected.lifetime();
                if refused {
                    interception.reject(address.ip(), &name, self.exchange.port());
                }
                if refused && !lifetime.is_zero() {
                    tracing::warn!(
                        client.address = %address,
                        host = name,
                        %error,
                        "a client does not accept our certificate: to it, this host is relayed unseen for {lifetime:?}"
                    );
                } else {
                    tracing::warn!(client.address = %address, host = name, %error, "no TLS with an intercepted client");
                }
                self.exchange.finish_look("no TLS with the client");
            }
        }
    }
}

/// Reads the client's hello; how much of what is buffered belongs to it.
async fn read_hello(
    client: &mut MessageStream,
    connection: &Connection,
) -> Result<(Accepted, usize), io::Error> {
    let timeouts = connection.worker.config.timeouts;
    let mut hello = HelloReader::new();
    client.reader().deadline().arm(timeouts.header_read);
    loop {
        match hello.read(client.reader().buffered()) {
            Ok(Some(accepted)) => return Ok((accepted, hello.taken())),
            Ok(None) => {}
            Err(refused) => {
                // Closed in any case.
                let _ = client
                    .writer()
                    .write_all(&refused.alert, timeouts.client_idle)
                    .await;
                return Err(io::Error::other(refused.reason));
            }
        }
        if client.reader().fill().await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
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
    deadline.arm(connection.worker.config.timeouts.header_read);
    let handshake = StartHandshake::from_parts(accepted, layer).into_stream(config);
    match deadline.bound(handshake).await {
        Some(session) => Ok(Transport::tls(TlsStream::Server(session?), carrier)),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The name that the client expects in the certificate; `Err` when it asks for another one than it was connected to.
fn name_asked_for(host: &str, server_name: Option<&str>) -> Result<String, String> {
    let host_name = host.trim_end_matches('.');
    match server_name {
        Some(name) if is_address(host) => Ok(name.to_owned()),
        Some(name) if name != host_name => Err(name.to_owned()),
        _ => Ok(host_name.to_owned()),
    }
}

/// Whether the client has resolved the name itself.
pub(crate) fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// The client is offered what the upstream speaks; where the client does not, this proxy translates.
fn choose(offered: OfferedProtocols, upstream_speaks_http2: Option<bool>) -> Protocols {
    match (offered.http1, offered.http2, upstream_speaks_http2) {
        (true, true, Some(false)) => Protocols::Http1,
        (_, true, _) => Protocols::Http2,
        (_, false, _) => Protocols::Http1,
    }
}

/// Whether the client has said that it does not accept our certificate.
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
        let ask = |host, name| name_asked_for(host, name).ok();
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
