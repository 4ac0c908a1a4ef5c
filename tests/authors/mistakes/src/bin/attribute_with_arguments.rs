//! The attribute takes no arguments.
use plugin_api::prelude::*;

#[derive(Deserialize)]
struct Argues {}

#[filter(asynchronous)]
impl Filter for Argues {}

export_plugins!(Argues);

fn main() {}
