//! The last log line when a plugin terminates the process.
//!
//! A stack overflow, a second panic while one is unwinding, an abort, a memory fault: nothing contains them, but the
//! reason should be in the log. A signal handler reads the mark of the thread that dies, and writes one line to
//! standard error and to the log: plugin, hook, cause, and the panics under way with their places. Then everything goes
//! on as it would without: Rust's own message about the overflow, a core dump, the exit status of the signal. Deaths
//! outside of plugins, which includes threads that plugins start themselves, are left alone.
//!
//! Code in a handler allocates nothing, takes no lock, and calls what POSIX allows.
#![expect(
    unsafe_code,
    reason = "signal handlers, and what they share with their thread"
)]

use std::cell::UnsafeCell;
use std::panic::AssertUnwindSafe;

use abi_stable::std_types::RStr;

use super::marks::{self, Moment};

/// The panics that are kept of a call: the first and the last ones.
const MAX_PANICS: usize = 3;
/// What is kept of the message and place of each, in bytes.
const PANIC_LEN: usize = 512;

thread_local! {
    // Without a destructor, so that reading it is plain memory access, in a signal handler as well.
    static PANICS: UnsafeCell<Panics> = const { UnsafeCell::new(Panics::NONE) };
}

/// The panics of one call, as texts of fixed size.
struct Panics {
    of: Option<Moment>,
    texts: [PanicText; MAX_PANICS],
    count: usize,
}

#[derive(Clone, Copy)]
struct PanicText {
    text: [u8; PANIC_LEN],
    len: usize,
}

impl Panics {
    const NONE: Self = Self {
        of: None,
        texts: [PanicText {
            text: [0; PANIC_LEN],
            len: 0,
        }; MAX_PANICS],
        count: 0,
    };

    fn add(&mut self, of: Moment, message: &str, place: &str) {
        if self.of != Some(of) {
            self.of = Some(of);
            self.count = 0;
        }
        let index = self.count.min(MAX_PANICS - 1);
        self.count = index + 1;
        let kept = &mut self.texts[index];
        kept.len = 0;
        for part in [message, " (at ", place, ")"] {
            let part = &part.as_bytes()[..part.len().min(PANIC_LEN - kept.len)];
            kept.text[kept.len..kept.len + part.len()].copy_from_slice(part);
            kept.len += part.len();
        }
    }

    /// Those of this call.
    fn of(&self, of: Moment) -> impl Iterator<Item = &[u8]> {
        let count = if self.of == Some(of) { self.count } else { 0 };
        self.texts[..count]
            .iter()
            .map(|kept| &kept.text[..kept.len])
    }
}

/// Keeps what a plugin panics with on this thread, for the case that it is the end.
pub(super) unsafe extern "C" fn note_panic(message: RStr<'_>, place: RStr<'_>) {
    let noted = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let moment = marks::moment();
        // SAFETY: this thread's own, and a handler that reads it meanwhile does not return here.
        PANICS.with(|panics| unsafe {
            (*panics.get()).add(moment, message.as_str(), place.as_str());
        });
    }));
    // What is lost is a part of a line.
    drop(noted);
}

#[cfg(unix)]
pub(crate) use handlers::{install, see_stack};

/// There are no signals.
#[cfg(not(unix))]
pub(crate) fn install() {}

/// There are no signals.
#[cfg(not(unix))]
pub(crate) fn see_stack() {}

#[cfg(unix)]
mod handlers {
    use std::cell::Cell;
    use std::mem::MaybeUninit;
    use std::ops::Range;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Once, OnceLock};

    use libc::{c_int, c_void, siginfo_t};

    use super::super::callee::Call;
    use super::super::marks::{self, Moment};
    use super::{PANICS, UnsafeCell};
    use crate::telemetry::direct::{self, Line};

    /// The signals of programs that cannot go on.
    const SIGNALS: [c_int; 5] = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGABRT,
        libc::SIGILL,
        libc::SIGFPE,
    ];

    /// How often, and how long each time in milliseconds, a death waits for the log's writer, or for another death.
    const WAITS: u32 = 40;
    const WAIT: i64 = 5;

    /// What stood there before, by the position of the signal.
    static BEFORE: [OnceLock<libc::sigaction>; SIGNALS.len()] =
        [const { OnceLock::new() }; SIGNALS.len()];
    /// Somebody writes the line, or has written it: there is one.
    static IS_BEGUN: AtomicBool = AtomicBool::new(false);
    static IS_WRITTEN: AtomicBool = AtomicBool::new(false);
    static LINE: LastLine = LastLine(UnsafeCell::new(Line::EMPTY));

    /// Not on the stack: that of a handler is small.
    struct LastLine(UnsafeCell<Line>);
    // SAFETY: used by the one thread that has begun to die first.
    unsafe impl Sync for LastLine {}

    thread_local! {
        /// Where a fault is an overflow of this thread's stack; empty if that is not known.
        static BELOW_STACK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }

    type Action = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

    /// From now on deaths of the process are reported. Handlers run on the stack that the standard library gives each
    /// thread.
    pub(crate) fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            see_stack();
            for (signal, before) in SIGNALS.into_iter().zip(&BEFORE) {
                set(signal, before);
            }
            // SAFETY: the function is there for as long as the process.
            unsafe { libc::atexit(exiting) };
        });
    }

    fn set(signal: c_int, before: &OnceLock<libc::sigaction>) {
        let mut old = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: an action of zeros is a valid one; what is read has been written by a call that succeeded.
        unsafe {
            if libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) != 0 {
                return;
            }
            // Before the handler may run.
            let _ = before.set(old.assume_init());
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = dying as Action as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }

    /// Notes where the stack of this thread ends.
    pub(crate) fn see_stack() {
        let below = below_stack().unwrap_or(0..0);
        BELOW_STACK.set((below.start, below.end));
    }

    #[cfg(target_os = "linux")]
    fn below_stack() -> Option<Range<usize>> {
        /// Pages below the stack that a large frame may reach first.
        const MARGIN: usize = 64 * 1024;
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        let (mut lowest, mut len, mut guard) = (std::ptr::null_mut::<c_void>(), 0, 0);
        // SAFETY: the attributes are this thread's, read after they are made and destroyed once.
        unsafe {
            let this = libc::pthread_self();
            if libc::pthread_getattr_np(this, attributes.as_mut_ptr()) != 0 {
                return None;
            }
            let attributes = attributes.as_mut_ptr();
            let stack = libc::pthread_attr_getstack(attributes, &raw mut lowest, &raw mut len);
            let guarded = libc::pthread_attr_getguardsize(attributes, &raw mut guard);
            libc::pthread_attr_destroy(attributes);
            if stack != 0 || guarded != 0 {
                return None;
            }
        }
        // Some systems count the guard as a part of the stack.
        let lowest = lowest as usize;
        Some(lowest.saturating_sub(MARGIN)..lowest.saturating_add(guard.max(4096)))
    }

    #[cfg(not(target_os = "linux"))]
    fn below_stack() -> Option<Range<usize>> {
        None
    }

    extern "C" fn dying(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let moment = marks::moment();
            if let Some(call) = moment.call() {
                write_once(|line| {
                    begin(line, call);
                    // SAFETY: the system passes what the signal is about.
                    let (fault, code) = unsafe { ((*info).si_addr() as usize, (*info).si_code) };
                    push_cause(line, signal, fault, code);
                    push_panics(line, moment);
                });
            }
            hand_on(signal, info, context);
        }));
    }

    /// A plugin that calls `exit` terminated the process in order, and nobody knows why.
    extern "C" fn exiting() {
        let _ = catch_unwind(|| {
            if let Some(call) = marks::moment().call() {
                write_once(|line| {
                    begin(line, call);
                    line.push("call to exit");
                });
            }
        });
    }

    fn begin(line: &mut Line, call: Call) {
        line.begin(now(), "CRITICAL", std::process::id(), "last_words:0");
        line.push("plugin ");
        line.push(call.plugin().name());
        line.push(" of ");
        line.push(call.plugin().library());
        line.push(" terminated the process in ");
        line.push(call.place().name());
        line.push(": ");
    }

    fn push_cause(line: &mut Line, signal: c_int, fault: usize, code: c_int) {
        let (lowest, end) = BELOW_STACK.get();
        let is_fault = matches!(signal, libc::SIGSEGV | libc::SIGBUS) && code > 0;
        match signal {
            _ if is_fault && (lowest..end).contains(&fault) => line.push("stack overflow"),
            libc::SIGSEGV | libc::SIGBUS if is_fault => {
                line.push("memory fault at ");
                line.push_address(fault);
            }
            libc::SIGABRT => line.push("abort"),
            libc::SIGILL => line.push("illegal instruction"),
            libc::SIGFPE => line.push("arithmetic fault"),
            _ => {
                line.push("signal ");
                line.push_number(u64::try_from(signal).unwrap_or(0), 1);
            }
        }
    }

    fn push_panics(line: &mut Line, moment: Moment) {
        PANICS.with(|panics| {
            // SAFETY: this thread's own; what it may have been writing stays unfinished.
            let panics = unsafe { &*panics.get() };
            for (position, note) in panics.of(moment).enumerate() {
                line.push(match position {
                    0 => ", after a panic: ",
                    _ => "; then a second panic during unwinding: ",
                });
                line.push_bytes(note);
            }
        });
    }

    /// Writes the line, unless another death has; then waits until that one has.
    fn write_once(write: impl FnOnce(&mut Line)) {
        if IS_BEGUN.swap(true, Ordering::AcqRel) {
            return wait_until(|| IS_WRITTEN.load(Ordering::Acquire));
        }
        let queued = direct::queued();
        // SAFETY: only the first thread that dies comes here, once.
        let line = unsafe { &mut *LINE.0.get() };
        write(line);
        let line = line.finish();
        wait_until(|| direct::is_written(queued));
        for descriptor in direct::destinations() {
            // SAFETY: the line is whole. What cannot be written is lost.
            unsafe { libc::write(descriptor, line.as_ptr().cast(), line.len()) };
        }
        IS_WRITTEN.store(true, Ordering::Release);
    }

    fn wait_until(is_done: impl Fn() -> bool) {
        let pause = libc::timespec {
            tv_sec: 0,
            tv_nsec: WAIT * 1_000_000,
        };
        for _ in 0..WAITS {
            if is_done() {
                return;
            }
            // SAFETY: only reads the pause.
            unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
        }
    }

    /// Milliseconds since 1970.
    fn now() -> u64 {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: writes the time.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        seconds * 1000 + u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0)
    }

    /// The default action from now on.
    ///
    /// # Safety
    /// In a handler, or where no other thread changes the action.
    unsafe fn restore(signal: c_int) {
        // SAFETY: an action of zeros but for the default is a valid one.
        unsafe {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        }
    }

    /// Lets happen what would have happened without us.
    fn hand_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        let position = SIGNALS.iter().position(|known| *known == signal);
        let before = position.and_then(|position| BEFORE[position].get());
        let is_function = |action: &&libc::sigaction| {
            ![libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction)
                && action.sa_flags & libc::SA_SIGINFO != 0
        };
        // SAFETY: what is called is a handler of this kind; the default action is a valid one.
        unsafe {
            if let Some(action) = before.filter(is_function) {
                // It may abort, and there is no room for a second handler on the small stack.
                if signal != libc::SIGABRT {
                    restore(libc::SIGABRT);
                }
                let handler = std::mem::transmute::<usize, Action>(action.sa_sigaction);
                return handler(signal, info, context);
            }
            restore(signal);
            // A fault happens again. What was sent is sent again, and arrives when this handler returns.
            if (*info).si_code <= 0 {
                libc::raise(signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::callee::{Call, PluginId};
    use plugin_api::abi::hook::Hook;

    fn texts(panics: &Panics, of: Moment) -> Vec<String> {
        let texts = panics.of(of);
        texts
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    #[test]
    fn the_first_and_the_last_panics_of_a_call_are_kept() {
        let call = Call::new(PluginId::of("libdies.so", "Dies"), Hook::Authenticate);
        let (one, next) = (
            Moment::for_test(Some(call), 1),
            Moment::for_test(Some(call), 2),
        );
        let mut panics = Panics::NONE;
        for message in ["a", "b", "c", "d"] {
            panics.add(one, message, "x.rs:1");
        }
        let kept = ["a (at x.rs:1)", "b (at x.rs:1)", "d (at x.rs:1)"];
        assert_eq!(texts(&panics, one), kept);
        assert_eq!(texts(&panics, next), [""; 0]);
        panics.add(next, &"long ".repeat(1000), "y.rs:2");
        assert_eq!(texts(&panics, next)[0].len(), PANIC_LEN);
    }
}
