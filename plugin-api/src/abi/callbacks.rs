//! The callbacks of a running hook.

use super::{Address, BodyMode};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// What a hook may do to its exchange, until it returns or, for an async hook, until `poll` has returned another code
/// than PENDING. All text is copied during the call.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ExchangeCallbacksRef)))]
pub struct ExchangeCallbacks {
    /// `(host, head, name, value)`: leaves exactly one field of that name. Returns an [`edit`](super::edit) code.
    pub set_field: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, head, name, value)`: adds a field line at the end.
    pub append_field: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, head, name)`: removes all fields of that name, if there are any.
    pub remove_field: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, path)`: path and query, beginning with a slash.
    pub set_path: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, status, reason)`: of the response.
    pub set_status: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, upstream host, port)`: the host to connect to; target and Host of the request are unchanged.
    pub set_upstream: unsafe extern "C" fn(*mut c_void, RStr<'_>, u32) -> u32,
    /// `(host, scheme)`: `http` or `https`, for the upstream.
    pub set_upstream_scheme: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, URL)`: the parent proxy; empty for none.
    pub set_parent: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, address)`: adds an address of the upstream, in `resolve_dns`.
    pub add_address: unsafe extern "C" fn(*mut c_void, &Address) -> u32,
    /// `(host, address)`: the local address to connect from, in `resolve_dns`.
    pub set_source_address: unsafe extern "C" fn(*mut c_void, &Address) -> u32,
    /// `(host, name)`: the user, in `authenticate`.
    pub set_user: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, direction, mode)`: the mode in which this plugin gets the body of this exchange in that
    /// [`direction`](super::direction).
    pub set_body_mode: unsafe extern "C" fn(*mut c_void, u32, &BodyMode) -> u32,
    /// `(host, content)`: replaces the whole content, in the body hooks.
    pub set_body: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, status, reason)`: starts a reply and discards an earlier one.
    pub reply: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, name, value)`: adds a field line to the reply.
    pub reply_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to the content of the reply.
    pub reply_body: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to the replacement of the call's data; only used with
    /// [`code::REPLACED`](super::code::REPLACED).
    pub emit_chunk: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, direction, kind, data)`: sends a WebSocket [`message`](super::message) to that
    /// [`direction`](super::direction), before the message of the running hook.
    pub send_message: unsafe extern "C" fn(*mut c_void, u32, u32, RSlice<'_, u8>) -> u32,
    /// `(host, key, value)`: adds a field to the access log line of the exchange.
    pub add_log_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RStr<'_>) -> u32,
    /// `(host, code::ERROR or code::PANIC, message)`: the reason for the code that the hook is about to return.
    #[sabi(last_prefix_field)]
    pub fail: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>),
    // New callbacks go here, below the last one of the released version.
    /// `(host, fact)`: 1 if this [`fact`](super::fact) holds, else 0. If the callback is missing, none does.
    pub holds: unsafe extern "C" fn(*mut c_void, u32) -> u32,
    /// `(host, method)`: the method of the request, a token other than CONNECT. If the callback is missing, nothing
    /// changes.
    pub set_method: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, request host, port)`: the host of the request, including Host; discards `set_upstream`. If the callback
    /// is missing, nothing changes.
    pub set_host: unsafe extern "C" fn(*mut c_void, RStr<'_>, u32) -> u32,
}
