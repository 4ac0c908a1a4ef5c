//! A hook that has not decided yet: polled with the worker's waker, cancelled if its future is dropped.
#![expect(unsafe_code, reason = "uses the state of a plugin")]

use std::ffi::c_void;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use plugin_api::abi::code;
use plugin_api::abi::hook::Hook;
use plugin_api::waker;

use super::chain::WorkerChain;

/// A hook that waits; cancelled when dropped before its end.
pub(super) struct WaitingHook {
    /// The plugin's.
    chain: Rc<WorkerChain>,
    index: usize,
    state: *mut c_void,
    hook: Hook,
    is_over: bool,
}

impl WaitingHook {
    /// `state` is that of the plugin whose hook has answered PENDING; it outlives this.
    pub(super) fn new(
        chain: Rc<WorkerChain>,
        index: usize,
        state: *mut c_void,
        hook: Hook,
    ) -> Self {
        Self {
            chain,
            index,
            state,
            hook,
            is_over: false,
        }
    }
}

impl Future for WaitingHook {
    type Output = u32;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        let waker = waker::lend(cx.waker());
        let plugin = self.chain.plugin(self.index);
        // SAFETY: the state belongs to this plugin, whose hook has answered PENDING.
        match unsafe { plugin.poll(self.hook, self.state, &waker) } {
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
            let plugin = self.chain.plugin(self.index);
            // SAFETY: as in `poll`.
            unsafe { plugin.cancel(self.hook, self.state) }
        }
    }
}
