//! Passes new connections from one worker to another: those of a worker that is stuck in a plugin, and those of a worker
//! that has more connections than others (`balance`).
//!
//! Every worker has its own listeners, and the kernel queues connections there even if the worker does not accept them.
//! While a worker is stuck, the watchdog accepts them with a second descriptor of the same listeners and queues them
//! for the other workers, along with those that were given to it. If all workers are stuck, connections stay in the
//! kernel until one is free.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::balance::{Counted, Loads};
use crate::listener::{Accepted, Sockets};

/// The maximum number of connections of stuck workers that wait for a worker; further ones stay in the kernel.
const MAX_WAITING: usize = 1024;

/// The maximum number of connections that have been given to one worker and wait for it; it may be busy.
const MAX_GIVEN: usize = 64;

/// Shared by the workers and the watchdog.
#[derive(Debug)]
pub(crate) struct Handover {
    sockets: Arc<Sockets>,
    /// By worker: wakes it when there is a connection.
    comes: Vec<Notify>,
    waiting: Mutex<Waiting>,
    loads: Arc<Loads>,
}

/// Connections that wait for a worker.
#[derive(Debug)]
struct Waiting {
    /// Those of stuck workers, for any other one.
    for_all: VecDeque<Accepted>,
    /// By worker: those that were given to it, counted as its own.
    given: Vec<VecDeque<(Accepted, Counted)>>,
    /// By worker: the number of the generation that it uses.
    generations: Vec<u64>,
    is_closed: bool,
}

impl Handover {
    /// `sockets` has the listeners of each worker; the workers begin with this generation.
    pub(crate) fn new(sockets: Arc<Sockets>, generation: u64) -> Self {
        let workers = sockets.workers();
        Self {
            comes: (0..workers).map(|_| Notify::new()).collect(),
            sockets,
            waiting: Mutex::new(Waiting {
                for_all: VecDeque::new(),
                given: (0..workers).map(|_| VecDeque::new()).collect(),
                generations: vec![generation; workers],
                is_closed: false,
            }),
            loads: Loads::new(workers),
        }
    }

    /// The open connections of each worker.
    pub(crate) fn loads(&self) -> &Arc<Loads> {
        &self.loads
    }

    /// Gives a connection to the worker for which it is counted, and wakes it. `generation` is the one that the giver uses.
    ///
    /// # Errors
    /// Too many connections wait for that worker, it uses another generation, whose listeners may differ, or the proxy
    /// drains; the connection is returned.
    pub(crate) fn give(
        &self,
        counted: Counted,
        accepted: Accepted,
        generation: u64,
    ) -> Result<(), Accepted> {
        let worker = counted.worker();
        let mut waiting = self.waiting();
        let is_closed = waiting.is_closed || waiting.generations.get(worker) != Some(&generation);
        match waiting.given.get_mut(worker) {
            Some(given) if !is_closed && given.len() < MAX_GIVEN => {
                given.push_back((accepted, counted));
            }
            _ => return Err(accepted),
        }
        drop(waiting);
        self.comes[worker].notify_one();
        Ok(())
    }

    /// From now on, `worker` uses this generation. Returns the connections that were given to it before.
    pub(crate) fn switch(&self, worker: usize, generation: u64) -> VecDeque<(Accepted, Counted)> {
        let mut waiting = self.waiting();
        if let Some(known) = waiting.generations.get_mut(worker) {
            *known = generation;
        }
        let given = waiting.given.get_mut(worker).map(std::mem::take);
        given.unwrap_or_default()
    }

    /// Accepts the connections of the `stuck` workers, and wakes the others.
    pub(crate) fn relieve(&self, stuck: &[usize]) {
        let is_free = |worker: &usize| !stuck.contains(worker);
        let mut free = (0..self.comes.len()).filter(is_free).peekable();
        if free.peek().is_none() {
            return;
        }
        stuck.iter().for_each(|worker| self.take_from(*worker));
        // A worker that was woken for a connection may be stuck by now.
        if !self.waiting().for_all.is_empty() {
            free.for_each(|worker| self.comes[worker].notify_one());
        }
    }

    fn take_from(&self, worker: usize) {
        {
            let Waiting { for_all, given, .. } = &mut *self.waiting();
            let given = given.get_mut(worker).map(std::mem::take);
            for_all.extend(given.into_iter().flatten().map(|(accepted, _)| accepted));
        }
        self.sockets.each(worker, |listener| {
            // An error, such as too few descriptors, may be gone at the next attempt.
            while self.waiting().for_all.len() < MAX_WAITING
                && let Ok(accepted) = listener.accept_queued()
            {
                self.waiting().for_all.push_back(accepted);
            }
        });
    }

    /// A connection that was given to `worker`, or one of a stuck worker. The first is counted as one of `worker` while the
    /// second value exists. Cancel safe.
    pub(crate) async fn next(&self, worker: usize) -> (Accepted, Option<Counted>) {
        let Some(comes) = self.comes.get(worker) else {
            return std::future::pending().await;
        };
        loop {
            // Before the check, so that no wake-up is missed.
            let connection = comes.notified();
            if let Some(next) = self.take(worker) {
                // For further connections: this worker continues at once, unless another one is faster.
                comes.notify_one();
                return next;
            }
            connection.await;
        }
    }

    /// Accepts no more connections: without listeners, the kernel refuses them. Connections that wait for a worker are
    /// left to [`take`](Self::take).
    pub(crate) fn close(&self) {
        self.sockets.close();
        self.waiting().is_closed = true;
    }

    /// A connection that waits for `worker`, as [`next`](Self::next); `None`: there is none now.
    pub(crate) fn take(&self, worker: usize) -> Option<(Accepted, Option<Counted>)> {
        self.waiting().pop(worker)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn pop(&mut self, worker: usize) -> Option<(Accepted, Option<Counted>)> {
        let given = self.given.get_mut(worker).and_then(VecDeque::pop_front);
        match given {
            Some((accepted, counted)) => Some((accepted, Some(counted))),
            None => Some((self.for_all.pop_front()?, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::task::{Context, Poll, Waker};

    use crate::listener::{Listener, ListenerId};

    /// Two workers with one listener each, and the addresses.
    fn sockets() -> (Arc<Sockets>, [SocketAddr; 2]) {
        let sockets = Sockets::new(2);
        let bound = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
        let addresses = [0, 1].map(|worker: usize| bound[worker].local_addr().unwrap());
        let listener = |bound| vec![Listener::tcp(ListenerId(7), bound).unwrap()];
        sockets.add(bound.into_iter().map(listener).collect());
        (Arc::new(sockets), addresses)
    }

    fn has_next(handover: &Handover, worker: usize) -> bool {
        let mut next = std::pin::pin!(handover.next(worker));
        match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready((accepted, _)) => {
                assert_eq!(accepted.listener, ListenerId(7));
                true
            }
            Poll::Pending => false,
        }
    }

    /// A connection in the kernel's queue.
    fn connect(to: SocketAddr) -> TcpStream {
        TcpStream::connect(to).unwrap()
    }

    #[test]
    fn a_stuck_workers_connections_are_taken_by_others() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(sockets, 0);
        let _clients = [connect(addresses[0]), connect(addresses[0])];
        handover.relieve(&[]);
        assert!(!has_next(&handover, 1), "nobody is stuck");
        handover.relieve(&[0]);
        assert!(has_next(&handover, 1) && has_next(&handover, 1));
        assert!(!has_next(&handover, 1));
    }

    #[test]
    fn nothing_is_taken_while_all_are_stuck() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(Arc::clone(&sockets), 0);
        let _client = connect(addresses[0]);
        handover.relieve(&[0, 1]);
        assert!(!has_next(&handover, 0) && !has_next(&handover, 1));
        let mut is_there = false;
        sockets.each(0, |listener| is_there = listener.accept_queued().is_ok());
        assert!(is_there, "it waits where it was");
    }

    /// A new connection that worker 0 has accepted.
    fn accepted(sockets: &Sockets, address: SocketAddr) -> (TcpStream, Accepted) {
        let client = connect(address);
        let mut accepted = None;
        while accepted.is_none() {
            sockets.each(0, |listener| accepted = listener.accept_queued().ok());
        }
        (client, accepted.unwrap())
    }

    /// A new connection that worker 0 has accepted, and given to worker 1.
    fn given(handover: &Handover, sockets: &Sockets, address: SocketAddr) -> TcpStream {
        let (client, accepted) = accepted(sockets, address);
        let counted = handover.loads().count(1);
        handover.give(counted, accepted, 0).unwrap();
        client
    }

    #[test]
    fn a_given_connection_is_for_that_worker_and_counted() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(Arc::clone(&sockets), 0);
        let _client = given(&handover, &sockets, addresses[0]);
        assert_eq!(handover.loads().of(1), 1);
        assert!(!has_next(&handover, 0));
        assert!(has_next(&handover, 1));
        assert_eq!(handover.loads().of(1), 0, "left to the worker");
    }

    #[test]
    fn what_was_given_to_a_stuck_worker_is_taken_by_others() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(Arc::clone(&sockets), 0);
        let _client = given(&handover, &sockets, addresses[0]);
        handover.relieve(&[1]);
        assert_eq!(handover.loads().of(1), 0);
        assert!(has_next(&handover, 0));
    }

    #[test]
    fn nothing_is_given_to_a_busy_worker_or_while_draining() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(Arc::clone(&sockets), 0);
        for _ in 0..MAX_GIVEN {
            let _client = given(&handover, &sockets, addresses[0]);
        }
        let (_client, next) = accepted(&sockets, addresses[0]);
        let next = handover
            .give(handover.loads().count(1), next, 0)
            .unwrap_err();
        handover.close();
        assert!(handover.give(handover.loads().count(0), next, 0).is_err());
    }

    #[test]
    fn workers_give_connections_only_to_those_that_have_the_same_listeners() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(Arc::clone(&sockets), 0);
        let (_before, first) = accepted(&sockets, addresses[0]);
        handover.give(handover.loads().count(1), first, 0).unwrap();
        assert_eq!(handover.switch(1, 2).len(), 1);
        let (_after, second) = accepted(&sockets, addresses[0]);
        let second = handover.give(handover.loads().count(1), second, 0);
        let second = second.unwrap_err();
        handover.give(handover.loads().count(1), second, 2).unwrap();
    }

    #[test]
    fn what_waits_at_the_beginning_of_a_drain_is_left_to_the_workers() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(Arc::clone(&sockets), 0);
        let _given = given(&handover, &sockets, addresses[0]);
        let _of_a_stuck_worker = connect(addresses[0]);
        handover.relieve(&[0]);
        handover.close();
        let taken: Vec<bool> = std::iter::from_fn(|| handover.take(1))
            .map(|(_, counted)| counted.is_some())
            .collect();
        assert_eq!(taken, [true, false]);
        assert_eq!(handover.loads().of(1), 0);
    }

    #[test]
    fn a_closed_handover_keeps_no_listener() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(sockets, 0);
        handover.close();
        let refused =
            TcpStream::connect(addresses[0]).and_then(|socket| socket.shutdown(Shutdown::Both));
        assert!(refused.is_err());
    }
}
