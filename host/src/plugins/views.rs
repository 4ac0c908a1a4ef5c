//! Heads as plugins see them: the only file that knows both forms.
//!
//! A view borrows the head's bytes without saying so in its type. It is rebuilt before a hook runs and after each edit, and
//! plugins read it only while a hook runs.
#![expect(
    unsafe_code,
    reason = "views cross the binary boundary without lifetimes"
)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use abi_stable::std_types::{RSlice, RStr};
use plugin_api::abi::{Address, ClientTlsView, FieldSlot, RequestView, ResponseView};

use crate::http1::{Fields, RequestHead, ResponseHead, Scheme, TargetForm, Version};
use crate::listener::LOCAL_CLIENT;
use crate::transport::TlsFacts;

/// A view of `head`; `slots` keeps its field list.
#[inline]
pub(super) fn request_view(head: &RequestHead, slots: &mut Vec<FieldSlot>) -> RequestView {
    fill_slots(head.fields(), slots);
    let scheme = match head.target().scheme {
        Some(Scheme::Https) => "https",
        Some(Scheme::Http) => "http",
        None if head.target().form == TargetForm::Authority => "",
        None => "http",
    };
    RequestView {
        method: checked(head.method_bytes()),
        target: checked(head.raw_target()),
        scheme: without_lifetime(scheme),
        host: checked(head.host_bytes()),
        path: checked(head.path()),
        port: u32::from(head.port()),
        version: version(head.version()),
        fields: slots.as_ptr(),
        field_count: slots.len(),
        reserved: [0; 4],
    }
}

/// As [`request_view`].
#[inline]
pub(super) fn response_view(head: &ResponseHead, slots: &mut Vec<FieldSlot>) -> ResponseView {
    fill_slots(head.fields(), slots);
    ResponseView {
        status: u32::from(head.status()),
        version: version(head.version()),
        reason: text(head.reason()),
        fields: slots.as_ptr(),
        field_count: slots.len(),
        reserved: [0; 4],
    }
}

/// The view of no request.
pub(super) const NO_REQUEST: RequestView = RequestView {
    method: RStr::empty(),
    target: RStr::empty(),
    scheme: RStr::empty(),
    host: RStr::empty(),
    path: RStr::empty(),
    port: 0,
    version: 0,
    fields: std::ptr::null(),
    field_count: 0,
    reserved: [0; 4],
};

/// The view of no response.
pub(super) const NO_RESPONSE: ResponseView = ResponseView {
    status: 0,
    version: 0,
    reason: RStr::empty(),
    fields: std::ptr::null(),
    field_count: 0,
    reserved: [0; 4],
};

/// No address.
pub(crate) const NO_ADDRESS: Address = Address {
    ip: [0; 16],
    port: 0,
    family: 0,
    reserved: 0,
};

/// A client on a Unix socket has none for plugins.
pub(crate) fn address(client: SocketAddr) -> Address {
    if client == LOCAL_CLIENT {
        return NO_ADDRESS;
    }
    let (ip, family) = match client {
        SocketAddr::V4(address) => (address.ip().to_ipv6_mapped().octets(), 4),
        SocketAddr::V6(address) => (address.ip().octets(), 6),
    };
    Address {
        ip,
        port: client.port(),
        family,
        reserved: 0,
    }
}

/// No TLS.
pub(super) const NO_TLS: ClientTlsView = ClientTlsView {
    version: RStr::empty(),
    cipher: RStr::empty(),
    server_name: RStr::empty(),
    protocol: RStr::empty(),
    certificate: RSlice::EMPTY,
    reserved: [0; 4],
};

/// A view of the TLS of a client connection.
pub(crate) fn tls_view(facts: &TlsFacts) -> ClientTlsView {
    ClientTlsView {
        version: text(facts.version.as_bytes()),
        cipher: text(facts.cipher.as_bytes()),
        server_name: text(facts.server_name.as_bytes()),
        protocol: text(facts.protocol.as_bytes()),
        certificate: bytes(&facts.certificate),
        ..NO_TLS
    }
}

/// The IP address that a plugin passes; `None` if it is of no known family.
pub(super) fn ip(address: &Address) -> Option<IpAddr> {
    let ip = Ipv6Addr::from(address.ip);
    match address.family {
        4 => ip.to_ipv4_mapped().map(IpAddr::V4),
        6 => Some(IpAddr::V6(ip)),
        _ => None,
    }
}

/// Text without a lifetime, up to the first byte that is not UTF-8.
pub(crate) fn text(bytes: &[u8]) -> RStr<'static> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    without_lifetime(text)
}

/// A part of a request line as text without a lifetime: a method is ASCII, and a target is UTF-8 taken apart at ASCII.
#[inline]
fn checked(part: &[u8]) -> RStr<'static> {
    debug_assert!(std::str::from_utf8(part).is_ok());
    // SAFETY: checked when the head was read or the path was set.
    without_lifetime(unsafe { std::str::from_utf8_unchecked(part) })
}

/// Bytes without a lifetime.
pub(super) fn bytes(content: &[u8]) -> RSlice<'static, u8> {
    // SAFETY: as in `without_lifetime`.
    unsafe {
        std::mem::transmute::<RSlice<'_, u8>, RSlice<'static, u8>>(RSlice::from_slice(content))
    }
}

fn without_lifetime(text: &str) -> RStr<'static> {
    // SAFETY: only the lifetime changes. A view is read while a hook runs, and is rebuilt before each walk and
    // after each edit, from bytes that stay where they are meanwhile.
    unsafe { std::mem::transmute::<RStr<'_>, RStr<'static>>(RStr::from_str(text)) }
}

pub(super) fn fill_slots(fields: Fields<'_>, slots: &mut Vec<FieldSlot>) {
    slots.clear();
    slots.extend(fields.lines().map(|line| {
        debug_assert!(line.name.is_ascii());
        // SAFETY: a field name is a token, checked when the head was read or the field was set, hence ASCII.
        let name = without_lifetime(unsafe { std::str::from_utf8_unchecked(line.name) });
        let value = RSlice::from_slice(line.value);
        // SAFETY: as in `without_lifetime`.
        let value = unsafe { std::mem::transmute::<RSlice<'_, u8>, RSlice<'static, u8>>(value) };
        FieldSlot { name, value }
    }));
}

fn version(version: Version) -> u32 {
    match version {
        Version::Http10 => 10,
        Version::Http11 => 11,
        Version::Http2 => 20,
    }
}
