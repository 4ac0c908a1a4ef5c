//! A plugin that answers requests for the proxy itself.
#![expect(unsafe_code, reason = "calls the plugins' own functions")]

use std::sync::Arc;

use plugin_api::abi::code;
use plugin_api::abi::web::{RouteSink, WebTableRef, WebView};

use super::task::TaskCalls;
use super::{Instance, Origin, Task};
use crate::plugins::callee::Place;

/// What makes a plugin one with routes.
pub struct Web {
    table: WebTableRef,
}

impl Instance<Web> {
    /// Makes a plugin with routes.
    pub(in crate::plugins) fn web(origin: Origin, table: WebTableRef) -> Result<Arc<Self>, String> {
        let functions = (table.create(), table.destroy());
        Self::create(origin, functions, Web { table })
    }

    /// Has it declare its routes; `false` if it panicked.
    pub(in crate::plugins) fn declare_routes(&self, sink: &RouteSink) -> bool {
        // SAFETY: the object is the table's own; the sink lives through the call.
        let routes = || match unsafe { self.table.routes()(self.object, sink) } {
            0 => code::PROCEED,
            _ => code::PANIC,
        };
        self.callee.run(Place::ROUTES, routes) == code::PROCEED
    }

    /// A task that answers a request; `None` if it panicked.
    ///
    /// # Safety
    /// What the view leads to outlives the task.
    pub(in crate::plugins) unsafe fn serve(self: &Arc<Self>, view: &WebView) -> Option<Task> {
        // SAFETY: the object is the table's own; the rest is as the caller promises.
        let serve = || unsafe { self.table.serve()(self.object, view) };
        let task = self.callee.run(Place::REQUEST, serve);
        let calls = TaskCalls {
            poll: (Place::REQUEST, self.table.poll()),
            drop: (Place::REQUEST_DROP, self.table.drop()),
        };
        // SAFETY: just made, by the table that the functions are of.
        unsafe { Task::new(self, task, calls) }
    }
}
