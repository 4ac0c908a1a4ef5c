//! The listeners of all workers, for as long as the proxy accepts connections on them.
//!
//! Each worker has its own socket of each listener, and the kernel spreads connections over them. Here is the first
//! descriptor of each: workers accept on duplicates, and so does the watchdog for a worker that is stuck. The kernel
//! refuses connections to a socket once all its descriptors are closed.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Listener, ListenerId};

/// The listeners of each worker. Shared by the server, the workers and the watchdog.
#[derive(Debug)]
pub(crate) struct Sockets(Vec<Mutex<Vec<Listener>>>);

impl Sockets {
    /// None yet.
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Mutex::default()).collect())
    }

    pub(crate) fn workers(&self) -> usize {
        self.0.len()
    }

    /// Adds listeners for each worker.
    pub(crate) fn add(&self, per_worker: Vec<Vec<Listener>>) {
        for (own, added) in self.0.iter().zip(per_worker) {
            lock(own).extend(added);
        }
    }

    /// The listeners of a worker, as further descriptors.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(crate) fn of(&self, worker: usize) -> io::Result<Vec<Listener>> {
        let Some(own) = self.0.get(worker) else {
            return Ok(Vec::new());
        };
        lock(own).iter().map(Listener::try_clone).collect()
    }

    /// Calls `visit` with each listener of a worker.
    pub(crate) fn each(&self, worker: usize, visit: impl FnMut(&Listener)) {
        if let Some(own) = self.0.get(worker) {
            lock(own).iter().for_each(visit);
        }
    }

    /// Takes away the listeners of a worker that are not among `kept`.
    pub(crate) fn take_removed(&self, worker: usize, kept: &[ListenerId]) -> Vec<Listener> {
        let Some(own) = self.0.get(worker) else {
            return Vec::new();
        };
        let mut own = lock(own);
        own.extract_if(.., |listener| !kept.contains(&listener.id))
            .collect()
    }

    /// Closes all of them.
    pub(crate) fn close(&self) {
        for own in &self.0 {
            lock(own).clear();
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
