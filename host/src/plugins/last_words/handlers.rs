//! The handlers of signals and of `exit`.

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

/// A plugin that calls `exit` ends the process in order, without a reason in the log.
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

/// Does what would have been done without this handler.
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
