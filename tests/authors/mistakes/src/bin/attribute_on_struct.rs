//! The attribute is on the type instead of the `impl` block.
use plugin_api::prelude::*;

#[filter]
#[derive(Deserialize)]
pub struct Misplaced {
    pub hosts: Vec<String>,
}

impl Filter for Misplaced {
    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        if self.hosts.iter().any(|host| host == exchange.upstream().host()) {
            return reject(403, "No");
        }
        proceed()
    }
}

export_plugins!(Misplaced);

fn main() {}
