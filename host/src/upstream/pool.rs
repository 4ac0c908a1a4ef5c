//! Reusable upstream connections, keyed by everything that distinguishes connections: one pool per worker, shared by
//! all its client connections. Look-up allocates nothing.
//!
//! HTTP/1.1 connections are in it while they are idle, HTTP/2 connections as long as they take streams (`shares.rs`).
//!
//! The newest idle connection of a host is handed out first, so that those that are not needed grow old. The one that
//! has been idle for longest, over all hosts, is closed first: after its time, past a bound that the configuration sets,
//! or when descriptors run short (`pressure.rs`). A connection on which something happened while it was idle, a
//! close or bytes that nobody asked for (RFC 9112 §9.2), is never handed out.
//!
//! What is done at once is bounded: a pool of many connections that all have been closed is cleared bit by bit.

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

/// Unusable connections that are closed on the way to a usable one, before a new one is made.
const MAX_UNUSABLE: usize = 16;

/// Connections that are looked at in one tick, and closed at most.
const LOOKS: usize = 256;

/// Hosts that are looked at in one tick.
const HOST_LOOKS: usize = 64;

/// Ticks for which a host without connections is remembered: most come back.
const FORGET_AFTER: u32 = 100;

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Idle connections kept for one destination.
    pub(crate) per_host: usize,
    /// Idle connections kept in all.
    pub(crate) total: usize,
    /// How long a connection may be idle before it is closed.
    pub(crate) idle: Duration,
    /// Descriptors that the process may have open; None: any number.
    pub(crate) descriptors: Option<u64>,
}

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Pool {
    limits: Cell<PoolLimits>,
    /// The number of a descriptor from which on they run short.
    mark: u64,
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
    /// Where the last look at the hosts ended.
    looked_at: usize,
}

/// What is kept for one destination.
#[derive(Debug)]
struct HostEntry {
    key: Key,
    idle: List,
    /// None where HTTP/2 was never thought of.
    shares: Option<Rc<Shares>>,
    /// The tick of the last use.
    used: u32,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits, deadlines: &Rc<Deadlines>) -> Self {
        Self {
            limits: Cell::new(limits),
            mark: limits.descriptors.map_or(u64::MAX, pressure::mark),
            deadlines: Rc::clone(deadlines),
            hosts: RefCell::default(),
        }
    }

    /// Changes all bounds but that of descriptors. What is kept beyond them goes as time passes.
    pub(super) fn set_limits(&self, limits: PoolLimits) {
        self.limits.set(limits);
    }

    /// An idle connection for which `is_usable` holds; unusable ones on the way to it are closed.
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

    /// Keeps a connection whose last exchange is over and complete. A stream of a shared connection is of no further use.
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

    /// A stream of an HTTP/2 connection along `route`, if there is one that takes another.
    pub(crate) fn open(&self, route: &Route<'_>) -> Option<SharedStream> {
        self.known_shares(route)?.open()
    }

    /// The HTTP/2 connection that takes another stream along `route`, if there is one.
    pub(crate) fn shared(&self, route: &Route<'_>) -> Option<Client> {
        self.known_shares(route)?.client()
    }

    /// What is known of HTTP/2 along `route`.
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

    /// A connection was made or accepted whose descriptor has this number: idle ones are given up if there are many.
    pub(crate) fn note_descriptor(&self, number: u64) {
        let excess = pressure::excess(number, self.mark);
        if excess > 0 {
            let left = excess - self.give_up(excess).min(excess);
            pressure::ask(left);
        }
    }

    /// Closes up to `count` idle connections, those first that have been idle for longest; how many were closed.
    pub(crate) fn give_up(&self, count: usize) -> usize {
        let hosts = &mut *self.hosts.borrow_mut();
        let mut given_up = 0;
        while given_up < count && hosts.remove_oldest().is_some() {
            given_up += 1;
        }
        // Streams of HTTP/2 are cheaper to keep, and close more slowly.
        for _ in 0..HOST_LOOKS {
            if given_up >= count {
                break;
            }
            let shares = hosts.next_host().and_then(|number| {
                let host = hosts.host(number)?;
                host.shares.clone()
            });
            given_up += shares.map_or(0, |shares| shares.give_up_idle());
        }
        given_up
    }

    /// Closes what has been idle too long or was closed by its peer, and forgets hosts without connections. A bounded part
    /// of it in each tick.
    pub(crate) fn sweep(&self) {
        if !self.hosts.borrow().hosts.is_empty() {
            let asked = pressure::take_asked();
            let given_up = if asked > 0 { self.give_up(asked) } else { 0 };
            pressure::ask(asked.saturating_sub(given_up));
        }
        let hosts = &mut *self.hosts.borrow_mut();
        let now = self.deadlines.now();
        let mut looks = LOOKS.min(hosts.idle.places());
        let idle = u32::try_from(self.limits.get().idle.as_millis() / TICK.as_millis());
        let idle = idle.unwrap_or(u32::MAX);
        for _ in 0..LOOKS {
            match hosts.idle.oldest() {
                Some(at) if now.saturating_sub(hosts.idle.since(at)) >= idle => {
                    drop(hosts.remove(at));
                }
                _ => break,
            }
        }
        while let Some(at) = hosts.idle.look(&mut looks, |stream| !stream.is_quiet()) {
            drop(hosts.remove(at));
        }
        let clock = Instant::now();
        for _ in 0..HOST_LOOKS.min(hosts.hosts.len()) {
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

    /// Closes every idle connection; shared ones when their last stream ends.
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

    /// The number of a host, if it is known.
    fn find(&self, key: &KeyRef<'_>) -> Option<u32> {
        let is_it = |number: &u32| {
            self.host(*number)
                .is_some_and(|host| key.equivalent(&host.key))
        };
        self.by_key.find(self.hash(key), is_it).copied()
    }

    /// The number of a host, which is known from now on.
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

    /// Forgets a host without connections.
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

    /// The next host in turn, over and over; None in a free place.
    fn next_host(&mut self) -> Option<u32> {
        self.looked_at = match self.looked_at + 1 {
            next if next < self.hosts.len() => next,
            _ => 0,
        };
        let number = self.looked_at as u32;
        self.host(number).map(|_| number)
    }
}
