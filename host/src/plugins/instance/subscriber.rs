//! A subscriber to events.
#![expect(unsafe_code, reason = "calls the plugins' own functions")]

use std::sync::Arc;

use abi_stable::std_types::RSlice;
use plugin_api::abi::{Event, SubscriberTableRef};

use super::{Instance, Origin};
use crate::plugins::callee::Place;

/// What makes a plugin a subscriber.
pub struct Subscriber {
    table: SubscriberTableRef,
}

impl Instance<Subscriber> {
    /// Makes a subscriber.
    pub(in crate::plugins) fn subscriber(
        origin: Origin,
        table: SubscriberTableRef,
    ) -> Result<Arc<Self>, String> {
        let functions = (table.create(), table.destroy());
        Self::create(origin, functions, Subscriber { table })
    }

    /// Passes events to it, and how many were lost before them.
    pub(crate) fn handle_events(&self, events: &[Event], lost: u64) {
        let events = RSlice::from_slice(events);
        // SAFETY: the object is the table's own, and the events are borrowed for the call.
        let handle = || unsafe { self.table.handle_events()(self.object, events, lost) };
        self.callee.run(Place::EVENTS, handle);
    }
}
