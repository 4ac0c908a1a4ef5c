//! Spreads client connections over the workers.
//!
//! The kernel chooses the worker of a new connection by a hash, so a few connections that stay open are often on the
//! same worker. A worker that accepts a connection while another one has fewer open connections hands it over
//! (`handover`). The difference that is tolerated grows with the number of connections, because the kernel spreads many
//! connections well. A budget limits what this costs while there are very many short connections: then most of them stay
//! where the kernel has put them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One in this many connections is tolerated as a difference: with 16 and more, the busiest worker has at most about 7 %
/// more than the mean of two workers.
const TOLERATED: usize = 8;

/// The most connections that a worker hands over at once. A connection handed over costs some 15 µs of processor time.
const MAX_BUDGET: u32 = 64;

/// What is added to the budget with each tick of the worker's clock, of which there are ten per second.
const BUDGET_PER_TICK: u32 = 6;

/// How many other workers are compared at most, so that the cost does not grow with the number of workers.
const COMPARED: usize = 8;

/// The number of open client connections of each worker, those that are being handed to it included.
#[derive(Debug)]
pub(crate) struct Loads(Vec<Load>);

/// Alone on its cache line, because its worker changes it with each connection.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

/// Counts a connection of a worker while it exists.
#[derive(Debug)]
pub(crate) struct Counted {
    /// `None`: it is counted on, see [`keep`](Self::keep).
    loads: Option<Arc<Loads>>,
    worker: usize,
}

/// Decides for one worker who serves the connections that it accepts.
#[derive(Debug)]
pub(crate) struct Balancer {
    loads: Arc<Loads>,
    worker: usize,
    budget: Cell<u32>,
    filled_at: Cell<u32>,
    /// The worker that is compared first next time.
    next: Cell<usize>,
}

impl Loads {
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self((0..workers).map(|_| Load::default()).collect()))
    }

    /// Counts a connection of `worker`.
    pub(crate) fn count(self: &Arc<Self>, worker: usize) -> Counted {
        self.add(worker);
        Counted {
            loads: Some(Arc::clone(self)),
            worker,
        }
    }

    /// Counts a connection of `worker` until [`remove`](Self::remove).
    pub(crate) fn add(&self, worker: usize) {
        if let Some(load) = self.0.get(worker) {
            load.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The opposite of [`add`](Self::add).
    pub(crate) fn remove(&self, worker: usize) {
        if let Some(load) = self.0.get(worker) {
            load.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The open connections of `worker`.
    pub(crate) fn of(&self, worker: usize) -> usize {
        self.0
            .get(worker)
            .map_or(0, |load| load.0.load(Ordering::Relaxed))
    }
}

impl Counted {
    /// The worker whose connection it is.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// Leaves it counted until [`Loads::remove`], so that it never counts twice or not at all meanwhile.
    pub(crate) fn keep(mut self) {
        self.loads = None;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(loads) = &self.loads {
            loads.remove(self.worker);
        }
    }
}

impl Balancer {
    /// For the worker with this number.
    pub(crate) fn new(loads: &Arc<Loads>, worker: usize) -> Self {
        Self {
            loads: Arc::clone(loads),
            worker,
            budget: Cell::new(MAX_BUDGET),
            filled_at: Cell::new(0),
            next: Cell::new(worker + 1),
        }
    }

    /// Counts a connection that this worker has accepted for the worker that is to serve it; `None`: this one itself, and
    /// nothing is counted. `now` is the tick of the worker's clock.
    pub(crate) fn other_worker(&self, now: u32) -> Option<Counted> {
        let own = self.loads.of(self.worker);
        if own == 0 || !self.has_budget(now) {
            return None;
        }
        let (least, other) = self.least_loaded()?;
        let is_clear = own >= least + (own / TOLERATED).max(1);
        is_clear.then(|| {
            self.budget.set(self.budget.get() - 1);
            self.loads.count(other)
        })
    }

    fn has_budget(&self, now: u32) -> bool {
        let ticks = now.saturating_sub(self.filled_at.get());
        if ticks > 0 {
            let added = ticks.saturating_mul(BUDGET_PER_TICK);
            let budget = self.budget.get().saturating_add(added);
            self.budget.set(budget.min(MAX_BUDGET));
            self.filled_at.set(now);
        }
        self.budget.get() > 0
    }

    /// The least loaded one of the workers that are compared this time, and its connections.
    fn least_loaded(&self) -> Option<(usize, usize)> {
        let workers = self.loads.0.len();
        let first = self.next.get();
        let compared = COMPARED.min(workers.saturating_sub(1));
        self.next.set((first + compared) % workers.max(1));
        let others = (first..first + compared + 1).map(|number| number % workers);
        others
            .filter(|other| *other != self.worker)
            .map(|other| (self.loads.of(other), other))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens connections that stay open, each on the worker that `accepts` names; the open ones of each worker.
    fn spread(workers: usize, accepts: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let loads = Loads::new(workers);
        let balancers: Vec<_> = (0..workers)
            .map(|worker| Balancer::new(&loads, worker))
            .collect();
        let mut open = Vec::new();
        for worker in accepts {
            let counted = balancers[worker].other_worker(1);
            open.push(counted.unwrap_or_else(|| loads.count(worker)));
        }
        (0..workers).map(|worker| loads.of(worker)).collect()
    }

    #[test]
    fn few_connections_are_spread_evenly_wherever_they_arrive() {
        for workers in 2..=4 {
            for connections in [8, 12, 16] {
                let even = connections / workers;
                let on_one = spread(workers, vec![0; connections]);
                let in_turn = spread(workers, (0..connections).map(|number| number % workers));
                let in_blocks = spread(
                    workers,
                    (0..connections).map(|number| number * workers / connections),
                );
                for loads in [on_one, in_turn, in_blocks] {
                    let is_even = loads.iter().all(|load| (even..=even + 1).contains(load));
                    assert!(is_even, "{connections} on {workers} workers: {loads:?}");
                }
            }
        }
    }

    #[test]
    fn many_workers_are_all_found() {
        let loads = spread(32, (0..64).map(|number| number % 2));
        assert!(loads.iter().all(|load| (1..=3).contains(load)), "{loads:?}");
    }

    #[test]
    fn with_many_connections_a_small_difference_stays() {
        let loads = Loads::new(2);
        (0..100).for_each(|_| loads.add(0));
        (0..89).for_each(|_| loads.add(1));
        let balancer = Balancer::new(&loads, 0);
        assert!(balancer.other_worker(1).is_none());
        loads.remove(1);
        let counted = balancer.other_worker(1).unwrap();
        assert_eq!((counted.worker(), loads.of(1)), (1, 89));
    }

    #[test]
    fn a_budget_limits_what_is_handed_over() {
        let loads = Loads::new(2);
        (0..1000).for_each(|_| loads.add(0));
        let balancer = Balancer::new(&loads, 0);
        let handed_over = |now| {
            (0..100)
                .filter(|_| balancer.other_worker(now).is_some())
                .count()
        };
        assert_eq!(handed_over(1), MAX_BUDGET as usize);
        assert_eq!(handed_over(1), 0);
        assert_eq!(handed_over(2), BUDGET_PER_TICK as usize);
        assert_eq!(handed_over(u32::MAX), MAX_BUDGET as usize);
    }

    #[test]
    fn a_worker_without_others_or_connections_keeps_what_it_accepts() {
        let loads = Loads::new(1);
        loads.add(0);
        assert!(Balancer::new(&loads, 0).other_worker(1).is_none());
        assert!(Balancer::new(&Loads::new(2), 0).other_worker(1).is_none());
    }

    #[test]
    fn a_connection_is_counted_while_it_exists() {
        let loads = Loads::new(2);
        let counted = loads.count(1);
        assert_eq!((loads.of(0), loads.of(1)), (0, 1));
        drop(counted);
        assert_eq!(loads.of(1), 0);
        loads.count(1).keep();
        assert_eq!(loads.of(1), 1);
    }
}
