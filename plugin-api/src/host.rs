//! The host that has loaded this library.

use crate::abi::HostTableRef;
use std::sync::OnceLock;

static HOST: OnceLock<HostTableRef> = OnceLock::new();

/// From now on `host` is asked; a second call changes nothing.
pub(crate) fn connect(host: HostTableRef) {
    let _ = HOST.set(host);
}

/// The host; none in unit tests, which run without one.
pub(crate) fn table() -> Option<HostTableRef> {
    HOST.get().copied()
}
