//! HTTP/2 connections of one route, and the requests that wait for a stream.
//!
//! Who finds no room waits in a queue, first come first served. It is served by a stream that ends, or by a connection
//! that somebody in the queue is given the turn to make. One is made at first; once it is known how many streams an
//! upstream allows, as many as those who wait need, [`MAX_DIALS`] at once. If making one fails, its maker fails with it and
//! the turn goes to the next. If it turns out to be HTTP/1.1, all who wait make connections of their own.
//!
//! Nobody is forgotten: while somebody waits there is room for nobody, and somebody makes a connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::http2::client::{CapacityListener, Client};
use crate::transport::Channel;

/// Connections along one route that are being made at once, while others wait for them.
const MAX_DIALS: usize = 8;

/// What is shared along one route.
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
    /// Waiters in the queue that nobody has dropped.
    in_queue: usize,
    /// Those of them that take a stream of any connection.
    unconditional: usize,
    dials: usize,
    /// Streams that the last connection allowed; 0 before there was one.
    streams: usize,
    /// Connections along the route are HTTP/1.1: no use in waiting for one another.
    is_http1: bool,
}

/// One that waits.
#[derive(Debug, Default)]
struct Waiter {
    grant: RefCell<Option<Grant>>,
    waker: RefCell<Option<Waker>>,
    is_gone: Cell<bool>,
    /// The number of the first connection that will do; 0: any.
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

/// What waiting came to.
#[derive(Debug)]
enum Grant {
    Stream(SharedStream),
    Dial,
    Alone,
}

/// A stream that counts as open, and the connection that it is one of many on.
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

/// Whether the caller may make a connection.
pub(crate) enum Turn {
    /// Not needed: here is a stream.
    Stream(SharedStream),
    /// The caller makes a connection, and others wait for the result.
    Granted(DialTurn),
    /// Every caller makes its own connection.
    NotNeeded,
}

/// The right to make a connection that others wait for. Dropped unused, it goes to the next.
pub(crate) struct DialTurn {
    shares: Rc<Shares>,
}

impl Shares {
    /// A stream, the turn to make a connection, or the news that it is no use to wait. Those who have come before are
    /// served before. `wants_new`: no stream of a connection that is there already. The caller bounds the time. Cancel safe:
    /// what was granted in vain goes to the next.
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

    /// A stream of a connection that has room, if nobody waits for it.
    pub(super) fn open(&self) -> Option<SharedStream> {
        let state = self.state.borrow();
        match state.unconditional {
            0 => state.roomy(0).map(SharedStream::on),
            _ => None,
        }
    }

    /// A connection that has room.
    pub(super) fn client(&self) -> Option<Client> {
        self.state.borrow().roomy(0).cloned()
    }

    /// Lets everybody along the route use a connection; a stream of it for whoever has made it.
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

    /// Gives room and turns to those who wait, in their order.
    fn serve(&self) {
        // What is granted is dropped outside of the borrow if nobody takes it.
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

    /// Closes what has been idle for so long or is of no further use; whether there is anything left.
    pub(super) fn sweep(&self, now: Instant, idle: Duration) -> bool {
        let state = &mut *self.state.borrow_mut();
        let is_old = |since| now.saturating_duration_since(since) >= idle;
        state
            .clients
            .retain(|(_, client)| client.is_alive() && !client.is_idle_since().is_some_and(is_old));
        !state.clients.is_empty() || state.in_queue > 0 || state.dials > 0
    }

    /// Closes connections without a stream; how many there were.
    pub(super) fn give_up_idle(&self) -> usize {
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
    /// The oldest connection from number `since` on that takes another stream: so the newer ones may become idle.
    fn roomy(&self, since: usize) -> Option<&Client> {
        let mut clients = self.clients.iter();
        let found = clients.find(|(number, client)| *number >= since && client.can_open());
        found.map(|(_, client)| client)
    }

    /// A stream for the first in the queue that one will do for, and where that one stands.
    fn next_stream(&self) -> Option<(usize, SharedStream)> {
        // Mostly there is no room, or it is for the first one.
        self.roomy(0)?;
        let mut waiting = self.waiting.iter().enumerate();
        waiting.find_map(|(at, waiter)| {
            let client = match waiter.is_gone.get() {
                true => None,
                false => self.roomy(waiter.since),
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

    /// Connections to be made for those who wait, and for those who make one.
    fn wanted_dials(&self) -> usize {
        match self.streams {
            0 => 1,
            streams => (self.in_queue + self.dials)
                .div_ceil(streams)
                .min(MAX_DIALS),
        }
    }
}

/// Streams have ended.
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
            // It is in the queue still.
            self.waiter.is_gone.set(true);
            self.shares.state.borrow_mut().count_out(&self.waiter);
        }
        match self.waiter.grant.take() {
            // A stream that ends unused makes room.
            Some(Grant::Stream(stream)) => drop(stream),
            Some(Grant::Dial) => self.shares.end_dial(),
            Some(Grant::Alone) | None => {}
        }
    }
}

impl DialTurn {
    /// It has turned out to be HTTP/1.1.
    pub(crate) fn found_http1(self) {
        self.shares.state.borrow_mut().is_http1 = true;
    }

    /// There is no TLS. What all who wait make of that differs, so that each finds out by itself.
    pub(crate) fn found_no_tls(self) {
        let waiting = std::mem::take(&mut self.shares.state.borrow_mut().waiting);
        for waiter in waiting.into_iter().filter(|waiter| !waiter.is_gone.get()) {
            self.shares.state.borrow_mut().count_out(&waiter);
            waiter.grant(Grant::Alone);
        }
    }

    /// It is HTTP/2, and shared from now on; a stream of it.
    pub(crate) fn found_http2(self, client: Client) -> SharedStream {
        self.shares.share(client)
    }
}

impl Drop for DialTurn {
    fn drop(&mut self) {
        self.shares.end_dial();
    }
}
