//! What plugins give the host to run by itself: tasks, and work that blocks.
//!
//! Neither keeps its plugin from ending: they are values of Rust that own what they use, and a plugin may well end its
//! tasks when it is dropped itself. Their code stays in memory.
#![expect(unsafe_code, reason = "calls the plugins' own functions")]

use plugin_api::abi::{RawWaker, Task, Work};

use crate::plugins::callee::{Callee, Place};

/// A task that a plugin has spawned. Ended when dropped.
pub(in crate::plugins) struct SpawnedTask {
    task: Task,
    /// The one that has spawned it.
    callee: Callee,
}

impl SpawnedTask {
    /// # Safety
    /// The functions fit the data, which nothing else uses any more.
    pub(in crate::plugins) unsafe fn new(task: Task, callee: Callee) -> Self {
        Self { task, callee }
    }

    /// PENDING, or anything else when it is over.
    pub(in crate::plugins) fn poll(&mut self, waker: &RawWaker) -> u32 {
        let place = Place::TASK;
        // SAFETY: the functions fit the data; the waker lives through the call.
        self.callee
            .run(place, || unsafe { (self.task.poll)(self.task.data, waker) })
    }
}

impl Drop for SpawnedTask {
    fn drop(&mut self) {
        let place = Place::TASK_DROP;
        // SAFETY: called once.
        self.callee
            .run(place, || unsafe { (self.task.drop)(self.task.data) });
    }
}

/// Work that blocks, on its way to another thread.
pub(in crate::plugins) struct BlockingWork {
    work: Work,
    callee: Callee,
}

// SAFETY: the plugin promises that its work may run on any thread.
unsafe impl Send for BlockingWork {}

impl BlockingWork {
    /// # Safety
    /// The function fits the data, and nothing else runs it.
    pub(in crate::plugins) unsafe fn new(work: Work, callee: Callee) -> Self {
        Self { work, callee }
    }

    /// Does the work.
    pub(in crate::plugins) fn run(self) {
        let place = Place::BLOCKING;
        // SAFETY: the function fits the data, is called once, and the plugin guards it against panics.
        self.callee
            .run(place, || unsafe { (self.work.run)(self.work.data) });
    }
}
