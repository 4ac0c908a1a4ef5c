//! The functions of a filter.

use super::{ConnectionView, ExchangeView, RawWaker};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// Where `create` reports why it failed.
#[repr(C)]
#[derive(StableAbi)]
pub struct ErrorSink {
    /// First argument of `report`.
    pub context: *mut c_void,
    /// `(context, message)`: the text is copied during the call.
    pub report: unsafe extern "C" fn(*mut c_void, RStr<'_>),
}

/// The functions of a filter. `filter` is the result of `create`, `state` that of `state_new` for this exchange, or
/// null if the declaration needs none. The host calls the functions of one exchange on one thread, one after the other,
/// and those of different exchanges concurrently on several threads. No function unwinds.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = FilterTableRef)))]
pub struct FilterTable {
    /// `(configuration as TOML, errors)`: the configured filter, or null after a report.
    pub create: unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void,
    /// `(filter)`: drops it; no exchange uses it any more.
    pub destroy: unsafe extern "C" fn(*mut c_void),
    /// `(filter)`: the state of a client connection, or null if creating it panicked.
    pub connection_new: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    /// `(connection state)`: drops it; all exchanges of the connection have ended.
    pub connection_drop: unsafe extern "C" fn(*mut c_void),
    /// `(filter)`: the state of an exchange, or null if creating it panicked.
    pub state_new: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    /// `(state)`: drops it; a pending hook is cancelled.
    pub state_drop: unsafe extern "C" fn(*mut c_void),
    /// `(filter, state, exchange)`: runs the hook that the view names, one without data. Returns a
    /// [`code`](super::code).
    pub call: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ExchangeView) -> u32,
    /// `(filter, state, exchange, data, flags)`: runs the hook that the view names, one with data;
    /// [`flag`](super::flag) describes the data. PROCEED (the data unchanged), REPLACED, CLOSE, ERROR or PANIC.
    pub call_with: unsafe extern "C" fn(
        *mut c_void,
        *mut c_void,
        *mut ExchangeView,
        RSlice<'_, u8>,
        u32,
    ) -> u32,
    /// `(filter, connection state, connection)`: runs the hook that the view names. PROCEED, CLOSE, ERROR or PANIC.
    pub call_connection: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut ConnectionView) -> u32,
    /// `(state, waker)`: continues the hook that returned PENDING. Until this returns another code or `cancel` has
    /// returned, filter, state and exchange stay in place and the host does not change the heads.
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(state)`: drops the pending hook, if any.
    #[sabi(last_prefix_field)]
    pub cancel: unsafe extern "C" fn(*mut c_void),
    // New functions go here, below the last one of the released version. A new hook needs none: it is a new bit.
}
