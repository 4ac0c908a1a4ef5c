//! A small tokio runtime for each library (feature `tokio`).
//!
//! Async hooks run on the proxy's threads, whose runtime is another copy of tokio that this library cannot see. So the
//! library has its own runtime with one thread, which is entered while a hook is polled: timers and sockets then find a
//! reactor, and their wakers wake the proxy's task.

use std::sync::OnceLock;
use tokio::runtime::{Builder, EnterGuard, Runtime};

/// Enters the library's runtime until the guard is dropped. The first call starts it.
pub(crate) fn enter() -> EnterGuard<'static> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(start).enter()
}

fn start() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("plugin").enable_all();
    // Fails if the system has no thread or descriptor left; the guard around every hook reports that.
    builder
        .build()
        .expect("cannot start the runtime of the plugin")
}
