//! The next hop of an exchange: a pooled connection or a new one, directly or through a parent proxy, with or without
//! TLS.
//!
//! Its files use one way down, see ARCHITECTURE.md.

mod connect;
mod connector;
pub(crate) mod dial;
mod failure;
pub(crate) mod handshakes;
pub(crate) mod http1_hosts;
mod idle;
mod key;
pub(crate) mod mark;
mod own;
pub(crate) mod parent;
pub(crate) mod pinned;
pub(crate) mod pool;
pub(crate) mod pressure;
mod race;
pub(crate) mod resolve;
mod route;
pub(crate) mod shares;
mod socks5;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::rc::Rc;
use std::time::Instant;

use crate::deadline::TICK;
use crate::http1::Scheme;
use crate::http2::client::Client;
use crate::stream::MessageStream;
use crate::transport::Transport;

pub(crate) use connector::{Connector, Learned};
pub(crate) use dial::DialTimings;
use dial::{Dialer, Dialled};
pub(crate) use failure::{DialError, DialFailure, ParentFailure, SocksError};
pub(crate) use parent::Parent;
use pinned::{Pinned, PinnedConnection};
pub(crate) use route::Route;
use shares::{SharedStream, Turn};
pub(crate) use tls::{HttpVersions, TlsFault, alert_in};

/// A connection to an upstream, in use by one exchange.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: MessageStream,
    /// It has been used before, so the upstream may close it just when the request is sent.
    pub(crate) is_reused: bool,
    /// It is reserved for the client connection, see [`mod@pinned`].
    pub(crate) is_pinned: bool,
    /// When it was made; none if it existed already, or another exchange has made it.
    pub(crate) timings: Option<Box<DialTimings>>,
    /// The HTTP/2 connection of which `stream` is one stream.
    shared: Option<Client>,
}

impl Upstream {
    fn new(stream: MessageStream) -> Self {
        Self {
            stream,
            is_reused: false,
            is_pinned: false,
            timings: None,
            shared: None,
        }
    }

    fn dialled(dialled: Dialled) -> Self {
        Self {
            timings: Some(Box::new(dialled.timings)),
            ..Self::new(dialled.stream)
        }
    }

    /// A stream of a connection that other exchanges may use as well.
    fn on(connector: &Connector, stream: SharedStream) -> Self {
        let SharedStream { channel, client } = stream;
        let stream = MessageStream::new(
            Transport::Channel(channel),
            &connector.learned.deadlines,
            connector.config.limits.server_read_len,
        );
        Self {
            shared: Some(client),
            ..Self::new(stream)
        }
    }

    /// The connection has stalled. Exchanges in flight may still finish; new ones get another connection.
    pub(crate) fn retire(&self) {
        if let Some(client) = &self.shared {
            client.retire();
        }
    }
}

/// How many attempts are made if there are no free descriptors.
const DESCRIPTOR_TRIES: u32 = 5;

/// Which connections an exchange may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Any that seems open: the request could be retried.
    Any,
    /// One that is open according to the kernel: the request cannot be retried.
    Verified,
    /// A new one.
    New,
    /// A new one that no other exchange has used.
    Own,
}

/// A connection for `route`: an idle one if there is one and `freshness` allows it, otherwise a new one. The form of
/// requests on it is [`Route::request_form`].
pub(crate) async fn obtain(
    connector: &Connector,
    route: &Route<'_>,
    freshness: Freshness,
) -> Result<Upstream, DialError> {
    match idle(connector, route, freshness) {
        Some(upstream) => Ok(upstream),
        None => connect(connector, route, freshness).await,
    }
}

/// An idle connection for `route`, or a new stream of a shared one, if there is one that `freshness` allows.
pub(crate) fn idle(
    connector: &Connector,
    route: &Route<'_>,
    freshness: Freshness,
) -> Option<Upstream> {
    // Connections to parents are for any host, and calls of plugins may lead here; dialling reports the loop.
    if !route.may_lead_back
        && own::is_named(&connector.own_addresses, route.connect_host(), route.port)
    {
        return None;
    }
    let is_usable = match freshness {
        Freshness::Any => MessageStream::is_quiet,
        Freshness::Verified => MessageStream::is_quiet_now,
        Freshness::New | Freshness::Own => return None,
    };
    let shared = match may_be_shared(route) {
        true => connector.learned.pool.open(route),
        false => None,
    };
    let upstream = match shared {
        Some(stream) => Upstream::on(connector, stream),
        None => Upstream::new(connector.learned.pool.take(route, is_usable)?),
    };
    Some(Upstream {
        is_reused: true,
        ..upstream
    })
}

/// The connection for `route` among those that are reserved for a client connection, if there is one.
///
/// # Errors
/// There was one, but the upstream has closed it.
pub(crate) fn pinned(pinned: &Pinned, route: &Route<'_>) -> Result<Option<Upstream>, PinnedClosed> {
    match pinned.take(route) {
        PinnedConnection::Missing => Ok(None),
        PinnedConnection::Closed => Err(PinnedClosed),
        PinnedConnection::Open(stream) => Ok(Some(Upstream {
            is_reused: true,
            is_pinned: true,
            ..Upstream::new(stream)
        })),
    }
}

/// The upstream has closed a connection that was reserved for a client connection.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the upstream closed the connection that the client had authenticated")]
pub(crate) struct PinnedClosed;

/// The HTTP/2 connection for `route` that can open another stream, if there is one.
pub(crate) fn shared(connector: &Connector, route: &Route<'_>) -> Option<Client> {
    match may_be_shared(route) {
        true => connector.learned.pool.shared(route),
        false => None,
    }
}

/// A new connection for `route`, or a stream of one that another exchange has just made. With [`Freshness::New`], it is
/// none that existed before this call; with [`Freshness::Own`], none of another exchange.
pub(crate) async fn connect(
    connector: &Connector,
    route: &Route<'_>,
    freshness: Freshness,
) -> Result<Upstream, DialError> {
    // Boxed: dialling is rare, and its future would make every idle connection larger.
    if may_be_shared(route) {
        return Box::pin(connect_shared(connector, route, freshness)).await;
    }
    let dialled = Box::pin(dial(connector, dialer(connector), route)).await?;
    Ok(Upstream::dialled(dialled))
}

/// Whether a connection for `route` may use HTTP/2.
fn may_be_shared(route: &Route<'_>) -> bool {
    route.scheme == Scheme::Https && route.versions == HttpVersions::Any
}

/// As [`connect()`]. One limit covers both the time in the queue and the connection that is made afterwards.
async fn connect_shared(
    connector: &Connector,
    route: &Route<'_>,
    freshness: Freshness,
) -> Result<Upstream, DialError> {
    let limit = connector.config.timeouts.connect;
    let begun_at = Instant::now();
    let shares = connector.learned.pool.shares(route);
    let turn = if freshness == Freshness::Own {
        None
    } else {
        let entered = Rc::clone(&shares).enter(freshness == Freshness::New);
        match tokio::time::timeout(limit, entered).await {
            Ok(Turn::Stream(stream)) => return Ok(Upstream::on(connector, stream)),
            Ok(Turn::Granted(turn)) => Some(turn),
            Ok(Turn::NotNeeded) => None,
            Err(_) => return Err(DialError::late(route, limit)),
        }
    };
    let dialer = Dialer {
        limit: limit.saturating_sub(begun_at.elapsed()),
        ..dialer(connector)
    };
    let Dialled { stream, timings } = match dial(connector, dialer, route).await {
        Ok(dialled) => dialled,
        Err(error) => {
            if let Some(turn) = turn.filter(|_| route.is_tunnel && error.is_not_tls()) {
                turn.found_no_tls();
            }
            return Err(error);
        }
    };
    if !stream.speaks_http2() {
        if let Some(turn) = turn {
            turn.found_http1();
        }
        return Ok(Upstream::dialled(Dialled { stream, timings }));
    }
    let client = dialer.begin_http2(route, stream).await?;
    let stream = match turn {
        Some(turn) => turn.found_http2(client),
        None => shares.share(client),
    };
    Ok(Upstream {
        timings: Some(Box::new(timings)),
        ..Upstream::on(connector, stream)
    })
}

/// As [`Dialer::dial`]. If there are no free descriptors, idle connections are closed.
async fn dial(
    connector: &Connector,
    dialer: Dialer<'_>,
    route: &Route<'_>,
) -> Result<Dialled, DialError> {
    let mut tries = 0;
    loop {
        let dialled = dialer.dial(route).await;
        tries += 1;
        match &dialled {
            Err(error) if tries < DESCRIPTOR_TRIES && error.is_out_of_descriptors() => {}
            Err(_) => return dialled,
            Ok(Dialled { stream, .. }) => {
                stream
                    .descriptor()
                    .inspect(|number| connector.learned.pool.report_descriptor(*number));
                return dialled;
            }
        }
        if connector.learned.pool.close_idle(pressure::RELIEF) == 0 {
            // Other workers may have some.
            pressure::request(pressure::RELIEF);
            tokio::time::sleep(2 * TICK).await;
        }
    }
}

fn dialer(connector: &Connector) -> Dialer<'_> {
    Dialer {
        resolver: &connector.resolver,
        tls: &connector.tls,
        deadlines: &connector.learned.deadlines,
        own_addresses: &connector.own_addresses,
        handshakes: &connector.learned.handshakes,
        head_limits: connector.config.limits.head(),
        read_len: connector.config.limits.server_read_len,
        limit: connector.config.timeouts.connect,
    }
}
