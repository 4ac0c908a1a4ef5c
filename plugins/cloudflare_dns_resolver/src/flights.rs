//! One lookup under way for each name: who comes second waits for the first.
//!
//! The first may leave at any time, since its future is dropped with its exchange; then one of those who wait goes on
//! in its place. They may be on several threads.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Lookups under way, by name.
pub(crate) struct Flights<T> {
    under_way: Mutex<HashMap<Arc<str>, Arc<Flight<T>>>>,
}

/// What comes of asking to look something up.
pub(crate) enum Turn<'f, T: Clone> {
    /// Nobody is at it: look it up, and [`land`](Pilot::land).
    First(Pilot<'f, T>),
    /// Somebody is; the flight says what comes of it.
    Later(Arc<Flight<T>>),
}

impl<T: Clone> Flights<T> {
    /// None under way.
    pub(crate) fn new() -> Self {
        Self {
            under_way: Mutex::new(HashMap::new()),
        }
    }

    /// Joins the lookup of `name`, or begins it.
    pub(crate) fn board(&self, name: &Arc<str>) -> Turn<'_, T> {
        let mut under_way = lock(&self.under_way);
        if let Some(flight) = under_way.get(name) {
            return Turn::Later(Arc::clone(flight));
        }
        let flight = Arc::new(Flight {
            progress: Mutex::new(Progress::UnderWay(Vec::new())),
        });
        under_way.insert(Arc::clone(name), Arc::clone(&flight));
        Turn::First(Pilot {
            flights: self,
            name: Arc::clone(name),
            flight,
        })
    }
}

/// A lookup that somebody else makes.
pub(crate) struct Flight<T> {
    progress: Mutex<Progress<T>>,
}

enum Progress<T> {
    /// With those to wake at its end.
    UnderWay(Vec<Waker>),
    Landed(T),
    /// Whoever made it has left.
    GivenUp,
}

impl<T: Clone> Flight<T> {
    /// Waits for its end. None if it was given up: then board again. Cancel safe.
    pub(crate) async fn end(&self) -> Option<T> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match &mut *lock(&self.progress) {
            Progress::Landed(value) => Poll::Ready(Some(value.clone())),
            Progress::GivenUp => Poll::Ready(None),
            Progress::UnderWay(wakers) => {
                if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn finish(&self, progress: Progress<T>) {
        let before = std::mem::replace(&mut *lock(&self.progress), progress);
        if let Progress::UnderWay(wakers) = before {
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// Whoever makes the lookup. Dropped before it has landed, the flight is given up.
pub(crate) struct Pilot<'f, T: Clone> {
    flights: &'f Flights<T>,
    name: Arc<str>,
    flight: Arc<Flight<T>>,
}

impl<T: Clone> Pilot<'_, T> {
    /// Tells those who wait.
    pub(crate) fn land(self, value: T) {
        self.flight.finish(Progress::Landed(value));
    }
}

impl<T: Clone> Drop for Pilot<'_, T> {
    fn drop(&mut self) {
        lock(&self.flights.under_way).remove(&self.name);
        let has_landed = matches!(*lock(&self.flight.progress), Progress::Landed(_));
        if !has_landed {
            self.flight.finish(Progress::GivenUp);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Flight, Flights, Pilot, Turn};
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

    fn first<'f>(flights: &'f Flights<u8>, name: &Arc<str>) -> Pilot<'f, u8> {
        match flights.board(name) {
            Turn::First(pilot) => pilot,
            Turn::Later(_) => panic!("somebody else is first"),
        }
    }

    fn later(flights: &Flights<u8>, name: &Arc<str>) -> Arc<Flight<u8>> {
        match flights.board(name) {
            Turn::First(_) => panic!("nobody was first"),
            Turn::Later(flight) => flight,
        }
    }

    #[test]
    fn who_comes_later_waits_for_the_first() {
        let (flights, name) = (Flights::new(), Arc::from("a"));
        let pilot = first(&flights, &name);
        let flight = later(&flights, &name);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut end = pin!(flight.end());
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Pending);
        let _other = first(&flights, &Arc::from("b"));
        pilot.land(7);
        assert_eq!(count.0.load(SeqCst), 1, "woken once");
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Ready(Some(7)));
        drop(first(&flights, &name));
    }

    #[test]
    fn when_the_first_leaves_the_next_takes_over() {
        let (flights, name) = (Flights::new(), Arc::from("a"));
        let pilot = first(&flights, &name);
        let flight = later(&flights, &name);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut end = pin!(flight.end());
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Pending);
        drop(pilot);
        assert_eq!(count.0.load(SeqCst), 1);
        assert_eq!(end.as_mut().poll(&mut cx), Poll::Ready(None));
        first(&flights, &name).land(1);
    }
}
