//! The binary interface between the proxy and a plugin library.
//!
//! Everything here is `repr(C)`, and its layout is compared field by field when a library is loaded. Nothing
//! owned crosses: heads and chunks are lent as views for the time of one call, changes go back through
//! callbacks that copy, and every answer is a plain `u32`, so that a code from a newer side is a value and
//! never undefined behaviour. Authors use the safe layer in the rest of this crate and never meet this module.
//!
//! The tables are prefix types: new entries are added at their end only, after `last_prefix_field`, and are
//! optional to the other side. Names of types, fields and this crate are part of the layout. Plain structs never
//! change within a major version, hence their reserved words. Not frozen yet: all of it may still grow before
//! 1.0 is published.
#![allow(
    clippy::should_implement_trait,
    reason = "a waker's functions are called as in std"
)]

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// Libraries of another major version are refused before they are loaded.
pub const API_MAJOR: u16 = 1;
/// Counts additions; any two minor versions of one major version work together.
pub const API_MINOR: u16 = 0;

/// The symbol under which a library exports its root; `export_plugins!` writes the same text.
pub const EXPORT: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// What a hook answers. A code that is not listed here means [`ERROR`](code::ERROR).
pub mod code {
    /// Nothing to object: the exchange goes on.
    pub const PROCEED: u32 = 0;
    /// A reply was built with `reply` and its companions; it ends the request.
    pub const RESPOND: u32 = 1;
    /// Close the client connection without an answer.
    pub const CLOSE: u32 = 2;
    /// Not decided yet: call `poll` until it answers something else, or `cancel`.
    pub const PENDING: u32 = 3;
    /// The hook failed; the message went through `fail`.
    pub const ERROR: u32 = 4;
    /// The hook panicked; message and place went through `fail`.
    pub const PANIC: u32 = 5;
    /// `on_access_log` only: write no line for this exchange.
    pub const SUPPRESS: u32 = 6;
    /// `handle_upstream_chunk` only: send what was emitted, possibly nothing, in place of the chunk.
    pub const REPLACED: u32 = 7;
}

/// What a callback that edits the exchange answers.
pub mod edit {
    /// Done.
    pub const OK: u32 = 0;
    /// The name is not a token (RFC 9110 §5.6.2), or not a host name.
    pub const BAD_NAME: u32 = 1;
    /// The value holds control characters or is out of range.
    pub const BAD_VALUE: u32 = 2;
    /// Framing and hop-by-hop fields are written by the host alone.
    pub const HOST_OWNED: u32 = 3;
    /// This hook may not make this change: it is too early or too late for it.
    pub const STALE: u32 = 4;
}

/// One bit per hook; a declaration's mask tells the host which hooks to call at all.
pub mod hook {
    /// Before an upstream is looked for.
    pub const BEFORE_UPSTREAM_CONNECTION: u64 = 1 << 0;
    /// The request as it will be sent.
    pub const HANDLE_CLIENT_REQUEST: u64 = 1 << 1;
    /// The head of the final response.
    pub const HANDLE_UPSTREAM_RESPONSE: u64 = 1 << 2;
    /// Each piece of the response's content.
    pub const HANDLE_UPSTREAM_CHUNK: u64 = 1 << 3;
    /// The exchange is over and about to be logged.
    pub const ON_ACCESS_LOG: u64 = 1 << 4;
    /// The upstream connection was given up or went back to the pool.
    pub const ON_UPSTREAM_CONNECTION_CLOSE: u64 = 1 << 5;
    /// The hooks' names, indexed by bit.
    pub const NAMES: [&str; 6] = [
        "before_upstream_connection",
        "handle_client_request",
        "handle_upstream_response",
        "handle_upstream_chunk",
        "on_access_log",
        "on_upstream_connection_close",
    ];
}

/// Which head a field callback means.
pub mod head {
    /// The request.
    pub const REQUEST: u32 = 0;
    /// The response.
    pub const RESPONSE: u32 = 1;
}

/// Levels of a log line; smaller is more urgent.
pub mod level {
    /// Someone must act.
    pub const ERROR: u32 = 1;
    /// A peer broke a rule, or something is degraded.
    pub const WARN: u32 = 2;
    /// What an operator wants to see in normal times.
    pub const INFO: u32 = 3;
    /// A decision and its reason.
    pub const DEBUG: u32 = 4;
    /// Everything else.
    pub const TRACE: u32 = 5;
}

/// One field line. The `'static` is nominal: the text lives until the next edit of the same head or the end
/// of the hook, whichever comes first.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct FieldSlot {
    /// The name as received.
    pub name: RStr<'static>,
    /// The value without surrounding whitespace.
    pub value: RSlice<'static, u8>,
}

/// The address of a peer.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Address {
    /// IPv6, or IPv4 in its mapped form.
    pub ip: [u8; 16],
    /// The port, in host byte order.
    pub port: u16,
    /// 4 or 6 as the peer connected; 0 when the address is not known.
    pub family: u16,
    /// Zero.
    pub reserved: u32,
}

/// The request as far as it has been edited. Valid like [`FieldSlot`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RequestView {
    /// The method, case kept.
    pub method: RStr<'static>,
    /// The request target as received.
    pub target: RStr<'static>,
    /// `http`, `https`, or empty for CONNECT.
    pub scheme: RStr<'static>,
    /// The host of the target, lower case, IPv6 without brackets.
    pub host: RStr<'static>,
    /// Path and query, as they go to the origin.
    pub path: RStr<'static>,
    /// The port of the target, defaults filled in.
    pub port: u32,
    /// 10, 11 or 20.
    pub version: u32,
    /// The first of `field_count` field lines; may dangle when there are none.
    pub fields: *const FieldSlot,
    /// How many field lines there are.
    pub field_count: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The head of the final response as far as it has been edited. Valid like [`FieldSlot`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct ResponseView {
    /// The status code.
    pub status: u32,
    /// 10, 11 or 20.
    pub version: u32,
    /// The reason phrase, possibly empty.
    pub reason: RStr<'static>,
    /// The first of `field_count` field lines; may dangle when there are none.
    pub fields: *const FieldSlot,
    /// How many field lines there are.
    pub field_count: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

/// One exchange as a hook sees it. There is one per exchange, at an address that does not change until the
/// exchange ends; the host rewrites its parts between and during calls.
#[repr(C)]
#[derive(StableAbi)]
pub struct ExchangeView {
    /// The host's own handle, the first argument of every callback.
    pub host: *mut c_void,
    /// What a hook may do to this exchange.
    pub callbacks: ExchangeCallbacksRef,
    /// The request; never null.
    pub request: *const RequestView,
    /// Null until the final response's head has arrived.
    pub response: *const ResponseView,
    /// Where the exchange is going: the target's host, or what `set_upstream` said.
    pub upstream_host: RStr<'static>,
    /// The port that belongs to it.
    pub upstream_port: u32,
    /// Bit index of the running hook.
    pub hook: u32,
    /// Counts client connections since the proxy started.
    pub connection_id: u64,
    /// Counts exchanges since the proxy started.
    pub exchange_id: u64,
    /// Who sent the request.
    pub client: Address,
    /// Zero.
    pub reserved: [u64; 4],
}

/// What a hook may do to its exchange, until it returns or, for an async hook, until `poll` has answered.
/// All text is copied during the call.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ExchangeCallbacksRef)))]
pub struct ExchangeCallbacks {
    /// `(host, head, name, value)`: leaves exactly one field of that name. Answers an [`edit`] code.
    pub set_field: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, head, name, value)`: adds a field line after the others.
    pub append_field: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, head, name)`: removes all fields of that name; none there is no error.
    pub remove_field: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, path)`: path and query, beginning with a slash.
    pub set_path: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, status, reason)`: of the response.
    pub set_status: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, upstream host, port)`: where to connect instead; the request's own target and Host stay.
    pub set_upstream: unsafe extern "C" fn(*mut c_void, RStr<'_>, u32) -> u32,
    /// `(host, status, reason)`: starts a reply and forgets an earlier one.
    pub reply: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, name, value)`: adds a field line to the reply.
    pub reply_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to the reply's content.
    pub reply_body: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to what replaces the chunk; counts only with [`code::REPLACED`].
    pub emit_chunk: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, key, value)`: adds to the exchange's line in the access log.
    pub add_log_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RStr<'_>) -> u32,
    /// `(host, code::ERROR or code::PANIC, message)`: says why the hook is about to answer that code.
    #[sabi(last_prefix_field)]
    pub fail: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>),
    // New callbacks go here, below the last one of the released version.
}

/// What the host offers to a library as a whole. Callable from any thread, at any time after `init`.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostTableRef)))]
pub struct HostTable {
    /// `(level)`: 1 if a line of that [`level`] would be written, else 0.
    pub log_enabled: unsafe extern "C" fn(u32) -> u32,
    /// `(level, target, message, file, line)`: one line of log.
    #[sabi(last_prefix_field)]
    pub log: unsafe extern "C" fn(u32, RStr<'_>, RStr<'_>, RStr<'_>, u32),
    // New services go here, below the last one of the released version.
}

/// The host's waker, lent for one `poll`.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RawWaker {
    /// First argument of every function of the table.
    pub data: *const c_void,
    /// How to keep and use it.
    pub table: WakerTableRef,
}

/// What can be done with a [`RawWaker`], from any thread.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = WakerTableRef)))]
pub struct WakerTable {
    /// An owned waker that outlives the `poll`; given back with `drop`.
    pub clone: unsafe extern "C" fn(*const c_void) -> *const c_void,
    /// Have the exchange polled again soon.
    pub wake_by_ref: unsafe extern "C" fn(*const c_void),
    /// Gives an owned waker back; never called on a lent one.
    #[sabi(last_prefix_field)]
    pub drop: unsafe extern "C" fn(*const c_void),
}

/// Where `create` says why it failed.
#[repr(C)]
#[derive(StableAbi)]
pub struct ErrorSink {
    /// First argument of `report`.
    pub context: *mut c_void,
    /// `(context, message)`: the text is copied during the call.
    pub report: unsafe extern "C" fn(*mut c_void, RStr<'_>),
}

/// One filter's functions. `filter` is what `create` gave, `state` what `state_new` gave for this exchange,
/// or null if the declaration needs none. The host calls the functions of one exchange from one thread, one
/// after the other, and those of different exchanges from several threads at once. No function unwinds.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = FilterTableRef)))]
pub struct FilterTable {
    /// `(configuration as TOML, errors)`: the configured filter, or null after a report.
    pub create: unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void,
    /// `(filter)`: ends it; no exchange uses it any more.
    pub destroy: unsafe extern "C" fn(*mut c_void),
    /// `(filter)`: the state of one exchange, or null if making it panicked.
    pub state_new: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    /// `(state)`: ends it; what is pending in it is cancelled.
    pub state_drop: unsafe extern "C" fn(*mut c_void),
    /// `(filter, state, exchange)`: a [`code`].
    pub before_upstream_connection:
        unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ExchangeView) -> u32,
    /// `(filter, state, exchange)`: a [`code`].
    pub handle_client_request:
        unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ExchangeView) -> u32,
    /// `(filter, state, exchange)`: a [`code`].
    pub handle_upstream_response:
        unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ExchangeView) -> u32,
    /// `(filter, state, exchange, chunk, end)`: PROCEED (the chunk as it is), REPLACED, CLOSE, ERROR or PANIC.
    /// `end` is 1 on the last call, whose chunk may be empty.
    pub handle_upstream_chunk: unsafe extern "C" fn(
        *mut c_void,
        *mut c_void,
        *mut ExchangeView,
        RSlice<'_, u8>,
        u32,
    ) -> u32,
    /// `(filter, state, exchange)`: PROCEED, SUPPRESS, ERROR or PANIC.
    pub on_access_log: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ExchangeView) -> u32,
    /// `(filter, state, exchange)`: PROCEED, ERROR or PANIC.
    pub on_upstream_connection_close:
        unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ExchangeView) -> u32,
    /// `(state, waker)`: goes on with the hook that answered PENDING. Until this answers something else or
    /// `cancel` has returned, filter, state and exchange stay where they are and the host leaves the heads alone.
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(state)`: drops the pending hook, if any.
    #[sabi(last_prefix_field)]
    pub cancel: unsafe extern "C" fn(*mut c_void),
    // New hooks go here, below the last one of the released version.
}

/// One plugin of a library, before it is configured.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginDeclarationRef)))]
pub struct PluginDeclaration {
    /// The name after the colon of `library:Name`; unique in its library.
    pub name: RStr<'static>,
    /// Version of the crate it comes from.
    pub version: RStr<'static>,
    /// Description of the crate it comes from, possibly empty.
    pub description: RStr<'static>,
    /// Reserved for a schema of its configuration; empty for now.
    pub config_schema: RStr<'static>,
    /// The [`hook`] bits to call.
    pub hooks: u64,
    /// Those of them that may answer PENDING.
    pub async_hooks: u64,
    /// 0: pass a null state and never call `state_new`.
    pub needs_state: u32,
    /// Its functions.
    #[sabi(last_prefix_field)]
    pub filter: FilterTableRef,
    // Other kinds of plugin get their own tables, as optional fields below the last one of the released version.
}

/// What a library exports.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginLibraryRef)))]
pub struct PluginLibrary {
    /// [`API_MAJOR`] of the library's plugin-api.
    pub api_major: u16,
    /// [`API_MINOR`] of the library's plugin-api.
    pub api_minor: u16,
    /// 1 if a panic can be caught, 0 if it ends the process.
    pub panic_unwind: u16,
    /// 1 if built with debug assertions.
    pub debug_build: u16,
    /// `rustc --version` of the build.
    pub rustc: RStr<'static>,
    /// Target triple of the build.
    pub target: RStr<'static>,
    /// Called once, before anything else; 0 means ready.
    pub init: unsafe extern "C" fn(HostTableRef) -> u32,
    /// The plugins it holds.
    #[sabi(last_prefix_field)]
    pub plugins: unsafe extern "C" fn() -> RSlice<'static, PluginDeclarationRef>,
}

impl RootModule for PluginLibraryRef {
    abi_stable::declare_root_module_statics! {PluginLibraryRef}
    const BASE_NAME: &'static str = "proxy_plugin";
    const NAME: &'static str = "proxy_plugin";
    const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
}

#[cfg(test)]
mod tests {
    use super::EXPORT;

    #[test]
    fn exports_under_the_name_the_loader_looks_for() {
        assert_eq!(EXPORT, abi_stable::library::ROOT_MODULE_LOADER_NAME);
    }
}
