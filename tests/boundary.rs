//! The boundary between proxy and plugins, with plugins that misuse it.
//!
//! No safe code in a plugin can crash the process, prevent the next exchange or read data of another request. The
//! fixture `hostile` documents what each plugin does.

mod authors;
mod forwards;
mod guards;
mod values;
mod wakers;

use crate::support::{OK, Origin, Proxy};

/// Asserts that the proxy still serves another client.
#[track_caller]
fn goes_on(proxy: &Proxy) {
    let origin = Origin::answering(OK);
    assert_eq!(proxy.get(&origin, "/next").status(), 200);
}
