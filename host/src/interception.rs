//! Interception: terminates the TLS of clients, so that plugins see its content.
//!
//! `policy` decides which tunnels, `opening` detects the client's protocol, `hello` parses its ClientHello, and `guard`
//! watches a client whose upstream has sent first. `ca` signs the certificates; `certificates` stores them, in memory
//! and on disk, for all workers; a [`Leaf`] is the certificate of a host with its TLS configurations. `memory` holds
//! learned facts about hosts. `connection` applies all of this to a tunnel, and serves its content.

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

pub(crate) use guard::{Guard, RefusedProtocols};
pub(crate) use hello::{Hello, HelloReader, OfferedProtocols};
pub use leaf::Leaf;
pub(crate) use opening::Opening;
pub(crate) use policy::{Interception, RelayReason, Treatment, is_address};
pub use subject::SubjectInvalid;
