//! A protocol exported as a filter.
use plugin_api::Protocol;
use plugin_api::prelude::*;

struct Echo;

impl Protocol for Echo {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, Error> {
        Ok(Self)
    }

    fn claims(&self, _: &[u8]) -> Claim {
        Claim::No
    }

    async fn serve(&self, _: &mut ClientStream) -> Result<(), Error> {
        Ok(())
    }
}

export_plugins!(Echo);

fn main() {}
