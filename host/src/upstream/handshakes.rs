//! Limits the connections that are being set up through one parent proxy to one destination.
//!
//! Loops through other proxies are detected by our mark in Via. SOCKS has no place for it, and proxies may remove it:
//! then each round of the loop is another connection, whose handshake waits for the next round. Beyond the limit,
//! handshakes wait until the connect timeout ends the first one, and with it all of them; so a loop does not use up all
//! descriptors.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::parent::Parent;
use super::route::Route;

/// Concurrent handshakes through one parent to one destination, per worker; further ones wait.
const PER_DESTINATION: usize = 64;

/// The handshakes of a worker that are in progress.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(RefCell<HashMap<String, Arc<Semaphore>>>);

/// A handshake, waiting or in progress; it ends when this is dropped.
pub(super) struct Handshake<'a> {
    all: &'a Handshakes,
    key: String,
    semaphore: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Handshakes {
    /// Waits until there is room. Cancel safe.
    pub(super) async fn begin(&self, parent: &Parent, route: &Route<'_>) -> Handshake<'_> {
        let key = format!("{parent} {}", route.authority());
        let semaphore = Arc::clone(
            self.0
                .borrow_mut()
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(PER_DESTINATION))),
        );
        let mut handshake = Handshake {
            all: self,
            key,
            semaphore: Some(Arc::clone(&semaphore)),
            permit: None,
        };
        // It is never closed.
        handshake.permit = semaphore.acquire_owned().await.ok();
        handshake
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        drop(self.semaphore.take());
        let mut all = self.all.0.borrow_mut();
        let is_last = |semaphore: &Arc<Semaphore>| Arc::strong_count(semaphore) == 1;
        if all.get(&self.key).is_some_and(is_last) {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn further_handshakes_wait_and_leave_nothing_behind() {
        let (handshakes, parent) = (Handshakes::default(), Parent::parse("socks5://p").unwrap());
        let (route, other) = (Route::direct("a", 1), Route::direct("a", 2));
        let mut cx = Context::from_waker(Waker::noop());
        let begun = |route| {
            let mut begin = Box::pin(handshakes.begin(&parent, route));
            let polled = begin.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            (begin, polled)
        };
        let mut held: Vec<_> = (0..PER_DESTINATION).map(|_| begun(&route)).collect();
        assert!(held.iter().all(|(_, polled)| polled.is_ready()));
        let (mut waiting, polled) = begun(&route);
        assert!(polled.is_pending());
        assert!(begun(&other).1.is_ready());
        held.pop();
        let waited = waiting.as_mut().poll(&mut cx);
        assert!(waited.is_ready());
        let (given_up, polled) = begun(&route);
        assert!(polled.is_pending());
        drop((held, waiting, waited, given_up));
        assert!(handshakes.0.borrow().is_empty());
    }
}
