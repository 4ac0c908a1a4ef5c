//! A hook with a misspelt name.
use plugin_api::prelude::*;

#[derive(Deserialize)]
struct Misspelt {}

#[filter]
impl Filter for Misspelt {
    type State = [u8; { 1 + 2 }];

    fn on_acess_log(&self, _: &mut Exchange<'_, Self>) -> LogLine {
        LogLine::Write
    }

    fn handle_client_request(&self, _: &mut Exchange<'_, Self>) -> Outcome {
        proceed()
    }
}

export_plugins!(Misspelt);

fn main() {}
