//! Passes new connections of a worker that is stuck in a plugin to the other workers.
//!
//! Every worker has its own listeners, and the kernel queues connections there even if the worker does not accept them.
//! While a worker is stuck, the watchdog accepts them with a second descriptor of the same listeners and queues them
//! for the other workers. If all workers are stuck, connections stay in the kernel until one is free.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::listener::Listener;

/// The maximum number of connections that wait for a worker; further ones stay in the kernel.
const MAX_WAITING: usize = 1024;

/// An accepted connection.
pub(crate) type Accepted = (TcpStream, SocketAddr);

/// Shared by the workers and the watchdog.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    workers: Vec<WorkerQueue>,
    waiting: Mutex<VecDeque<Accepted>>,
}

#[derive(Debug)]
struct WorkerQueue {
    /// Empty once the proxy accepts no more connections.
    listeners: Mutex<Vec<Listener>>,
    comes: Notify,
}

impl Handover {
    /// `workers`: the listeners of each worker, nonblocking.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(crate) fn new(workers: &[Vec<Listener>]) -> io::Result<Self> {
        let worker = |listeners: &Vec<Listener>| {
            let again = listeners.iter().map(Listener::try_clone);
            Ok(WorkerQueue {
                listeners: Mutex::new(again.collect::<io::Result<_>>()?),
                comes: Notify::new(),
            })
        };
        Ok(Self {
            workers: workers.iter().map(worker).collect::<io::Result<_>>()?,
            waiting: Mutex::default(),
        })
    }

    /// Accepts the connections of the `stuck` workers, and wakes the others.
    pub(crate) fn relieve(&self, stuck: &[usize]) {
        let is_free = |worker: &usize| !stuck.contains(worker);
        let mut free = (0..self.workers.len()).filter(is_free).peekable();
        if free.peek().is_none() {
            return;
        }
        let taken = stuck.iter().filter_map(|worker| self.workers.get(*worker));
        taken.for_each(|worker| self.take_from(worker));
        // A worker that was woken for a connection may be stuck by now.
        if !self.waiting().is_empty() {
            free.for_each(|worker| self.workers[worker].comes.notify_one());
        }
    }

    fn take_from(&self, worker: &WorkerQueue) {
        for listener in lock(&worker.listeners).iter() {
            // An error, such as too few descriptors, may be gone at the next attempt.
            while self.waiting().len() < MAX_WAITING
                && let Ok((socket, client)) = listener.accept_queued()
            {
                self.waiting().push_back((socket, client));
            }
        }
    }

    /// A connection of a stuck worker. Cancel safe.
    pub(crate) async fn next(&self, worker: usize) -> Accepted {
        let Some(own) = self.workers.get(worker) else {
            return std::future::pending().await;
        };
        loop {
            // Before the check, so that no wake-up is missed.
            let comes = own.comes.notified();
            if let Some(accepted) = self.waiting().pop_front() {
                // For further connections: this worker continues at once, unless another one is faster.
                own.comes.notify_one();
                return accepted;
            }
            comes.await;
        }
    }

    /// Accepts no more connections: without listeners, the kernel refuses them. Connections that wait for a worker are
    /// closed, because no worker takes any more.
    pub(crate) fn close(&self) {
        for worker in &self.workers {
            lock(&worker.listeners).clear();
        }
        // None are added without a listener.
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Accepted>> {
        lock(&self.waiting)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{Shutdown, TcpListener};
    use std::task::{Context, Poll, Waker};

    fn listeners(count: usize) -> Vec<Vec<Listener>> {
        let listener = |_| {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            vec![Listener::new(listener).unwrap()]
        };
        (0..count).map(listener).collect()
    }

    fn has_next(handover: &Handover, worker: usize) -> bool {
        let mut next = std::pin::pin!(handover.next(worker));
        let polled = next.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(_))
    }

    /// A connection in the kernel's queue.
    fn connect(to: &Listener) -> TcpStream {
        TcpStream::connect(to.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn a_stuck_workers_connections_are_taken_by_others() {
        let listeners = listeners(2);
        let handover = Handover::new(&listeners).unwrap();
        let _clients = [connect(&listeners[0][0]), connect(&listeners[0][0])];
        handover.relieve(&[]);
        assert!(!has_next(&handover, 1), "nobody is stuck");
        handover.relieve(&[0]);
        assert!(has_next(&handover, 1) && has_next(&handover, 1));
        assert!(!has_next(&handover, 1));
    }

    #[test]
    fn nothing_is_taken_while_all_are_stuck() {
        let listeners = listeners(2);
        let handover = Handover::new(&listeners).unwrap();
        let _client = connect(&listeners[0][0]);
        handover.relieve(&[0, 1]);
        assert!(!has_next(&handover, 0) && !has_next(&handover, 1));
        assert!(
            listeners[0][0].accept_queued().is_ok(),
            "it waits where it was"
        );
    }

    #[test]
    fn closing_the_handover_wakes_waiting_workers() {
        let listeners = listeners(2);
        let handover = Handover::new(&listeners).unwrap();
        let mut client = connect(&listeners[0][0]);
        handover.relieve(&[0]);
        handover.close();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert!(!has_next(&handover, 1));
    }

    #[test]
    fn a_closed_handover_keeps_no_listener() {
        let mut listeners = listeners(2);
        let handover = Handover::new(&listeners).unwrap();
        let address = listeners[0][0].local_addr().unwrap();
        handover.close();
        listeners.clear();
        let refused =
            TcpStream::connect(address).and_then(|socket| socket.shutdown(Shutdown::Both));
        assert!(refused.is_err());
    }
}
