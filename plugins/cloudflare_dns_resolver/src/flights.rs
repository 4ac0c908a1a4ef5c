//! One lookup at a time for each name; later requests wait for its result.
//!
//! The task that makes the lookup may be dropped with its exchange; then one of the waiting tasks takes over. They may
//! run on several threads.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Lookups in progress, by name.
pub(crate) struct Flights<T> {
    in_progress: Mutex<HashMap<Arc<str>, Arc<Flight<T>>>>,
}

/// The role of a task that needs a lookup.
pub(crate) enum Joined<'f, T: Clone> {
    /// No lookup is in progress: make it, and [`complete`](Leader::land).
    Lead(Leader<'f, T>),
    /// A lookup is in progress; wait for its result.
    Wait(Arc<Flight<T>>),
}

impl<T: Clone> Flights<T> {
    /// No lookups.
    pub(crate) fn new() -> Self {
        Self {
            in_progress: Mutex::new(HashMap::new()),
        }
    }

    /// Joins the lookup of `name`, or starts it.
    pub(crate) fn join(&self, name: &Arc<str>) -> Joined<'_, T> {
        let mut in_progress = lock(&self.in_progress);
        if let Some(flight) = in_progress.get(name) {
            return Joined::Wait(Arc::clone(flight));
        }
        let flight = Arc::new(Flight {
            progress: Mutex::new(FlightState::Pending(Vec::new())),
        });
        in_progress.insert(Arc::clone(name), Arc::clone(&flight));
        Joined::Lead(Leader {
            flights: self,
            name: Arc::clone(name),
            flight,
        })
    }
}

/// A lookup in progress.
pub(crate) struct Flight<T> {
    progress: Mutex<FlightState<T>>,
}

enum FlightState<T> {
    /// With the wakers of the waiting tasks.
    Pending(Vec<Waker>),
    Complete(T),
    /// The task that made the lookup was dropped.
    Abandoned,
}

impl<T: Clone> Flight<T> {
    /// Waits for the result. None if the lookup was abandoned: then join again. Cancel safe.
    pub(crate) async fn end(&self) -> Option<T> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match &mut *lock(&self.progress) {
            FlightState::Complete(value) => Poll::Ready(Some(value.clone())),
            FlightState::Abandoned => Poll::Ready(None),
            FlightState::Pending(wakers) => {
                if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn finish(&self, progress: FlightState<T>) {
        let before = std::mem::replace(&mut *lock(&self.progress), progress);
        if let FlightState::Pending(wakers) = before {
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// The task that makes the lookup. Dropping it early abandons the lookup.
pub(crate) struct Leader<'f, T: Clone> {
    flights: &'f Flights<T>,
    name: Arc<str>,
    flight: Arc<Flight<T>>,
}

impl<T: Clone> Leader<'_, T> {
    /// Passes the result to the waiting tasks.
    pub(crate) fn complete(self, value: T) {
        self.flight.finish(FlightState::Complete(value));
    }
}

impl<T: Clone> Drop for Leader<'_, T> {
    fn drop(&mut self) {
        lock(&self.flights.in_progress).remove(&self.name);
        let is_complete = matches!(*lock(&self.flight.progress), FlightState::Complete(_));
        if !is_complete {
            self.flight.finish(FlightState::Abandoned);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Flight, Flights, Joined, Leader};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn first<'f>(flights: &'f Flights<u8>, name: &Arc<str>) -> Leader<'f, u8> {
        match flights.join(name) {
            Joined::Lead(leader) => leader,
            Joined::Wait(_) => panic!("somebody else is first"),
        }
    }

    fn later(flights: &Flights<u8>, name: &Arc<str>) -> Arc<Flight<u8>> {
        match flights.join(name) {
            Joined::Lead(_) => panic!("nobody was first"),
            Joined::Wait(flight) => flight,
        }
    }

    #[test]
    fn later_requests_wait_for_the_first() {
        let (flights, name) = (Flights::new(), Arc::from("a"));
        let leader = first(&flights, &name);
        let flight = later(&flights, &name);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut end = pin!(flight.end());
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Pending);
        let _other = first(&flights, &Arc::from("b"));
        leader.complete(7);
        assert_eq!(count.0.load(SeqCst), 1, "woken once");
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Ready(Some(7)));
        drop(first(&flights, &name));
    }

    #[test]
    fn if_the_first_is_dropped_another_takes_over() {
        let (flights, name) = (Flights::new(), Arc::from("a"));
        let leader = first(&flights, &name);
        let flight = later(&flights, &name);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut end = pin!(flight.end());
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Pending);
        drop(leader);
        assert_eq!(count.0.load(SeqCst), 1);
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Ready(None));
        first(&flights, &name).complete(1);
    }
}
