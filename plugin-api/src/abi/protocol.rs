//! The functions of a protocol, and the connection that it serves.

use super::{Address, ErrorSink, RawWaker};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// A client connection, for a protocol.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct StreamView {
    /// First argument of the functions.
    pub host: *mut c_void,
    /// `(host, buffer, length of the buffer, waker, length read)`: PENDING, PROCEED (0 bytes: the client has closed its
    /// direction) or ERROR.
    pub read: unsafe extern "C" fn(*mut c_void, *mut u8, usize, &RawWaker, &mut usize) -> u32,
    /// `(host, bytes, waker, length written)`: PENDING, PROCEED or ERROR.
    pub write: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>, &RawWaker, &mut usize) -> u32,
    /// `(host, waker)`: flushes and closes the direction to the client. PENDING, PROCEED or ERROR.
    pub shutdown: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// The id of the client connection, counted since the proxy started.
    pub connection_id: u64,
    /// The client.
    pub client: Address,
    /// The local address that the client connected to.
    pub local: Address,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The functions of a protocol. No function unwinds.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ProtocolTableRef)))]
pub struct ProtocolTable {
    /// `(configuration as TOML, errors)`: the configured protocol, or null after a report.
    pub create: unsafe extern "C" fn(RStr<'_>, &ErrorSink) -> *mut c_void,
    /// `(protocol)`: drops it; no connection uses it any more.
    pub destroy: unsafe extern "C" fn(*mut c_void),
    /// `(protocol, first bytes)`: a value of [`claim`](super::claim).
    pub claims: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(protocol, stream)`: a task that serves a connection; the view is copied, everything behind it lives until the
    /// task is dropped. Null if it panicked.
    pub serve: unsafe extern "C" fn(*mut c_void, &StreamView) -> *mut c_void,
    /// `(task, waker)`: PENDING, PROCEED, ERROR or PANIC (both already logged).
    pub poll: unsafe extern "C" fn(*mut c_void, &RawWaker) -> u32,
    /// `(task)`: drops it, finished or not.
    #[sabi(last_prefix_field)]
    pub drop: unsafe extern "C" fn(*mut c_void),
}
