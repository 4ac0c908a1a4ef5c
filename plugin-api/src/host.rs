//! The host that has loaded this library.

use crate::abi::HostTableRef;
use std::sync::OnceLock;

static HOST: OnceLock<HostTableRef> = OnceLock::new();

/// Sets the host; a second call has no effect.
pub(crate) fn connect(host: HostTableRef) {
    let _ = HOST.set(host);
}

/// The host; `None` in unit tests, which run without one.
pub(crate) fn table() -> Option<HostTableRef> {
    HOST.get().copied()
}
