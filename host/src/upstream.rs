//! The next hop of an exchange: a pooled connection or a new one, directly or through a parent proxy, with or without
//! TLS.
//!
//! A file uses only files on lower lines:
//!
//! ```text
//! connector   dial
//! pool   pinned   race   connect   socks5
//! key   handshakes   http1_hosts   failure
//! route
//! parent   tls   resolve   own   shares   idle   pressure   mark
//! ```

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
    /// It has served before: its peer may have closed it in the very moment of the request.
    pub(crate) is_reused: bool,
    /// It belongs to the client's connection, see [`mod@pinned`].
    pub(crate) is_pinned: bool,
    /// When it was made; none if it was there already, or somebody else has made it.
    pub(crate) timings: Option<Box<DialTimings>>,
    /// The HTTP/2 connection that `stream` is one of many on.
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

    /// A stream of a connection that others use as well.
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

    /// It has fallen silent, which may be for good. What is under way may still finish, further exchanges get another
    /// connection.
    pub(crate) fn retire(&self) {
        if let Some(client) = &self.shared {
            client.retire();
        }
    }
}

/// How often a connection is tried for which no descriptor is left.
const DESCRIPTOR_TRIES: u32 = 5;

/// Which connections an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Any that looks open: the request may be sent again on another one.
    Any,
    /// One that the kernel says is open: the request may not be sent twice.
    Verified,
    /// A new one.
    New,
    /// A new one that nobody else had a stream of before.
    Own,
}

/// A connection along `route`: an idle one if there is one and `freshness` allows it, else a new one. How requests are
/// written on it is [`Route::request_form`].
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

/// An idle connection along `route`, or a new stream of a shared one, if there is one that `freshness` allows.
pub(crate) fn idle(
    connector: &Connector,
    route: &Route<'_>,
    freshness: Freshness,
) -> Option<Upstream> {
    // Connections to parents are for any host, and those of plugins' own calls may lead here: whoever dials is told.
    if !route.may_lead_back
        && own::is_named(
            &connector.learned.own_addresses,
            route.connect_host(),
            route.port,
        )
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

/// The connection along `route` that belongs to the client whose connections `pinned` are, if there is one.
///
/// # Errors
/// There was one, and the upstream has closed it.
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

/// An upstream has closed a connection that belonged to a client's.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the upstream closed the connection that the client had authenticated")]
pub(crate) struct PinnedClosed;

/// The HTTP/2 connection along `route` that takes another stream, if there is one.
pub(crate) fn shared(connector: &Connector, route: &Route<'_>) -> Option<Client> {
    match may_be_shared(route) {
        true => connector.learned.pool.shared(route),
        false => None,
    }
}

/// A new connection along `route`, or a stream of one that somebody else has just made.
/// With [`Freshness::New`] it is none that was there when this was called, with [`Freshness::Own`] none of somebody else's.
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

/// Whether a connection along `route` may turn out to be HTTP/2.
fn may_be_shared(route: &Route<'_>) -> bool {
    route.scheme == Scheme::Https && route.versions == HttpVersions::Any
}

/// As [`connect()`]. One limit covers the wait for others and the connection that is made behind it.
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
            if let Some(turn) = turn.filter(|_| route.is_tunnel && error.is_for_want_of_tls()) {
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

/// As [`Dialer::dial`]. Where no descriptor is left for it, idle connections are given up.
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
            Err(error) if tries < DESCRIPTOR_TRIES && error.is_for_want_of_descriptors() => {}
            Err(_) => return dialled,
            Ok(Dialled { stream, .. }) => {
                stream
                    .descriptor()
                    .inspect(|number| connector.learned.pool.note_descriptor(*number));
                return dialled;
            }
        }
        if connector.learned.pool.give_up(pressure::RELIEF) == 0 {
            // Others may have some.
            pressure::ask(pressure::RELIEF);
            tokio::time::sleep(2 * TICK).await;
        }
    }
}

fn dialer(connector: &Connector) -> Dialer<'_> {
    Dialer {
        resolver: &connector.resolver,
        tls: &connector.tls,
        deadlines: &connector.learned.deadlines,
        own_addresses: &connector.learned.own_addresses,
        handshakes: &connector.learned.handshakes,
        head_limits: connector.config.limits.head(),
        read_len: connector.config.limits.server_read_len,
        limit: connector.config.timeouts.connect,
    }
}
