//! The callbacks of a running hook: the functions behind [`ExchangeView::callbacks`].
//!
//! Each checks its arguments, returns a code of [`edit`], and never lets a panic cross into the plugin. Plugins cannot
//! set framing fields and connection-specific fields.
//!
//! [`ExchangeView::callbacks`]: plugin_api::abi::ExchangeView::callbacks
#![expect(
    unsafe_code,
    reason = "functions that plugins call across the binary boundary"
)]

use std::ffi::c_void;

use abi_stable::prefix_type::WithMetadata;
use abi_stable::staticref;
use abi_stable::std_types::{RSlice, RStr};
use plugin_api::abi::hook::Permission;
use plugin_api::abi::{
    Address, BodyMode, ExchangeCallbacks, ExchangeCallbacksRef, direction, edit, fact, head,
};
use plugin_contract::canonical_host;
use plugin_contract::field::{
    MAX_ADDRESSES, MAX_LOG_FIELDS, final_status, has_content, is_host_owned, is_log_key, is_text,
    is_user_name,
};

use super::guard::guarded;
use super::inner::Inner;
use super::views;
use crate::http1::{FieldRefused, FieldsMut, RequestHead, Scheme, check_field};
use crate::reply::PluginReply;
use crate::side::Side;
use crate::upstream::Parent;
use crate::websocket::{self, Kind, Sent};

/// The table that every exchange hands to its plugins.
pub(super) const CALLBACKS: ExchangeCallbacksRef = ExchangeCallbacksRef(Table::VALUE.as_prefix());

struct Table;

impl Table {
    staticref!(const VALUE: WithMetadata<ExchangeCallbacks> = WithMetadata::new(ExchangeCallbacks {
        set_field,
        append_field,
        remove_field,
        set_path,
        set_status,
        set_upstream,
        set_upstream_scheme,
        set_parent,
        add_address,
        set_source_address,
        set_user,
        set_body_mode,
        set_body,
        reply,
        reply_field,
        reply_body,
        emit_chunk,
        send_message,
        add_log_field,
        fail,
        holds,
        set_method,
        set_host,
    }));
}

/// Runs `work` on the session's inner part; `STALE` when it panics.
///
/// # Safety
/// `host` is the pointer that the running hook was given.
unsafe fn with_inner(host: *mut c_void, work: impl FnOnce(&mut Inner) -> u32) -> u32 {
    // SAFETY: the session put its inner part there, and no reference to it is alive while a hook runs.
    let inner = unsafe { &mut *host.cast::<Inner>() };
    guarded(edit::STALE, || work(inner))
}

unsafe extern "C" fn set_field(
    host: *mut c_void,
    which: u32,
    name: RStr<'_>,
    value: RSlice<'_, u8>,
) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            edit_fields(inner, which, name.as_str(), |fields| {
                fields.set(name.as_str(), value.as_slice())
            })
        })
    }
}

unsafe extern "C" fn append_field(
    host: *mut c_void,
    which: u32,
    name: RStr<'_>,
    value: RSlice<'_, u8>,
) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            edit_fields(inner, which, name.as_str(), |fields| {
                fields.append(name.as_str(), value.as_slice())
            })
        })
    }
}

unsafe extern "C" fn remove_field(host: *mut c_void, which: u32, name: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            edit_fields(inner, which, name.as_str(), |fields| {
                fields.remove(name.as_str());
                Ok(())
            })
        })
    }
}

unsafe extern "C" fn set_path(host: *mut c_void, path: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if !inner.hook.may(Permission::EditRequest) {
                return edit::STALE;
            }
            let Some(head) = inner.request.as_mut() else {
                return edit::STALE;
            };
            if head.set_path(path.as_str().as_bytes()).is_err() {
                return edit::BAD_VALUE;
            }
            inner.refresh_request();
            edit::OK
        })
    }
}

unsafe extern "C" fn set_status(host: *mut c_void, status: u32, reason: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if !inner.hook.may(Permission::EditResponse) {
                return edit::STALE;
            }
            let Some(head) = inner.response.as_mut() else {
                return edit::STALE;
            };
            let Some(status) = final_status(status).filter(|_| is_text(reason.as_str())) else {
                return edit::BAD_VALUE;
            };
            if has_content(head.status()) != has_content(status) {
                return edit::BAD_VALUE;
            }
            if head.set_status(status, reason.as_str().as_bytes()).is_err() {
                return edit::BAD_VALUE;
            }
            inner.refresh_response();
            edit::OK
        })
    }
}

unsafe extern "C" fn set_upstream(host: *mut c_void, name: RStr<'_>, port: u32) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if !inner.hook.may(Permission::SetUpstream) {
                return edit::STALE;
            }
            let Ok(name) = canonical_host(name.as_str()) else {
                return edit::BAD_NAME;
            };
            match u16::try_from(port) {
                Ok(port) if port > 0 => {
                    inner.redirected_to = Some((name.into_owned(), port));
                    inner.show_upstream();
                    edit::OK
                }
                _ => edit::BAD_VALUE,
            }
        })
    }
}

unsafe extern "C" fn set_upstream_scheme(host: *mut c_void, scheme: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            // A tunnel has no scheme.
            if !inner.hook.may(Permission::SetUpstream) || inner.view.upstream_scheme.is_empty() {
                return edit::STALE;
            }
            inner.scheme = match scheme.as_str() {
                "http" => Some(Scheme::Http),
                "https" => Some(Scheme::Https),
                _ => return edit::BAD_VALUE,
            };
            inner.show_upstream();
            edit::OK
        })
    }
}

unsafe extern "C" fn set_parent(host: *mut c_void, url: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if !inner.hook.may(Permission::SetUpstream) {
                return edit::STALE;
            }
            if url.is_empty() {
                inner.parent = None;
                return edit::OK;
            }
            match Parent::parse(url.as_str()) {
                Ok(parent) => {
                    inner.parent = Some(parent);
                    inner.parent_chooser = inner.running;
                    edit::OK
                }
                Err(_) => edit::BAD_VALUE,
            }
        })
    }
}

unsafe extern "C" fn add_address(host: *mut c_void, address: &Address) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| match views::ip(address) {
            _ if !inner.hook.may(Permission::SetAddresses) => edit::STALE,
            _ if inner.addresses.len() >= MAX_ADDRESSES => edit::STALE,
            None => edit::BAD_VALUE,
            Some(ip) => {
                inner.addresses.push(ip);
                edit::OK
            }
        })
    }
}

unsafe extern "C" fn set_source_address(host: *mut c_void, address: &Address) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| match views::ip(address) {
            _ if !inner.hook.may(Permission::SetAddresses) => edit::STALE,
            None => edit::BAD_VALUE,
            Some(ip) => {
                inner.source = Some(ip);
                edit::OK
            }
        })
    }
}

unsafe extern "C" fn set_user(host: *mut c_void, name: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if !inner.hook.may(Permission::SetUser) {
                return edit::STALE;
            }
            if !is_user_name(name.as_str()) {
                return edit::BAD_VALUE;
            }
            inner.set_user(name.as_str());
            edit::OK
        })
    }
}

unsafe extern "C" fn set_body_mode(host: *mut c_void, which: u32, mode: &BodyMode) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            let way = match which {
                direction::CLIENT if inner.hook.may(Permission::SetClientBody) => Side::Client,
                direction::UPSTREAM if inner.hook.may(Permission::SetUpstreamBody) => {
                    Side::Upstream
                }
                _ => return edit::STALE,
            };
            inner.body_modes.push((inner.running, way, *mode));
            edit::OK
        })
    }
}

unsafe extern "C" fn set_body(host: *mut c_void, content: RSlice<'_, u8>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if !inner.hook.may(Permission::ReplaceContent) {
                return edit::STALE;
            }
            // The content may be a part of what it replaces.
            inner.body = content.to_vec();
            inner.has_new_body = true;
            inner.refresh_body();
            edit::OK
        })
    }
}

unsafe extern "C" fn reply(host: *mut c_void, status: u32, reason: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if !inner.hook.may(Permission::Reply) {
                return edit::STALE;
            }
            let Some(status) = final_status(status).filter(|_| is_text(reason.as_str())) else {
                return edit::BAD_VALUE;
            };
            let reason = reason.as_str().to_owned();
            inner.reply = Some(PluginReply {
                status,
                reason,
                ..PluginReply::default()
            });
            edit::OK
        })
    }
}

unsafe extern "C" fn reply_field(host: *mut c_void, name: RStr<'_>, value: RSlice<'_, u8>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            let Some(reply) = inner.reply.as_mut() else {
                return edit::STALE;
            };
            if is_host_owned(name.as_str()) {
                return edit::HOST_OWNED;
            }
            if let Err(refused) = check_field(name.as_str(), value.as_slice()) {
                return refusal_code(refused);
            }
            reply.fields.push((name.to_string(), value.to_vec()));
            edit::OK
        })
    }
}

unsafe extern "C" fn reply_body(host: *mut c_void, body: RSlice<'_, u8>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| match inner.reply.as_mut() {
            Some(reply) => {
                reply.body.extend_from_slice(body.as_slice());
                edit::OK
            }
            None => edit::STALE,
        })
    }
}

unsafe extern "C" fn emit_chunk(host: *mut c_void, chunk: RSlice<'_, u8>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if !inner.hook.may(Permission::ReplaceData) {
                return edit::STALE;
            }
            inner.emitted.extend_from_slice(chunk.as_slice());
            inner.has_emitted = true;
            edit::OK
        })
    }
}

unsafe extern "C" fn send_message(
    host: *mut c_void,
    to: u32,
    kind: u32,
    data: RSlice<'_, u8>,
) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if !inner.hook.may(Permission::SendMessages) {
                return edit::STALE;
            }
            let to = match to {
                direction::CLIENT => Side::Client,
                direction::UPSTREAM => Side::Upstream,
                _ => return edit::BAD_VALUE,
            };
            let data = data.as_slice();
            match Kind::from_number(kind) {
                Some(kind) if websocket::is_sendable(kind, data) => {
                    let data = data.to_vec();
                    inner.sent.push(Sent { to, kind, data });
                    edit::OK
                }
                _ => edit::BAD_VALUE,
            }
        })
    }
}

unsafe extern "C" fn add_log_field(host: *mut c_void, key: RStr<'_>, value: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            if inner.log_fields.len() >= MAX_LOG_FIELDS {
                return edit::STALE;
            }
            if !is_log_key(key.as_str()) {
                return edit::BAD_NAME;
            }
            inner.log_fields.push((key.to_string(), value.to_string()));
            edit::OK
        })
    }
}

unsafe extern "C" fn fail(host: *mut c_void, _kind: u32, message: RStr<'_>) {
    // SAFETY: called by a running hook.
    unsafe {
        with_inner(host, |inner| {
            inner.failure.clear();
            inner.failure.push_str(message.as_str());
            edit::OK
        });
    }
}

unsafe extern "C" fn set_method(host: *mut c_void, method: RStr<'_>) -> u32 {
    let set = |inner: &mut Inner, head: &mut RequestHead| {
        if method.as_str() == "CONNECT" || head.is_method("CONNECT") {
            return edit::STALE;
        }
        if head.set_method(method.as_str()).is_err() {
            return edit::BAD_VALUE;
        }
        inner.refresh_request();
        edit::OK
    };
    // SAFETY: called by a running hook.
    unsafe { with_inner(host, |inner| edit_request(inner, set)) }
}

unsafe extern "C" fn set_host(host: *mut c_void, name: RStr<'_>, port: u32) -> u32 {
    let set = |inner: &mut Inner, head: &mut RequestHead| {
        if head.is_method("CONNECT") {
            return edit::STALE;
        }
        let Some(port) = u16::try_from(port).ok().filter(|port| *port > 0) else {
            return edit::BAD_VALUE;
        };
        if head.set_host(name.as_str(), port).is_err() {
            return edit::BAD_NAME;
        }
        // Where it was to go belongs to the host that it was for.
        inner.redirected_to = None;
        inner.tunnel = None;
        inner.refresh_request();
        edit::OK
    };
    // SAFETY: called by a running hook.
    unsafe { with_inner(host, |inner| edit_request(inner, set)) }
}

/// Runs `work` on the request's head, in the hooks that may edit it.
fn edit_request(inner: &mut Inner, work: impl FnOnce(&mut Inner, &mut RequestHead) -> u32) -> u32 {
    // SAFETY: set while a hook runs, from a head that stays borrowed for as long and is no part of `Inner`.
    match unsafe { inner.request.as_mut() } {
        Some(head) if inner.hook.may(Permission::EditRequest) => work(inner, head),
        _ => edit::STALE,
    }
}

unsafe extern "C" fn holds(host: *mut c_void, which: u32) -> u32 {
    // SAFETY: as in `with_inner`, but shared: the plugin may read its view meanwhile.
    let inner = unsafe { &*host.cast::<Inner>() };
    guarded(0, || {
        u32::from(match which {
            fact::HOST_PROVEN => inner.is_proven(),
            fact::SERVER_NAME_PROVEN => inner.is_server_name_proven,
            fact::REDIRECTED => inner.is_redirected(),
            _ => false,
        })
    })
}

/// Edits the fields of a head or of the trailers, then shows the plugin the result.
fn edit_fields(
    inner: &mut Inner,
    which: u32,
    name: &str,
    change: impl FnOnce(&mut FieldsMut<'_>) -> Result<(), FieldRefused>,
) -> u32 {
    let is_coded_by_host = inner.hook.may(Permission::ReplaceContent) && inner.is_body_decoded;
    if is_host_owned(name) || is_coded_by_host && name.eq_ignore_ascii_case("content-encoding") {
        return edit::HOST_OWNED;
    }
    // SAFETY: set while a hook runs, from heads that stay borrowed for as long.
    let changed = unsafe {
        match which {
            head::REQUEST if inner.hook.may(Permission::EditRequest) => inner
                .request
                .as_mut()
                .map(|head| change(&mut head.fields_mut())),
            head::RESPONSE if inner.hook.may(Permission::EditResponse) => inner
                .response
                .as_mut()
                .map(|head| change(&mut head.fields_mut())),
            head::TRAILERS if inner.hook.may(Permission::EditTrailers) => inner
                .trailers
                .as_mut()
                .map(|trailers| change(&mut trailers.fields_mut())),
            _ => None,
        }
    };
    match changed {
        None => edit::STALE,
        Some(Err(refused)) => refusal_code(refused),
        Some(Ok(())) => {
            match which {
                head::REQUEST => inner.refresh_request_fields(),
                head::RESPONSE => inner.refresh_response(),
                _ => inner.refresh_trailers(),
            }
            edit::OK
        }
    }
}

pub(super) fn refusal_code(refused: FieldRefused) -> u32 {
    match refused {
        FieldRefused::Name => edit::BAD_NAME,
        FieldRefused::Value => edit::BAD_VALUE,
    }
}
