//! The binary interface between the proxy and a plugin library.
//!
//! Everything here is `repr(C)`, and its layout is compared field by field when a library is loaded. Owned values do
//! not cross: heads and chunks are lent as views for one call, edits go through callbacks that copy, and every result
//! is a plain `u32`, so that an unknown code from a newer side is a value and not undefined behaviour. Authors use the
//! safe layer in the rest of this crate and do not need this module.
//!
//! The tables are prefix types: new entries are added at their end only, after `last_prefix_field`, and are optional
//! for the other side. Names of types, fields and this crate are part of the layout. Plain structs never change within
//! a major version; hence their reserved words. All of it may still grow before 1.0 is published.
#![allow(
    clippy::should_implement_trait,
    reason = "a waker's functions are called as in std"
)]
#![expect(
    unsafe_code,
    reason = "abi_stable reads by pointer what an older side may not have"
)]

mod callbacks;
mod filter;
pub mod hook;
#[cfg(test)]
mod layout;
mod library;
mod numbers;
mod protocol;
mod services;
mod subscriber;
mod views;
pub mod web;

pub use callbacks::{ExchangeCallbacks, ExchangeCallbacksRef};
pub use filter::{ErrorSink, FilterTable, FilterTableRef};
pub use library::{PluginDeclaration, PluginDeclarationRef, PluginLibrary, PluginLibraryRef};
pub use numbers::{
    answered, claim, code, delivery, direction, edit, event, fact, flag, head, kind, level,
    message, over,
};
pub use protocol::{ProtocolTable, ProtocolTableRef, StreamView};
pub use services::{
    CallOut, CallOutAnswer, HostTable, HostTableRef, RawWaker, Task, WakerTable, WakerTableRef,
    Work,
};
pub use subscriber::{Event, SubscriberTable, SubscriberTableRef};
pub use views::{
    Address, BodyMode, ClientTlsView, ConnectionView, ExchangeView, FieldSlot, RequestView,
    ResponseView, SummaryView, TimelineView, TlsHelloView,
};

/// The major version. Libraries of another one are refused before they are loaded.
pub const API_MAJOR: u16 = 1;
/// The minor version; it counts additions. Any two minor versions of a major version work together. Once 1.0.0 is
/// published, only prefix tables grow: adding a field to a view would change its layout, so only its reserved words may
/// still get a meaning.
pub const API_MINOR: u16 = 0;

/// The symbol under which a library exports its root; `export_plugins!` contains the same text.
pub const EXPORT: &str = "_1as_0lib_1header_0root_bmodule_bloader";

#[cfg(test)]
mod tests {
    use super::EXPORT;

    #[test]
    fn exports_under_the_name_the_loader_looks_for() {
        assert_eq!(EXPORT, abi_stable::library::ROOT_MODULE_LOADER_NAME);
    }
}
