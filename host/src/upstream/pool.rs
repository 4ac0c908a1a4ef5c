//! Connections to upstreams that can be used again, by all that makes them what they are: one pool per worker, shared by
//! all its client connections. Asking allocates nothing.
//!
//! HTTP/1.1 connections are in it while they are idle, HTTP/2 connections as long as they take streams. Who wants a
//! connection that may turn out to be HTTP/2 waits for whoever is making one already.
//!
//! The newest idle connection is handed out first. A connection on which something happened while it was idle, a
//! close or bytes that nobody asked for (RFC 9112 §9.2), is never handed out. The pool is bounded per host and in
//! total; past a bound the connection that comes back is closed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::Notify;

use super::key::{Key, KeyRef};
use super::route::Route;
use crate::http2::client::Client;
use crate::stream::MessageStream;
use crate::worker::Worker;

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Idle connections kept for one destination.
    pub(crate) per_host: usize,
    /// Idle connections kept in all.
    pub(crate) total: usize,
    /// How long a connection may be idle before it is closed.
    pub(crate) idle: Duration,
}

/// The idle connections of one worker.
#[derive(Debug)]
pub(crate) struct Pool {
    limits: PoolLimits,
    hosts: RefCell<Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    by_key: HashMap<Key, Host>,
    /// Idle and shared connections.
    total: usize,
}

/// What is kept for one destination.
#[derive(Debug, Default)]
struct Host {
    idle: Vec<Idle>,
    shared: Option<Client>,
    dial: Dial,
}

/// What is known of making connections that may turn out to be HTTP/2.
#[derive(Debug, Default)]
enum Dial {
    /// Nothing.
    #[default]
    Unknown,
    /// Somebody makes one; woken when that has come to an end.
    UnderWay(Rc<Notify>),
    /// They are HTTP/1.1: no use in waiting for one another.
    Http1,
}

/// Whose turn it is to make a connection.
pub(crate) enum Turn {
    /// Ours; others wait until the value is dropped.
    Ours(DialTurn),
    /// Everybody's, there is nothing to wait for.
    Everybodys,
    /// Somebody else's, who wakes us at the end.
    Anothers(Rc<Notify>),
}

/// The right to make a connection that others wait for.
pub(crate) struct DialTurn {
    worker: Rc<Worker>,
    key: Key,
    notify: Rc<Notify>,
}

#[derive(Debug)]
struct Idle {
    stream: MessageStream,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            hosts: RefCell::default(),
        }
    }

    /// An idle connection for which `is_usable` holds; unusable ones on the way to it are closed.
    pub(crate) fn take(
        &self,
        route: &Route<'_>,
        is_usable: impl Fn(&MessageStream) -> bool,
    ) -> Option<MessageStream> {
        let hosts = &mut *self.hosts.borrow_mut();
        let idle = &mut hosts.by_key.get_mut(&KeyRef::of(route))?.idle;
        while let Some(Idle { stream, .. }) = idle.pop() {
            hosts.total -= 1;
            if is_usable(&stream) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection whose last exchange is over and complete. A stream of a shared connection is of no further use.
    pub(crate) fn put(&self, route: &Route<'_>, stream: MessageStream) {
        let hosts = &mut *self.hosts.borrow_mut();
        if stream.is_channel() || hosts.total >= self.limits.total || !stream.is_quiet() {
            return;
        }
        let entry = Idle {
            stream,
            since: Instant::now(),
        };
        let key = KeyRef::of(route);
        if let Some(host) = hosts.by_key.get_mut(&key) {
            if host.idle.len() < self.limits.per_host {
                host.idle.push(entry);
                hosts.total += 1;
            }
            return;
        }
        let host = Host {
            idle: vec![entry],
            ..Host::default()
        };
        hosts.by_key.insert(key.to_key(), host);
        hosts.total += 1;
    }

    /// The HTTP/2 connection that takes another stream along `route`, if there is one.
    pub(crate) fn shared(&self, route: &Route<'_>) -> Option<Client> {
        let hosts = self.hosts.borrow();
        let shared = hosts.by_key.get(&KeyRef::of(route))?.shared.as_ref()?;
        shared.can_open().then(|| shared.clone())
    }

    /// Lets all exchanges along `route` use an HTTP/2 connection, in place of the one before, whose streams go on.
    pub(crate) fn share(&self, route: &Route<'_>, client: &Client) {
        let hosts = &mut *self.hosts.borrow_mut();
        let host = entry(&mut hosts.by_key, KeyRef::of(route));
        if host.shared.is_some() || hosts.total < self.limits.total {
            hosts.total += usize::from(host.shared.is_none());
            host.shared = Some(client.clone());
        }
    }

    /// Whose turn it is to make a connection along `route` that may turn out to be HTTP/2.
    pub(crate) fn turn(worker: &Rc<Worker>, route: &Route<'_>) -> Turn {
        let hosts = &mut *worker.pool.hosts.borrow_mut();
        let key = KeyRef::of(route);
        let host = entry(&mut hosts.by_key, key);
        match &host.dial {
            Dial::Http1 => Turn::Everybodys,
            Dial::UnderWay(notify) => Turn::Anothers(Rc::clone(notify)),
            Dial::Unknown => {
                let notify = Rc::new(Notify::new());
                host.dial = Dial::UnderWay(Rc::clone(&notify));
                Turn::Ours(DialTurn {
                    worker: Rc::clone(worker),
                    key: key.to_key(),
                    notify,
                })
            }
        }
    }

    /// Closes what has been idle too long or was closed by its peer, and forgets hosts without connections.
    pub(crate) fn sweep(&self) {
        let hosts = &mut *self.hosts.borrow_mut();
        let now = Instant::now();
        let mut total = 0;
        let is_old = |since| now.duration_since(since) >= self.limits.idle;
        hosts.by_key.retain(|_, host| {
            host.idle
                .retain(|entry| !is_old(entry.since) && entry.stream.is_quiet());
            host.shared
                .take_if(|client| !client.is_alive() || client.is_idle_since().is_some_and(is_old));
            let kept = host.idle.len() + usize::from(host.shared.is_some());
            total += kept;
            kept > 0 || matches!(host.dial, Dial::UnderWay(_))
        });
        hosts.total = total;
    }

    /// Closes every idle connection; shared ones when their last stream ends.
    pub(crate) fn clear(&self) {
        *self.hosts.borrow_mut() = Hosts::default();
    }
}

fn entry<'a>(by_key: &'a mut HashMap<Key, Host>, key: KeyRef<'_>) -> &'a mut Host {
    by_key.entry(key.to_key()).or_default()
}

impl DialTurn {
    /// It has turned out to be HTTP/1.1.
    pub(crate) fn found_http1(self) {
        self.end(Dial::Http1);
    }

    fn end(&self, dial: Dial) {
        let hosts = &mut *self.worker.pool.hosts.borrow_mut();
        if let Some(host) = hosts.by_key.get_mut(&self.key.as_ref())
            && matches!(&host.dial, Dial::UnderWay(notify) if Rc::ptr_eq(notify, &self.notify))
        {
            host.dial = dial;
        }
    }
}

impl Drop for DialTurn {
    fn drop(&mut self) {
        self.end(Dial::Unknown);
        self.notify.notify_waiters();
    }
}
