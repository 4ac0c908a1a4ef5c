//! What the proxy and its plugins agree on, without code of either.
//!
//! The proxy, the test kit, the attribute `#[filter]` and the plugins must agree on: which hooks exist, what each of
//! them may do, which fields only the proxy writes, which names and values a message may contain, and how hosts and
//! ports are written. Each rule is defined here, once. No dependencies, no sockets, no `unsafe`.
//!
//! `proxy-plugin-api` re-exports all of it for authors.

pub mod authority;
pub mod field;
pub mod hook;
pub mod host;

pub use authority::{Authority, AuthorityInvalid, MAX_HOST_NAME_LEN};
pub use field::{is_field_value, is_host_owned, is_token};
pub use host::{HostInvalid, canonical_address, canonical_host};
