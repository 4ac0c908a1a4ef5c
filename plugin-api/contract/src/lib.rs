//! What the proxy and its plugins agree on, without code of either.
//!
//! The proxy, the test kit, the attribute `#[filter]` and the plugins all have to give the same answer to these
//! questions: which hooks there are, what each of them may do, which fields only the proxy writes, which names and values
//! a message may have, and how hosts and ports are written. Each answer stands here, once. No dependencies, no sockets, no
//! `unsafe`.
//!
//! Authors find all of it in `proxy-plugin-api`, which exports it again.

pub mod authority;
pub mod field;
pub mod hook;
pub mod host;

pub use authority::{Authority, AuthorityInvalid, MAX_HOST_NAME_LEN};
pub use field::{is_field_value, is_host_owned, is_token};
pub use host::{HostInvalid, canonical_address, canonical_host};
