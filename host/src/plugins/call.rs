//! Which plugin runs on which thread, at any moment.
//!
//! Every entry into a plugin's code goes through [`Callee::run`], which counts it (see `statistics`) and sets a mark: a word
//! of the thread that names the plugin and the hook, and that changes with every call. The `watchdog` reads these words
//! from its own thread and finds calls that do not return; `last_words` reads the word of a thread that dies. A mark
//! costs a few stores. During a call within a call, such as the drop of one plugin's future while another one's hook
//! runs, the word names the inner one. When a call returns that the watchdog has reported, its own thread logs the
//! return.
#![expect(
    unsafe_code,
    reason = "reads the words of other threads, which are alive while they are registered"
)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::statistics::{self, Begun, Returned};
use super::{Hook, last_words, watchdog};

/// The most plugins that are told apart in one process; what comes later shares the last number.
const MAX_PLUGINS: usize = 1024;

/// Of a word: what runs, or 0. Above it is a count of calls, which tells one call from the next of the same kind.
const CALL: u64 = u32::MAX as u64;
/// One call, in a word.
const ONE: u64 = 1 << 32;
/// Of a word: the watchdog has told that the call does not return, and its end is to be told as well.
const TOLD: u64 = 1 << 8;

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
    /// When the call was first seen that was told: milliseconds since [`started_at`].
    since: AtomicU64,
    /// The word of the call whose return this thread has told itself.
    returned: AtomicU64,
    /// Whose code runs; looked at by this thread alone.
    callee: Cell<Callee>,
}

static PLUGINS: [OnceLock<Named>; MAX_PLUGINS] = [const { OnceLock::new() }; MAX_PLUGINS];
static PLUGIN_COUNT: Mutex<usize> = Mutex::new(0);
static THREADS: Mutex<Vec<MarkedThread>> = Mutex::new(Vec::new());

struct Named {
    library: String,
    name: String,
}

/// A plugin of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PluginId(u16);

impl PluginId {
    /// Stands for what is no plugin, or not known to be one.
    pub(crate) const NONE: Self = Self(0);

    /// The number of a plugin, the same for the same names; they are kept for good.
    pub(crate) fn of(library: &str, name: &str) -> Self {
        let mut count = PLUGIN_COUNT.lock().unwrap_or_else(PoisonError::into_inner);
        let known = PLUGINS.iter().take(*count).position(|known| {
            let is_same = |known: &Named| known.library == library && known.name == name;
            known.get().is_some_and(is_same)
        });
        let index = known.unwrap_or_else(|| {
            let index = (*count).min(MAX_PLUGINS - 1);
            *count = index + 1;
            // Beyond the most plugins the last one keeps its name.
            let _ = PLUGINS[index].set(Named {
                library: library.to_owned(),
                name: name.to_owned(),
            });
            index
        });
        // Up to 1024, and 0 is nobody.
        Self(u16::try_from(index + 1).unwrap_or(u16::MAX))
    }

    fn named(self) -> Option<&'static Named> {
        let index = usize::from(self.0).checked_sub(1)?;
        PLUGINS.get(index)?.get()
    }

    /// Its name in its library.
    pub(crate) fn name(self) -> &'static str {
        self.named().map_or("?", |named| &named.name)
    }

    /// The file name of its library.
    pub(crate) fn library(self) -> &'static str {
        self.named().map_or("?", |named| &named.library)
    }
}

/// Whose code is called: an instance of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Callee {
    plugin: PluginId,
    /// Where workers count its calls; that of another instance when this one is gone.
    slot: u32,
    /// Never used again. 0: it is no instance.
    number: u64,
}

impl Callee {
    /// Stands for what is not known to be an instance.
    pub(crate) const NONE: Self = Self {
        plugin: PluginId::NONE,
        slot: 0,
        number: 0,
    };

    /// A new instance.
    pub(super) fn new(plugin: PluginId, slot: u32) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Self {
            plugin,
            slot,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn plugin(self) -> PluginId {
        self.plugin
    }

    pub(super) fn slot(self) -> usize {
        self.slot as usize
    }

    pub(super) fn number(self) -> u64 {
        self.number
    }

    /// Runs `work`, which enters the instance's code: the only way there.
    #[inline]
    pub(super) fn run<R: Returned>(self, place: impl Into<Place>, work: impl FnOnce() -> R) -> R {
        let place = place.into();
        let begun = Begun::now();
        let mark = Call::new(self.plugin, place).mark(self);
        let result = work();
        drop(mark);
        if let Some(begun) = begun {
            begun.count(self, place, result.code());
        }
        result
    }
}

/// What of a plugin runs: a hook, or something else that its author has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(u8);

impl Place {
    /// How many there are.
    pub(super) const COUNT: usize = Hook::COUNT + Self::OTHERS.len();

    const OTHERS: [&'static str; 17] = [
        "initialization",
        "new",
        "drop",
        "State::default",
        "drop of State",
        "Connection::default",
        "drop of Connection",
        "routes",
        "handle_request",
        "drop of handle_request",
        "claims",
        "serve",
        "drop of serve",
        "handle_events",
        "run_blocking",
        "spawn",
        "drop of a spawned task",
    ];

    pub(crate) const INIT: Self = Self::other(0);
    pub(crate) const NEW: Self = Self::other(1);
    pub(crate) const DROP: Self = Self::other(2);
    pub(crate) const STATE: Self = Self::other(3);
    pub(crate) const STATE_DROP: Self = Self::other(4);
    pub(crate) const CONNECTION: Self = Self::other(5);
    pub(crate) const CONNECTION_DROP: Self = Self::other(6);
    pub(crate) const ROUTES: Self = Self::other(7);
    pub(crate) const REQUEST: Self = Self::other(8);
    pub(crate) const REQUEST_DROP: Self = Self::other(9);
    pub(crate) const CLAIMS: Self = Self::other(10);
    pub(crate) const SERVE: Self = Self::other(11);
    pub(crate) const SERVE_DROP: Self = Self::other(12);
    pub(crate) const EVENTS: Self = Self::other(13);
    pub(crate) const BLOCKING: Self = Self::other(14);
    pub(crate) const TASK: Self = Self::other(15);
    pub(crate) const TASK_DROP: Self = Self::other(16);

    const fn other(number: u8) -> Self {
        assert!((number as usize) < Self::OTHERS.len());
        Self(Hook::COUNT as u8 + number)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// That of this index.
    pub(super) fn at(index: usize) -> Self {
        debug_assert!(index < Self::COUNT);
        Self(index as u8)
    }

    /// The name that its author knows it by.
    pub(crate) fn name(self) -> &'static str {
        let place = usize::from(self.0);
        let other = place.checked_sub(Hook::COUNT);
        match other {
            Some(other) => Self::OTHERS.get(other).copied().unwrap_or("?"),
            None => plugin_api::abi::hook::NAMES[place],
        }
    }
}

impl From<Hook> for Place {
    #[inline]
    fn from(hook: Hook) -> Self {
        Self(hook as u8)
    }
}

/// A plugin, and what of it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call(u32);

impl Call {
    #[inline]
    pub(crate) fn new(plugin: PluginId, place: impl Into<Place>) -> Self {
        Self(u32::from(plugin.0) << 16 | u32::from(place.into().0))
    }

    pub(crate) fn plugin(self) -> PluginId {
        PluginId((self.0 >> 16) as u16)
    }

    pub(crate) fn place(self) -> Place {
        Place(self.0 as u8)
    }

    /// Runs `work`, which enters a library whose plugins are not known yet.
    pub(super) fn run_library<R>(self, work: impl FnOnce() -> R) -> R {
        let _mark = self.mark(Callee::NONE);
        work()
    }

    /// Marks this thread as being in that call, of that instance, until the mark is dropped.
    #[inline]
    fn mark(self, callee: Callee) -> Mark {
        SLOT.with(|slot| {
            let word = &slot.word;
            let outer = word.load(Ordering::Relaxed);
            let count = (outer & !CALL).wrapping_add(ONE);
            // Of nobody: not marked.
            let call = if self.0 >> 16 == 0 { 0 } else { self.0 };
            word.store(count | u64::from(call), Ordering::Relaxed);
            Mark {
                outer,
                outer_callee: slot.callee.replace(callee),
                _of_this_thread: PhantomData,
            }
        })
    }
}

/// This thread runs a plugin's code for as long as the mark lives.
#[must_use]
#[derive(Debug)]
struct Mark {
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
            if word & TOLD != 0 {
                slot.report_return(word);
            }
        });
    }
}

impl Slot {
    /// Told by the thread itself, before what it does next: the watchdog would be a moment late.
    #[cold]
    fn report_return(&self, word: u64) {
        let moment = Moment::of(word);
        self.returned.store(moment.0, Ordering::Release);
        let since = self.since.load(Ordering::Acquire);
        let ms = milliseconds(Instant::now()).saturating_sub(since);
        if let Some(call) = moment.call() {
            watchdog::report_return(call, ROLE.get(), ms);
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
        Self(word & !TOLD)
    }

    /// The call; `None` when no plugin runs.
    pub(crate) fn call(self) -> Option<Call> {
        let call = (self.0 & CALL) as u32;
        (call != 0).then_some(Call(call))
    }

    #[cfg(test)]
    pub(crate) fn for_test(call: Option<Call>, count: u32) -> Self {
        Self(u64::from(count) << 32 | call.map_or(0, |call| u64::from(call.0)))
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
    /// The worker of that number: who keeps it keeps its connections.
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

/// Lets the watchdog see this thread until the value is dropped, on this thread.
#[must_use]
pub(crate) struct Visible {
    number: u64,
    _of_this_thread: PhantomData<*const ()>,
}

impl Visible {
    pub(crate) fn new(role: Role) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        last_words::see_stack();
        ROLE.set(role);
        let slot = SLOT.with(std::ptr::from_ref);
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(MarkedThread { number, role, slot });
        Self {
            number,
            _of_this_thread: PhantomData,
        }
    }
}

impl Drop for Visible {
    fn drop(&mut self) {
        statistics::close_thread();
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.number != self.number);
    }
}

/// A look at one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// No other thread has or had it.
    pub(crate) thread: u64,
    pub(crate) role: Role,
    pub(crate) moment: Moment,
}

/// Looks at all threads that are visible.
pub(crate) fn look(into: &mut Vec<Seen>) {
    into.clear();
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    into.extend(threads.iter().map(|thread| {
        let word = thread.slot().word.load(Ordering::Relaxed);
        Seen {
            thread: thread.number,
            role: thread.role,
            moment: Moment::of(word),
        }
    }));
}

/// Has the thread tell itself when it returns from that call, which it is in since then.
pub(super) fn report_at_return(thread: u64, moment: Moment, since: Instant) {
    with_slot(thread, |slot| {
        slot.since.store(milliseconds(since), Ordering::Release);
        // Unless it has returned meanwhile.
        let (is, told) = (moment.0, moment.0 | TOLD);
        let _ = slot
            .word
            .compare_exchange(is, told, Ordering::Relaxed, Ordering::Relaxed);
    });
}

/// Whether the thread has told itself that it has returned from that call.
pub(super) fn has_reported_return(thread: u64, moment: Moment) -> bool {
    let told = with_slot(thread, |slot| slot.returned.load(Ordering::Acquire));
    told == Some(moment.0)
}

fn with_slot<T>(thread: u64, look: impl FnOnce(&Slot) -> T) -> Option<T> {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = threads.iter().find(|known| known.number == thread)?;
    Some(look(known.slot()))
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
    use super::*;

    /// Marks this thread, as a call of no instance.
    fn mark(call: Call) -> Mark {
        call.mark(Callee::NONE)
    }

    fn call(name: &str, hook: Hook) -> Call {
        Call::new(PluginId::of("libtest.so", name), hook)
    }

    #[test]
    fn a_plugin_has_one_number() {
        let first = PluginId::of("liba.so", "A");
        assert_eq!(first, PluginId::of("liba.so", "A"));
        assert_ne!(first, PluginId::of("libb.so", "A"));
        assert_eq!((first.library(), first.name()), ("liba.so", "A"));
        assert_eq!(PluginId::NONE.name(), "?");
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
    fn the_instance_that_runs_is_known() {
        let [outer, inner] =
            ["Outer", "Inner"].map(|name| Callee::new(PluginId::of("libtest.so", name), 0));
        assert_eq!(running(), Callee::NONE);
        outer.run(Hook::Authenticate, || {
            assert_eq!(running(), outer);
            inner.run(Hook::OnAccessLog, || assert_eq!(running(), inner));
            assert_eq!(running(), outer);
        });
        assert_eq!(running(), Callee::NONE);
    }

    #[test]
    fn who_was_told_of_tells_its_return_itself() {
        let visible = Visible::new(Role::Background);
        let late = call("Late", Hook::HandleTunnelChunk);
        let marked = mark(late);
        let (number, begun) = (visible.number, moment());
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
    fn places_have_the_names_that_authors_know() {
        let plugin = PluginId::of("libtest.so", "Names");
        let named = |place: Place| Call::new(plugin, place).place().name();
        assert_eq!(
            named(Hook::HandleClientRequest.into()),
            "handle_client_request"
        );
        assert_eq!(
            named(Hook::OnClientConnectionClose.into()),
            "on_client_connection_close"
        );
        assert_eq!(named(Place::INIT), "initialization");
        assert_eq!(named(Place::BLOCKING), "run_blocking");
        assert_eq!(named(Place::TASK_DROP), "drop of a spawned task");
    }

    #[test]
    fn what_is_nobodys_is_not_marked() {
        let _mark = mark(Call::new(PluginId::NONE, Place::BLOCKING));
        assert_eq!(moment().call(), None);
    }

    #[test]
    fn a_thread_is_seen_as_long_as_it_says() {
        let (marked, wait) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        let wanted = call("Seen", Hook::DoIntercept);
        let is_seen = || {
            let mut seen = Vec::new();
            look(&mut seen);
            seen.iter().any(|seen| seen.moment.call() == Some(wanted))
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _visible = Visible::new(Role::Background);
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
