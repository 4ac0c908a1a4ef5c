//! A hook that has not decided yet: polled with the worker's waker, cancelled when nobody waits any more.
#![expect(unsafe_code, reason = "calls plugins through their tables")]

use std::ffi::c_void;
use std::pin::Pin;
use std::task::{Context, Poll};

use plugin_api::abi::{FilterTableRef, code};
use plugin_api::waker;

use super::Hook;
use super::call::Call;
use super::load::LoadedPlugin;

/// A hook that waits; cancelled when dropped before its end.
pub(super) struct WaitingHook {
    call: Call,
    table: FilterTableRef,
    state: *mut c_void,
    is_over: bool,
}

impl WaitingHook {
    /// `state` is that of the plugin whose hook has answered PENDING; it outlives this.
    pub(super) fn new(plugin: &LoadedPlugin, state: *mut c_void, hook: Hook) -> Self {
        Self {
            call: Call::new(plugin.id, hook),
            table: plugin.table,
            state,
            is_over: false,
        }
    }
}

impl Future for WaitingHook {
    type Output = u32;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        let waker = waker::lend(cx.waker());
        let _mark = self.call.mark();
        // SAFETY: the state belongs to this plugin, which said that its hook waits; the waker is borrowed for the call.
        match unsafe { (self.table.poll())(self.state, &waker) } {
            code::PENDING => Poll::Pending,
            result => {
                self.is_over = true;
                Poll::Ready(result)
            }
        }
    }
}

impl Drop for WaitingHook {
    fn drop(&mut self) {
        if !self.is_over {
            let _mark = self.call.mark();
            // SAFETY: as in `poll`.
            unsafe { (self.table.cancel())(self.state) }
        }
    }
}
