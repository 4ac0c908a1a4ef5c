//! What a plugin does for one connection or request, as the host polls it.
#![expect(unsafe_code, reason = "calls the plugins' own functions")]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use plugin_api::abi::RawWaker;

use super::Instance;
use crate::plugins::callee::{Callee, Place};

/// A task of a plugin, which it owns. Ended when dropped.
pub(crate) struct Task {
    task: NonNull<c_void>,
    callee: Callee,
    calls: TaskCalls,
    /// The plugin: the task may lead to it. Dropped last.
    _instance: Arc<dyn Send + Sync>,
}

/// The functions of a task, and what each of their calls is called.
#[derive(Clone, Copy)]
pub(super) struct TaskCalls {
    pub(super) poll: (Place, unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32),
    pub(super) drop: (Place, unsafe extern "C" fn(*mut c_void)),
}

impl Task {
    /// `None` where the plugin has made none, as it panicked.
    ///
    /// # Safety
    /// The instance has made the task, and the functions are its own. What the task leads to outlives it.
    pub(super) unsafe fn new<K: Send + Sync + 'static>(
        instance: &Arc<Instance<K>>,
        task: *mut c_void,
        calls: TaskCalls,
    ) -> Option<Self> {
        Some(Self {
            task: NonNull::new(task)?,
            callee: instance.callee,
            calls,
            _instance: Arc::<Instance<K>>::clone(instance),
        })
    }

    /// Polls the task. The meaning of the result depends on its kind.
    pub(in crate::plugins) fn poll(&mut self, waker: &RawWaker) -> u32 {
        let (place, poll) = self.calls.poll;
        // SAFETY: the task is alive until it is dropped; the waker is borrowed for the call.
        let task = self.task.as_ptr();
        self.callee.run(place, || unsafe { poll(task, waker) })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let (place, drop) = self.calls.drop;
        // SAFETY: owned, and dropped once.
        let task = self.task.as_ptr();
        self.callee.run(place, || unsafe { drop(task) });
    }
}
