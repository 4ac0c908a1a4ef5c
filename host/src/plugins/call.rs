//! Every entry into a plugin's code, and the threads that make it.
//!
//! Each goes through [`Callee::run`], which counts it (see `statistics`) and marks the thread (see `marks`) meanwhile.

use super::callee::{Call, Callee, Place};
use super::last_words;
use super::marks::{Registration, Role, mark};
use super::statistics::{self, Begun, Returned};

impl Callee {
    /// Runs `work`, which enters the instance's code: the only way there.
    #[inline]
    pub(super) fn run<R: Returned>(self, place: impl Into<Place>, work: impl FnOnce() -> R) -> R {
        let place = place.into();
        let begun = Begun::now();
        let mark = mark(Call::new(self.plugin(), place), self);
        let result = work();
        drop(mark);
        if let Some(begun) = begun {
            begun.count(self, place, result.code());
        }
        result
    }
}

impl Call {
    /// Runs `work`, which enters a library whose plugins are not known yet.
    pub(super) fn run_library<R>(self, work: impl FnOnce() -> R) -> R {
        let _mark = mark(self, Callee::NONE);
        work()
    }
}

/// Lets the watchdog see this thread until the value is dropped, on this thread.
#[must_use]
pub(crate) struct Visible {
    _registration: Registration,
}

impl Visible {
    pub(crate) fn new(role: Role) -> Self {
        last_words::see_stack();
        Self {
            _registration: Registration::new(role),
        }
    }
}

impl Drop for Visible {
    fn drop(&mut self) {
        statistics::close_thread();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::callee::PluginId;
    use crate::plugins::marks::running;
    use plugin_api::abi::hook::Hook;

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
}
