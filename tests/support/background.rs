//! The runtime for the asynchronous parts of the tests.
//!
//! HTTP/2 connections live on between the steps of a test, so something must drive them. Tests remain sequential: each
//! step waits here, and a step that does not end within [`HANG`] fails its test.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::HANG;

/// Two threads for all tests of the process.
pub(crate) fn background() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads can be started")
    })
}

/// Runs `future`; fails the test if `what` does not happen in time.
pub(crate) fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = background().block_on(async { timeout(HANG, future).await });
    ended.unwrap_or_else(|_| panic!("hang: no {what}"))
}
