//! The functions of a subscriber, and the events that it is told.

use super::{Address, ClientTlsView, ErrorSink, SummaryView};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// Something that has happened. Valid for the call that lends it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Event {
    /// A value of [`event`](super::event).
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
