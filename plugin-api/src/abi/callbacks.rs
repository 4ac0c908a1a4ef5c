//! What a running hook may do to its exchange.

use super::{Address, BodyMode};
use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

/// What a hook may do to its exchange, until it returns or, for an async hook, until `poll` has answered.
/// All text is copied during the call.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ExchangeCallbacksRef)))]
pub struct ExchangeCallbacks {
    /// `(host, head, name, value)`: leaves exactly one field of that name. Answers an [`edit`](super::edit) code.
    pub set_field: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, head, name, value)`: adds a field line after the others.
    pub append_field: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, head, name)`: removes all fields of that name; none there is no error.
    pub remove_field: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, path)`: path and query, beginning with a slash.
    pub set_path: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, status, reason)`: of the response.
    pub set_status: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, upstream host, port)`: where to connect instead; the request's own target and Host stay.
    pub set_upstream: unsafe extern "C" fn(*mut c_void, RStr<'_>, u32) -> u32,
    /// `(host, scheme)`: `http` or `https`, how to speak to the upstream.
    pub set_upstream_scheme: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, URL)`: the parent proxy to go through; empty for none.
    pub set_parent: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, address)`: one more address of the upstream, in `resolve_dns`.
    pub add_address: unsafe extern "C" fn(*mut c_void, &Address) -> u32,
    /// `(host, address)`: the local address to connect from, in `resolve_dns`.
    pub set_source_address: unsafe extern "C" fn(*mut c_void, &Address) -> u32,
    /// `(host, name)`: who the client is, in `authenticate`.
    pub set_user: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, direction, mode)`: how this plugin wants this exchange's body of that [`direction`](super::direction).
    pub set_body_mode: unsafe extern "C" fn(*mut c_void, u32, &BodyMode) -> u32,
    /// `(host, content)`: what goes on in place of the whole content, in the body hooks.
    pub set_body: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, status, reason)`: starts a reply and forgets an earlier one.
    pub reply: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>) -> u32,
    /// `(host, name, value)`: adds a field line to the reply.
    pub reply_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to the reply's content.
    pub reply_body: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, content)`: appends to what replaces the data of the call; counts only with
    /// [`code::REPLACED`](super::code::REPLACED).
    pub emit_chunk: unsafe extern "C" fn(*mut c_void, RSlice<'_, u8>) -> u32,
    /// `(host, direction, kind, data)`: sends a WebSocket [`message`](super::message) to that
    /// [`direction`](super::direction), before the one that the running hook is about.
    pub send_message: unsafe extern "C" fn(*mut c_void, u32, u32, RSlice<'_, u8>) -> u32,
    /// `(host, key, value)`: adds to the exchange's line in the access log.
    pub add_log_field: unsafe extern "C" fn(*mut c_void, RStr<'_>, RStr<'_>) -> u32,
    /// `(host, code::ERROR or code::PANIC, message)`: says why the hook is about to answer that code.
    #[sabi(last_prefix_field)]
    pub fail: unsafe extern "C" fn(*mut c_void, u32, RStr<'_>),
    // New callbacks go here, below the last one of the released version.
    /// `(host, fact)`: 1 if this [`fact`](super::fact) holds, else 0. Where it is missing, none does.
    pub holds: unsafe extern "C" fn(*mut c_void, u32) -> u32,
    /// `(host, method)`: of the request, a token other than CONNECT. Where it is missing, nothing changes.
    pub set_method: unsafe extern "C" fn(*mut c_void, RStr<'_>) -> u32,
    /// `(host, request host, port)`: whom the request is for, Host included; forgets `set_upstream`. Where it is
    /// missing, nothing changes.
    pub set_host: unsafe extern "C" fn(*mut c_void, RStr<'_>, u32) -> u32,
}
