//! The functions of a protocol, and the connection that it serves.

use super::{Address, ErrorSink, RawWaker};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

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
    /// `(protocol, first bytes)`: a value of [`claim`](super::claim).
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
