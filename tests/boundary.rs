//! The boundary between proxy and plugins, against plugins that do there what nobody should.
//!
//! Whatever safe code does in a plugin, the process lives, the next exchange is served, and nothing is read that
//! belongs to another request. The fixture `hostile` says at each plugin what it does.

mod authors;
mod forwards;
mod guards;
mod values;
mod wakers;

use crate::support::{OK, Origin, Proxy};

/// Another client of the proxy is served as if nothing had been.
#[track_caller]
fn goes_on(proxy: &Proxy) {
    let origin = Origin::answering(OK);
    assert_eq!(proxy.get(&origin, "/next").status(), 200);
}
