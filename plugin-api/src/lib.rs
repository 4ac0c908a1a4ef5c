//! Write a filter for the proxy.
//!
//! A filter is a type that implements [`Filter`] in a crate of type `cdylib`. The proxy loads the library,
//! gives the filter its configuration, and calls its hooks for every exchange (a request and its response).
//! This is a whole one:
//!
//! ```
//! use plugin_api::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct DenyHosts { hosts: Vec<String> }
//!
//! #[filter]
//! impl Filter for DenyHosts {
//!     fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
//!         if self.hosts.iter().any(|host| host == exchange.upstream().host()) {
//!             return reject(403, "Not from here");
//!         }
//!         proceed()
//!     }
//! }
//! export_plugins!(DenyHosts);
//! # use plugin_api::testing;
//! # let filter: DenyHosts = testing::configured("hosts = ['a.example']").unwrap();
//! # let denied = testing::get("http://a.example/").run(&filter);
//! # assert_eq!(denied.reply().map(|reply| reply.status), Some(403));
//! ```
//!
//! Its `Cargo.toml` depends on `proxy-plugin-api` and `serde` (feature `derive`), says
//! `[lib] crate-type = ["cdylib"]`, and leaves `panic` at `unwind`: a panic in a hook then fails one exchange and
//! nothing else. `proxy --plugins target/release/libdeny_hosts.so:DenyHosts` loads it. [`testing`] runs hooks in
//! unit tests, without a proxy.
//!
//! # The hooks of one exchange
//!
//! Every hook is called for all plugins, first to last as on the command line, before the next hook is.
//!
//! ```text
//! request head ──→ before_upstream_connection ──→ handle_client_request ──→ dial, send
//!                    │ Reply, Close                 │ Reply, Close            │
//!                    │ (later plugins not asked)    │                         ▼
//!                    │                              │           handle_upstream_response
//!                    │                              │             │   (not for CONNECT, upgrades)
//!                    │                              │             ▼
//!                    │                              │           handle_upstream_chunk, once for each
//!                    │                              │             │   piece of content, then the end
//!                    ▼                              ▼             ▼
//! on_access_log (always) ──→ on_upstream_connection_close (if an upstream connection was used)
//! ```
//!
//! What each may change and must not do stands at its place in [`Filter`]. One filter value serves all exchanges,
//! of several threads at once; what belongs to one exchange goes into [`Filter::State`].
//!
//! # The promise
//!
//! A library built with version 1.x works in any proxy of version 1.y, older or newer, whatever the version of
//! rustc, the profile and the allocator of either side. The tables in [`abi`] are not frozen yet: they may still
//! grow before 1.0 is published.

#[doc(hidden)]
pub extern crate abi_stable;
pub extern crate serde;
// The attribute writes `::plugin_api::…`, also into this crate's own tests.
extern crate self as plugin_api;

pub mod abi;
mod adapter;
mod body;
mod call;
mod configuration;
mod connection;
mod error;
mod exchange;
mod export;
mod field_name;
mod filter;
mod guard;
mod hooks;
mod host;
mod job;
mod log;
mod message;
mod note;
mod outcome;
#[cfg(feature = "tokio")]
mod runtime;
mod task;
pub mod testing;
#[doc(hidden)]
pub mod waker;

pub use body::BodyMode;
pub use call::{Call, CallError, CallResponse};
pub use connection::ClientConnection;
pub use error::{EditError, Error};
pub use exchange::{Exchange, TlsHello, Upstream};
pub use filter::{Filter, NoConfig};
pub use hooks::Hooks;
pub use job::{RunBlocking, Sleep, run_blocking, sleep};
pub use log::Level;
pub use message::{Request, RequestMut, Response, ResponseMut, Trailers, TrailersMut};
pub use outcome::{
    Chunk, ChunkOutcome, Direction, Flow, Interception, LogLine, Outcome, Reply, WebSocketMessage,
    challenge, close, proceed, reject, reply, retry,
};
pub use plugin_api_macros::filter;
pub use task::spawn;

/// What nearly every plugin needs; meant to be imported whole.
pub mod prelude {
    pub use crate::{
        BodyMode, Chunk, ChunkOutcome, ClientConnection, Direction, Error, Exchange, Filter, Flow,
        Interception, LogLine, NoConfig, Outcome, Reply, WebSocketMessage, challenge, close,
        export_plugins, proceed, reject, reply, retry,
    };
    pub use crate::{debug, error, info, warn};
    pub use plugin_api_macros::filter;
    pub use serde::Deserialize;
}

/// For the macros of this crate alone.
#[doc(hidden)]
pub mod private {
    pub use crate::adapter::{Table, needs_connection_state, needs_state};
    pub use crate::body::raw_mode;
    pub use crate::export::{checked_name, root};
    pub use crate::log::write;
    pub use crate::note::Note;
}
