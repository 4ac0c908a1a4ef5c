//! Limits the connections being set up through a parent proxy to the same destination.
//!
//! Loops over proxies are seen by their mark in Via. SOCKS has no place for one, and others may remove it: then each
//! round is another connection whose handshake waits for the next round. Past the bound they wait until the connect
//! limit ends the first one, and with it all of them, instead of taking every descriptor.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::parent::Parent;
use super::route::Route;

/// Handshakes under way at once through one parent to one destination, each worker; further ones wait.
const PER_DESTINATION: usize = 64;

/// The handshakes under way of a worker.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(RefCell<HashMap<String, Arc<Semaphore>>>);

/// One handshake, waiting or under way; it ends when this is dropped.
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
    fn further_handshakes_wait_and_nothing_is_left_behind() {
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
