//! Keeps panics of the host from crossing into plugins.
//!
//! A panic must not leave an `extern "C"` function: the process would abort. Each function that plugins call runs its
//! work in [`guarded`], and answers with an error code after a panic. The panic hook has reported it by then.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; a panic becomes `otherwise`.
#[inline]
pub(super) fn guarded<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
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
