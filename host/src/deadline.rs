//! Coarse deadlines for the connections of a worker, without cost on the path of a request.
//!
//! Setting a deadline is a store into a table; a ticker scans the table every [`TICK`] and wakes tasks whose deadline
//! has passed. There is no timer per connection, no clock is read on the path, and the ticker sleeps while there are no
//! connections. A deadline is therefore up to two ticks late; it is early only by the time for which the ticker was
//! delayed. A slot belongs to one direction of one socket; only the socket's task waits on it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How often deadlines are checked.
pub(crate) const TICK: Duration = Duration::from_millis(TICK_MILLIS as u64);
const TICK_MILLIS: u32 = 100;

/// A slot whose deadline is not set.
const UNSET: u32 = u32::MAX;
/// A slot whose deadline has passed.
const PASSED: u32 = 0;

/// The deadlines of one worker.
#[derive(Debug)]
pub(crate) struct Deadlines {
    slots: RefCell<Slots>,
    started_at: Instant,
    /// Ticks since the start, as of the last tick.
    now: Cell<u32>,
    in_use: Cell<usize>,
    first_slot: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    due: Vec<u32>,
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

impl Deadlines {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            slots: RefCell::default(),
            started_at: Instant::now(),
            now: Cell::new(1),
            in_use: Cell::new(0),
            first_slot: Notify::new(),
        })
    }

    /// A new slot without a deadline.
    pub(crate) fn slot(self: &Rc<Self>) -> Deadline {
        if self.in_use.replace(self.in_use.get() + 1) == 0 {
            self.now.set(self.clock());
            self.first_slot.notify_one();
        }
        let mut slots = self.slots.borrow_mut();
        let index = slots.free.pop().unwrap_or_else(|| {
            slots.due.push(UNSET);
            slots.wakers.push(None);
            (slots.due.len() - 1) as u32
        });
        Deadline {
            table: Rc::clone(self),
            index,
            ticks: Cell::new(0),
        }
    }

    /// Ticks since the start, as of the last tick, for uses that tolerate an error of one tick.
    pub(crate) fn now(&self) -> u32 {
        self.now.get()
    }

    /// Wakes late slots forever; `each_tick` runs once per tick for other periodic work of the worker.
    pub(crate) async fn run(&self, mut each_tick: impl FnMut()) {
        let mut late = Vec::new();
        loop {
            if self.in_use.get() == 0 {
                each_tick();
                self.first_slot.notified().await;
            }
            tokio::time::sleep(TICK).await;
            self.now.set(self.clock());
            self.collect_late(&mut late);
            late.drain(..).for_each(Waker::wake);
            each_tick();
        }
    }

    /// Wakes all waiting tasks, so that they notice a change of the worker's state.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<Waker> = {
            let slots = &mut *self.slots.borrow_mut();
            slots.wakers.iter_mut().filter_map(Option::take).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn collect_late(&self, late: &mut Vec<Waker>) {
        let now = self.now.get();
        let slots = &mut *self.slots.borrow_mut();
        for (due, waker) in slots.due.iter_mut().zip(&mut slots.wakers) {
            if *due <= now && *due != PASSED {
                *due = PASSED;
                late.extend(waker.take());
            }
        }
    }

    fn clock(&self) -> u32 {
        let ticks = self.started_at.elapsed().as_millis() / TICK.as_millis();
        u32::try_from(ticks).map_or(UNSET - 1, |ticks| (ticks + 1).min(UNSET - 1))
    }
}

/// A slot; released when dropped.
#[derive(Debug)]
pub(crate) struct Deadline {
    table: Rc<Deadlines>,
    index: u32,
    /// The duration for which it was armed last, in ticks.
    ticks: Cell<u32>,
}

impl Deadline {
    /// Sets the deadline to `after` from now.
    pub(crate) fn arm(&self, after: Duration) {
        // In 32 bits, because this runs for every read and write.
        let ticks = ticks_of(after);
        self.ticks.set(ticks);
        self.set(due(self.table.now.get(), ticks));
    }

    /// Sets the deadline again, for the duration it was armed for last.
    pub(crate) fn start_again(&self) {
        self.set(due(self.table.now.get(), self.ticks.get()));
    }

    /// Another slot of the same table, without a deadline.
    pub(crate) fn another(&self) -> Self {
        self.table.slot()
    }

    /// If this deadline has passed, and one of the `others` was armed within its duration, sets it again, counted from
    /// then, because its exchange is active. `false`: it was not renewed. A deadline that was armed for no time is
    /// never renewed.
    pub(crate) fn renew(&self, others: &[&Deadline]) -> bool {
        self.renew_at_least(Duration::ZERO, others)
    }

    /// Like [`renew`](Self::renew), with a duration of at least `least`.
    fn renew_at_least(&self, least: Duration, others: &[&Deadline]) -> bool {
        let ticks = self.ticks.get().max(ticks_of(least));
        let latest = others.iter().filter_map(|other| other.armed_at()).max();
        let (Some(latest), false) = (latest, self.ticks.get() == 0) else {
            return false;
        };
        let due = due(latest, ticks);
        let is_renewed = self.is_passed() && due > self.table.now.get();
        if is_renewed {
            self.ticks.set(ticks);
            self.set(due);
        }
        is_renewed
    }

    fn is_passed(&self) -> bool {
        self.table.slots.borrow().due[self.index as usize] == PASSED
    }

    /// The tick at which it was armed; `None` if it is not set or has passed.
    fn armed_at(&self) -> Option<u32> {
        match self.table.slots.borrow().due[self.index as usize] {
            UNSET | PASSED => None,
            due => Some(due.saturating_sub(self.ticks.get().saturating_add(1))),
        }
    }

    /// Removes the deadline.
    pub(crate) fn disarm(&self) {
        self.set(UNSET);
    }

    /// Ready once the deadline has passed; wakes the task then.
    pub(crate) fn poll_passed(&self, cx: &Context<'_>) -> Poll<()> {
        let index = self.index as usize;
        {
            let slots = self.table.slots.borrow();
            if slots.due[index] == PASSED {
                return Poll::Ready(());
            }
            let known = slots.wakers[index].as_ref();
            if known.is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
        }
        // Cloning and dropping a waker may run code of a plugin, so nothing is borrowed meanwhile.
        let waker = cx.waker().clone();
        let old = self.table.slots.borrow_mut().wakers[index].replace(waker);
        drop(old);
        Poll::Pending
    }

    /// Runs `future`; `None` once the deadline has passed, which drops the future.
    pub(crate) async fn bound<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_passed(cx).map(|()| None),
        })
        .await
    }

    fn set(&self, due: u32) {
        self.table.slots.borrow_mut().due[self.index as usize] = due;
    }
}

/// In 32 bits, because this runs for every read and write.
fn ticks_of(after: Duration) -> u32 {
    let seconds = u32::try_from(after.as_secs()).unwrap_or(UNSET);
    seconds
        .saturating_mul(1000 / TICK_MILLIS)
        .saturating_add(after.subsec_millis().div_ceil(TICK_MILLIS))
}

fn due(armed_at: u32, ticks: u32) -> u32 {
    armed_at
        .saturating_add(ticks)
        .saturating_add(1)
        .min(UNSET - 1)
}

/// The deadlines of both directions of an exchange. Each is armed when its wait begins, that is, whenever data moves.
/// As long as one direction moves, the other may be silent.
pub(crate) struct Company<'a>(pub(crate) [&'a Deadline; 4]);

impl Company<'_> {
    /// Renews passed deadlines while another direction is active. Must be called before the waits are polled. Each has
    /// a duration of at least `least`.
    pub(crate) fn renew(&self, least: Duration) {
        for deadline in self.0.iter().filter(|deadline| deadline.is_passed()) {
            deadline.renew_at_least(least, &self.0);
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let waker = {
            let slots = &mut *self.table.slots.borrow_mut();
            slots.due[self.index as usize] = UNSET;
            slots.free.push(self.index);
            slots.wakers[self.index as usize].take()
        };
        drop(waker);
        self.table.in_use.set(self.table.in_use.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_worker(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build_local(Default::default())
            .expect("a runtime")
            .block_on(future);
    }

    #[test]
    fn a_late_wait_times_out_and_a_timely_one_does_not() {
        on_worker(async {
            let deadlines = Deadlines::new();
            let ticker = Rc::clone(&deadlines);
            tokio::task::spawn_local(async move { ticker.run(|| ()).await });
            let slot = deadlines.slot();
            slot.arm(Duration::from_millis(50));
            assert_eq!(slot.bound(std::future::pending::<()>()).await, None);
            slot.arm(Duration::from_secs(60));
            assert_eq!(slot.bound(async { 7 }).await, Some(7));
        });
    }

    #[test]
    fn an_expired_deadline_is_renewed_by_later_activity() {
        let deadlines = Deadlines::new();
        let slots: [Deadline; 4] = std::array::from_fn(|_| deadlines.slot());
        let company = Company(slots.each_ref());
        let at = |tick| {
            deadlines.now.set(tick);
            deadlines.collect_late(&mut Vec::new());
            company.renew(Duration::ZERO);
        };
        slots[0].arm(Duration::from_secs(1));
        at(8);
        slots[1].arm(Duration::from_secs(1));
        at(12);
        assert!(!slots[0].is_passed(), "another was armed at tick 8");
        at(18);
        assert!(!slots[0].is_passed());
        at(19);
        assert!(slots[0].is_passed() && slots[1].is_passed());
        slots[2].arm(Duration::from_secs(9));
        at(31);
        assert!(slots[0].is_passed(), "it had 1 s from tick 19 on");
        company.renew(Duration::from_secs(5));
        assert!(!slots[0].is_passed(), "it has 5 s from tick 19 on");
        at(69);
        assert!(!slots[0].is_passed());
        at(70);
        assert!(slots[0].is_passed());
        slots[3].arm(Duration::ZERO);
        at(72);
        slots[2].arm(Duration::from_secs(1));
        at(73);
        assert!(slots[3].is_passed(), "it was to pass at once");
    }

    #[test]
    fn a_slot_is_used_again() {
        let deadlines = Deadlines::new();
        let first = deadlines.slot();
        let index = first.index;
        drop(first);
        assert_eq!(deadlines.slot().index, index);
    }
}
