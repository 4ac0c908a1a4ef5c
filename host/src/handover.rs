//! Passes new connections of a worker that is stuck in a plugin to the other workers.
//!
//! Every worker has its own listeners, and the kernel queues connections there even if the worker does not accept them.
//! While a worker is stuck, the watchdog accepts them with a second descriptor of the same listeners and queues them
//! for the other workers. If all workers are stuck, connections stay in the kernel until one is free.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::listener::{Accepted, Sockets};

/// The maximum number of connections that wait for a worker; further ones stay in the kernel.
const MAX_WAITING: usize = 1024;

/// Shared by the workers and the watchdog.
#[derive(Debug)]
pub(crate) struct Handover {
    sockets: Arc<Sockets>,
    /// By worker: wakes it when there is a connection.
    comes: Vec<Notify>,
    waiting: Mutex<VecDeque<Accepted>>,
}

impl Handover {
    /// `sockets` has the listeners of each worker.
    pub(crate) fn new(sockets: Arc<Sockets>) -> Self {
        Self {
            comes: (0..sockets.workers()).map(|_| Notify::new()).collect(),
            sockets,
            waiting: Mutex::default(),
        }
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
        if !self.waiting().is_empty() {
            free.for_each(|worker| self.comes[worker].notify_one());
        }
    }

    fn take_from(&self, worker: usize) {
        self.sockets.each(worker, |listener| {
            // An error, such as too few descriptors, may be gone at the next attempt.
            while self.waiting().len() < MAX_WAITING
                && let Ok(accepted) = listener.accept_queued()
            {
                self.waiting().push_back(accepted);
            }
        });
    }

    /// A connection of a stuck worker. Cancel safe.
    pub(crate) async fn next(&self, worker: usize) -> Accepted {
        let Some(comes) = self.comes.get(worker) else {
            return std::future::pending().await;
        };
        loop {
            // Before the check, so that no wake-up is missed.
            let connection = comes.notified();
            if let Some(accepted) = self.waiting().pop_front() {
                // For further connections: this worker continues at once, unless another one is faster.
                comes.notify_one();
                return accepted;
            }
            connection.await;
        }
    }

    /// Accepts no more connections: without listeners, the kernel refuses them. Connections that wait for a worker are
    /// closed, because no worker takes any more.
    pub(crate) fn close(&self) {
        self.sockets.close();
        // None are added without a listener.
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Accepted>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
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
            Poll::Ready(accepted) => {
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
        let handover = Handover::new(sockets);
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
        let handover = Handover::new(Arc::clone(&sockets));
        let _client = connect(addresses[0]);
        handover.relieve(&[0, 1]);
        assert!(!has_next(&handover, 0) && !has_next(&handover, 1));
        let mut is_there = false;
        sockets.each(0, |listener| is_there = listener.accept_queued().is_ok());
        assert!(is_there, "it waits where it was");
    }

    #[test]
    fn closing_the_handover_wakes_waiting_workers() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(sockets);
        let mut client = connect(addresses[0]);
        handover.relieve(&[0]);
        handover.close();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert!(!has_next(&handover, 1));
    }

    #[test]
    fn a_closed_handover_keeps_no_listener() {
        let (sockets, addresses) = sockets();
        let handover = Handover::new(sockets);
        handover.close();
        let refused =
            TcpStream::connect(addresses[0]).and_then(|socket| socket.shutdown(Shutdown::Both));
        assert!(refused.is_err());
    }
}
