//! The callbacks by which hooks edit an exchange.
#![expect(unsafe_code, reason = "plays the host's part of the boundary")]

use super::Fake;
use super::message::Fields;
use crate::abi::hook::Permission;
use crate::abi::{
    Address, BodyMode, ExchangeCallbacks, ExchangeCallbacksRef, code, direction, edit,
};
use crate::guard::guarded;
use crate::{Direction, MessageKind, Reply, canonical_host};
use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;
use plugin_contract::field::{
    MAX_ADDRESSES, MAX_LOG_FIELDS, final_status, has_content, is_field_value, is_host_owned,
    is_log_key, is_text, is_token, is_user_name,
};
use proxy_websocket::check_message;
use std::net::IpAddr;

pub(super) struct Callbacks;

impl Callbacks {
    abi_stable::staticref!(
        const TABLE: WithMetadata<ExchangeCallbacks> = WithMetadata::new(ExchangeCallbacks {
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
        })
    );
    pub(super) const REF: ExchangeCallbacksRef = ExchangeCallbacksRef(Self::TABLE.as_prefix());
}

/// Makes a change to the exchange behind a handle and refreshes its views.
///
/// # Safety
/// `host` must be the handle of a lent `Fake`.
unsafe fn change(host: *mut c_void, make: impl FnOnce(&mut Fake) -> u32) -> u32 {
    let fake = host.cast::<Fake>();
    let changed = guarded(|| unsafe {
        let answer = make(&mut *fake);
        Fake::refresh(fake);
        answer
    });
    changed.unwrap_or(edit::STALE)
}

// SAFETY, for all callbacks: hooks pass the handle they were lent.

unsafe extern "C" fn set_field(
    host: *mut c_void,
    which: u32,
    name: RStr<'_>,
    value: RSlice<'_, u8>,
) -> u32 {
    let set = |fields: &mut Fields| {
        let line = (name.to_string(), value.to_vec());
        let is_named = |field: &(String, Vec<u8>)| field.0.eq_ignore_ascii_case(&name);
        let place = fields.iter().position(is_named).unwrap_or(fields.len());
        fields.retain(|field| !is_named(field));
        fields.insert(place, line);
    };
    unsafe {
        change(host, |fake| {
            edit_field(fake, which, &name, Some(&value), set)
        })
    }
}

unsafe extern "C" fn append_field(
    host: *mut c_void,
    which: u32,
    name: RStr<'_>,
    value: RSlice<'_, u8>,
) -> u32 {
    let append = |fields: &mut Fields| fields.push((name.to_string(), value.to_vec()));
    unsafe {
        change(host, |fake| {
            edit_field(fake, which, &name, Some(&value), append)
        })
    }
}

unsafe extern "C" fn remove_field(host: *mut c_void, which: u32, name: RStr<'_>) -> u32 {
    let remove = |fields: &mut Fields| fields.retain(|field| !field.0.eq_ignore_ascii_case(&name));
    unsafe { change(host, |fake| edit_field(fake, which, &name, None, remove)) }
}

fn edit_field(
    fake: &mut Fake,
    which: u32,
    name: &str,
    value: Option<&[u8]>,
    make: impl FnOnce(&mut Fields),
) -> u32 {
    match fake.fields(which) {
        None => edit::STALE,
        Some(_) if !is_token(name) => edit::BAD_NAME,
        Some(_) if !value.is_none_or(is_field_value) => edit::BAD_VALUE,
        Some(_) if is_host_owned(name) => edit::HOST_OWNED,
        Some(fields) => {
            make(fields);
            edit::OK
        }
    }
}

unsafe extern "C" fn set_path(host: *mut c_void, path: RStr<'_>) -> u32 {
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    let set = |fake: &mut Fake| match fake.may(Permission::EditRequest) {
        false => edit::STALE,
        _ if !is_path => edit::BAD_VALUE,
        _ => {
            fake.request.path = path.to_string();
            edit::OK
        }
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn set_status(host: *mut c_void, status: u32, reason: RStr<'_>) -> u32 {
    let set = |fake: &mut Fake| {
        let may_edit = fake.may(Permission::EditResponse);
        match (&mut fake.response, final_status(status)) {
            (Some(response), Some(status))
                if may_edit
                    && is_text(reason.as_bytes())
                    && has_content(status) == has_content(response.status) =>
            {
                response.status = status;
                response.reason = reason.to_string();
                edit::OK
            }
            (Some(_), _) if may_edit => edit::BAD_VALUE,
            _ => edit::STALE,
        }
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn set_upstream(host: *mut c_void, name: RStr<'_>, port: u32) -> u32 {
    let set = |fake: &mut Fake| match (canonical_host(name.as_str()), u16::try_from(port)) {
        _ if !fake.may(Permission::SetUpstream) => edit::STALE,
        (Err(_), _) => edit::BAD_NAME,
        (Ok(name), Ok(port)) if port != 0 => {
            fake.upstream = (name.into_owned(), port);
            edit::OK
        }
        _ => edit::BAD_VALUE,
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn set_upstream_scheme(host: *mut c_void, scheme: RStr<'_>) -> u32 {
    let set = |fake: &mut Fake| match scheme.as_str() {
        _ if !fake.may(Permission::SetUpstream) || fake.upstream_scheme.is_empty() => edit::STALE,
        "http" | "https" => {
            fake.upstream_scheme = scheme.to_string();
            edit::OK
        }
        _ => edit::BAD_VALUE,
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn set_parent(host: *mut c_void, url: RStr<'_>) -> u32 {
    let is_known = ["http://", "https://", "socks5://", "socks5h://"]
        .iter()
        .any(|scheme| url.starts_with(scheme) && url.len() > scheme.len());
    let set = |fake: &mut Fake| {
        if !fake.may(Permission::SetUpstream) {
            return edit::STALE;
        }
        if !url.is_empty() && !is_known {
            return edit::BAD_VALUE;
        }
        fake.parent = Some(url.to_string()).filter(|url| !url.is_empty());
        edit::OK
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn add_address(host: *mut c_void, address: &Address) -> u32 {
    unsafe {
        resolve(host, address, |fake, ip| match fake.addresses.len() {
            0..MAX_ADDRESSES => {
                fake.addresses.push(ip);
                edit::OK
            }
            _ => edit::STALE,
        })
    }
}

unsafe extern "C" fn set_source_address(host: *mut c_void, address: &Address) -> u32 {
    unsafe {
        resolve(host, address, |fake, ip| {
            fake.source = Some(ip);
            edit::OK
        })
    }
}

/// # Safety
/// As for [`change`].
unsafe fn resolve(
    host: *mut c_void,
    address: &Address,
    set: impl FnOnce(&mut Fake, IpAddr) -> u32,
) -> u32 {
    let make = |fake: &mut Fake| match crate::exchange::socket_address(address) {
        _ if !fake.may(Permission::SetAddresses) => edit::STALE,
        None => edit::BAD_VALUE,
        Some(address) => set(fake, address.ip()),
    };
    unsafe { change(host, make) }
}

unsafe extern "C" fn set_user(host: *mut c_void, name: RStr<'_>) -> u32 {
    let set = |fake: &mut Fake| {
        if !fake.may(Permission::SetUser) {
            return edit::STALE;
        }
        if !is_user_name(&name) {
            return edit::BAD_VALUE;
        }
        fake.user = name.to_string();
        edit::OK
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn set_body_mode(host: *mut c_void, which: u32, mode: &BodyMode) -> u32 {
    let set = |fake: &mut Fake| {
        let is_in_time = match which {
            direction::CLIENT => fake.may(Permission::SetClientBody),
            direction::UPSTREAM => fake.may(Permission::SetUpstreamBody),
            _ => false,
        };
        if !is_in_time {
            return edit::STALE;
        }
        fake.body_modes[which as usize] = Some(crate::BodyMode(*mode));
        edit::OK
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn set_body(host: *mut c_void, content: RSlice<'_, u8>) -> u32 {
    let set = |fake: &mut Fake| match fake.may(Permission::ReplaceContent) {
        false => edit::STALE,
        true => {
            fake.body = content.to_vec();
            edit::OK
        }
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn reply(host: *mut c_void, status: u32, reason: RStr<'_>) -> u32 {
    let start = |fake: &mut Fake| match final_status(status) {
        _ if !fake.may(Permission::Reply) => edit::STALE,
        Some(status) if is_text(reason.as_bytes()) => {
            fake.reply = Some(Reply::new(status).reason(reason.to_string()));
            edit::OK
        }
        _ => edit::BAD_VALUE,
    };
    unsafe { change(host, start) }
}

unsafe extern "C" fn reply_field(host: *mut c_void, name: RStr<'_>, value: RSlice<'_, u8>) -> u32 {
    let add = |fake: &mut Fake| match fake.reply.take() {
        None => edit::STALE,
        Some(_) if !is_token(name.as_bytes()) => edit::BAD_NAME,
        Some(_) if !is_field_value(value) => edit::BAD_VALUE,
        Some(_) if is_host_owned(&name) => edit::HOST_OWNED,
        Some(reply) => {
            fake.reply = Some(reply.field(name.to_string(), value.to_vec()));
            edit::OK
        }
    };
    unsafe { change(host, add) }
}

unsafe extern "C" fn reply_body(host: *mut c_void, content: RSlice<'_, u8>) -> u32 {
    let add = |fake: &mut Fake| match &mut fake.reply {
        None => edit::STALE,
        Some(reply) => {
            reply.body.to_mut().extend_from_slice(&content);
            edit::OK
        }
    };
    unsafe { change(host, add) }
}

unsafe extern "C" fn emit_chunk(host: *mut c_void, content: RSlice<'_, u8>) -> u32 {
    let emit = |fake: &mut Fake| match fake.may(Permission::ReplaceData) {
        false => edit::STALE,
        true => {
            let emitted = fake.emitted.get_or_insert_default();
            emitted.extend_from_slice(&content);
            edit::OK
        }
    };
    unsafe { change(host, emit) }
}

unsafe extern "C" fn send_message(
    host: *mut c_void,
    to: u32,
    kind: u32,
    data: RSlice<'_, u8>,
) -> u32 {
    let side = match to {
        direction::CLIENT => Some(Direction::Client),
        direction::UPSTREAM => Some(Direction::Upstream),
        _ => None,
    };
    let send = |fake: &mut Fake| match (side, MessageKind::from_number(kind)) {
        _ if !fake.may(Permission::SendMessages) => edit::STALE,
        (Some(side), Some(kind)) if check_message(kind, &data).is_ok() => {
            fake.sent.push((side, kind, data.to_vec()));
            edit::OK
        }
        _ => edit::BAD_VALUE,
    };
    unsafe { change(host, send) }
}

unsafe extern "C" fn add_log_field(host: *mut c_void, key: RStr<'_>, value: RStr<'_>) -> u32 {
    let add = |fake: &mut Fake| match is_log_key(&key) {
        _ if fake.log_fields.len() >= MAX_LOG_FIELDS => edit::STALE,
        false => edit::BAD_NAME,
        true => {
            fake.log_fields.push((key.to_string(), value.to_string()));
            edit::OK
        }
    };
    unsafe { change(host, add) }
}

unsafe extern "C" fn set_method(host: *mut c_void, method: RStr<'_>) -> u32 {
    let set = |fake: &mut Fake| {
        let is_connect = method.as_str() == "CONNECT" || fake.request.method == "CONNECT";
        if !fake.may(Permission::EditRequest) || is_connect {
            return edit::STALE;
        }
        if !is_token(method.as_str()) || method.as_str() == "TRACE" && !fake.body.is_empty() {
            return edit::BAD_VALUE;
        }
        fake.request.method = method.to_string();
        edit::OK
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn set_host(host: *mut c_void, name: RStr<'_>, port: u32) -> u32 {
    let set = |fake: &mut Fake| match (canonical_host(name.as_str()), u16::try_from(port)) {
        _ if !fake.may(Permission::EditRequest) || fake.request.method == "CONNECT" => edit::STALE,
        (Err(_), _) => edit::BAD_NAME,
        (Ok(name), Ok(port)) if port != 0 => {
            fake.request.readdress(&name, port);
            fake.upstream = (name.into_owned(), port);
            fake.tunnel = None;
            edit::OK
        }
        _ => edit::BAD_VALUE,
    };
    unsafe { change(host, set) }
}

unsafe extern "C" fn holds(host: *mut c_void, which: u32) -> u32 {
    // SAFETY: the handle of a lent `Fake`; shared, as the hook may read its view meanwhile.
    let fake = unsafe { &*host.cast::<Fake>() };
    guarded(|| u32::from(fake.holds(which))).unwrap_or(0)
}

unsafe extern "C" fn fail(host: *mut c_void, kind: u32, message: RStr<'_>) {
    let note = |fake: &mut Fake| {
        let text = message.to_string();
        fake.failure = Some(if kind == code::PANIC {
            format!("panicked: {text}")
        } else {
            text
        });
        edit::OK
    };
    unsafe { change(host, note) };
}

#[cfg(test)]
mod tests {
    use super::super::views::address;
    use super::super::{FakeRequest, FakeResponse};
    use super::*;
    use crate::abi::hook::Hook;
    use crate::abi::{head, message};
    use std::net::SocketAddr;

    fn fake() -> Fake {
        let client = SocketAddr::from(([127, 0, 0, 1], 50000));
        let mut fake = Fake::new(FakeRequest::new("GET", "http://a.example/"), client);
        fake.response = Some(FakeResponse::new(200, &[]));
        fake
    }

    #[test]
    fn each_hook_has_exactly_the_permissions_of_the_table() {
        let here = address(([127, 0, 0, 1], 0).into());
        let mode = crate::BodyMode::DEFAULT.0;
        for hook in Hook::ALL {
            let mut fake = fake();
            let fake = &raw mut fake;
            // SAFETY: it stays in place until the end of this turn.
            let host = unsafe { Fake::lend(fake, hook) };
            assert!(!host.is_null());
            let host = fake.cast();
            let (name, value) = (RStr::from_str("x-a"), RSlice::from_slice(b"1"));
            // SAFETY: the handle of a lent `Fake`.
            let made = unsafe {
                [
                    (Permission::SetUser, set_user(host, name)),
                    (
                        Permission::EditRequest,
                        set_field(host, head::REQUEST, name, value),
                    ),
                    (
                        Permission::EditRequest,
                        append_field(host, head::REQUEST, name, value),
                    ),
                    (
                        Permission::EditRequest,
                        remove_field(host, head::REQUEST, name),
                    ),
                    (Permission::EditRequest, set_path(host, "/b".into())),
                    (Permission::EditRequest, set_method(host, "PUT".into())),
                    (
                        Permission::EditRequest,
                        set_host(host, "b.example".into(), 80),
                    ),
                    (
                        Permission::EditResponse,
                        set_field(host, head::RESPONSE, name, value),
                    ),
                    (Permission::EditResponse, set_status(host, 201, name)),
                    (Permission::ReplaceContent, set_body(host, value)),
                    (Permission::ReplaceData, emit_chunk(host, value)),
                    (
                        Permission::SendMessages,
                        send_message(host, direction::CLIENT, message::TEXT, value),
                    ),
                    (
                        Permission::SetUpstream,
                        set_upstream(host, "c.example".into(), 80),
                    ),
                    (
                        Permission::SetUpstream,
                        set_upstream_scheme(host, "https".into()),
                    ),
                    (Permission::SetUpstream, set_parent(host, "".into())),
                    (Permission::SetAddresses, add_address(host, &here)),
                    (Permission::SetAddresses, set_source_address(host, &here)),
                    (
                        Permission::SetClientBody,
                        set_body_mode(host, direction::CLIENT, &mode),
                    ),
                    (
                        Permission::SetUpstreamBody,
                        set_body_mode(host, direction::UPSTREAM, &mode),
                    ),
                    (Permission::Reply, reply(host, 200, name)),
                    (Permission::Reply, reply_field(host, name, value)),
                    (Permission::Reply, reply_body(host, value)),
                ]
            };
            for (at, (permission, answer)) in made.into_iter().enumerate() {
                let wanted = match hook.may(permission) {
                    true => edit::OK,
                    false => edit::STALE,
                };
                assert_eq!(answer, wanted, "{hook:?}: {permission:?}, edit {at}");
            }
        }
    }
}
