//! A plugin that speaks a protocol of its own with clients.
#![expect(unsafe_code, reason = "calls the plugins' own functions")]

use std::sync::Arc;

use abi_stable::std_types::RSlice;
use plugin_api::abi::{ProtocolTableRef, StreamView, claim, code};

use super::task::TaskCalls;
use super::{Instance, Origin, Task};
use crate::plugins::callee::Place;
use crate::plugins::statistics::Returned;

/// Whether it claims a connection by its first bytes. Counted like the result of a hook: to claim is to respond.
struct Claimed(u32);

impl Returned for Claimed {
    fn code(&self) -> u32 {
        match self.0 {
            claim::NO => code::PROCEED,
            claim::YES => code::RESPOND,
            claim::MORE => code::PENDING,
            _ => u32::MAX,
        }
    }
}

/// What makes a plugin a protocol.
pub struct Protocol {
    table: ProtocolTableRef,
}

impl Instance<Protocol> {
    /// Makes a protocol.
    pub(in crate::plugins) fn protocol(
        origin: Origin,
        table: ProtocolTableRef,
    ) -> Result<Arc<Self>, String> {
        let functions = (table.create(), table.destroy());
        Self::create(origin, functions, Protocol { table })
    }

    /// Whether it claims a connection by its first bytes: a value of [`claim`].
    pub(in crate::plugins) fn claims(&self, first: &[u8]) -> u32 {
        let first = RSlice::from_slice(first);
        // SAFETY: the object is the table's own; the bytes are borrowed for the call.
        let claims = || Claimed(unsafe { self.table.claims()(self.object, first) });
        self.callee.run(Place::CLAIMS, claims).0
    }

    /// A task that serves a connection; `None` if it panicked.
    ///
    /// # Safety
    /// What the view leads to outlives the task.
    pub(in crate::plugins) unsafe fn serve(self: &Arc<Self>, view: &StreamView) -> Option<Task> {
        // SAFETY: the object is the table's own; the rest is as the caller promises.
        let serve = || unsafe { self.table.serve()(self.object, view) };
        let task = self.callee.run(Place::SERVE, serve);
        let calls = TaskCalls {
            poll: (Place::SERVE, self.table.poll()),
            drop: (Place::SERVE_DROP, self.table.drop()),
        };
        // SAFETY: just made, by the table that the functions are of.
        unsafe { Task::new(self, task, calls) }
    }
}
