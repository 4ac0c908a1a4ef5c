//! The attribute is used on a plugin of another kind.
use plugin_api::prelude::*;
use plugin_api::{Route, WebRoutes};

struct Pages;

#[filter]
impl WebRoutes for Pages {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, Error> {
        Ok(Self)
    }

    fn routes(&self) -> Vec<Route> {
        Vec::new()
    }
}

export_plugins!(; web: Pages);

fn main() {}
