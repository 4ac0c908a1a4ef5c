//! One small tokio runtime per library (feature `tokio`).
//!
//! Async hooks run on the proxy's threads, whose runtime is another copy of tokio that this library cannot see.
//! So the library has a runtime of its own, of one thread, which is entered while a hook is polled: timers and
//! sockets then find a reactor, and their wakers lead back to the proxy.

use std::sync::OnceLock;
use tokio::runtime::{Builder, EnterGuard, Runtime};

/// Makes the library's runtime the current one until the guard is dropped. The first call starts it.
pub(crate) fn enter() -> EnterGuard<'static> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(start).enter()
}

fn start() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("plugin").enable_all();
    // Fails when the system has no thread or descriptor left; the guard around every hook reports it.
    builder
        .build()
        .expect("cannot start the runtime of the plugin")
}
