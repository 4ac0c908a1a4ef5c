//! A subscriber, exported as a filter.
use plugin_api::prelude::*;
use plugin_api::{Event, Subscriber};

struct Listens;

impl Subscriber for Listens {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, Error> {
        Ok(Self)
    }

    fn handle_events(&self, _: &[Event<'_>], _: u64) {}
}

export_plugins!(Listens);

fn main() {}
