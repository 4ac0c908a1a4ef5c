//! Which plugin runs on which thread, at any moment.
//!
//! Around every call into a plugin, `call` sets a mark: a word of the thread that names the plugin and the hook, and that
//! changes with every call. The `watchdog` reads these words from its own thread and finds calls that do not return;
//! `last_words` reads the word of a thread that dies. A mark costs a few stores. During a call within a call, such as the
//! drop of one plugin's future while another one's hook runs, the word names the inner one. When a call returns that
//! the watchdog has reported, its own thread logs the return.
#![expect(
    unsafe_code,
    reason = "reads the words of other threads, which are alive while they are registered"
)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::callee::{Call, Callee, PluginId};

/// Of a word: what runs, or 0. Above it is a count of calls, which tells one call from the next of the same kind.
const CALL: u64 = u32::MAX as u64;
/// One call, in a word.
const ONE: u64 = 1 << 32;
/// Of a word: the watchdog has reported that the call does not return, so its return is to be reported as well.
const REPORTED: u64 = 1 << 8;

thread_local! {
    // Without a destructor, so that reading it is plain memory access, in a signal handler as well.
    static SLOT: Slot = const {
        Slot {
            word: AtomicU64::new(0),
            since: AtomicU64::new(0),
            returned: AtomicU64::new(u64::MAX),
            callee: Cell::new(Callee::NONE),
        }
    };
    static ROLE: Cell<Role> = const { Cell::new(Role::Background) };
}

/// What a thread shares with the watchdog.
struct Slot {
    word: AtomicU64,
    /// When the reported call was first seen: milliseconds since [`started_at`].
    since: AtomicU64,
    /// The word of the call whose return this thread has reported itself.
    returned: AtomicU64,
    /// Whose code runs; read by this thread alone.
    callee: Cell<Callee>,
}

static THREADS: Mutex<Vec<MarkedThread>> = Mutex::new(Vec::new());

/// Marks this thread as being in that call, of that instance, until the mark is dropped.
#[inline]
pub(super) fn mark(call: Call, callee: Callee) -> Mark {
    SLOT.with(|slot| {
        let word = &slot.word;
        let outer = word.load(Ordering::Relaxed);
        let count = (outer & !CALL).wrapping_add(ONE);
        // Of no plugin: not marked.
        let bits = match call.plugin() {
            PluginId::NONE => 0,
            _ => call.bits(),
        };
        word.store(count | u64::from(bits), Ordering::Relaxed);
        Mark {
            outer,
            outer_callee: slot.callee.replace(callee),
            _of_this_thread: PhantomData,
        }
    })
}

/// This thread runs a plugin's code for as long as the mark lives.
#[must_use]
#[derive(Debug)]
pub(super) struct Mark {
    /// The word as it was before.
    outer: u64,
    outer_callee: Callee,
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for Mark {
    #[inline]
    fn drop(&mut self) {
        // The call around this one goes on as the one that it was. Where there is none, the count goes on.
        let ended = match self.outer & CALL {
            0 => self.outer.wrapping_add(ONE),
            _ => self.outer,
        };
        SLOT.with(|slot| {
            let word = slot.word.load(Ordering::Relaxed);
            slot.word.store(ended, Ordering::Relaxed);
            slot.callee.set(self.outer_callee);
            if word & REPORTED != 0 {
                slot.report_return(word);
            }
        });
    }
}

impl Slot {
    /// Reported by the thread itself, before what it does next: the watchdog would be a moment late.
    #[cold]
    fn report_return(&self, word: u64) {
        let moment = Moment::of(word);
        self.returned.store(moment.0, Ordering::Release);
        let since = self.since.load(Ordering::Acquire);
        let ms = milliseconds(Instant::now()).saturating_sub(since);
        if let Some(call) = moment.call() {
            report_return(call, ROLE.get(), ms);
        }
    }
}

fn started_at() -> Instant {
    static STARTED_AT: OnceLock<Instant> = OnceLock::new();
    *STARTED_AT.get_or_init(Instant::now)
}

fn milliseconds(at: Instant) -> u64 {
    let since = at.saturating_duration_since(started_at());
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A thread's word: which call it is in, and which of all its calls that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u64);

impl Moment {
    fn of(word: u64) -> Self {
        Self(word & !REPORTED)
    }

    /// The call; `None` when no plugin runs.
    pub(crate) fn call(self) -> Option<Call> {
        let call = (self.0 & CALL) as u32;
        (call != 0).then(|| Call::from_bits(call))
    }

    #[cfg(test)]
    pub(crate) fn for_test(call: Option<Call>, count: u32) -> Self {
        Self(u64::from(count) << 32 | call.map_or(0, |call| u64::from(call.bits())))
    }
}

/// What this thread is in.
pub(crate) fn moment() -> Moment {
    SLOT.with(|slot| Moment::of(slot.word.load(Ordering::Relaxed)))
}

/// The instance that runs on this thread; [`Callee::NONE`] if none does.
pub(crate) fn running() -> Callee {
    SLOT.with(|slot| slot.callee.get())
}

/// What this thread is for.
pub(super) fn role() -> Role {
    ROLE.get()
}

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The worker of that number: a call that keeps it keeps its connections.
    Worker(usize),
    /// It may block: events, blocking work.
    Background,
}

/// A thread whose word may be read from outside.
struct MarkedThread {
    number: u64,
    role: Role,
    slot: *const Slot,
}

// SAFETY: the pointer is read only under the lock of `THREADS`, from which a thread removes itself before it ends.
unsafe impl Send for MarkedThread {}

/// Lets other threads read this one's word until it is dropped, on this thread.
#[must_use]
pub(super) struct Registration {
    number: u64,
    _of_this_thread: PhantomData<*const ()>,
}

impl Registration {
    pub(super) fn new(role: Role) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        ROLE.set(role);
        let slot = SLOT.with(std::ptr::from_ref);
        threads().push(MarkedThread { number, role, slot });
        Self {
            number,
            _of_this_thread: PhantomData,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        threads().retain(|thread| thread.number != self.number);
    }
}

fn threads() -> MutexGuard<'static, Vec<MarkedThread>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one thread was in when its word was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadState {
    /// No other thread has or had it.
    pub(crate) thread: u64,
    pub(crate) role: Role,
    pub(crate) moment: Moment,
}

/// The calls that registered threads are in.
pub(crate) fn calls_under_way() -> Vec<Call> {
    let mut threads = Vec::new();
    read_threads(&mut threads);
    let calls = threads.iter().filter_map(|thread| thread.moment.call());
    calls.collect()
}

/// Reads the words of all registered threads.
pub(super) fn read_threads(into: &mut Vec<ThreadState>) {
    into.clear();
    into.extend(threads().iter().map(|thread| {
        let word = thread.slot().word.load(Ordering::Relaxed);
        ThreadState {
            thread: thread.number,
            role: thread.role,
            moment: Moment::of(word),
        }
    }));
}

/// Makes the thread report its return from that call, which it has been in since then.
pub(super) fn report_at_return(thread: u64, moment: Moment, since: Instant) {
    with_slot(thread, |slot| {
        slot.since.store(milliseconds(since), Ordering::Release);
        // Unless it has returned meanwhile.
        let (is, reported) = (moment.0, moment.0 | REPORTED);
        let _ = slot
            .word
            .compare_exchange(is, reported, Ordering::Relaxed, Ordering::Relaxed);
    });
}

/// Whether the thread has reported its return from that call itself.
pub(super) fn has_reported_return(thread: u64, moment: Moment) -> bool {
    let returned = with_slot(thread, |slot| slot.returned.load(Ordering::Acquire));
    returned == Some(moment.0)
}

/// Reports the return of a call that was reported not to return.
pub(super) fn report_return(call: Call, role: Role, ms: u64) {
    let (plugin, hook) = (call.plugin().name(), call.place().name());
    match role {
        Role::Worker(worker) => {
            tracing::warn!(plugin, hook, worker, ms, "a plugin call returned late");
        }
        Role::Background => {
            tracing::warn!(
                plugin,
                hook,
                ms,
                "a blocking task of a plugin returned late"
            );
        }
    }
}

fn with_slot<T>(thread: u64, read: impl FnOnce(&Slot) -> T) -> Option<T> {
    let threads = threads();
    let known = threads.iter().find(|known| known.number == thread)?;
    Some(read(known.slot()))
}

impl MarkedThread {
    /// Called under the lock of `THREADS`.
    fn slot(&self) -> &Slot {
        // SAFETY: the thread has not ended, since it removes itself first, which needs the lock.
        unsafe { &*self.slot }
    }
}

#[cfg(test)]
mod tests {
    use plugin_api::abi::hook::Hook;

    use super::super::callee::Place;
    use super::*;

    /// Marks this thread, as a call of no instance.
    fn mark(call: Call) -> Mark {
        super::mark(call, Callee::NONE)
    }

    fn call(name: &str, hook: Hook) -> Call {
        Call::new(PluginId::of("libtest.so", name), hook)
    }

    #[test]
    fn a_mark_names_the_innermost_call_and_gives_back_the_outer_one() {
        let (outer, inner) = (
            call("Outer", Hook::Authenticate),
            call("Inner", Hook::OnAccessLog),
        );
        assert_eq!(moment().call(), None);
        let first = mark(outer);
        let begun = moment();
        assert_eq!(begun.call(), Some(outer));
        let second = mark(inner);
        assert_eq!(moment().call(), Some(inner));
        drop(second);
        // The same call, not another one of its kind.
        assert_eq!(moment(), begun);
        drop(first);
        assert_eq!(moment().call(), None);
        let _again = mark(outer);
        assert_ne!(moment(), begun);
    }

    #[test]
    fn what_is_nobodys_is_not_marked() {
        let _mark = mark(Call::new(PluginId::NONE, Place::BLOCKING));
        assert_eq!(moment().call(), None);
    }

    #[test]
    fn a_thread_reports_the_return_of_a_reported_call_itself() {
        let registration = Registration::new(Role::Background);
        let late = call("Late", Hook::HandleTunnelChunk);
        let marked = mark(late);
        let (number, begun) = (registration.number, moment());
        report_at_return(number, begun, Instant::now());
        assert_eq!(moment(), begun, "still the same call");
        let inner = mark(call("Inner", Hook::OnAccessLog));
        drop(inner);
        assert!(!has_reported_return(number, begun));
        drop(marked);
        assert!(has_reported_return(number, begun));
        // Too late: another call has begun.
        let next = mark(late);
        report_at_return(number, begun, Instant::now());
        let second = moment();
        drop(next);
        assert!(!has_reported_return(number, second));
    }

    #[test]
    fn a_thread_is_read_as_long_as_it_is_registered() {
        let (marked, wait) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        let wanted = call("Seen", Hook::DoIntercept);
        let is_seen = || calls_under_way().contains(&wanted);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _registration = Registration::new(Role::Background);
                let _mark = mark(wanted);
                marked.wait();
                wait.wait();
            });
            marked.wait();
            assert!(is_seen());
            wait.wait();
            assert!(thread.join().is_ok());
        });
        assert!(!is_seen());
    }
}
