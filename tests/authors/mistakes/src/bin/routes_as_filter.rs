//! A plugin with routes, exported as a filter.
use plugin_api::prelude::*;
use plugin_api::{Route, WebRoutes};

struct Pages;

impl WebRoutes for Pages {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, Error> {
        Ok(Self)
    }

    fn routes(&self) -> Vec<Route> {
        Vec::new()
    }
}

export_plugins!(Pages);

fn main() {}
