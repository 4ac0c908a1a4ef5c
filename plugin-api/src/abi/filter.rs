//! The functions of a filter.

use super::{ConnectionView, ExchangeView, RawWaker};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

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
    /// `(filter, state, exchange)`: the hook that the view names, of those without data. Answers a
    /// [`code`](super::code).
    pub call: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ExchangeView) -> u32,
    /// `(filter, state, exchange, data, flags)`: the hook that the view names, of those with data; [`flag`](super::flag)
    /// says what it is. PROCEED (the data as it is), REPLACED, CLOSE, ERROR or PANIC.
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
