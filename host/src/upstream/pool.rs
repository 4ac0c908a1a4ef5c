//! Idle connections to upstreams, by host and port: one pool per worker, shared by all its client connections.
//!
//! The newest idle connection is handed out first. A connection on which something happened while it was idle, a
//! close or bytes that nobody asked for (RFC 9112 §9.2), is never handed out. The pool is bounded per host and in
//! total; past a bound the connection that comes back is closed.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use hashbrown::{Equivalent, HashMap};

use crate::stream::MessageStream;

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Idle connections kept per host and port.
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
    by_address: HashMap<HostPort, Vec<Idle>>,
    total: usize,
}

#[derive(Debug)]
struct Idle {
    stream: MessageStream,
    since: Instant,
}

#[derive(Debug, Hash, PartialEq, Eq)]
struct HostPort {
    host: String,
    port: u16,
}

#[derive(Hash)]
struct HostPortRef<'a> {
    host: &'a str,
    port: u16,
}

impl Equivalent<HostPort> for HostPortRef<'_> {
    fn equivalent(&self, key: &HostPort) -> bool {
        self.port == key.port && self.host == key.host
    }
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
        host: &str,
        port: u16,
        is_usable: impl Fn(&MessageStream) -> bool,
    ) -> Option<MessageStream> {
        let hosts = &mut *self.hosts.borrow_mut();
        let idle = hosts.by_address.get_mut(&HostPortRef { host, port })?;
        while let Some(Idle { stream, .. }) = idle.pop() {
            hosts.total -= 1;
            if is_usable(&stream) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection whose last exchange is over and complete.
    pub(crate) fn put(&self, host: &str, port: u16, stream: MessageStream) {
        let hosts = &mut *self.hosts.borrow_mut();
        if hosts.total >= self.limits.total || !stream.is_quiet() {
            return;
        }
        let entry = Idle {
            stream,
            since: Instant::now(),
        };
        let key = HostPortRef { host, port };
        if let Some(idle) = hosts.by_address.get_mut(&key) {
            if idle.len() < self.limits.per_host {
                idle.push(entry);
                hosts.total += 1;
            }
            return;
        }
        let host = host.to_owned();
        hosts
            .by_address
            .insert(HostPort { host, port }, vec![entry]);
        hosts.total += 1;
    }

    /// Closes what has been idle too long or was closed by its peer, and forgets hosts without connections.
    pub(crate) fn sweep(&self) {
        let hosts = &mut *self.hosts.borrow_mut();
        let now = Instant::now();
        let mut total = 0;
        hosts.by_address.retain(|_, idle| {
            idle.retain(|entry| {
                now.duration_since(entry.since) < self.limits.idle && entry.stream.is_quiet()
            });
            total += idle.len();
            !idle.is_empty()
        });
        hosts.total = total;
    }

    /// Closes every idle connection.
    pub(crate) fn clear(&self) {
        *self.hosts.borrow_mut() = Hosts::default();
    }
}
