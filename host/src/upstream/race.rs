//! A new TCP connection: resolve, then try addresses concurrently (RFC 8305, Happy Eyeballs version 2).
//!
//! Both families are resolved at once. Connecting begins with the first IPv6 address, or with IPv4 if IPv6 is not
//! resolved [`RESOLUTION_DELAY`] later. Families alternate; the next address is tried when the previous one has failed,
//! or has not answered within [`ATTEMPT_DELAY`]. The first connection wins, the others are dropped. If the name does
//! not exist according to the answer for IPv4, IPv6 is not waited for.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until};

use super::failure::DialFailure;
use super::own;
use super::resolve::{Family, ResolveError, Resolver};

/// How long IPv4 addresses wait for the IPv6 answer (RFC 8305 §3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long after one attempt the next one begins (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The two ends of a TCP connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination<'a> {
    /// A name or an IP literal.
    pub(super) host: &'a str,
    /// The name is absolute: search domains are not tried.
    pub(super) is_absolute: bool,
    pub(super) port: u16,
    /// The addresses of `host`, if they are known already.
    pub(super) addresses: &'a [IpAddr],
    /// The address that the socket is bound to. Addresses of the other family cannot be reached from it.
    pub(super) source: Option<IpAddr>,
    /// The addresses on which this proxy listens; a connection there is [`DialFailure::Itself`]. Empty: it is allowed.
    pub(super) own: &'a [SocketAddr],
}

/// A new TCP connection.
pub(super) struct Connected {
    pub(super) socket: TcpStream,
    /// When the first address that was tried was resolved; none if nothing had to be resolved.
    pub(super) resolved_at: Option<std::time::Instant>,
}

/// Connects. Cancel safe: dropping the future closes what was opened.
pub(super) async fn connect(
    resolver: &Resolver,
    to: Destination<'_>,
) -> Result<Connected, DialFailure> {
    if !to.addresses.is_empty() {
        return Race::between(to).run(None).await;
    }
    match to.host.parse::<IpAddr>() {
        Ok(ip) if own::leads_back(to.own, SocketAddr::new(ip, to.port)) => Err(DialFailure::Itself),
        Ok(ip) => attempt(SocketAddr::new(ip, to.port), to.source)
            .await
            .map(|socket| Connected {
                socket,
                resolved_at: None,
            })
            .map_err(DialFailure::Connect),
        Err(_) => Race::new(to).run(Some(resolver)).await,
    }
}

async fn attempt(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Messages are written as a whole, so waiting for more data would only delay them.
    socket.set_nodelay(true)?;
    if let Some(source) = source {
        if source.is_ipv4() != address.is_ipv4() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// The connection attempts to the addresses of one name.
struct Race<'a> {
    host: &'a str,
    is_absolute: bool,
    port: u16,
    source: Option<IpAddr>,
    own: &'a [SocketAddr],
    v6: VecDeque<IpAddr>,
    v4: VecDeque<IpAddr>,
    last_family: Option<Family>,
    resolved_at: Option<std::time::Instant>,
    attempts: FuturesUnordered<Attempt>,
    /// When the next address may be tried, concurrently with running attempts.
    next_at: Instant,
    last_error: Option<io::Error>,
}

impl<'a> Race<'a> {
    fn new(to: Destination<'a>) -> Self {
        Self {
            host: to.host,
            is_absolute: to.is_absolute,
            port: to.port,
            source: to.source,
            own: to.own,
            v6: VecDeque::new(),
            v4: VecDeque::new(),
            last_family: None,
            resolved_at: None,
            attempts: FuturesUnordered::new(),
            next_at: Instant::now(),
            last_error: None,
        }
    }

    /// For addresses that are known already; begins with the family of the first one.
    fn between(to: Destination<'a>) -> Self {
        let (v6, v4) = to.addresses.iter().partition(|ip| ip.is_ipv6());
        let begins_with_v4 = to.addresses.first().is_some_and(IpAddr::is_ipv4);
        Self {
            v6,
            v4,
            last_family: begins_with_v4.then_some(Family::V6),
            ..Self::new(to)
        }
    }

    async fn run(mut self, unresolved: Option<&Resolver>) -> Result<Connected, DialFailure> {
        let (host, is_absolute) = (self.host, self.is_absolute);
        let resolve = async |family| match unresolved {
            Some(resolver) => resolver.lookup(host, is_absolute, family).await,
            None => Err(ResolveError::NoAddress),
        };
        if let Some(resolver) = unresolved {
            resolver.refresh().await;
        }
        let mut v6_answer = std::pin::pin!(resolve(Family::V6));
        let mut v4_answer = std::pin::pin!(resolve(Family::V4));
        let (mut v6_is_open, mut v4_is_open) = (unresolved.is_some(), unresolved.is_some());
        let (mut no_v6, mut no_v4) = (ResolveError::NoAddress, ResolveError::NoAddress);
        loop {
            let is_waiting = !(self.v6.is_empty() && self.v4.is_empty());
            if self.attempts.is_empty() && !is_waiting && !v6_is_open && !v4_is_open {
                return Err(self.failure(ResolveError::of_both(no_v4, no_v6)));
            }
            tokio::select! {
                biased;
                answer = &mut v6_answer, if v6_is_open => {
                    v6_is_open = false;
                    match answer {
                        Ok(found) => self.v6 = found.into(),
                        Err(error) => no_v6 = error,
                    }
                    self.end_resolution_delay();
                }
                answer = &mut v4_answer, if v4_is_open => {
                    v4_is_open = false;
                    match answer {
                        Ok(found) => self.answered_v4(found, v6_is_open),
                        Err(error) => {
                            v6_is_open &= error != ResolveError::NoSuchHost;
                            no_v4 = error;
                        }
                    }
                }
                Some(attempt) = self.attempts.next() => match attempt {
                    Ok(socket) => {
                        let resolved_at = self.resolved_at.filter(|_| unresolved.is_some());
                        return Ok(Connected { socket, resolved_at });
                    }
                    Err(error) => self.record_failed(error),
                },
                () = sleep_until(self.next_at), if is_waiting => self.begin_next()?,
            }
        }
    }

    /// IPv4 no longer waits for the IPv6 answer.
    fn end_resolution_delay(&mut self) {
        if self.attempts.is_empty() {
            self.next_at = Instant::now();
        }
    }

    fn record_failed(&mut self, error: io::Error) {
        // The error of another address is more useful than that this one has the wrong family for the source.
        if self.last_error.is_none() || error.kind() != io::ErrorKind::AddrNotAvailable {
            self.last_error = Some(error);
        }
        self.next_at = Instant::now();
    }

    fn answered_v4(&mut self, found: Vec<IpAddr>, v6_is_open: bool) {
        self.v4 = found.into();
        if self.attempts.is_empty() && self.v6.is_empty() && v6_is_open {
            self.next_at = Instant::now() + RESOLUTION_DELAY;
        }
    }

    /// # Errors
    /// The next address is this proxy's own.
    fn begin_next(&mut self) -> Result<(), DialFailure> {
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
                self.resolved_at.get_or_insert_with(std::time::Instant::now);
                let address = SocketAddr::new(ip, self.port);
                if own::leads_back(self.own, address) {
                    return Err(DialFailure::Itself);
                }
                self.attempts.push(Box::pin(attempt(address, self.source)));
                self.next_at = Instant::now() + ATTEMPT_DELAY;
                return Ok(());
            }
        }
        Ok(())
    }

    fn failure(self, no_address: ResolveError) -> DialFailure {
        match self.last_error {
            Some(error) => DialFailure::Connect(error),
            None => DialFailure::Resolve {
                host: self.host.to_owned(),
                error: no_address,
            },
        }
    }
}
