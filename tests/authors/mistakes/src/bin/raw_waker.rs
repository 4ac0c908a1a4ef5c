//! A safe call must not dereference an arbitrary address.
#![forbid(unsafe_code)]
use plugin_api::waker;
use std::task::Waker;

fn main() {
    let mut raw = waker::lend(Waker::noop());
    raw.data = 0x10 as *const _;
    waker::lent(&raw).wake_by_ref();
}
