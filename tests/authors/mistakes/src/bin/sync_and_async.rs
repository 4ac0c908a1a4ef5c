//! A hook that is implemented twice.
use plugin_api::prelude::*;

#[derive(Deserialize)]
struct Twice {}

#[filter]
impl Filter for Twice {
    async fn handle_client_request(&self, _: &mut Exchange<'_, Self>) -> Outcome {
        proceed()
    }

    fn handle_client_request(&self, _: &mut Exchange<'_, Self>) -> Outcome {
        reject(403, "No")
    }
}

export_plugins!(Twice);

fn main() {}
