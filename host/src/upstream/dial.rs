//! A new connection to an upstream: resolve, then try addresses side by side (RFC 8305, Happy Eyeballs version 2).
//!
//! Both families are asked for at once. Connecting begins with the first IPv6 answer, or with IPv4 once IPv6 had
//! [`RESOLUTION_DELAY`] to answer. Families take turns; a further address is tried when the one before has failed or
//! has not answered within [`ATTEMPT_DELAY`]. The first connection wins, the others are dropped.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until};

use super::resolve::{Family, ResolveError, Resolver};

/// How long IPv4 addresses wait for the answer about IPv6 (RFC 8305 §3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long one attempt has before the next begins beside it (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// There is no connection.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {host}:{port}: {failure}")]
pub(crate) struct DialError {
    pub(crate) host: String,
    pub(crate) port: u16,
    #[source]
    pub(crate) failure: DialFailure,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFailure {
    /// The name could not be resolved.
    #[error(transparent)]
    Resolve(ResolveError),
    /// Every address failed; this is what the last one said.
    #[error(transparent)]
    Connect(io::Error),
    /// Nothing answered within the limit, in seconds.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
}

/// Connects to `host`, a name or an IP literal, within `limit`.
///
/// Cancel safe: a dropped call closes what it had begun.
pub(crate) async fn dial(
    resolver: &Resolver,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let dialled = async {
        match host.parse::<IpAddr>() {
            Ok(ip) => connect(SocketAddr::new(ip, port))
                .await
                .map_err(DialFailure::Connect),
            Err(_) => Race::new(port).run(resolver, host).await,
        }
    };
    tokio::time::timeout(limit, dialled)
        .await
        .unwrap_or(Err(DialFailure::TimedOut(limit)))
        .map_err(|failure| DialError {
            host: host.to_owned(),
            port,
            failure,
        })
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A message is written whole: waiting for more to send would only delay it.
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// The addresses of one name, on their way from answer to connection.
struct Race {
    port: u16,
    v6: VecDeque<IpAddr>,
    v4: VecDeque<IpAddr>,
    last_family: Option<Family>,
    attempts: FuturesUnordered<Attempt>,
    /// When the next address may be tried beside the running attempts.
    next_at: Instant,
    last_error: Option<io::Error>,
}

impl Race {
    fn new(port: u16) -> Self {
        Self {
            port,
            v6: VecDeque::new(),
            v4: VecDeque::new(),
            last_family: None,
            attempts: FuturesUnordered::new(),
            next_at: Instant::now(),
            last_error: None,
        }
    }

    async fn run(mut self, resolver: &Resolver, host: &str) -> Result<TcpStream, DialFailure> {
        let mut v6_answer = std::pin::pin!(resolver.lookup(host, Family::V6));
        let mut v4_answer = std::pin::pin!(resolver.lookup(host, Family::V4));
        let (mut v6_is_open, mut v4_is_open) = (true, true);
        let mut no_address = None;
        loop {
            let is_waiting = !(self.v6.is_empty() && self.v4.is_empty());
            if self.attempts.is_empty() && !is_waiting && !v6_is_open && !v4_is_open {
                return Err(self.failure(no_address));
            }
            tokio::select! {
                biased;
                answer = &mut v6_answer, if v6_is_open => {
                    v6_is_open = false;
                    match answer {
                        Ok(found) => self.v6 = found.into(),
                        Err(error) => no_address = worse(no_address, error),
                    }
                    // Nobody has to wait for this answer any more.
                    if self.attempts.is_empty() {
                        self.next_at = Instant::now();
                    }
                }
                answer = &mut v4_answer, if v4_is_open => {
                    v4_is_open = false;
                    match answer {
                        Ok(found) => self.answered_v4(found, v6_is_open),
                        Err(error) => no_address = worse(no_address, error),
                    }
                }
                Some(attempt) = self.attempts.next() => match attempt {
                    Ok(socket) => return Ok(socket),
                    Err(error) => {
                        self.last_error = Some(error);
                        self.next_at = Instant::now();
                    }
                },
                () = sleep_until(self.next_at), if is_waiting => self.begin_next(),
            }
        }
    }

    fn answered_v4(&mut self, found: Vec<IpAddr>, v6_is_open: bool) {
        self.v4 = found.into();
        if self.attempts.is_empty() && self.v6.is_empty() && v6_is_open {
            self.next_at = Instant::now() + RESOLUTION_DELAY;
        }
    }

    fn begin_next(&mut self) {
        let (first, second) = match self.last_family {
            Some(Family::V6) => (Family::V4, Family::V6),
            _ => (Family::V6, Family::V4),
        };
        for family in [first, second] {
            let waiting = match family {
                Family::V6 => &mut self.v6,
                Family::V4 => &mut self.v4,
            };
            if let Some(ip) = waiting.pop_front() {
                self.last_family = Some(family);
                self.attempts
                    .push(Box::pin(connect(SocketAddr::new(ip, self.port))));
                self.next_at = Instant::now() + ATTEMPT_DELAY;
                return;
            }
        }
    }

    fn failure(self, no_address: Option<ResolveError>) -> DialFailure {
        match (self.last_error, no_address) {
            (Some(error), _) => DialFailure::Connect(error),
            (None, Some(error)) => DialFailure::Resolve(error),
            (None, None) => DialFailure::Resolve(ResolveError::NotFound),
        }
    }
}

/// Of two reasons for having no address the one that says more: a failure tells more than an absence.
fn worse(earlier: Option<ResolveError>, later: ResolveError) -> Option<ResolveError> {
    match (earlier, later) {
        (Some(earlier), ResolveError::NotFound) => Some(earlier),
        (_, later) => Some(later),
    }
}
