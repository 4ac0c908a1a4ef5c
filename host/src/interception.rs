//! TLS of clients that is ended here, so that plugins see what is in it.
//!
//! `policy` says whose, `look` is one tunnel from its first byte on: `opening` tells what the client speaks, `hello`
//! what it asks of TLS, `inside` what its TLS carries if it has named no protocol, and `guard` watches a client whose upstream has spoken first. The `authority` signs what it is
//! shown; `certificates` keeps that, in memory and on disk, for all workers; a [`Leaf`] is one host's certificate with
//! the TLS configurations to serve it. `memory` is what was learnt about hosts. What is inside is served by
//! `connection` like any other client.

pub mod authority;
pub mod certificates;

mod disk;
#[cfg(test)]
pub(crate) mod fixtures;
mod guard;
mod hello;
mod inside;
mod issuer_name;
mod leaf;
mod look;
mod memory;
mod opening;
mod policy;
mod signer;
mod subject;
mod template;
mod tickets;

pub(crate) use guard::{Guard, Refused};
pub use leaf::Leaf;
pub(crate) use look::{Look, is_address, run};
pub(crate) use policy::{Interception, RelayReason, Treatment};
pub use subject::HostInvalid;
