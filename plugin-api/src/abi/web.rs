//! Routes of the web server at the binary boundary: what a plugin of [`kind::WEB`](super::kind::WEB) exchanges with the
//! host. The rules of the parent module apply.

use super::{Address, ErrorSink, RawWaker, RequestView};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// The protocols of a route, as bits: the values of [`RouteView::protocols`](super::web::RouteView).
pub mod protocol {
    /// Requests without TLS.
    pub const HTTP: u32 = 1 << 0;
    /// Requests over TLS.
    pub const HTTPS: u32 = 1 << 1;
    /// WebSockets, with and without TLS.
    pub const WEBSOCKET: u32 = 1 << 2;
}

/// The syntax of a route's pattern: the values of [`RouteView::syntax`](super::web::RouteView).
pub mod syntax {
    /// A path in which `{name}` matches one segment or a part of it, `{*name}` the rest.
    pub const PATH: u32 = 0;
    /// A regular expression that must match the whole path.
    pub const REGEX: u32 = 1;
    /// Like `PATH`, with captures as sent.
    pub const PATH_AS_SENT: u32 = 2;
    /// Like `REGEX`, with captures as sent.
    pub const REGEX_AS_SENT: u32 = 3;
}

/// The Host of a forwarded request: the values of [`ForwardView::host`](super::web::ForwardView).
pub mod forwarded_host {
    /// The upstream's.
    pub const UPSTREAM: u32 = 0;
    /// The one that the client sent.
    pub const CLIENT: u32 = 1;
}

/// Who caused a forwarded request to have no complete response: the values of
/// [`ForwardedView::fault`](super::web::ForwardedView).
pub mod fault {
    /// The response is complete.
    pub const NONE: u32 = 0;
    /// Connecting to the upstream failed; it has received nothing of the request.
    pub const UNREACHED: u32 = 1;
    /// The upstream failed, and may have received the request.
    pub const UPSTREAM: u32 = 2;
    /// The client failed.
    pub const CLIENT: u32 = 3;
    /// A filter failed.
    pub const FILTER: u32 = 4;
}

/// The length of a response whose length is not known at its start.
pub const UNKNOWN_LENGTH: u64 = u64::MAX;

/// A route of a plugin. Valid for the call that lends it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RouteView {
    /// Bits of [`protocol`].
    pub protocols: u32,
    /// A value of [`syntax`].
    pub syntax: u32,
    /// The path pattern, without a query.
    pub pattern: RStr<'static>,
    /// Methods, separated by commas; empty for all. GET includes HEAD.
    pub methods: RStr<'static>,
    /// Zero.
    pub reserved: [u64; 4],
}

/// Receives the routes of `routes`.
#[repr(C)]
#[derive(StableAbi)]
pub struct RouteSink {
    /// First argument of `add`.
    pub context: *mut c_void,
    /// `(context, route)`: adds a route, which is copied during the call. Routes are numbered from 0 in this order.
    pub add: unsafe extern "C" fn(*mut c_void, &RouteView),
}

/// A captured part of the path. The `'static` is nominal: the text lives as long as the task.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Capture {
    /// The name in the pattern.
    pub name: RStr<'static>,
    /// Its value: decoded, or as sent if the route's syntax says so.
    pub value: RStr<'static>,
}

/// A request for a route, for its task. The task may copy it; everything behind it lives until the task is dropped.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct WebView {
    /// The host's handle, the first argument of every callback.
    pub host: *mut c_void,
    /// The callbacks, which may be used while the task is polled.
    pub callbacks: WebCallbacksRef,
    /// The request; never null. Its contents change with the edits of the task, and with a `forward` that is answered.
    pub request: *const RequestView,
    /// The first of `capture_count` captures.
    pub captures: *const Capture,
    /// The number of captures.
    pub capture_count: usize,
    /// The number of the route.
    pub route: u32,
    /// 1: the client requests a WebSocket.
    pub is_websocket: u32,
    /// The id of the client connection, counted since the proxy started.
    pub connection_id: u64,
    /// The id of the exchange, counted since the proxy started.
    pub exchange_id: u64,
    /// The client.
    pub client: Address,
    /// The local address that the client connected to.
    pub local: Address,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The destination of a forwarded request. Valid for the call that lends it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct ForwardView {
    /// An absolute http or https URL, path and query included.
    pub url: RStr<'static>,
    /// A value of [`forwarded_host`].
    pub host: u32,
    /// Zero.
    pub padding: u32,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The result of a forward. Set by `poll_forward`; the text lives until the next `forward`.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct ForwardedView {
    /// The status of the response that the client got; 0 without one.
    pub status: u32,
    /// 1: something has been sent to the client, so no other response is possible.
    pub is_answered: u32,
    /// A value of [`fault`].
    pub fault: u32,
    /// Zero.
    pub padding: u32,
    /// Why it failed, or empty.
    pub error: RStr<'static>,
    /// Zero.
    pub reserved: [u64; 4],
}

/// A WebSocket message. Set by `receive`; the data lives until the next call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct MessageView {
    /// A kind of [`message`](super::message).
    pub kind: u32,
    /// Zero.
    pub padding: u32,
    /// Its content.
    pub data: RSlice<'static, u8>,
}

/// What a task may do while it is polled; at other times, every callback fails as too late. Edits return an
/// [`edit`](super::edit) code, callbacks with a waker return PENDING, PROCEED or ERROR.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = WebCallbacksRef)))]
pub struct WebCallbacks {
    /// `(host, name, value)`: leaves exactly one field of that name in the request, for forwarding.
    pub set_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, name, value)`: adds a field line to the request.
    pub append_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, name)`: removes all fields of that name from the request.
    pub remove_field: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, buffer, length of the buffer, waker, length read)`: reads content of the request; 0 bytes at its end.
    /// ERROR once a forward has taken it.
    pub read: unsafe extern "C" fn(*mut c_void, *mut u8, usize, &RawWaker, &mut usize) -> u32,
    /// `(host, status, reason)`: starts the head of the response and discards an earlier one. A response that is not
    /// started when the task ends is sent whole.
    pub reply: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, name, value)`: adds a field line to the response.
    pub reply_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to the content of the response.
    pub reply_body: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, length of the content or UNKNOWN_LENGTH)`: sends the head of the response and its content so far;
    /// `write` sends more.
    pub start: unsafe extern "C" fn(*mut c_void, u64) -> u32,
    /// `(host, content, waker, length written)`: sends more content of the response. If the response has no content, as
    /// for HEAD, a task that waits for this is dropped.
    pub write: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>, &RawWaker, &mut usize) -> u32,
    /// `(host, waker)`: flushes the written content.
    pub flush: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(host, destination)`: forwards the request and sends its response to the client. The task must call
    /// `poll_forward` next, and is not polled again before the forward has ended; if the connection becomes a tunnel,
    /// it is dropped when the tunnel ends. The forward begins when the task returns PENDING. Any other call before that
    /// cancels it.
    pub forward: unsafe extern "C" fn(*mut c_void, &ForwardView) -> u32,
    /// `(host, waker, result)`: PENDING, or PROCEED with the result. The waker is woken when the result is available,
    /// for a combinator in the task; the task itself is polled anyway. Its data may be null: then nothing is woken.
    pub poll_forward: unsafe extern "C" fn(*mut c_void, &RawWaker, &mut ForwardedView) -> u32,
    /// `(host, subprotocol or empty)`: accepts the WebSocket; so does the first `receive` or `send_message`.
    pub accept: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, waker, message)`: receives the next message; CLOSE instead of PROCEED for the last one, which is a
    /// Close, or empty if the client disconnected without one.
    pub receive: unsafe extern "C" fn(*mut c_void, &RawWaker, &mut MessageView) -> u32,
    /// `(host, kind, data, waker)`: sends a [`message`](super::message); PENDING while too much is waiting to be sent.
    pub send_message: unsafe extern "C" fn(*mut c_void, u32, RSlice<'_, u8>, &RawWaker) -> u32,
    /// `(host, key, value)`: adds a field to the access log line of the exchange.
    pub add_log_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RStr<'_>) -> u32,
    /// `(host, code::ERROR or code::PANIC, message)`: the reason for the code that the task is about to return.
    #[sabi(last_prefix_field)]
    pub fail: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>),
    // New callbacks go here, below the last one of the released version.
    /// `(host)`: cancels a forward that has not begun. An older proxy without this callback still performs it.
    pub cancel_forward: unsafe extern "C" fn(*mut c_void),
}

/// The functions of a plugin with routes. No function unwinds.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = WebTableRef)))]
pub struct WebTable {
    /// `(configuration as TOML, errors)`: the configured plugin, or null after a report.
    pub create: unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void,
    /// `(plugin)`: drops it; no task uses it any more.
    pub destroy: unsafe extern "C" fn(*mut c_void),
    /// `(plugin, sink)`: adds its routes; called once. Returns 0, or 1 if it panicked.
    pub routes: unsafe extern "C" fn(*mut c_void, &RouteSink) -> u32,
    /// `(plugin, request)`: a task that answers it. Null if it panicked.
    pub serve: unsafe extern "C" fn(*mut c_void, &WebView) -> *mut c_void,
    /// `(task, waker)`: PENDING, PROCEED once it has ended, ERROR or PANIC.
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(task)`: drops it, finished or not.
    #[sabi(last_prefix_field)]
    pub drop: unsafe extern "C" fn(*mut c_void),
    // New functions go here, below the last one of the released version.
}
