//! Writes lines to the proxy's log.
//!
//! A line is formatted only if it will be written. Without a proxy, in unit tests, lines go to standard error.
#![expect(unsafe_code, reason = "calls the host's log functions")]

#[cfg(any(feature = "log", feature = "tracing"))]
pub(crate) mod crates;

use crate::abi::level;
use crate::host;
use abi_stable::std_types::RStr;
use std::fmt;

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    /// Someone must act.
    Error = level::ERROR,
    /// A peer violated a rule, or operation is degraded.
    Warn = level::WARN,
    /// What an operator wants to see in normal operation.
    Info = level::INFO,
    /// A decision and its reason.
    Debug = level::DEBUG,
    /// Everything else.
    Trace = level::TRACE,
}

/// Logs a formatted line at level error.
#[macro_export]
macro_rules! error {
    ($($format:tt)+) => { $crate::log_line!(Error, $($format)+) };
}

/// Logs a formatted line at level warn.
#[macro_export]
macro_rules! warn {
    ($($format:tt)+) => { $crate::log_line!(Warn, $($format)+) };
}

/// Logs a formatted line at level info.
#[macro_export]
macro_rules! info {
    ($($format:tt)+) => { $crate::log_line!(Info, $($format)+) };
}

/// Logs a formatted line at level debug.
#[macro_export]
macro_rules! debug {
    ($($format:tt)+) => { $crate::log_line!(Debug, $($format)+) };
}

/// Logs a formatted line at level trace.
#[macro_export]
macro_rules! trace {
    ($($format:tt)+) => { $crate::log_line!(Trace, $($format)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! log_line {
    ($level:ident, $($format:tt)+) => {
        $crate::private::write(
            $crate::Level::$level,
            ::core::module_path!(),
            ::core::file!(),
            ::core::line!(),
            ::core::format_args!($($format)+),
        )
    };
}

/// Writes one line; what the macros expand to.
pub fn write(level: Level, target: &str, file: &str, line: u32, message: fmt::Arguments<'_>) {
    let Some(host) = host::table() else {
        eprintln!("{level:?} {target}: {message}");
        return;
    };
    // SAFETY: the host's functions may be called from any thread, at any time after `init`.
    if unsafe { host.log_enabled()(level as u32) } == 0 {
        return;
    }
    match message.as_str() {
        Some(literal) => put(level, target, file, line, literal),
        None => put(level, target, file, line, &message.to_string()),
    }
}

/// Passes a line to the proxy.
fn put(level: Level, target: &str, file: &str, line: u32, message: &str) {
    let Some(host) = host::table() else {
        return;
    };
    // SAFETY: as in `write`.
    unsafe {
        host.log()(
            level as u32,
            target.into(),
            RStr::from_str(message),
            file.into(),
            line,
        );
    }
}
