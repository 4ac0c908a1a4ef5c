//! TLS of clients that is ended here, so that plugins see what is in it.
//!
//! `policy` says whose, `look` is one tunnel from its first byte on: `opening` tells what the client speaks, `hello`
//! what it asks of TLS, and `certificates` has what it is shown, made by the `authority` and kept. `memory` is what was
//! learnt about hosts. What is inside is served by `connection` like any other client.

pub(crate) mod authority;
pub(crate) mod certificates;
mod hello;
mod look;
mod memory;
mod opening;
mod policy;

pub(crate) use look::{Look, run};
pub(crate) use policy::Interception;
