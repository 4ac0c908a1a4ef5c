//! Intercepting TLS of clients, so that plugins see its content.
//!
//! `policy` says whose, `opening` tells what a client speaks, `hello` what it asks of TLS, and `guard` watches a client
//! whose upstream has spoken first. The `ca` signs what a client is shown; `certificates` keeps that, in memory and
//! on disk, for all workers; a [`Leaf`] is one host's certificate with the TLS configurations to serve it. `memory` is
//! what was learnt about hosts. A tunnel is taken through all this by `connection`, which also serves what is inside.

pub mod ca;
pub mod certificates;

mod disk;
#[cfg(test)]
pub(crate) mod fixtures;
mod guard;
mod hello;
mod issuer_name;
mod leaf;
mod memory;
mod opening;
mod policy;
mod signer;
mod subject;
mod template;
mod tickets;

pub(crate) use guard::{Guard, Refused};
pub(crate) use hello::{Hello, HelloReader, OfferedProtocols};
pub use leaf::Leaf;
pub(crate) use opening::Opening;
pub(crate) use policy::{Interception, RelayReason, Treatment, is_address};
pub use subject::HostInvalid;
