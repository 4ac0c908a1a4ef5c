//! The HTTP/2 connections for one route, and the queue of requests that wait for a stream.
//!
//! A request that finds no free stream waits in a queue, first come, first served. It gets a stream that becomes free,
//! or the turn to make a connection. At first, one connection is made; once it is known how many streams the upstream
//! allows, as many as the queue needs, at most [`MAX_DIALS`] at once. If a connection fails, the request that made it
//! fails, and the next one gets the turn. If a connection turns out to be HTTP/1.1, all waiting requests make their own
//! connections.
//!
//! While the queue is not empty, there is no free stream that its first request could use, and a connection is being
//! made.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::http2::client::{CapacityListener, Client};
use crate::transport::Channel;

/// How many connections for one route are made at once while requests wait for them.
const MAX_DIALS: usize = 8;

/// The HTTP/2 connections for one route.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with its number, in the order in which they were made.
    clients: Vec<(usize, Client)>,
    /// The number of the last one.
    made: usize,
    waiting: VecDeque<Rc<Waiter>>,
    /// The number of waiters in the queue, without cancelled ones.
    in_queue: usize,
    /// Those of them that accept a stream of any connection.
    unconditional: usize,
    dials: usize,
    /// How many streams the last connection allowed; 0 if there was none yet.
    streams: usize,
    /// Connections for this route are HTTP/1.1, so requests do not wait for each other.
    is_http1: bool,
}

/// A request that waits.
#[derive(Debug, Default)]
struct Waiter {
    grant: RefCell<Option<Grant>>,
    waker: RefCell<Option<Waker>>,
    is_gone: Cell<bool>,
    /// The number of the first connection that it accepts; 0: any.
    since: usize,
}

impl Waiter {
    fn grant(&self, grant: Grant) {
        *self.grant.borrow_mut() = Some(grant);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What a waiting request gets.
#[derive(Debug)]
enum Grant {
    Stream(SharedStream),
    Dial,
    Alone,
}

/// A stream that counts as open, and its connection.
#[derive(Debug)]
pub(crate) struct SharedStream {
    pub(crate) channel: Rc<dyn Channel>,
    pub(crate) client: Client,
}

impl SharedStream {
    fn on(client: &Client) -> Self {
        Self {
            channel: client.open(),
            client: client.clone(),
        }
    }
}

/// What [`Shares::enter`] returns.
pub(crate) enum Turn {
    /// The caller uses this stream.
    Stream(SharedStream),
    /// The caller makes a connection, and others wait for the result.
    Granted(DialTurn),
    /// Every caller makes its own connection.
    NotNeeded,
}

/// The turn to make a connection for which others wait. If it is dropped unused, the next request gets it.
pub(crate) struct DialTurn {
    shares: Rc<Shares>,
}

impl Shares {
    /// Waits for a stream or the turn to make a connection, behind earlier requests; returns at once if waiting is
    /// useless. `wants_new`: no stream of an existing connection. The caller limits the time. Cancel safe: an unused
    /// grant goes to the next request.
    pub(crate) async fn enter(self: Rc<Self>, wants_new: bool) -> Turn {
        if self.state.borrow().is_http1 {
            return Turn::NotNeeded;
        }
        let waiter = {
            let state = &mut *self.state.borrow_mut();
            let waiter = Rc::new(Waiter {
                since: if wants_new { state.made + 1 } else { 0 },
                ..Waiter::default()
            });
            state.waiting.push_back(Rc::clone(&waiter));
            state.count_in(&waiter);
            waiter
        };
        let waiting = QueuePlace {
            shares: Rc::clone(&self),
            waiter,
        };
        self.serve();
        let grant = poll_fn(|cx| match waiting.waiter.grant.take() {
            Some(grant) => Poll::Ready(grant),
            None => {
                *waiting.waiter.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        });
        match grant.await {
            Grant::Stream(stream) => Turn::Stream(stream),
            Grant::Alone => Turn::NotNeeded,
            Grant::Dial => Turn::Granted(DialTurn { shares: self }),
        }
    }

    /// A stream of a connection that can open one, if no request in the queue could use it.
    pub(super) fn open(&self) -> Option<SharedStream> {
        let state = self.state.borrow();
        match state.unconditional {
            0 => state.available(0).map(SharedStream::on),
            _ => None,
        }
    }

    /// A connection that can open a stream.
    pub(super) fn client(&self) -> Option<Client> {
        self.state.borrow().available(0).cloned()
    }

    /// Shares a new connection; returns a stream of it for the request that has made it.
    pub(super) fn share(self: &Rc<Self>, client: Client) -> SharedStream {
        let this: Rc<Self> = Rc::clone(self);
        let listener: Rc<dyn CapacityListener> = this;
        client.set_listener(Rc::downgrade(&listener));
        let stream = SharedStream::on(&client);
        {
            let state = &mut *self.state.borrow_mut();
            state.is_http1 = false;
            state.streams = client.max_streams();
            state.clients.retain(|(_, client)| client.is_alive());
            state.made += 1;
            state.clients.push((state.made, client));
        }
        stream
    }

    /// Serves the queue, in order.
    fn serve(&self) {
        // Outside of the borrow, because an unused grant may be dropped.
        while let Some((waiter, grant)) = self.next_grant() {
            waiter.grant(grant);
        }
    }

    fn next_grant(&self) -> Option<(Rc<Waiter>, Grant)> {
        let state = &mut *self.state.borrow_mut();
        while state.waiting.front()?.is_gone.get() {
            state.waiting.pop_front();
        }
        let (at, grant) = if state.is_http1 {
            (0, Grant::Alone)
        } else if let Some((at, stream)) = state.next_stream() {
            (at, Grant::Stream(stream))
        } else if state.dials < state.wanted_dials() {
            state.dials += 1;
            (0, Grant::Dial)
        } else {
            return None;
        };
        let waiter = state.waiting.remove(at)?;
        state.count_out(&waiter);
        Some((waiter, grant))
    }

    /// Closes connections that have been idle for `idle` or cannot be used any longer. Returns whether anything is
    /// left.
    pub(super) fn sweep(&self, now: Instant, idle: Duration) -> bool {
        let state = &mut *self.state.borrow_mut();
        let is_old = |since| now.saturating_duration_since(since) >= idle;
        state
            .clients
            .retain(|(_, client)| client.is_alive() && !client.is_idle_since().is_some_and(is_old));
        !state.clients.is_empty() || state.in_queue > 0 || state.dials > 0
    }

    /// Closes connections without streams. Returns how many.
    pub(super) fn close_idle(&self) -> usize {
        let clients = &mut self.state.borrow_mut().clients;
        let before = clients.len();
        clients.retain(|(_, client)| client.is_idle_since().is_none());
        before - clients.len()
    }

    /// Closes every connection once its last stream has ended.
    pub(super) fn clear(&self) {
        self.state.borrow_mut().clients.clear();
    }

    fn end_dial(&self) {
        self.state.borrow_mut().dials -= 1;
        self.serve();
    }
}

impl State {
    /// The oldest connection from number `since` on that can open a stream, so that newer ones may become idle.
    fn available(&self, since: usize) -> Option<&Client> {
        let mut clients = self.clients.iter();
        let found = clients.find(|(number, client)| *number >= since && client.can_open());
        found.map(|(_, client)| client)
    }

    /// A stream for the first request in the queue that accepts one, and the place of that request.
    fn next_stream(&self) -> Option<(usize, SharedStream)> {
        // Usually there is no free stream, or the first request accepts it.
        self.available(0)?;
        let mut waiting = self.waiting.iter().enumerate();
        waiting.find_map(|(at, waiter)| {
            let client = match waiter.is_gone.get() {
                true => None,
                false => self.available(waiter.since),
            };
            client.map(|client| (at, SharedStream::on(client)))
        })
    }

    fn count_in(&mut self, waiter: &Waiter) {
        self.in_queue += 1;
        self.unconditional += usize::from(waiter.since == 0);
    }

    fn count_out(&mut self, waiter: &Waiter) {
        self.in_queue -= 1;
        self.unconditional -= usize::from(waiter.since == 0);
    }

    /// How many connections should be in the making for the queue and for the requests that make them.
    fn wanted_dials(&self) -> usize {
        match self.streams {
            0 => 1,
            streams => (self.in_queue + self.dials)
                .div_ceil(streams)
                .min(MAX_DIALS),
        }
    }
}

/// A stream has ended.
impl CapacityListener for Shares {
    fn capacity_freed(&self) {
        if self.state.borrow().in_queue > 0 {
            self.serve();
        }
    }
}

/// A place in the queue, given up when dropped.
struct QueuePlace {
    shares: Rc<Shares>,
    waiter: Rc<Waiter>,
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        if Rc::strong_count(&self.waiter) > 1 {
            // It is still in the queue.
            self.waiter.is_gone.set(true);
            self.shares.state.borrow_mut().count_out(&self.waiter);
        }
        match self.waiter.grant.take() {
            // Dropping an unused stream serves the queue.
            Some(Grant::Stream(stream)) => drop(stream),
            Some(Grant::Dial) => self.shares.end_dial(),
            Some(Grant::Alone) | None => {}
        }
    }
}

impl DialTurn {
    /// The connection turned out to be HTTP/1.1.
    pub(crate) fn found_http1(self) {
        self.shares.state.borrow_mut().is_http1 = true;
    }

    /// The upstream does not speak TLS. Waiting requests react to that differently, so each makes its own connection.
    pub(crate) fn found_no_tls(self) {
        let waiting = std::mem::take(&mut self.shares.state.borrow_mut().waiting);
        for waiter in waiting.into_iter().filter(|waiter| !waiter.is_gone.get()) {
            self.shares.state.borrow_mut().count_out(&waiter);
            waiter.grant(Grant::Alone);
        }
    }

    /// The connection is HTTP/2, and shared from now on. Returns a stream of it.
    pub(crate) fn found_http2(self, client: Client) -> SharedStream {
        self.shares.share(client)
    }
}

impl Drop for DialTurn {
    fn drop(&mut self) {
        self.shares.end_dial();
    }
}
