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
    MAX_ADDRESSES, final_status, has_content, is_host_owned, is_text, is_user_name,
};

use super::edits;
use super::exchange_state::ExchangeState;
use super::guard::guarded;
use super::views;
use crate::http1::{FieldRefused, FieldsMut, RequestHead, Scheme};
use crate::side::Side;
use crate::upstream::Parent;
use crate::websocket::{self, Kind, PluginMessage};

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

/// Runs `work` on the exchange of the running hook; `STALE` when it panics.
///
/// # Safety
/// `host` is the pointer that the running hook was given.
unsafe fn with_exchange(host: *mut c_void, work: impl FnOnce(&mut ExchangeState) -> u32) -> u32 {
    // SAFETY: the view's pointer leads to it, and no reference to it is alive while a hook runs.
    let exchange = unsafe { &mut *host.cast::<ExchangeState>() };
    guarded(edit::STALE, || work(exchange))
}

unsafe extern "C" fn set_field(
    host: *mut c_void,
    which: u32,
    name: RStr<'_>,
    value: RSlice<'_, u8>,
) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            edit_fields(exchange, which, name.as_str(), |fields| {
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
        with_exchange(host, |exchange| {
            edit_fields(exchange, which, name.as_str(), |fields| {
                fields.append(name.as_str(), value.as_slice())
            })
        })
    }
}

unsafe extern "C" fn remove_field(host: *mut c_void, which: u32, name: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            edit_fields(exchange, which, name.as_str(), |fields| {
                fields.remove(name.as_str());
                Ok(())
            })
        })
    }
}

unsafe extern "C" fn set_path(host: *mut c_void, path: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            if !exchange.may(Permission::EditRequest) {
                return edit::STALE;
            }
            let Some(head) = exchange.editable.request.as_mut() else {
                return edit::STALE;
            };
            if head.set_path(path.as_str().as_bytes()).is_err() {
                return edit::BAD_VALUE;
            }
            exchange.refresh_request();
            edit::OK
        })
    }
}

unsafe extern "C" fn set_status(host: *mut c_void, status: u32, reason: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            if !exchange.may(Permission::EditResponse) {
                return edit::STALE;
            }
            let Some(head) = exchange.editable.response.as_mut() else {
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
            exchange.refresh_response();
            edit::OK
        })
    }
}

unsafe extern "C" fn set_upstream(host: *mut c_void, name: RStr<'_>, port: u32) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            if !exchange.may(Permission::SetUpstream) {
                return edit::STALE;
            }
            let Ok(name) = canonical_host(name.as_str()) else {
                return edit::BAD_NAME;
            };
            match u16::try_from(port) {
                Ok(port) if port > 0 => {
                    exchange.route.overrides.redirected_to = Some((name.into_owned(), port));
                    exchange.refresh_upstream();
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
        with_exchange(host, |exchange| {
            // A tunnel has no scheme.
            if !exchange.may(Permission::SetUpstream)
                || exchange.shown.view.upstream_scheme.is_empty()
            {
                return edit::STALE;
            }
            exchange.route.overrides.scheme = match scheme.as_str() {
                "http" => Some(Scheme::Http),
                "https" => Some(Scheme::Https),
                _ => return edit::BAD_VALUE,
            };
            exchange.refresh_upstream();
            edit::OK
        })
    }
}

unsafe extern "C" fn set_parent(host: *mut c_void, url: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            if !exchange.may(Permission::SetUpstream) {
                return edit::STALE;
            }
            if url.is_empty() {
                exchange.route.overrides.parent = None;
                return edit::OK;
            }
            match Parent::parse(url.as_str()) {
                Ok(parent) => {
                    exchange.route.overrides.parent = Some(parent);
                    exchange.route.parent_chooser = exchange.running.plugin;
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
        with_exchange(host, |exchange| match views::ip(address) {
            _ if !exchange.may(Permission::SetAddresses) => edit::STALE,
            _ if exchange.route.overrides.addresses.len() >= MAX_ADDRESSES => edit::STALE,
            None => edit::BAD_VALUE,
            Some(ip) => {
                exchange.route.overrides.addresses.push(ip);
                edit::OK
            }
        })
    }
}

unsafe extern "C" fn set_source_address(host: *mut c_void, address: &Address) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| match views::ip(address) {
            _ if !exchange.may(Permission::SetAddresses) => edit::STALE,
            None => edit::BAD_VALUE,
            Some(ip) => {
                exchange.route.overrides.source = Some(ip);
                edit::OK
            }
        })
    }
}

unsafe extern "C" fn set_user(host: *mut c_void, name: RStr<'_>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            if !exchange.may(Permission::SetUser) {
                return edit::STALE;
            }
            if !is_user_name(name.as_str()) {
                return edit::BAD_VALUE;
            }
            exchange.shown.show_user(name.as_str());
            edit::OK
        })
    }
}

unsafe extern "C" fn set_body_mode(host: *mut c_void, which: u32, mode: &BodyMode) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            let side = match which {
                direction::CLIENT if exchange.may(Permission::SetClientBody) => Side::Client,
                direction::UPSTREAM if exchange.may(Permission::SetUpstreamBody) => Side::Upstream,
                _ => return edit::STALE,
            };
            exchange
                .body_modes
                .push((exchange.running.plugin, side, *mode));
            edit::OK
        })
    }
}

unsafe extern "C" fn set_body(host: *mut c_void, content: RSlice<'_, u8>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            if !exchange.may(Permission::ReplaceContent) {
                return edit::STALE;
            }
            // The content may be a part of what it replaces.
            exchange.replace_content(content.to_vec());
            edit::OK
        })
    }
}

unsafe extern "C" fn reply(host: *mut c_void, status: u32, reason: RStr<'_>) -> u32 {
    let begin = |exchange: &mut ExchangeState| {
        if !exchange.may(Permission::Reply) {
            return edit::STALE;
        }
        let Some(reply) = edits::new_reply(status, reason.as_str()) else {
            return edit::BAD_VALUE;
        };
        exchange.output.reply = Some(reply);
        edit::OK
    };
    // SAFETY: called by a running hook.
    unsafe { with_exchange(host, begin) }
}

unsafe extern "C" fn reply_field(host: *mut c_void, name: RStr<'_>, value: RSlice<'_, u8>) -> u32 {
    let (name, value) = (name.as_str(), value.as_slice());
    let add = |exchange: &mut ExchangeState| {
        edits::add_reply_field(exchange.output.reply.as_mut(), name, value)
    };
    // SAFETY: called by a running hook.
    unsafe { with_exchange(host, add) }
}

unsafe extern "C" fn reply_body(host: *mut c_void, content: RSlice<'_, u8>) -> u32 {
    let add = |exchange: &mut ExchangeState| {
        edits::add_reply_content(exchange.output.reply.as_mut(), content.as_slice())
    };
    // SAFETY: called by a running hook.
    unsafe { with_exchange(host, add) }
}

unsafe extern "C" fn emit_chunk(host: *mut c_void, chunk: RSlice<'_, u8>) -> u32 {
    // SAFETY: called by a running hook.
    unsafe {
        with_exchange(host, |exchange| {
            if !exchange.may(Permission::ReplaceData) {
                return edit::STALE;
            }
            let emitted = exchange.output.emitted.get_or_insert_default();
            emitted.extend_from_slice(chunk.as_slice());
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
        with_exchange(host, |exchange| {
            if !exchange.may(Permission::SendMessages) {
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
                    exchange
                        .output
                        .messages
                        .push(PluginMessage { to, kind, data });
                    edit::OK
                }
                _ => edit::BAD_VALUE,
            }
        })
    }
}

unsafe extern "C" fn add_log_field(host: *mut c_void, key: RStr<'_>, value: RStr<'_>) -> u32 {
    let add = |exchange: &mut ExchangeState| {
        edits::add_log_field(&mut exchange.log_fields, key.as_str(), value.as_str())
    };
    // SAFETY: called by a running hook.
    unsafe { with_exchange(host, add) }
}

unsafe extern "C" fn fail(host: *mut c_void, _kind: u32, message: RStr<'_>) {
    let keep = |exchange: &mut ExchangeState| {
        message.as_str().clone_into(&mut exchange.output.failure);
        edit::OK
    };
    // SAFETY: called by a running hook.
    unsafe { with_exchange(host, keep) };
}

unsafe extern "C" fn set_method(host: *mut c_void, method: RStr<'_>) -> u32 {
    let set = |exchange: &mut ExchangeState, head: &mut RequestHead| {
        if method.as_str() == "CONNECT" || head.is_method("CONNECT") {
            return edit::STALE;
        }
        if head.set_method(method.as_str()).is_err() {
            return edit::BAD_VALUE;
        }
        exchange.refresh_request();
        edit::OK
    };
    // SAFETY: called by a running hook.
    unsafe { with_exchange(host, |exchange| edit_request(exchange, set)) }
}

unsafe extern "C" fn set_host(host: *mut c_void, name: RStr<'_>, port: u32) -> u32 {
    let set = |exchange: &mut ExchangeState, head: &mut RequestHead| {
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
        exchange.route.overrides.redirected_to = None;
        exchange.route.tunnel = None;
        exchange.refresh_request();
        edit::OK
    };
    // SAFETY: called by a running hook.
    unsafe { with_exchange(host, |exchange| edit_request(exchange, set)) }
}

/// Runs `work` on the request's head, in the hooks that may edit it.
fn edit_request(
    exchange: &mut ExchangeState,
    work: impl FnOnce(&mut ExchangeState, &mut RequestHead) -> u32,
) -> u32 {
    // SAFETY: set while a hook runs, from a head that stays borrowed for as long and is no part of `ExchangeState`.
    match unsafe { exchange.editable.request.as_mut() } {
        Some(head) if exchange.may(Permission::EditRequest) => work(exchange, head),
        _ => edit::STALE,
    }
}

unsafe extern "C" fn holds(host: *mut c_void, which: u32) -> u32 {
    // SAFETY: as in `with_exchange`, but shared: the plugin may read its view meanwhile.
    let exchange = unsafe { &*host.cast::<ExchangeState>() };
    guarded(0, || {
        u32::from(match which {
            fact::HOST_PROVEN => exchange.is_proven(),
            fact::SERVER_NAME_PROVEN => exchange.route.is_server_name_proven,
            fact::REDIRECTED => exchange.is_redirected(),
            _ => false,
        })
    })
}

/// Edits the fields of a head or of the trailers, then shows the plugin the result.
fn edit_fields(
    exchange: &mut ExchangeState,
    which: u32,
    name: &str,
    change: impl FnOnce(&mut FieldsMut<'_>) -> Result<(), FieldRefused>,
) -> u32 {
    let is_coded_by_host = exchange.may(Permission::ReplaceContent) && exchange.content.is_decoded;
    if is_host_owned(name) || is_coded_by_host && name.eq_ignore_ascii_case("content-encoding") {
        return edit::HOST_OWNED;
    }
    // SAFETY: set while a hook runs, from heads that stay borrowed for as long.
    let changed = unsafe {
        match which {
            head::REQUEST if exchange.may(Permission::EditRequest) => exchange
                .editable
                .request
                .as_mut()
                .map(|head| change(&mut head.fields_mut())),
            head::RESPONSE if exchange.may(Permission::EditResponse) => exchange
                .editable
                .response
                .as_mut()
                .map(|head| change(&mut head.fields_mut())),
            head::TRAILERS if exchange.may(Permission::EditTrailers) => exchange
                .editable
                .trailers
                .as_mut()
                .map(|trailers| change(&mut trailers.fields_mut())),
            _ => None,
        }
    };
    match changed {
        None => edit::STALE,
        Some(Err(refused)) => edits::refusal_code(refused),
        Some(Ok(())) => {
            match which {
                head::REQUEST => exchange.refresh_request_fields(),
                head::RESPONSE => exchange.refresh_response(),
                _ => exchange.refresh_trailers(),
            }
            edit::OK
        }
    }
}
