//! Routes of the web server at the binary boundary: what a plugin of [`kind::WEB`](super::kind::WEB) exchanges with the
//! host. The rules are those of the module above.

use super::{Address, ErrorSink, RawWaker, RequestView};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// What a route is for, as bits: the values of [`RouteView::protocols`](super::web::RouteView).
pub mod protocol {
    /// Requests in clear.
    pub const HTTP: u32 = 1 << 0;
    /// Requests over TLS.
    pub const HTTPS: u32 = 1 << 1;
    /// WebSockets, in clear and over TLS.
    pub const WEBSOCKET: u32 = 1 << 2;
}

/// How a route's pattern is read: the values of [`RouteView::syntax`](super::web::RouteView).
pub mod syntax {
    /// A path in which `{name}` stands for one segment or a part of it, `{*name}` for all the rest.
    pub const PATH: u32 = 0;
    /// A regular expression that the whole path has to match.
    pub const REGEX: u32 = 1;
    /// As `PATH`, and captures stay as they were sent.
    pub const PATH_AS_SENT: u32 = 2;
    /// As `REGEX`, and captures stay as they were sent.
    pub const REGEX_AS_SENT: u32 = 3;
}

/// What Host a forwarded request has: the values of [`ForwardView::host`](super::web::ForwardView).
pub mod forwarded_host {
    /// The upstream's.
    pub const UPSTREAM: u32 = 0;
    /// The one that the client has sent.
    pub const CLIENT: u32 = 1;
}

/// Whose fault it is that a request which was forwarded has no whole response: the values of
/// [`ForwardedView::fault`](super::web::ForwardedView).
pub mod fault {
    /// Nobody's: it has one.
    pub const NONE: u32 = 0;
    /// The upstream could not be connected to; it has got nothing of the request.
    pub const UNREACHED: u32 = 1;
    /// The upstream has failed, and may have got the request.
    pub const UPSTREAM: u32 = 2;
    /// The client has.
    pub const CLIENT: u32 = 3;
    /// A filter has.
    pub const FILTER: u32 = 4;
}

/// The length of a response that is not known when it begins.
pub const UNKNOWN_LENGTH: u64 = u64::MAX;

/// One route of a plugin's. Valid for the call that lends it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RouteView {
    /// Bits of [`protocol`].
    pub protocols: u32,
    /// A value of [`syntax`].
    pub syntax: u32,
    /// The pattern of paths, without a query.
    pub pattern: RStr<'static>,
    /// Methods separated by commas; empty for all. GET includes HEAD.
    pub methods: RStr<'static>,
    /// Zero.
    pub reserved: [u64; 4],
}

/// Where `routes` puts its routes.
#[repr(C)]
#[derive(StableAbi)]
pub struct RouteSink {
    /// First argument of `add`.
    pub context: *mut c_void,
    /// `(context, route)`: copied during the call. Routes are numbered from 0 in the order in which they come.
    pub add: unsafe extern "C" fn(*mut c_void, &RouteView),
}

/// What a part of the path has matched. The `'static` is nominal: the text lives as long as the task.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Capture {
    /// The name in the pattern.
    pub name: RStr<'static>,
    /// What it stands for: decoded, or as it was sent if the route's syntax says so.
    pub value: RStr<'static>,
}

/// One request for a route, as its task uses it. The task may copy it; what it leads to lives until the task is dropped.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct WebView {
    /// The host's own handle, the first argument of every callback.
    pub host: *mut c_void,
    /// What the task may do, while it is polled.
    pub callbacks: WebCallbacksRef,
    /// The request; never null. Its content changes with the edits of the task, and with a `forward` that is answered.
    pub request: *const RequestView,
    /// The first of `capture_count` captures.
    pub captures: *const Capture,
    /// How many captures there are.
    pub capture_count: usize,
    /// Which of the plugin's routes it is.
    pub route: u32,
    /// 1: a WebSocket is asked for.
    pub is_websocket: u32,
    /// Counts client connections since the proxy started.
    pub connection_id: u64,
    /// Counts exchanges since the proxy started.
    pub exchange_id: u64,
    /// Who sent the request.
    pub client: Address,
    /// Where it has connected to.
    pub local: Address,
    /// Zero.
    pub reserved: [u64; 4],
}

/// Where a request shall be forwarded to. Valid for the call that lends it.
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

/// What forwarding came to. Filled by `poll_forward`; the text lives until the next `forward`.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct ForwardedView {
    /// The status of the response that the client has got; 0 if there is none.
    pub status: u32,
    /// 1: something has been sent to the client, so nothing else can be answered.
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

/// A WebSocket message. Filled by `receive`; the data lives until the next call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct MessageView {
    /// A kind of [`message`](super::message).
    pub kind: u32,
    /// Zero.
    pub padding: u32,
    /// What it says.
    pub data: RSlice<'static, u8>,
}

/// What a task may do while it is polled; outside of that, every callback answers that it is too late. What an edit
/// answers is an [`edit`](super::edit) code, what takes a waker answers PENDING, PROCEED or ERROR.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = WebCallbacksRef)))]
pub struct WebCallbacks {
    /// `(host, name, value)`: leaves exactly one field of that name in the request, for whoever it is forwarded to.
    pub set_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, name, value)`: adds a field line to the request.
    pub append_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, name)`: removes all fields of that name from the request.
    pub remove_field: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, room, length of the room, waker, length read)`: content of the request; 0 bytes at its end. ERROR once
    /// a forward has taken it.
    pub read: unsafe extern "C" fn(*mut c_void, *mut u8, usize, &RawWaker, &mut usize) -> u32,
    /// `(host, status, reason)`: begins the answer's head and forgets an earlier one. An answer that is not started
    /// until the task is over is sent whole.
    pub reply: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, name, value)`: adds a field line to the answer.
    pub reply_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to the answer's content.
    pub reply_body: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, length of the content or UNKNOWN_LENGTH)`: sends the answer's head and what it has of content; more is
    /// written.
    pub start: unsafe extern "C" fn(*mut c_void, u64) -> u32,
    /// `(host, content, waker, length taken)`: more of the answer's content. Where nobody gets it, as with HEAD, a
    /// task that waits for this is dropped.
    pub write: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>, &RawWaker, &mut usize) -> u32,
    /// `(host, waker)`: what was written is on its way.
    pub flush: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(host, where to)`: has the request forwarded and its response sent to the client. The task has to ask
    /// `poll_forward` next, and is not polled again before that is over; not at all if the connection becomes a tunnel:
    /// then the task is dropped when the tunnel ends. It begins when the task answers PENDING. Whatever else the task
    /// calls before that gives it up.
    pub forward: unsafe extern "C" fn(*mut c_void, &ForwardView) -> u32,
    /// `(host, waker, outcome)`: PENDING, or PROCEED with what came of it. The waker is woken when that is there, for
    /// whoever is in the task; the task itself is polled anyway. Its data may be null: then nobody is woken.
    pub poll_forward: unsafe extern "C" fn(*mut c_void, &RawWaker, &mut ForwardedView) -> u32,
    /// `(host, subprotocol or empty)`: accepts the WebSocket, which the first `receive` or `send_message` does as well.
    pub accept: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, waker, message)`: the next message; CLOSE instead of PROCEED for the last, which is a Close, or without
    /// data if the client has gone without one.
    pub receive: unsafe extern "C" fn(*mut c_void, &RawWaker, &mut MessageView) -> u32,
    /// `(host, kind, data, waker)`: sends a [`message`](super::message); PENDING as long as too much waits.
    pub send_message: unsafe extern "C" fn(*mut c_void, u32, RSlice<'_, u8>, &RawWaker) -> u32,
    /// `(host, key, value)`: adds to the exchange's line in the access log.
    pub add_log_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RStr<'_>) -> u32,
    /// `(host, code::ERROR or code::PANIC, message)`: says why the task is about to answer that code.
    #[sabi(last_prefix_field)]
    pub fail: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>),
    // New callbacks go here, below the last one of the released version.
    /// `(host)`: gives up a forward that has not begun. An older proxy, which has no such callback, makes it all the
    /// same.
    pub cancel_forward: unsafe extern "C" fn(*mut c_void),
}

/// The functions of one plugin with routes. No function unwinds.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = WebTableRef)))]
pub struct WebTable {
    /// `(configuration as TOML, errors)`: the configured plugin, or null after a report.
    pub create: unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void,
    /// `(plugin)`: ends it; no task uses it any more.
    pub destroy: unsafe extern "C" fn(*mut c_void),
    /// `(plugin, sink)`: its routes; called once. Answers 0, or 1 if it panicked.
    pub routes: unsafe extern "C" fn(*mut c_void, &RouteSink) -> u32,
    /// `(plugin, request)`: a task that answers it. Null if it panicked.
    pub serve: unsafe extern "C" fn(*mut c_void, &WebView) -> *mut c_void,
    /// `(task, waker)`: PENDING, PROCEED when it is over, ERROR or PANIC.
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(task)`: ends it, over or not.
    #[sabi(last_prefix_field)]
    pub drop: unsafe extern "C" fn(*mut c_void),
    // New functions go here, below the last one of the released version.
}
