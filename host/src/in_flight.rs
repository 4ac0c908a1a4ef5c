//! What a worker has in flight, counted by kind, and the exchanges that end only if a peer ends them.
//!
//! The counts are plain cells of the worker; a drain reads them. Exchanges that may last for hours (tunnels, WebSockets,
//! event streams) are also listed, so that a drain can name them. Nothing here is shared with other threads.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

/// The list of long exchanges is cleaned up when it has grown by this many entries at least.
const LIST_STEP: usize = 16;

/// What an exchange is, by how it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    /// A request and a response that ends by itself.
    #[default]
    Plain,
    /// A response of the type `text/event-stream`, which may go on until a peer closes it.
    EventStream,
    /// CONNECT, or an upgrade to another protocol.
    Tunnel,
    WebSocket,
}

impl ExchangeKind {
    const ALL: [Self; 4] = [
        Self::Plain,
        Self::EventStream,
        Self::Tunnel,
        Self::WebSocket,
    ];

    /// The word for one of them.
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "exchange",
            Self::EventStream => "event stream",
            Self::Tunnel => "tunnel",
            Self::WebSocket => "WebSocket",
        }
    }
}

/// Numbers of exchanges by kind. Displayed as `20 exchanges, 1 tunnel`; `0 exchanges` if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KindCounts([usize; ExchangeKind::ALL.len()]);

impl KindCounts {
    /// Of all kinds.
    pub(crate) fn total(self) -> usize {
        self.0.iter().sum()
    }

    /// Of the kinds that end only if a peer ends them.
    pub(crate) fn long(self) -> usize {
        self.total() - self.of(ExchangeKind::Plain)
    }

    pub(crate) fn of(self, kind: ExchangeKind) -> usize {
        self.0[kind as usize]
    }

    pub(crate) fn add(&mut self, kind: ExchangeKind) {
        self.0[kind as usize] += 1;
    }
}

impl AddAssign for KindCounts {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

impl fmt::Display for KindCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_empty = self.total() == 0;
        let mut separator = "";
        for kind in ExchangeKind::ALL {
            let count = self.of(kind);
            if count > 0 || is_empty && kind == ExchangeKind::Plain {
                let plural = if count == 1 { "" } else { "s" };
                write!(f, "{separator}{count} {}{plural}", kind.name())?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// Bytes relayed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moved {
    pub(crate) to_upstream: Cell<u64>,
    pub(crate) to_client: Cell<u64>,
}

/// An exchange that ends only if a peer ends it.
#[derive(Debug)]
pub(crate) struct LongExchange {
    pub(crate) kind: ExchangeKind,
    pub(crate) client: SocketAddr,
    /// Host and port of the request.
    pub(crate) target: Box<str>,
    pub(crate) began_at: Instant,
    /// Zero for those that are not relayed as bytes.
    pub(crate) moved: Moved,
}

/// A long exchange as a drain reports it. Displayed as
/// `tunnel from 127.0.0.1:4711 to example.org:443, open for 12 s; 517 bytes to the upstream, 4711 bytes to the client`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenExchange {
    kind: ExchangeKind,
    client: SocketAddr,
    target: Box<str>,
    pub(crate) age: Duration,
    to_upstream: u64,
    to_client: u64,
}

impl fmt::Display for OpenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, seconds) = (self.kind.name(), self.age.as_secs());
        write!(
            f,
            "{kind} from {} to {}, open for {seconds} s",
            self.client, self.target
        )?;
        if (self.to_upstream, self.to_client) != (0, 0) {
            write!(
                f,
                "; {} bytes to the upstream, {} bytes to the client",
                self.to_upstream, self.to_client
            )?;
        }
        Ok(())
    }
}

/// The exchanges that a worker has in flight.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    /// By kind.
    open: [Cell<usize>; ExchangeKind::ALL.len()],
    /// Those that have ended are removed when the list grows.
    long: RefCell<Vec<Weak<LongExchange>>>,
}

impl InFlight {
    /// An exchange begins.
    pub(crate) fn begin(&self) {
        self.add(ExchangeKind::Plain);
    }

    /// An exchange of this kind ends.
    pub(crate) fn end(&self, kind: ExchangeKind) {
        let count = &self.open[kind as usize];
        debug_assert!(count.get() > 0, "{kind:?} ends twice");
        count.set(count.get().saturating_sub(1));
    }

    fn add(&self, kind: ExchangeKind) {
        let count = &self.open[kind as usize];
        count.set(count.get() + 1);
    }

    /// An exchange, which was of another kind before, may last for long. It is listed while the result exists.
    pub(crate) fn list(&self, before: ExchangeKind, exchange: LongExchange) -> Rc<LongExchange> {
        self.end(before);
        self.add(exchange.kind);
        let exchange = Rc::new(exchange);
        let mut long = self.long.borrow_mut();
        if long.len() == long.capacity() {
            long.retain(|exchange| exchange.strong_count() > 0);
            let step = long.len().max(LIST_STEP);
            long.reserve(step);
        }
        long.push(Rc::downgrade(&exchange));
        exchange
    }

    /// What is in flight now.
    pub(crate) fn open(&self) -> KindCounts {
        KindCounts(std::array::from_fn(|kind| self.open[kind].get()))
    }

    /// The `most` long exchanges that are the oldest, the oldest first.
    pub(crate) fn oldest(&self, most: usize) -> Vec<OpenExchange> {
        let now = Instant::now();
        let long = self.long.borrow();
        let mut all: Vec<_> = long.iter().filter_map(Weak::upgrade).collect();
        all.sort_by_key(|exchange| exchange.began_at);
        let shown = all.iter().take(most).map(|exchange| OpenExchange {
            kind: exchange.kind,
            client: exchange.client,
            target: exchange.target.clone(),
            age: now.saturating_duration_since(exchange.began_at),
            to_upstream: exchange.moved.to_upstream.get(),
            to_client: exchange.moved.to_client.get(),
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(target: &str, age: u64) -> LongExchange {
        LongExchange {
            kind: ExchangeKind::Tunnel,
            client: ([127, 0, 0, 1], 4711).into(),
            target: target.into(),
            began_at: Instant::now() - Duration::from_secs(age),
            moved: Moved::default(),
        }
    }

    #[test]
    fn counts_are_named_by_kind() {
        let mut counts = KindCounts::default();
        assert_eq!(counts.to_string(), "0 exchanges");
        counts.add(ExchangeKind::Tunnel);
        assert_eq!(counts.to_string(), "1 tunnel");
        for kind in ExchangeKind::ALL {
            counts.add(kind);
        }
        let named = "1 exchange, 1 event stream, 2 tunnels, 1 WebSocket";
        assert_eq!((counts.to_string().as_str(), counts.total()), (named, 5));
        let mut sum = counts;
        sum += counts;
        assert_eq!(sum.of(ExchangeKind::Tunnel), 4);
    }

    #[test]
    fn an_exchange_that_becomes_a_tunnel_is_counted_once() {
        let in_flight = InFlight::default();
        in_flight.begin();
        in_flight.begin();
        let listed = in_flight.list(ExchangeKind::Plain, tunnel("a:1", 0));
        assert_eq!(in_flight.open().to_string(), "1 exchange, 1 tunnel");
        drop(listed);
        in_flight.end(ExchangeKind::Tunnel);
        assert_eq!(in_flight.open().to_string(), "1 exchange");
        in_flight.end(ExchangeKind::Plain);
        assert_eq!(in_flight.open(), KindCounts::default());
    }

    #[test]
    fn the_oldest_are_shown_first() {
        let in_flight = InFlight::default();
        let _kept: Vec<_> = [("b:1", 5), ("a:1", 60), ("c:1", 1)]
            .into_iter()
            .map(|(target, age)| {
                in_flight.begin();
                in_flight.list(ExchangeKind::Plain, tunnel(target, age))
            })
            .collect();
        _kept[1].moved.to_client.set(12);
        let shown: Vec<_> = in_flight
            .oldest(2)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            shown,
            [
                "tunnel from 127.0.0.1:4711 to a:1, open for 60 s; 0 bytes to the upstream, 12 bytes to the client",
                "tunnel from 127.0.0.1:4711 to b:1, open for 5 s",
            ]
        );
    }

    #[test]
    fn ended_exchanges_leave_the_list() {
        let in_flight = InFlight::default();
        for _ in 0..1000 {
            in_flight.begin();
            drop(in_flight.list(ExchangeKind::Plain, tunnel("a:1", 0)));
            in_flight.end(ExchangeKind::Tunnel);
        }
        assert!(in_flight.oldest(1000).is_empty());
        let kept = in_flight.long.borrow().capacity();
        assert!(kept <= 2 * LIST_STEP, "{kept} entries are kept");
    }
}
