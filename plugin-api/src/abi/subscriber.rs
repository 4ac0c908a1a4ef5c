//! The functions of a subscriber, and its events.

use super::{Address, ClientTlsView, ErrorSink, SummaryView};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// An event. Valid for the call that lends it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Event {
    /// A value of [`event`](super::event).
    pub kind: u32,
    /// The status of the upstream response, and once the exchange has ended that of the response that the client got; 0
    /// without one.
    pub status: u32,
    /// The time, in milliseconds since 1970.
    pub time: u64,
    /// The id of the client connection, counted since the proxy started.
    pub connection_id: u64,
    /// The id of the exchange; 0 for events of connections.
    pub exchange_id: u64,
    /// The client.
    pub client: Address,
    /// The method; empty for events of connections.
    pub method: RStr<'static>,
    /// The host of the request.
    pub host: RStr<'static>,
    /// The port of the request.
    pub port: u32,
    /// Zero.
    pub padding: u32,
    /// Path and query.
    pub path: RStr<'static>,
    /// Who answered, or why the exchange ended early; possibly empty.
    pub note: RStr<'static>,
    /// Bytes sent to the client, once the exchange has ended.
    pub bytes: u64,
    /// The duration, in microseconds, once the exchange has ended.
    pub elapsed: u64,
    /// Zero.
    pub reserved: [u64; 4],
    /// The local address that the client connected to.
    pub local: Address,
    /// The remote address of the upstream connection, once the exchange has ended; its family is 0 if there was none.
    pub upstream_address: Address,
    /// `None` if the client does not use TLS with the proxy, and for events of connections.
    pub client_tls: Option<&'static ClientTlsView>,
    /// `None` before the exchange has ended.
    pub summary: Option<&'static SummaryView>,
}

/// The functions of a subscriber. The host calls `handle_events` on one thread, which is not a worker's: it may block.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = SubscriberTableRef)))]
pub struct SubscriberTable {
    /// `(configuration as TOML, errors)`: the configured subscriber, or null after a report.
    pub create: unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void,
    /// `(subscriber)`: drops it.
    pub destroy: unsafe extern "C" fn(*mut c_void),
    /// `(subscriber, events, lost)`: the events in order; `lost` is the number of earlier events that were dropped
    /// because the queue was full.
    #[sabi(last_prefix_field)]
    pub handle_events: unsafe extern "C" fn(*mut c_void, RSlice<'_, Event>, u64),
}
