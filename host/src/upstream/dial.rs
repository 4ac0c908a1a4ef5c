//! A new connection to an upstream: TCP, through the parent proxy if the route has one, with TLS if the scheme requires
//! it.
//!
//! One limit covers everything from the name's resolution to the end of the last handshake.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect;
use super::failure::{DialError, DialFailure, ParentFailure};
use super::handshakes::Handshakes;
use super::own;
use super::parent::{Parent, ParentScheme};
use super::race::{self, Destination};
use super::resolve::Resolver;
use super::route::Route;
use super::socks5;
use super::tls::{HttpVersions, TlsClient, TlsFailure, TlsFault};
use crate::deadline::Deadlines;
use crate::http1::{HeadLimits, Scheme};
use crate::http2::client::{Client, ClientOptions};
use crate::stream::MessageStream;
use crate::transport::Transport;

/// How long the TLS handshake with the upstream of a tunnel may take; the upstream may speak another protocol and be
/// waiting for the client.
const TLS_PROBE: Duration = Duration::from_secs(3);

/// A new connection, and when the steps of making it ended.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: MessageStream,
    pub(crate) timings: DialTimings,
}

/// When the steps of making a connection ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DialTimings {
    pub(crate) begun_at: Instant,
    /// None if no name had to be resolved. Through a parent proxy, this is about the parent's name.
    pub(crate) resolved_at: Option<Instant>,
    /// When the destination was connected; through a parent proxy, when the parent said so.
    pub(crate) connected_at: Instant,
    /// None without TLS to the destination.
    pub(crate) secured_at: Option<Instant>,
}

/// How far a connection attempt has progressed.
struct DialProgress<'a> {
    /// The host with which a TLS handshake is in progress.
    securing: Cell<Option<&'a str>>,
    resolved_at: Cell<Option<Instant>>,
    connected_at: Cell<Option<Instant>>,
}

/// Everything that dialling depends on, except the route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialer<'a> {
    pub(crate) resolver: &'a Resolver,
    pub(crate) tls: &'a Arc<TlsClient>,
    pub(crate) deadlines: &'a Rc<Deadlines>,
    /// The addresses on which this proxy listens.
    pub(crate) own_addresses: &'a [SocketAddr],
    /// Handshakes with parents in progress.
    pub(crate) handshakes: &'a Handshakes,
    /// Limits for a parent's response to CONNECT.
    pub(crate) head_limits: HeadLimits,
    /// The most that is read at once, in bytes.
    pub(crate) read_len: usize,
    /// For all steps together.
    pub(crate) limit: Duration,
}

impl Dialer<'_> {
    /// Makes a connection for `route`.
    ///
    /// Cancel safe: dropping the future closes what was opened.
    pub(crate) async fn dial(&self, route: &Route<'_>) -> Result<Dialled, DialError> {
        let begun_at = Instant::now();
        let progress = DialProgress {
            securing: Cell::new(None),
            resolved_at: Cell::new(None),
            connected_at: Cell::new(None),
        };
        let stream = tokio::time::timeout(self.limit, self.open(route, &progress))
            .await
            .unwrap_or_else(|_| Err(self.timed_out(progress.securing.get())))
            .map_err(|failure| DialError::new(route, failure))?;
        let ended_at = Instant::now();
        let timings = DialTimings {
            begun_at,
            resolved_at: progress.resolved_at.get(),
            connected_at: progress.connected_at.get().unwrap_or(ended_at),
            secured_at: (route.scheme == Scheme::Https).then_some(ended_at),
        };
        Ok(Dialled { stream, timings })
    }

    /// Starts HTTP/2 on a connection for which it was negotiated.
    pub(crate) async fn begin_http2(
        &self,
        route: &Route<'_>,
        stream: MessageStream,
    ) -> Result<Client, DialError> {
        let (transport, _) = stream.into_parts();
        let options = ClientOptions {
            scheme: route.scheme,
            max_head_len: self.head_limits.max_head_len,
        };
        let started = Client::start(transport, options);
        tokio::time::timeout(self.limit, started)
            .await
            .map_err(|_| DialFailure::TimedOut(self.limit))
            .and_then(|started| started.map_err(DialFailure::Http2))
            .map_err(|failure| DialError::new(route, failure))
    }

    async fn open<'a>(
        &self,
        route: &Route<'a>,
        progress: &DialProgress<'a>,
    ) -> Result<MessageStream, DialFailure> {
        let stream = match route.parent {
            Some(parent) => self.open_through(parent, route, progress).await?,
            None => {
                let to = Destination {
                    host: route.connect_host(),
                    is_absolute: route.is_absolute,
                    port: route.port,
                    addresses: route.addresses,
                    source: route.source,
                    own: match route.may_lead_back {
                        true => &[],
                        false => self.own_addresses,
                    },
                };
                let connected = race::connect(self.resolver, to).await?;
                progress.resolved_at.set(connected.resolved_at);
                self.stream(Transport::Plain(connected.socket))
            }
        };
        match route.scheme {
            Scheme::Http => Ok(stream),
            Scheme::Https => {
                progress.connected_at.set(Some(Instant::now()));
                progress.securing.set(Some(route.host));
                let secured = self.secure(stream, route.host, route.is_claimed, route.versions);
                if !route.is_tunnel {
                    return secured.await;
                }
                let late = |_| {
                    let fault = TlsFault::TimedOut(TLS_PROBE);
                    Err(TlsFailure::new(route.host, fault).into())
                };
                let secured = tokio::time::timeout(TLS_PROBE, secured).await;
                secured.unwrap_or_else(late)
            }
        }
    }

    async fn open_through<'a>(
        &self,
        parent: &'a Parent,
        route: &Route<'a>,
        progress: &DialProgress<'a>,
    ) -> Result<MessageStream, DialFailure> {
        // The parent would connect us to ourselves, as another client.
        if !route.may_lead_back
            && own::is_named(self.own_addresses, route.connect_host(), route.port)
        {
            return Err(DialFailure::Itself);
        }
        let _handshake = match route.is_absolute_form() {
            true => None,
            false => Some(self.handshakes.begin(parent, route).await),
        };
        let to = Destination {
            host: parent.host(),
            is_absolute: false,
            port: parent.port(),
            addresses: &[],
            source: route.source,
            own: self.own_addresses,
        };
        let connected =
            race::connect(self.resolver, to)
                .await
                .map_err(|failure| match failure {
                    DialFailure::Itself => ParentFailure::Itself.into(),
                    failure => failure,
                })?;
        progress.resolved_at.set(connected.resolved_at);
        let mut stream = self.stream(Transport::Plain(connected.socket));
        if parent.scheme() == ParentScheme::Https {
            progress.securing.set(Some(parent.host()));
            stream = self
                .secure(stream, parent.host(), false, HttpVersions::Http1)
                .await?;
            progress.securing.set(None);
        }
        self.connect_by_parent(parent, route, &mut stream).await?;
        Ok(stream)
    }

    /// Requests a connection to the destination from the parent, unless requests are sent to the parent itself.
    async fn connect_by_parent(
        &self,
        parent: &Parent,
        route: &Route<'_>,
        stream: &mut MessageStream,
    ) -> Result<(), ParentFailure> {
        match parent.scheme() {
            ParentScheme::Socks5 => {
                socks5::handshake(stream, route, parent.credentials(), self.limit).await
            }
            ParentScheme::Http | ParentScheme::Https if route.is_absolute_form() => Ok(()),
            ParentScheme::Http | ParentScheme::Https => {
                let authorization = parent.authorization();
                connect::handshake(stream, route, authorization, &self.head_limits, self.limit)
                    .await
            }
        }
    }

    fn stream(&self, transport: Transport) -> MessageStream {
        MessageStream::new(transport, self.deadlines, self.read_len)
    }

    /// Starts TLS with `name` on `stream`.
    async fn secure(
        &self,
        stream: MessageStream,
        name: &str,
        is_claimed: bool,
        versions: HttpVersions,
    ) -> Result<MessageStream, DialFailure> {
        let (transport, received) = stream.into_parts();
        if !received.is_empty() {
            return Err(TlsFailure::new(name, TlsFault::SpokeFirst).into());
        }
        let handshake = self.tls.handshake(name, is_claimed, versions, transport);
        match handshake.await {
            Ok(transport) => Ok(self.stream(transport)),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The failure when the limit is exceeded; `securing` is the host with which a TLS handshake was in progress.
    fn timed_out(&self, securing: Option<&str>) -> DialFailure {
        match securing {
            Some(name) => TlsFailure::new(name, TlsFault::TimedOut(self.limit)).into(),
            None => DialFailure::TimedOut(self.limit),
        }
    }
}
