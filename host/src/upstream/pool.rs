//! Reusable upstream connections, keyed by everything that distinguishes connections: one pool per worker, shared by
//! all its client connections. Look-up allocates nothing.
//!
//! HTTP/1.1 connections are in it while they are idle, HTTP/2 connections as long as they can open streams
//! (`shares.rs`).
//!
//! The most recently used idle connection of a host is reused first, so that surplus ones time out. The one that has
//! been idle for longest, over all hosts, is closed first: after the idle timeout, if a configured limit is exceeded,
//! or when descriptors run short (`pressure.rs`). A connection that was closed while it was idle, or on which
//! unexpected bytes arrived (RFC 9112 §9.2), is never reused.
//!
//! The work per call is limited: if all of many connections have been closed, they are removed over several ticks.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hash};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, Equivalent, HashTable};

use super::idle::{IdleTable, List};
use super::key::{Key, KeyRef};
use super::pressure;
use super::route::Route;
use super::shares::{SharedStream, Shares};
use crate::deadline::{Deadlines, TICK};
use crate::http2::client::Client;
use crate::stream::MessageStream;

/// How many unusable connections one look-up may find before a new connection is made.
const MAX_UNUSABLE: usize = 16;

/// How many connections are checked in one tick.
const CHECKS_PER_TICK: usize = 256;

/// How many hosts are checked in one tick.
const HOSTS_PER_TICK: usize = 64;

/// For how many ticks a host without connections is remembered, because most are used again.
const FORGET_AFTER: u32 = 100;

/// The limits of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Idle connections kept for one destination.
    pub(crate) per_host: usize,
    /// Idle connections kept in total.
    pub(crate) total: usize,
    /// How long a connection may be idle before it is closed.
    pub(crate) idle: Duration,
    /// Descriptors that the process may have open; `None`: unlimited.
    pub(crate) descriptors: Option<u64>,
}

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Pool {
    limits: Cell<PoolLimits>,
    /// From this number on, descriptors are running short.
    threshold: u64,
    deadlines: Rc<Deadlines>,
    hosts: RefCell<HostTable>,
}

#[derive(Debug, Default)]
struct HostTable {
    idle: IdleTable<MessageStream>,
    /// By number.
    hosts: Vec<Option<HostEntry>>,
    free: Vec<u32>,
    /// The numbers, by key.
    by_key: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The host that was checked last.
    checked: usize,
}

/// What is kept for one destination.
#[derive(Debug)]
struct HostEntry {
    key: Key,
    idle: List,
    /// None if HTTP/2 was never possible.
    shares: Option<Rc<Shares>>,
    /// The tick of the last use.
    used: u32,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits, deadlines: &Rc<Deadlines>) -> Self {
        Self {
            limits: Cell::new(limits),
            threshold: limits.descriptors.map_or(u64::MAX, pressure::threshold),
            deadlines: Rc::clone(deadlines),
            hosts: RefCell::default(),
        }
    }

    /// Changes all limits except that of descriptors. Connections that exceed the new ones are closed over time.
    pub(super) fn set_limits(&self, limits: PoolLimits) {
        self.limits.set(limits);
    }

    /// An idle connection for which `is_usable` is true; unusable ones that are found first are closed.
    pub(crate) fn take(
        &self,
        route: &Route<'_>,
        is_usable: impl Fn(&MessageStream) -> bool,
    ) -> Option<MessageStream> {
        let hosts = &mut *self.hosts.borrow_mut();
        let number = hosts.find(&KeyRef::of(route))?;
        for _ in 0..=MAX_UNUSABLE {
            let at = hosts.host(number)?.idle.newest()?;
            let stream = hosts.remove(at)?;
            if is_usable(&stream) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection whose last exchange is complete. A stream of a shared connection is dropped.
    pub(crate) fn put(&self, route: &Route<'_>, stream: MessageStream) {
        let PoolLimits {
            per_host, total, ..
        } = self.limits.get();
        if stream.is_channel() || per_host == 0 || total == 0 || !stream.is_quiet() {
            return;
        }
        let now = self.deadlines.now();
        let hosts = &mut *self.hosts.borrow_mut();
        let number = hosts.enter(KeyRef::of(route), now);
        let HostTable {
            idle, hosts: kept, ..
        } = hosts;
        let Some(Some(host)) = kept.get_mut(number as usize) else {
            return;
        };
        host.used = now;
        let excess = match host.idle.len() >= per_host {
            true => host.idle.oldest(),
            false => None,
        };
        idle.push(number, &mut host.idle, stream, now);
        match excess {
            Some(at) => drop(hosts.remove(at)),
            None if hosts.idle.len() > total => drop(hosts.remove_oldest()),
            None => {}
        }
    }

    /// A stream of an HTTP/2 connection for `route`, if there is one that can open another.
    pub(crate) fn open(&self, route: &Route<'_>) -> Option<SharedStream> {
        self.known_shares(route)?.open()
    }

    /// The HTTP/2 connection for `route` that can open another stream, if there is one.
    pub(crate) fn shared(&self, route: &Route<'_>) -> Option<Client> {
        self.known_shares(route)?.client()
    }

    /// The HTTP/2 connections for `route`, and who waits for them.
    pub(crate) fn shares(&self, route: &Route<'_>) -> Rc<Shares> {
        let now = self.deadlines.now();
        let hosts = &mut *self.hosts.borrow_mut();
        let number = hosts.enter(KeyRef::of(route), now);
        match hosts.host_mut(number) {
            Some(host) => {
                host.used = now;
                Rc::clone(host.shares.get_or_insert_default())
            }
            None => Rc::default(),
        }
    }

    fn known_shares(&self, route: &Route<'_>) -> Option<Rc<Shares>> {
        let hosts = self.hosts.borrow();
        let number = hosts.find(&KeyRef::of(route))?;
        hosts.host(number)?.shares.clone()
    }

    /// To be called for each new connection, with the number of its descriptor: closes idle ones if descriptors are
    /// running short.
    pub(crate) fn report_descriptor(&self, number: u64) {
        let excess = pressure::excess(number, self.threshold);
        if excess > 0 {
            let left = excess - self.close_idle(excess).min(excess);
            pressure::request(left);
        }
    }

    /// Closes up to `count` idle connections, starting with those that have been idle for longest. Returns how many.
    pub(crate) fn close_idle(&self, count: usize) -> usize {
        let hosts = &mut *self.hosts.borrow_mut();
        let mut closed = 0;
        while closed < count && hosts.remove_oldest().is_some() {
            closed += 1;
        }
        // HTTP/2 connections come last: each serves many streams, and takes longer to close.
        for _ in 0..HOSTS_PER_TICK {
            if closed >= count {
                break;
            }
            let shares = hosts.next_host().and_then(|number| {
                let host = hosts.host(number)?;
                host.shares.clone()
            });
            closed += shares.map_or(0, |shares| shares.close_idle());
        }
        closed
    }

    /// Removes connections that have been idle for too long or were closed by their peer, and hosts without
    /// connections. To be called in each tick; checks a limited number of them.
    pub(crate) fn sweep(&self) {
        if !self.hosts.borrow().hosts.is_empty() {
            let requested = pressure::take_requested();
            let closed = if requested > 0 {
                self.close_idle(requested)
            } else {
                0
            };
            pressure::request(requested.saturating_sub(closed));
        }
        let hosts = &mut *self.hosts.borrow_mut();
        let now = self.deadlines.now();
        let mut checks = CHECKS_PER_TICK.min(hosts.idle.places());
        let idle = u32::try_from(self.limits.get().idle.as_millis() / TICK.as_millis());
        let idle = idle.unwrap_or(u32::MAX);
        for _ in 0..CHECKS_PER_TICK {
            match hosts.idle.oldest() {
                Some(at) if now.saturating_sub(hosts.idle.since(at)) >= idle => {
                    drop(hosts.remove(at));
                }
                _ => break,
            }
        }
        while let Some(at) = hosts.idle.check(&mut checks, |stream| !stream.is_quiet()) {
            drop(hosts.remove(at));
        }
        let clock = Instant::now();
        for _ in 0..HOSTS_PER_TICK.min(hosts.hosts.len()) {
            let Some(number) = hosts.next_host() else {
                continue;
            };
            let is_needed = hosts.host(number).is_some_and(|host| {
                let shares = host.shares.as_ref();
                shares.is_some_and(|shares| shares.sweep(clock, self.limits.get().idle))
                    || host.idle.len() > 0
                    || now.saturating_sub(host.used) < FORGET_AFTER
            });
            if !is_needed {
                hosts.forget(number);
            }
        }
    }

    /// Closes every idle connection, and shared ones when their last stream ends.
    pub(crate) fn clear(&self) {
        let hosts = std::mem::take(&mut *self.hosts.borrow_mut());
        let shares = hosts.hosts.iter().flatten();
        let shares = shares.filter_map(|host| host.shares.as_ref());
        shares.for_each(|shares| shares.clear());
    }
}

impl HostTable {
    fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    fn host(&self, number: u32) -> Option<&HostEntry> {
        self.hosts.get(number as usize)?.as_ref()
    }

    fn host_mut(&mut self, number: u32) -> Option<&mut HostEntry> {
        self.hosts.get_mut(number as usize)?.as_mut()
    }

    /// The number of a host, if it is in the table.
    fn find(&self, key: &KeyRef<'_>) -> Option<u32> {
        let is_it = |number: &u32| {
            self.host(*number)
                .is_some_and(|host| key.equivalent(&host.key))
        };
        self.by_key.find(self.hash(key), is_it).copied()
    }

    /// The number of a host, which is added if it is not in the table.
    fn enter(&mut self, key: KeyRef<'_>, now: u32) -> u32 {
        if let Some(number) = self.find(&key) {
            return number;
        }
        let host = Some(HostEntry {
            key: key.to_key(),
            idle: List::default(),
            shares: None,
            used: now,
        });
        let number = match self.free.pop() {
            Some(number) => {
                self.hosts[number as usize] = host;
                number
            }
            None => {
                self.hosts.push(host);
                (self.hosts.len() - 1) as u32
            }
        };
        let hash = self.hash(key);
        let Self {
            by_key,
            hosts,
            hasher,
            ..
        } = self;
        by_key.insert_unique(hash, number, |number| {
            let host = hosts[*number as usize].as_ref();
            host.map_or(0, |host| hasher.hash_one(&host.key))
        });
        number
    }

    /// Removes a host without connections.
    fn forget(&mut self, number: u32) {
        let Some(host) = self.hosts[number as usize].take() else {
            return;
        };
        debug_assert_eq!(host.idle.len(), 0);
        let hash = self.hash(&host.key);
        if let Ok(entry) = self.by_key.find_entry(hash, |of| *of == number) {
            entry.remove();
        }
        self.free.push(number);
    }

    fn remove(&mut self, at: u32) -> Option<MessageStream> {
        let number = self.idle.host_of(at) as usize;
        let host = self.hosts.get_mut(number)?.as_mut()?;
        self.idle.remove(at, &mut host.idle)
    }

    fn remove_oldest(&mut self) -> Option<MessageStream> {
        let at = self.idle.oldest()?;
        self.remove(at)
    }

    /// The next host in a round; `None` if its place is free.
    fn next_host(&mut self) -> Option<u32> {
        self.checked = match self.checked + 1 {
            next if next < self.hosts.len() => next,
            _ => 0,
        };
        let number = self.checked as u32;
        self.host(number).map(|_| number)
    }
}
