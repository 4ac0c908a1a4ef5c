//! What the host lends for one call: views of its own memory, and plain values beside them.
//!
//! The `'static` of their texts is nominal: see [`FieldSlot`].

use super::ExchangeCallbacksRef;
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

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
    /// A value of [`delivery`](super::delivery).
    pub delivery: u32,
    /// A value of [`over`](super::over); counts for whole bodies.
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
    /// A value of [`answered`](super::answered).
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
    /// The address of a [`TimelineView`], which is valid like this view, or zero; then zeroes. See
    /// [`timeline`](Self::timeline).
    pub reserved: [u64; 4],
}

impl SummaryView {
    /// The same, with a timeline that has to stay where it is as long as the view is used.
    #[must_use]
    pub fn with_timeline(mut self, timeline: &TimelineView) -> Self {
        self.reserved[0] = core::ptr::from_ref(timeline).expose_provenance() as u64;
        self
    }

    /// When the exchange did what; none where the host does not say.
    pub fn timeline(&self) -> Option<&TimelineView> {
        let address = core::ptr::with_exposed_provenance::<TimelineView>(self.reserved[0] as usize);
        // SAFETY: zero or the address of a timeline that lasts as long as this view.
        unsafe { address.as_ref() }
    }
}

/// When an exchange did what, in microseconds since the request's first byte; [`NEVER`](Self::NEVER) for what it did not
/// do, or not yet.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineView {
    /// The request's head was there.
    pub head_read: u64,
    /// Plugins had let the request pass.
    pub decided: u64,
    /// A new connection to the upstream was begun.
    pub dial_begun: u64,
    /// The upstream's name was resolved.
    pub resolved: u64,
    /// The new connection was there.
    pub connected: u64,
    /// TLS on it was there.
    pub secured: u64,
    /// The request was sent whole.
    pub sent: u64,
    /// The first byte of the final response was there.
    pub answer_begun: u64,
    /// 1: over a connection that had served before.
    pub is_reused: u32,
    /// Zero.
    pub padding: u32,
    /// Zero.
    pub reserved: [u64; 8],
}

impl TimelineView {
    /// What has not happened.
    pub const NEVER: u64 = u64::MAX;

    /// Nothing has happened.
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
