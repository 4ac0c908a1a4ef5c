//! Views of host memory, lent for one call, and plain values.
//!
//! The `'static` of their texts is nominal: see [`FieldSlot`].

use super::ExchangeCallbacksRef;
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// A field line. The `'static` is nominal: the text lives until the next edit of the same head or the end of the hook,
/// whichever comes first.
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
    /// 4 or 6, as the peer connected; 0 if the address is unknown.
    pub family: u16,
    /// Zero.
    pub reserved: u32,
}

/// How a plugin gets the bodies of one direction.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyMode {
    /// A value of [`delivery`](super::delivery).
    pub delivery: u32,
    /// A value of [`over`](super::over); for whole bodies.
    pub over: u32,
    /// The maximum length of a whole body, in bytes after decoding.
    pub limit: u64,
    /// 1: decode gzip, deflate, br and zstd first, and encode again afterwards.
    pub decode: u32,
    /// Zero.
    pub reserved: u32,
}

/// The ClientHello of a client that speaks TLS. Valid like [`FieldSlot`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct TlsHelloView {
    /// The requested server name, possibly empty.
    pub server_name: RStr<'static>,
    /// The offered protocols (ALPN), separated by commas.
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
    /// The requested server name, possibly empty.
    pub server_name: RStr<'static>,
    /// The negotiated protocol (ALPN), possibly empty.
    pub protocol: RStr<'static>,
    /// The client certificate as DER, possibly empty.
    pub certificate: RSlice<'static, u8>,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The summary of an exchange. Valid like [`FieldSlot`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct SummaryView {
    /// The status of the response that the client got; 0 without one.
    pub status: u32,
    /// A value of [`answered`](super::answered).
    pub answered_by: u32,
    /// The name of the plugin, or the reason of the proxy.
    pub answerer: RStr<'static>,
    /// The note in the access log line, possibly empty.
    pub note: RStr<'static>,
    /// Bytes read from the client.
    pub from_client: u64,
    /// Bytes sent to the client.
    pub to_client: u64,
    /// The duration, in microseconds.
    pub elapsed: u64,
    /// The address of a [`TimelineView`], which is valid like this view, or zero; then zeroes. See
    /// [`timeline`](Self::timeline).
    pub reserved: [u64; 4],
}

impl SummaryView {
    /// Adds a timeline, which must stay in place as long as the view is used.
    #[must_use]
    pub fn with_timeline(mut self, timeline: &TimelineView) -> Self {
        self.reserved[0] = core::ptr::from_ref(timeline).expose_provenance() as u64;
        self
    }

    /// The times of the exchange's steps; `None` if the host does not provide them.
    pub fn timeline(&self) -> Option<&TimelineView> {
        let address = core::ptr::with_exposed_provenance::<TimelineView>(self.reserved[0] as usize);
        // SAFETY: zero or the address of a timeline that lives as long as this view.
        unsafe { address.as_ref() }
    }
}

/// The times of an exchange's steps, in microseconds since the first byte of the request; [`NEVER`](Self::NEVER) for
/// steps that have not happened.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineView {
    /// The head of the request was complete.
    pub head_read: u64,
    /// Plugins had accepted the request.
    pub decided: u64,
    /// A new connection to the upstream was started.
    pub dial_begun: u64,
    /// The upstream's name was resolved.
    pub resolved: u64,
    /// The new connection was established.
    pub connected: u64,
    /// The TLS handshake on it was complete.
    pub secured: u64,
    /// The request was sent completely.
    pub sent: u64,
    /// The first byte of the final response arrived.
    pub answer_begun: u64,
    /// 1: the upstream connection was reused.
    pub is_reused: u32,
    /// Zero.
    pub padding: u32,
    /// Zero.
    pub reserved: [u64; 8],
}

impl TimelineView {
    /// The value of a step that has not happened.
    pub const NEVER: u64 = u64::MAX;

    /// No step has happened.
    pub const EMPTY: Self = Self {
        head_read: Self::NEVER,
        decided: Self::NEVER,
        dial_begun: Self::NEVER,
        resolved: Self::NEVER,
        connected: Self::NEVER,
        secured: Self::NEVER,
        sent: Self::NEVER,
        answer_begun: Self::NEVER,
        is_reused: 0,
        padding: 0,
        reserved: [0; 8],
    };
}

/// A client connection, for a connection hook; valid for the call.
#[repr(C)]
#[derive(StableAbi)]
pub struct ConnectionView {
    /// First argument of `fail`.
    pub host: *mut c_void,
    /// `(host, code::ERROR or code::PANIC, message)`: the reason for the code that the hook is about to return.
    pub fail: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>),
    /// The id of the client connection, counted since the proxy started.
    pub connection_id: u64,
    /// The client.
    pub client: Address,
    /// The local address that the client connected to.
    pub local: Address,
    /// The bit index of the running hook.
    pub hook: u32,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The request, with the edits so far. Valid like [`FieldSlot`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RequestView {
    /// The method, in its original case.
    pub method: RStr<'static>,
    /// The request target as received.
    pub target: RStr<'static>,
    /// `http`, `https`, or empty for CONNECT.
    pub scheme: RStr<'static>,
    /// The host of the target, in its canonical form.
    pub host: RStr<'static>,
    /// Path and query, as sent to the origin.
    pub path: RStr<'static>,
    /// The port of the target, or the default of its scheme.
    pub port: u32,
    /// 10, 11 or 20.
    pub version: u32,
    /// The first of `field_count` field lines; may dangle if there are none.
    pub fields: *const FieldSlot,
    /// The number of field lines.
    pub field_count: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The head of the final response, with the edits so far. Valid like [`FieldSlot`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct ResponseView {
    /// The status code.
    pub status: u32,
    /// 10, 11 or 20.
    pub version: u32,
    /// The reason phrase, possibly empty.
    pub reason: RStr<'static>,
    /// The first of `field_count` field lines; may dangle if there are none.
    pub fields: *const FieldSlot,
    /// The number of field lines.
    pub field_count: usize,
    /// Zero.
    pub reserved: [u64; 4],
}

/// An exchange, for a hook. There is one per exchange, at an address that does not change until the exchange ends; the
/// host rewrites its parts between and during calls.
#[repr(C)]
#[derive(StableAbi)]
pub struct ExchangeView {
    /// The host's handle, the first argument of every callback.
    pub host: *mut c_void,
    /// The callbacks for this exchange.
    pub callbacks: ExchangeCallbacksRef,
    /// The request; never null.
    pub request: *const RequestView,
    /// Null until the head of the final response has arrived.
    pub response: *const ResponseView,
    /// The destination of the exchange: the host of the target, the address of the client's tunnel, or the host set by
    /// `set_upstream`.
    pub upstream_host: RStr<'static>,
    /// `http` or `https`; empty for a tunnel.
    pub upstream_scheme: RStr<'static>,
    /// The port of the destination.
    pub upstream_port: u32,
    /// The bit index of the running hook.
    pub hook: u32,
    /// The id of the client connection, counted since the proxy started.
    pub connection_id: u64,
    /// The id of the exchange, counted since the proxy started.
    pub exchange_id: u64,
    /// The client.
    pub client: Address,
    /// The result of `connection_new` for the client connection; null if the declaration needs none.
    pub connection_state: *mut c_void,
    /// The user as whom the client has authenticated, possibly empty.
    pub user: RStr<'static>,
    /// The whole content; only in the body hooks.
    pub body: RSlice<'static, u8>,
    /// The first of `trailer_count` field lines; only in the trailer hooks.
    pub trailers: *const FieldSlot,
    /// The number of trailer lines.
    pub trailer_count: usize,
    /// Why connecting failed; only in `on_upstream_failed`.
    pub failure: RStr<'static>,
    /// Null before `handle_tls_hello`.
    pub tls_hello: *const TlsHelloView,
    /// Zero.
    pub reserved: [u64; 8],
    /// The local address that the client connected to.
    pub local: Address,
    /// The remote address of the upstream connection; its family is 0 before there is one.
    pub upstream_address: Address,
    /// The local address of the upstream connection.
    pub upstream_local: Address,
    /// Null if the client does not use TLS with the proxy.
    pub client_tls: *const ClientTlsView,
    /// Null before `on_access_log`.
    pub summary: *const SummaryView,
}
