//! Ending the TLS of clients in the name of the hosts they asked for.
//!
//! `authority` signs; `certificates` keeps what has been signed, in memory and on disk, for all workers; a `Leaf` is
//! one host's certificate with the TLS configurations to serve it. A host is intercepted with nothing but its name:
//! whether it may be, and what the upstream's certificate said, is decided before anybody asks here.

pub mod authority;
pub mod certificates;

mod der;
mod disk;
#[cfg(test)]
pub(crate) mod fixtures;
mod leaf;
mod subject;
mod template;
mod tickets;

pub use leaf::{Leaf, Protocols};
pub use subject::HostInvalid;
