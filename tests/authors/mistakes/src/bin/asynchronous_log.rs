//! An `async` hook where the trait allows none.
use plugin_api::prelude::*;

#[derive(Deserialize)]
struct Waits {}

#[filter]
impl Filter for Waits {
    async fn on_access_log(&self, _: &mut Exchange<'_, Self>) -> LogLine {
        LogLine::Write
    }
}

export_plugins!(Waits);

fn main() {}
