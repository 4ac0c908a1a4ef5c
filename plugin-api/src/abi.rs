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
#![expect(
    unsafe_code,
    reason = "abi_stable reads by pointer what an older side may not have"
)]

pub mod web;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RSlice, RStr};
use core::ffi::c_void;

/// Libraries of another major version are refused before they are loaded.
pub const API_MAJOR: u16 = 1;
/// Counts additions; any two minor versions of one major version work together. So once 1.0.0 is published only prefix
/// tables grow; a view that gets a field has another layout, and only its reserved words may still get a meaning.
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
    /// Chunk and message hooks only: send what was emitted, possibly nothing, in place of what came. If nothing was
    /// ever emitted in this call, not even something empty, a message does not go on at all.
    pub const REPLACED: u32 = 7;
    /// `on_upstream_failed` only: try again, with the upstream as it is set now.
    pub const RETRY: u32 = 8;
    /// `do_intercept` only: end the client's TLS here.
    pub const INTERCEPT: u32 = 9;
    /// `do_intercept` only: relay the tunnel unseen.
    pub const TUNNEL: u32 = 10;
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

/// One bit per hook, in the order in which they happen; a declaration's mask tells the host which hooks to call.
pub mod hook {
    /// A client has connected.
    pub const ON_CLIENT_CONNECTION: u64 = 1 << 0;
    /// Who the client is, and whether it may use the proxy.
    pub const AUTHENTICATE: u64 = 1 << 1;
    /// Before an upstream is looked for.
    pub const BEFORE_UPSTREAM_CONNECTION: u64 = 1 << 2;
    /// The request as it will be sent.
    pub const HANDLE_CLIENT_REQUEST: u64 = 1 << 3;
    /// The first TLS message inside of a tunnel.
    pub const HANDLE_TLS_HELLO: u64 = 1 << 4;
    /// Whether the TLS of a tunnel ends at the proxy.
    pub const DO_INTERCEPT: u64 = 1 << 5;
    /// The request's whole content.
    pub const HANDLE_CLIENT_BODY: u64 = 1 << 6;
    /// A new upstream connection needs addresses.
    pub const RESOLVE_DNS: u64 = 1 << 7;
    /// There is an upstream connection.
    pub const ON_UPSTREAM_CONNECTED: u64 = 1 << 8;
    /// None could be made.
    pub const ON_UPSTREAM_FAILED: u64 = 1 << 9;
    /// Each piece of the request's content.
    pub const HANDLE_CLIENT_CHUNK: u64 = 1 << 10;
    /// The trailer section of the request.
    pub const HANDLE_CLIENT_TRAILERS: u64 = 1 << 11;
    /// The head of the final response.
    pub const HANDLE_UPSTREAM_RESPONSE: u64 = 1 << 12;
    /// The response's whole content.
    pub const HANDLE_UPSTREAM_BODY: u64 = 1 << 13;
    /// Each piece of the response's content.
    pub const HANDLE_UPSTREAM_CHUNK: u64 = 1 << 14;
    /// The trailer section of the response.
    pub const HANDLE_UPSTREAM_TRAILERS: u64 = 1 << 15;
    /// Bytes of a tunnel, either way.
    pub const HANDLE_TUNNEL_CHUNK: u64 = 1 << 16;
    /// A WebSocket message, either way.
    pub const HANDLE_WEBSOCKET_MESSAGE: u64 = 1 << 17;
    /// The exchange is over and about to be logged.
    pub const ON_ACCESS_LOG: u64 = 1 << 18;
    /// The upstream connection was given up or went back to the pool.
    pub const ON_UPSTREAM_CONNECTION_CLOSE: u64 = 1 << 19;
    /// The client's connection is over.
    pub const ON_CLIENT_CONNECTION_CLOSE: u64 = 1 << 20;
    /// The hooks' names, indexed by bit.
    pub const NAMES: [&str; 21] = [
        "on_client_connection",
        "authenticate",
        "before_upstream_connection",
        "handle_client_request",
        "handle_tls_hello",
        "do_intercept",
        "handle_client_body",
        "resolve_dns",
        "on_upstream_connected",
        "on_upstream_failed",
        "handle_client_chunk",
        "handle_client_trailers",
        "handle_upstream_response",
        "handle_upstream_body",
        "handle_upstream_chunk",
        "handle_upstream_trailers",
        "handle_tunnel_chunk",
        "handle_websocket_message",
        "on_access_log",
        "on_upstream_connection_close",
        "on_client_connection_close",
    ];
}

/// Which head a field callback means.
pub mod head {
    /// The request.
    pub const REQUEST: u32 = 0;
    /// The response.
    pub const RESPONSE: u32 = 1;
    /// The trailer section that is passing; only in the trailer hooks.
    pub const TRAILERS: u32 = 2;
}

/// What may be known of where an exchange goes.
pub mod fact {
    /// The upstream is proven to be the host that the request is for.
    pub const HOST_PROVEN: u32 = 0;
    /// The server name of the TLS hello inside a tunnel is proven to be the upstream's.
    pub const SERVER_NAME_PROVEN: u32 = 1;
    /// A plugin has sent the exchange to another host than the request is for.
    pub const REDIRECTED: u32 = 2;
}

/// A side of the exchange: where content comes from, or where a message goes.
pub mod direction {
    /// The client.
    pub const CLIENT: u32 = 0;
    /// The upstream.
    pub const UPSTREAM: u32 = 1;
}

/// What a WebSocket message is: its opcode (RFC 6455 §11.8).
pub mod message {
    /// Text, in UTF-8.
    pub const TEXT: u32 = 1;
    /// Bytes.
    pub const BINARY: u32 = 2;
    /// The last of its side: nothing, or a code in two bytes and a reason in UTF-8.
    pub const CLOSE: u32 = 8;
    /// Asks for a sign of life.
    pub const PING: u32 = 9;
    /// Answers a ping.
    pub const PONG: u32 = 10;
}

/// Flags of a call with data.
pub mod flag {
    /// Chunk hooks: the last call for this body; its data may be empty.
    pub const END: u32 = 1 << 0;
    /// Tunnel and message hooks: the data comes from the upstream rather than the client.
    pub const FROM_UPSTREAM: u32 = 1 << 1;
    /// Message hooks: the lowest of four bits that hold a kind of [`message`](super::message).
    pub const MESSAGE_SHIFT: u32 = 8;
}

/// How a plugin gets a body: the values of [`BodyMode::delivery`](super::abi::BodyMode).
pub mod delivery {
    /// Not at all.
    pub const SKIP: u32 = 0;
    /// Piece by piece, as it passes.
    pub const STREAM: u32 = 1;
    /// Whole, before anything of it is sent on.
    pub const WHOLE: u32 = 2;
    /// Piece by piece, as it passes, to look at and not to change.
    pub const WATCH: u32 = 3;
}

/// What happens to a body that is larger than its limit: the values of [`BodyMode::over`](super::abi::BodyMode).
pub mod over {
    /// 413 to a request, 502 for a response.
    pub const REFUSE: u32 = 0;
    /// It passes; the plugin gets its pieces, if it listens to them, but never the whole.
    pub const PASS: u32 = 1;
}

/// What a plugin is: the values of [`PluginDeclaration::kind`](super::abi::PluginDeclaration).
pub mod kind {
    /// Sees and changes exchanges; has `filter`.
    pub const FILTER: u32 = 0;
    /// Is told what has happened; has `subscriber`.
    pub const SUBSCRIBER: u32 = 1;
    /// Speaks a protocol of its own with clients; has `protocol`.
    pub const PROTOCOL: u32 = 2;
    /// Answers requests for the proxy itself; has `web`.
    pub const WEB: u32 = 3;
    // To come, with a table of its own: 4 for tabs of the dashboard.
}

/// What has happened: the values of [`Event::kind`](super::abi::Event).
pub mod event {
    /// A client has connected.
    pub const CONNECTION_OPENED: u32 = 0;
    /// A request head has arrived.
    pub const REQUEST_STARTED: u32 = 1;
    /// The head of the final response has arrived from the upstream.
    pub const RESPONSE_STARTED: u32 = 2;
    /// An exchange is over, however it ended.
    pub const EXCHANGE_ENDED: u32 = 3;
    /// A client's connection is over.
    pub const CONNECTION_CLOSED: u32 = 4;
}

/// Who gave the client its answer: the values of [`SummaryView::answered_by`](super::abi::SummaryView).
pub mod answered {
    /// Nobody.
    pub const NOBODY: u32 = 0;
    /// The upstream.
    pub const UPSTREAM: u32 = 1;
    /// The plugin that `answerer` names.
    pub const PLUGIN: u32 = 2;
    /// The proxy, for the reason that `answerer` gives.
    pub const PROXY: u32 = 3;
}

/// What a protocol says to the first bytes of a connection.
pub mod claim {
    /// They are another's.
    pub const NO: u32 = 0;
    /// The connection is its own.
    pub const YES: u32 = 1;
    /// They are too few to tell.
    pub const MORE: u32 = 2;
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

/// How a plugin wants to get the bodies of one direction.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyMode {
    /// A value of [`delivery`].
    pub delivery: u32,
    /// A value of [`over`]; counts for whole bodies.
    pub over: u32,
    /// The most that is collected for a whole body, in bytes after decoding.
    pub limit: u64,
    /// 1: undo gzip, deflate, br and zstd first, and redo it afterwards.
    pub decode: u32,
    /// Zero.
    pub reserved: u32,
}

/// What a client says first when it speaks TLS. Valid like [`FieldSlot`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct TlsHelloView {
    /// The server name it asks for, possibly empty.
    pub server_name: RStr<'static>,
    /// The protocols it offers (ALPN), separated by commas.
    pub protocols: RStr<'static>,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The TLS session of a client with the proxy. Valid like [`FieldSlot`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct ClientTlsView {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: RStr<'static>,
    /// The cipher suite.
    pub cipher: RStr<'static>,
    /// The server name asked for, possibly empty.
    pub server_name: RStr<'static>,
    /// The protocol agreed on (ALPN), possibly empty.
    pub protocol: RStr<'static>,
    /// The client's certificate as DER, possibly empty.
    pub certificate: RSlice<'static, u8>,
    /// Zero.
    pub reserved: [u64; 4],
}

/// What an exchange came to. Valid like [`FieldSlot`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct SummaryView {
    /// The status that the client was given; 0 if it was given none.
    pub status: u32,
    /// A value of [`answered`].
    pub answered_by: u32,
    /// The plugin's name, or the proxy's reason.
    pub answerer: RStr<'static>,
    /// What the access log says about it, possibly empty.
    pub note: RStr<'static>,
    /// Bytes read from the client.
    pub from_client: u64,
    /// Bytes sent to the client.
    pub to_client: u64,
    /// From the beginning to the end, in microseconds.
    pub elapsed: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// One client connection as a connection hook sees it; valid for the call.
#[repr(C)]
#[derive(StableAbi)]
pub struct ConnectionView {
    /// First argument of `fail`.
    pub host: *mut c_void,
    /// `(host, code::ERROR or code::PANIC, message)`: says why the hook is about to answer that code.
    pub fail: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>),
    /// Counts client connections since the proxy started.
    pub connection_id: u64,
    /// Who has connected.
    pub client: Address,
    /// Where it has connected to.
    pub local: Address,
    /// Bit index of the running hook.
    pub hook: u32,
    /// Zero.
    pub reserved: [u64; 4],
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
    /// The host of the target, in its canonical form.
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
    /// Where the exchange is going: the target's host, the address that the client's tunnel leads to, or what
    /// `set_upstream` said.
    pub upstream_host: RStr<'static>,
    /// `http` or `https`; empty for a tunnel.
    pub upstream_scheme: RStr<'static>,
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
    /// What `connection_new` gave for the client's connection; null if the declaration needs none.
    pub connection_state: *mut c_void,
    /// The name the client has authenticated with, possibly empty.
    pub user: RStr<'static>,
    /// The whole content; only in the body hooks.
    pub body: RSlice<'static, u8>,
    /// The first of `trailer_count` field lines; only in the trailer hooks.
    pub trailers: *const FieldSlot,
    /// How many trailer lines there are.
    pub trailer_count: usize,
    /// Why there is no upstream; only in `on_upstream_failed`.
    pub failure: RStr<'static>,
    /// Null before `handle_tls_hello`.
    pub tls_hello: *const TlsHelloView,
    /// Zero.
    pub reserved: [u64; 8],
    /// Where the client has connected to.
    pub local: Address,
    /// The other end of the upstream connection; its family is 0 before there is one.
    pub upstream_address: Address,
    /// Our end of it.
    pub upstream_local: Address,
    /// Null where the client does not speak TLS to the proxy.
    pub client_tls: *const ClientTlsView,
    /// Null before `on_access_log`.
    pub summary: *const SummaryView,
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
    /// `(host, scheme)`: `http` or `https`, how to speak to the upstream.
    pub set_upstream_scheme: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, URL)`: the parent proxy to go through; empty for none.
    pub set_parent: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, address)`: one more address of the upstream, in `resolve_dns`.
    pub add_address: unsafe extern "C" fn(*mut c_void, &Address) -> u32,
    /// `(host, address)`: the local address to connect from, in `resolve_dns`.
    pub set_source_address: unsafe extern "C" fn(*mut c_void, &Address) -> u32,
    /// `(host, name)`: who the client is, in `authenticate`.
    pub set_user: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, direction, mode)`: how this plugin wants this exchange's body of that [`direction`].
    pub set_body_mode: unsafe extern "C" fn(*mut c_void, u32, &BodyMode) -> u32,
    /// `(host, content)`: what goes on in place of the whole content, in the body hooks.
    pub set_body: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, status, reason)`: starts a reply and forgets an earlier one.
    pub reply: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, name, value)`: adds a field line to the reply.
    pub reply_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to the reply's content.
    pub reply_body: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to what replaces the data of the call; counts only with [`code::REPLACED`].
    pub emit_chunk: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, direction, kind, data)`: sends a WebSocket [`message`] to that [`direction`], before the one that the
    /// running hook is about.
    pub send_message: unsafe extern "C" fn(*mut c_void, u32, u32, RSlice<'_, u8>) -> u32,
    /// `(host, key, value)`: adds to the exchange's line in the access log.
    pub add_log_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RStr<'_>) -> u32,
    /// `(host, code::ERROR or code::PANIC, message)`: says why the hook is about to answer that code.
    #[sabi(last_prefix_field)]
    pub fail: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>),
    // New callbacks go here, below the last one of the released version.
    /// `(host, fact)`: 1 if this [`fact`] holds, else 0. Where it is missing, none does.
    pub holds: unsafe extern "C" fn(*mut c_void, u32) -> u32,
    /// `(host, method)`: of the request, a token other than CONNECT. Where it is missing, nothing changes.
    pub set_method: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, request host, port)`: whom the request is for, Host included; forgets `set_upstream`. Where it is
    /// missing, nothing changes.
    pub set_host: unsafe extern "C" fn(*mut c_void, RStr<'_>, u32) -> u32,
}

/// What the host offers to a library as a whole. Callable from any thread, at any time after `init`.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostTableRef)))]
pub struct HostTable {
    /// `(level)`: 1 if a line of that [`level`] would be written, else 0.
    pub log_enabled: unsafe extern "C" fn(u32) -> u32,
    /// `(level, target, message, file, line)`: one line of log.
    pub log: unsafe extern "C" fn(u32, RStr<'_>, RStr<'_>, RStr<'_>, u32),
    /// `(milliseconds)`: a job that is over after that time; null where there is no worker.
    pub sleep: unsafe extern "C" fn(u64) -> *mut c_void,
    /// `(request)`: a job that makes an HTTP request, copied during the call; null where there is no worker.
    pub call_out: unsafe extern "C" fn(&CallOut) -> *mut c_void,
    /// `(work)`: a job that runs it once, on a thread that may block; null where there is no worker, and then it
    /// never runs.
    pub run_blocking: unsafe extern "C" fn(&Work) -> *mut c_void,
    /// `(job, waker)`: PENDING, PROCEED when it is over, or ERROR.
    pub poll_job: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(job, answer)`: what a call-out that is over came to; valid until the job is released.
    pub call_out_answer: unsafe extern "C" fn(*mut c_void, &mut CallOutAnswer),
    /// `(job)`: gives it up, over or not.
    pub release_job: unsafe extern "C" fn(*mut c_void),
    /// `(task)`: polls it on this worker until it is over; 0 where there is no worker, and then it stays the caller's.
    #[sabi(last_prefix_field)]
    pub spawn: unsafe extern "C" fn(&Task) -> u32,
    /// `(message, place)`: a panic has begun on this thread; both are copied. The host tells of it if it turns out to
    /// be the end of the process.
    pub note_panic: unsafe extern "C" fn(RStr<'_>, RStr<'_>),
    // New services go here, below the last one of the released version.
}

/// An HTTP request that a plugin makes through the proxy's own client.
#[repr(C)]
#[derive(StableAbi)]
pub struct CallOut {
    /// The method.
    pub method: RStr<'static>,
    /// An absolute http or https URL.
    pub url: RStr<'static>,
    /// The first of `field_count` field lines.
    pub fields: *const FieldSlot,
    /// How many field lines there are.
    pub field_count: usize,
    /// The content.
    pub body: RSlice<'static, u8>,
    /// The most that the whole may take, in milliseconds.
    pub timeout: u64,
    /// The most content that is taken, in bytes; beyond it the call fails.
    pub max_body: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// What a call-out came to.
#[repr(C)]
#[derive(StableAbi)]
pub struct CallOutAnswer {
    /// The status code; 0 when there is no answer.
    pub status: u32,
    /// Why there is none.
    pub error: RStr<'static>,
    /// The first of `field_count` field lines.
    pub fields: *const FieldSlot,
    /// How many field lines there are.
    pub field_count: usize,
    /// The content.
    pub body: RSlice<'static, u8>,
}

/// A function of the plugin that may block.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Work {
    /// First argument of `run`.
    pub data: *mut c_void,
    /// `(data)`: does the work; called once, even if the job was released.
    pub run: unsafe extern "C" fn(*mut c_void),
}

/// A future of the plugin that the host polls.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Task {
    /// First argument of both functions.
    pub data: *mut c_void,
    /// `(data, waker)`: PENDING, or anything else when it is over.
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(data)`: ends it, over or not; called once.
    pub drop: unsafe extern "C" fn(*mut c_void),
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
    /// `(filter)`: the state of one client connection, or null if making it panicked.
    pub connection_new: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    /// `(connection state)`: ends it; every exchange of the connection is over.
    pub connection_drop: unsafe extern "C" fn(*mut c_void),
    /// `(filter)`: the state of one exchange, or null if making it panicked.
    pub state_new: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    /// `(state)`: ends it; what is pending in it is cancelled.
    pub state_drop: unsafe extern "C" fn(*mut c_void),
    /// `(filter, state, exchange)`: the hook that the view names, of those without data. Answers a [`code`].
    pub call: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ExchangeView) -> u32,
    /// `(filter, state, exchange, data, flags)`: the hook that the view names, of those with data; [`flag`] says
    /// what it is. PROCEED (the data as it is), REPLACED, CLOSE, ERROR or PANIC.
    pub call_with: unsafe extern "C" fn(
        *mut c_void,
        *mut c_void,
        *mut ExchangeView,
        RSlice<'_, u8>,
        u32,
    ) -> u32,
    /// `(filter, connection state, connection)`: the hook that the view names. PROCEED, CLOSE, ERROR or PANIC.
    pub call_connection: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ConnectionView) -> u32,
    /// `(state, waker)`: goes on with the hook that answered PENDING. Until this answers something else or
    /// `cancel` has returned, filter, state and exchange stay where they are and the host leaves the heads alone.
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(state)`: drops the pending hook, if any.
    #[sabi(last_prefix_field)]
    pub cancel: unsafe extern "C" fn(*mut c_void),
    // New functions go here, below the last one of the released version. A new hook needs none: it is a new bit.
}

/// Something that has happened. Valid for the call that lends it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Event {
    /// A value of [`event`].
    pub kind: u32,
    /// The status of the upstream's response, and once the exchange has ended the one that the client was given; 0 if
    /// there is none.
    pub status: u32,
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Counts client connections since the proxy started.
    pub connection_id: u64,
    /// Counts exchanges; 0 for events of connections.
    pub exchange_id: u64,
    /// The client.
    pub client: Address,
    /// The method; empty for events of connections.
    pub method: RStr<'static>,
    /// The host that the request names.
    pub host: RStr<'static>,
    /// Its port.
    pub port: u32,
    /// Zero.
    pub padding: u32,
    /// Path and query.
    pub path: RStr<'static>,
    /// Who answered, or why it ended early; possibly empty.
    pub note: RStr<'static>,
    /// Bytes sent to the client, once the exchange has ended.
    pub bytes: u64,
    /// How long it took, in microseconds, once the exchange has ended.
    pub elapsed: u64,
    /// Zero.
    pub reserved: [u64; 4],
    /// Where the client has connected to.
    pub local: Address,
    /// The other end of the upstream connection, once the exchange has ended; its family is 0 if there was none.
    pub upstream_address: Address,
    /// None where the client does not speak TLS to the proxy, and for events of connections.
    pub client_tls: Option<&'static ClientTlsView>,
    /// None before the exchange has ended.
    pub summary: Option<&'static SummaryView>,
}

/// One subscriber's functions. The host calls `handle_events` from one thread, which is no worker's: it may block.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = SubscriberTableRef)))]
pub struct SubscriberTable {
    /// `(configuration as TOML, errors)`: the configured subscriber, or null after a report.
    pub create: unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void,
    /// `(subscriber)`: ends it.
    pub destroy: unsafe extern "C" fn(*mut c_void),
    /// `(subscriber, events, lost)`: in the order in which they were noted; `lost` counts those before them that
    /// there was no room for.
    #[sabi(last_prefix_field)]
    pub handle_events: unsafe extern "C" fn(*mut c_void, RSlice<'_, Event>, u64),
}

/// The client's connection as a protocol uses it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct StreamView {
    /// First argument of the functions.
    pub host: *mut c_void,
    /// `(host, room, length of the room, waker, length read)`: PENDING, PROCEED (0 bytes: the client has closed its
    /// direction) or ERROR.
    pub read: unsafe extern "C" fn(*mut c_void, *mut u8, usize, &RawWaker, &mut usize) -> u32,
    /// `(host, bytes, waker, length written)`: PENDING, PROCEED or ERROR.
    pub write: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>, &RawWaker, &mut usize) -> u32,
    /// `(host, waker)`: hands on what was written and closes that direction. PENDING, PROCEED or ERROR.
    pub shutdown: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// Counts client connections since the proxy started.
    pub connection_id: u64,
    /// The client.
    pub client: Address,
    /// Where it has connected to.
    pub local: Address,
    /// Zero.
    pub reserved: [u64; 4],
}

/// One protocol's functions. No function unwinds.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ProtocolTableRef)))]
pub struct ProtocolTable {
    /// `(configuration as TOML, errors)`: the configured protocol, or null after a report.
    pub create: unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void,
    /// `(protocol)`: ends it; no connection uses it any more.
    pub destroy: unsafe extern "C" fn(*mut c_void),
    /// `(protocol, first bytes)`: a value of [`claim`].
    pub claims: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(protocol, stream)`: serves a connection; the view is copied, what it leads to lives until the task is
    /// dropped. Null if it panicked.
    pub serve: unsafe extern "C" fn(*mut c_void, &StreamView) -> *mut c_void,
    /// `(task, waker)`: PENDING, PROCEED, ERROR or PANIC (both logged already).
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(task)`: ends it, over or not.
    #[sabi(last_prefix_field)]
    pub drop: unsafe extern "C" fn(*mut c_void),
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
    /// JSON Schema of its configuration, possibly empty.
    pub config_schema: RStr<'static>,
    /// The [`hook`] bits to call.
    pub hooks: u64,
    /// Those of them that may answer PENDING.
    pub async_hooks: u64,
    /// 0: pass a null state and never call `state_new`.
    pub needs_state: u32,
    /// 0: pass a null connection state and never call `connection_new`.
    pub needs_connection_state: u32,
    /// How it wants request bodies, unless it says otherwise for an exchange.
    pub client_body: BodyMode,
    /// How it wants response bodies, unless it says otherwise for an exchange.
    pub upstream_body: BodyMode,
    /// A value of [`kind`]: which of the tables it has. What stands above from `hooks` on is a filter's.
    pub kind: u32,
    /// A filter's functions.
    pub filter: ROption<FilterTableRef>,
    /// A subscriber's functions.
    pub subscriber: ROption<SubscriberTableRef>,
    /// A protocol's functions.
    pub protocol: ROption<ProtocolTableRef>,
    /// The functions of a plugin with routes.
    #[sabi(last_prefix_field)]
    pub web: ROption<web::WebTableRef>,
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
    /// The text by which the library is known before it is loaded. Here so that no linker leaves it out.
    pub note: RSlice<'static, u8>,
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
