//! A filter, exported as a plugin with routes.
use plugin_api::prelude::*;

#[derive(Deserialize)]
struct Denies {}

#[filter]
impl Filter for Denies {}

export_plugins!(; web: Denies);

fn main() {}
