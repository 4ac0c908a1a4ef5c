//! Keeps panics of the host from crossing into plugins.
//!
//! A panic must not leave an `extern "C"` function: the process would abort. Each function that plugins call runs its
//! work in [`guarded`], and answers with an error code after a panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; a panic becomes `otherwise`, and an error in the log.
#[inline]
pub(super) fn guarded<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => value,
        Err(payload) => {
            report(&*payload);
            otherwise
        }
    }
}

#[cold]
fn report(payload: &(dyn Any + Send)) {
    let literal = payload.downcast_ref::<&'static str>().copied();
    let message = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        "the proxy panicked in a call from a plugin: {}",
        message.unwrap_or("no message")
    );
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_panic_becomes_a_value() {
        assert_eq!(guarded(7, || panic!("boom")), 7);
        assert_eq!(guarded(7, || 8), 8);
    }
}
