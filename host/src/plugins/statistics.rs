//! How often plugins are called, how long that takes, and what it comes to.
//!
//! A worker counts in cells of its own, and adds them to those of the process when it ends. Other threads, which call
//! plugins seldom, add to those of the process at once. Time is read from the processor's counter, calibrated by
//! `quanta`: two reads for each call. It includes calls within a call, such as the drop of one plugin's future while
//! another one's hook runs. A call of an async hook is each of its polls. When the process ends, every hook of every
//! instance that was called has its line.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use plugin_api::abi::code;
use quanta::Clock;

use super::callee::{Callee, Place};
use super::marks::{self, Role};

/// Of how many hooks of instances the process keeps counts; those that come later are left out.
const MAX_KEPT: usize = 65_536;

/// What a call can come to, by its code; the last one stands for all other codes.
const OUTCOMES: [&str; 12] = [
    "proceed",
    "respond",
    "close",
    "pending",
    "error",
    "panic",
    "suppress",
    "replaced",
    "retry",
    "intercept",
    "tunnel",
    "other",
];

/// Empty where nothing has been counted.
static CLOCK: OnceLock<Clock> = OnceLock::new();
static IS_ON: AtomicBool = AtomicBool::new(false);
static TOTALS: Mutex<BTreeMap<(u64, Place), Total>> = Mutex::new(BTreeMap::new());
static SLOTS: Mutex<Slots> = Mutex::new(Slots {
    free: Vec::new(),
    count: 0,
});

thread_local! {
    /// By the slot of the instance.
    static PAGES: RefCell<Vec<Option<Box<Page>>>> = const { RefCell::new(Vec::new()) };
}

/// Counts from now on. Takes about a millisecond when it is called first.
pub(crate) fn start() {
    CLOCK.get_or_init(Clock::new);
    IS_ON.store(true, Ordering::Relaxed);
}

/// Counts no more from now on; what has been counted is kept.
pub(crate) fn stop() {
    IS_ON.store(false, Ordering::Relaxed);
}

/// What a function of a plugin returns, as an outcome.
pub(super) trait Returned {
    /// A value of [`code`].
    fn code(&self) -> u32;
}

impl Returned for () {
    fn code(&self) -> u32 {
        code::PROCEED
    }
}

impl Returned for u32 {
    #[inline]
    fn code(&self) -> u32 {
        *self
    }
}

/// Something that was made; null if that panicked.
impl<T> Returned for *mut T {
    fn code(&self) -> u32 {
        match self.is_null() {
            true => code::PANIC,
            false => code::PROCEED,
        }
    }
}

/// A call that has begun.
pub(super) struct Begun {
    clock: &'static Clock,
    at: u64,
}

impl Begun {
    /// `None` where nothing is counted.
    #[inline]
    pub(super) fn now() -> Option<Self> {
        if !IS_ON.load(Ordering::Relaxed) {
            return None;
        }
        CLOCK.get().map(|clock| Self {
            clock,
            at: clock.raw(),
        })
    }

    /// Counts the call, which has just returned.
    #[inline]
    pub(super) fn count(self, callee: Callee, place: Place, code: u32) {
        // Counters of different processors may differ by a little.
        let ticks = self.clock.raw().saturating_sub(self.at);
        let code = code.min(OUTCOMES.len() as u32 - 1);
        match marks::role() {
            Role::Worker(_) => count_on_worker(callee, place, ticks, code),
            Role::Background => {
                let mut counts = Counts::NONE;
                counts.add(ticks, code);
                add_to_totals(&mut totals(), callee, place, counts);
            }
        }
    }
}

fn count_on_worker(callee: Callee, place: Place, ticks: u64, code: u32) {
    // While the thread ends they may be gone already.
    let _ = PAGES.try_with(|pages| {
        let mut pages = pages.borrow_mut();
        match pages.get_mut(callee.slot()) {
            Some(Some(page)) if page.callee == callee => {
                page.counts[place.index()].add(ticks, code)
            }
            _ => new_page(&mut pages, callee).counts[place.index()].add(ticks, code),
        }
    });
}

/// A page for an instance that is called for the first time; one that has had its slot before is gone.
#[cold]
fn new_page(pages: &mut Vec<Option<Box<Page>>>, callee: Callee) -> &mut Page {
    let slot = callee.slot();
    if pages.len() <= slot {
        pages.resize_with(slot + 1, || None);
    }
    if let Some(old) = pages[slot].take() {
        old.close();
    }
    pages[slot].get_or_insert_with(|| {
        Box::new(Page {
            callee,
            counts: [Counts::NONE; Place::COUNT],
        })
    })
}

/// The counts of one instance on one worker.
struct Page {
    callee: Callee,
    counts: [Counts; Place::COUNT],
}

impl Page {
    /// Adds its counts to those of the process.
    fn close(&self) {
        let mut totals = totals();
        for (place, counts) in self.counts.iter().enumerate() {
            if counts.calls() > 0 {
                add_to_totals(&mut totals, self.callee, Place::at(place), *counts);
            }
        }
    }
}

/// What is counted of one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// By the processor's counter.
    ticks: u64,
    outcomes: [u64; OUTCOMES.len()],
}

impl Counts {
    const NONE: Self = Self {
        ticks: 0,
        outcomes: [0; OUTCOMES.len()],
    };

    #[inline]
    fn add(&mut self, ticks: u64, code: u32) {
        self.ticks = self.ticks.wrapping_add(ticks);
        self.outcomes[code as usize] += 1;
    }

    fn merge(&mut self, other: Self) {
        self.ticks = self.ticks.wrapping_add(other.ticks);
        for (sum, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += more;
        }
    }

    fn calls(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    fn errors(&self) -> u64 {
        let failed = [code::ERROR, code::PANIC];
        failed
            .iter()
            .map(|code| self.outcomes[*code as usize])
            .sum()
    }

    /// Those that there are: `proceed=7 error=1`.
    fn shown_outcomes(&self) -> String {
        let mut shown = String::new();
        for (name, count) in OUTCOMES.iter().zip(self.outcomes) {
            if count > 0 {
                let space = if shown.is_empty() { "" } else { " " };
                let _ = write!(shown, "{space}{name}={count}");
            }
        }
        shown
    }
}

/// The counts of one hook in the whole process.
#[derive(Debug)]
struct Total {
    callee: Callee,
    counts: Counts,
}

fn totals() -> MutexGuard<'static, BTreeMap<(u64, Place), Total>> {
    TOTALS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add_to_totals(
    totals: &mut BTreeMap<(u64, Place), Total>,
    callee: Callee,
    place: Place,
    counts: Counts,
) {
    let key = (callee.number(), place);
    if let Some(total) = totals.get_mut(&key) {
        return total.counts.merge(counts);
    }
    if totals.len() < MAX_KEPT {
        totals.insert(key, Total { callee, counts });
    }
}

/// Adds what this worker has counted so far to the counts of the process.
pub(crate) fn publish() {
    let _ = PAGES.try_with(|pages| {
        for page in pages.borrow_mut().iter_mut().flatten() {
            page.close();
            page.counts = [Counts::NONE; Place::COUNT];
        }
    });
}

/// Adds what this worker has counted to the counts of the process, at its end.
pub(super) fn close_thread() {
    let pages = PAGES.try_with(RefCell::take).unwrap_or_default();
    for page in pages.into_iter().flatten() {
        page.close();
    }
}

/// The calls of a plugin: of all its hooks and instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginCalls {
    /// The file name of the library.
    pub(crate) library: &'static str,
    pub(crate) name: &'static str,
    pub(crate) calls: u64,
    /// Those that returned an error or panicked.
    pub(crate) errors: u64,
    /// The time of all calls together, in microseconds.
    pub(crate) time_us: u64,
}

/// What the process has counted, for each plugin that was called.
pub(crate) fn summary() -> Vec<PluginCalls> {
    let Some(clock) = CLOCK.get() else {
        return Vec::new();
    };
    let mut sums: BTreeMap<(&str, &str), Counts> = BTreeMap::new();
    for Total { callee, counts } in totals().values() {
        let plugin = callee.plugin();
        let sum = sums.entry((plugin.library(), plugin.name()));
        sum.or_insert(Counts::NONE).merge(*counts);
    }
    let shown = sums
        .into_iter()
        .map(|((library, name), counts)| PluginCalls {
            library,
            name,
            calls: counts.calls(),
            errors: counts.errors(),
            time_us: clock.delta_as_nanos(0, counts.ticks) / 1000,
        });
    shown.collect()
}

/// Writes a line for every hook that was called.
pub(crate) fn report() {
    let Some(clock) = CLOCK.get() else { return };
    for ((_, place), Total { callee, counts }) in &*totals() {
        let calls = counts.calls();
        let total = clock.delta_as_nanos(0, counts.ticks);
        tracing::debug!(
            library = callee.plugin().library(),
            plugin = callee.plugin().name(),
            instance = callee.number(),
            hook = place.name(),
            calls,
            total_us = total / 1000,
            mean_ns = total.checked_div(calls).unwrap_or_default(),
            outcomes = counts.shown_outcomes(),
            "calls of a plugin"
        );
    }
}

/// Where workers keep the counts of an instance that is alive: the lowest free number.
#[derive(Debug)]
pub(super) struct Slot(u32);

struct Slots {
    free: Vec<u32>,
    count: u32,
}

impl Slot {
    pub(super) fn take() -> Self {
        let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
        let free = slots.free.pop();
        Self(free.unwrap_or_else(|| {
            slots.count += 1;
            slots.count - 1
        }))
    }

    pub(super) fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
        slots.free.push(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::callee::PluginId;
    use plugin_api::abi::hook::Hook;

    const HOOK: Hook = Hook::HandleClientRequest;

    fn callee(name: &str, slot: &Slot) -> Callee {
        Callee::new(PluginId::of("libcounted.so", name), slot.number())
    }

    /// What the process has counted of this instance.
    fn total(callee: Callee) -> Counts {
        let key = (callee.number(), HOOK.into());
        totals()
            .get(&key)
            .map_or(Counts::NONE, |total| total.counts)
    }

    #[test]
    fn a_worker_adds_what_it_has_counted_when_it_ends() {
        let slot = Slot::take();
        let callee = callee("Ended", &slot);
        std::thread::spawn(move || {
            for (ticks, code) in [(5, code::PROCEED), (7, code::PROCEED), (1, code::PANIC)] {
                count_on_worker(callee, HOOK.into(), ticks, code);
            }
            assert_eq!(total(callee), Counts::NONE);
            close_thread();
        })
        .join()
        .unwrap();
        let counts = total(callee);
        assert_eq!((counts.calls(), counts.ticks), (3, 13));
        assert_eq!(counts.shown_outcomes(), "proceed=2 panic=1");
    }

    #[test]
    fn a_worker_that_goes_on_counts_no_call_twice() {
        let slot = Slot::take();
        let callee = callee("Published", &slot);
        std::thread::spawn(move || {
            for code in [code::PROCEED, code::ERROR] {
                count_on_worker(callee, HOOK.into(), 1, code);
                publish();
            }
            close_thread();
        })
        .join()
        .unwrap();
        let counts = total(callee);
        assert_eq!((counts.calls(), counts.errors()), (2, 1));
    }

    #[test]
    fn the_next_instance_of_a_slot_begins_at_nothing() {
        let slot = Slot::take();
        let (old, new) = (callee("Old", &slot), callee("New", &slot));
        for counted in [old, old, new] {
            count_on_worker(counted, HOOK.into(), 1, code::PROCEED);
        }
        assert_eq!(total(old).calls(), 2);
        close_thread();
        assert_eq!(total(new).calls(), 1);
    }

    #[test]
    fn codes_of_the_boundary_have_their_names() {
        let named = |code: u32| OUTCOMES[code as usize];
        assert_eq!(named(code::PROCEED), "proceed");
        assert_eq!(named(code::PANIC), "panic");
        assert_eq!(named(code::REPLACED), "replaced");
        assert_eq!(named(code::TUNNEL), "tunnel");
        let begun = Begun {
            clock: CLOCK.get_or_init(Clock::new),
            at: 0,
        };
        let slot = Slot::take();
        let callee = callee("Other", &slot);
        begun.count(callee, HOOK.into(), u32::MAX);
        assert_eq!(total(callee).shown_outcomes(), "other=1");
    }
}
