//! The views of an exchange that hooks read.
#![expect(unsafe_code, reason = "plays the host's part of the boundary")]

use super::callbacks::Callbacks;
use super::message::Fields;
use super::{Fake, FakeRequest, FakeResponse, FakeSummary};
use crate::abi::hook::Hook;
use crate::abi::{
    Address, ClientTlsView, ExchangeView, FieldSlot, RequestView, ResponseView, SummaryView,
    TlsHelloView, answered,
};
use abi_stable::std_types::{RSlice, RStr};
use std::net::{IpAddr, SocketAddr};
use std::ptr;

pub(super) struct Views {
    exchange: ExchangeView,
    client_tls: ClientTlsView,
    summary: SummaryView,
    tls_hello: TlsHelloView,
    request: RequestView,
    request_slots: Vec<FieldSlot>,
    response: ResponseView,
    response_slots: Vec<FieldSlot>,
}

impl Fake {
    /// Prepares the views for a call of this hook.
    ///
    /// # Safety
    /// `fake` must be valid, and stay in place for as long as the result is used.
    pub(crate) unsafe fn lend(fake: *mut Self, hook: Hook) -> *mut ExchangeView {
        unsafe {
            (*fake).running = Some(hook);
            if (*fake).views.is_none() {
                (*fake).views = Some(Views::empty());
            }
            Self::refresh(fake)
        }
    }

    /// Rebuilds the views in place.
    ///
    /// # Safety
    /// As for `lend`, which must have been called.
    pub(super) unsafe fn refresh(fake: *mut Self) -> *mut ExchangeView {
        // SAFETY: all pointers derive from `fake`, so that none of them invalidates another.
        unsafe {
            let Some(views) = &mut (*fake).views else {
                return ptr::null_mut();
            };
            let views = &raw mut *views;
            (*views).request_slots = slots(&(*fake).request.fields);
            (*views).request = request_view(&(*fake).request, &(*views).request_slots);
            let response = (*fake).response.as_ref().map(|response| {
                (*views).response_slots = slots(&response.fields);
                response_view(response, &(*views).response_slots)
            });
            let response = show(&raw mut (*views).response, response);
            let tls_hello = (*fake).tls_hello.as_ref();
            let tls_hello = tls_hello.map(|(name, protocols)| tls_hello_view(name, protocols));
            let tls_hello = show(&raw mut (*views).tls_hello, tls_hello);
            let client_tls = (*fake).client_tls.as_ref();
            let client_tls = client_tls.map(|(name, protocol)| client_tls_view(name, protocol));
            let client_tls = show(&raw mut (*views).client_tls, client_tls);
            let summary = (*fake).summary.as_ref();
            let summary = show(&raw mut (*views).summary, summary.map(summary_view));
            (*views).exchange = ExchangeView {
                host: fake.cast(),
                callbacks: Callbacks::REF,
                request: &raw const (*views).request,
                response,
                upstream_host: lent(&(*fake).upstream.0),
                upstream_scheme: lent(&(*fake).upstream_scheme),
                upstream_port: (*fake).upstream.1.into(),
                hook: (*fake).running.map_or(0, |hook| hook as u32),
                connection_id: 1,
                exchange_id: 1,
                client: address((*fake).client),
                connection_state: (*fake).connection_state,
                user: lent(&(*fake).user),
                body: lent_bytes(&(*fake).body),
                trailers: ptr::null(),
                trailer_count: 0,
                failure: lent(&(*fake).failure_reason),
                tls_hello,
                reserved: [0; 8],
                local: (*fake).local.map_or(NO_ADDRESS, address),
                upstream_address: (*fake).upstream_address.map_or(NO_ADDRESS, address),
                upstream_local: NO_ADDRESS,
                client_tls,
                summary,
            };
            &raw mut (*views).exchange
        }
    }
}

impl Views {
    fn empty() -> Self {
        let request = FakeRequest::new("", "");
        let response = FakeResponse::new(0, &[]);
        Self {
            exchange: ExchangeView {
                host: ptr::null_mut(),
                callbacks: Callbacks::REF,
                request: ptr::null(),
                response: ptr::null(),
                upstream_host: RStr::from_str(""),
                upstream_scheme: RStr::from_str(""),
                upstream_port: 0,
                hook: 0,
                connection_id: 0,
                exchange_id: 0,
                client: NO_ADDRESS,
                connection_state: ptr::null_mut(),
                user: RStr::from_str(""),
                body: RSlice::from_slice(&[]),
                trailers: ptr::null(),
                trailer_count: 0,
                failure: RStr::from_str(""),
                tls_hello: ptr::null(),
                reserved: [0; 8],
                local: NO_ADDRESS,
                upstream_address: NO_ADDRESS,
                upstream_local: NO_ADDRESS,
                client_tls: ptr::null(),
                summary: ptr::null(),
            },
            client_tls: NO_TLS,
            summary: NO_SUMMARY,
            tls_hello: TlsHelloView {
                server_name: RStr::from_str(""),
                protocols: RStr::from_str(""),
                reserved: [0; 4],
            },
            request: request_view(&request, &[]),
            request_slots: Vec::new(),
            response: response_view(&response, &[]),
            response_slots: Vec::new(),
        }
    }
}

const NO_ADDRESS: Address = Address {
    ip: [0; 16],
    port: 0,
    family: 0,
    reserved: 0,
};

const NO_TLS: ClientTlsView = ClientTlsView {
    version: RStr::empty(),
    cipher: RStr::empty(),
    server_name: RStr::empty(),
    protocol: RStr::empty(),
    certificate: RSlice::EMPTY,
    reserved: [0; 4],
};

const NO_SUMMARY: SummaryView = SummaryView {
    status: 0,
    answered_by: answered::NOBODY,
    answerer: RStr::empty(),
    note: RStr::empty(),
    from_client: 0,
    to_client: 0,
    elapsed: 0,
    reserved: [0; 4],
};

/// `text` with the lifetime of the views. Its real lifetime is described there.
fn lent(text: &str) -> RStr<'static> {
    // SAFETY: hooks read it only until the next edit, which refreshes the views.
    unsafe { RStr::from_raw_parts(text.as_ptr(), text.len()) }
}

fn lent_bytes(bytes: &[u8]) -> RSlice<'static, u8> {
    // SAFETY: as for `lent`.
    unsafe { RSlice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
}

fn slots(fields: &Fields) -> Vec<FieldSlot> {
    let slot = |(name, value): &(String, Vec<u8>)| FieldSlot {
        name: lent(name),
        value: lent_bytes(value),
    };
    fields.iter().map(slot).collect()
}

fn request_view(request: &FakeRequest, slots: &[FieldSlot]) -> RequestView {
    RequestView {
        method: lent(&request.method),
        target: lent(&request.target),
        scheme: lent(&request.scheme),
        host: lent(&request.host),
        path: lent(&request.path),
        port: request.port.into(),
        version: 11,
        fields: slots.as_ptr(),
        field_count: slots.len(),
        reserved: [0; 4],
    }
}

/// Writes `view` into its place, if there is one; a pointer for the view of the exchange.
///
/// # Safety
/// `place` must be valid.
unsafe fn show<V>(place: *mut V, view: Option<V>) -> *const V {
    match view {
        Some(view) => {
            unsafe { *place = view };
            place
        }
        None => ptr::null(),
    }
}

fn tls_hello_view(server_name: &str, protocols: &str) -> TlsHelloView {
    TlsHelloView {
        server_name: lent(server_name),
        protocols: lent(protocols),
        reserved: [0; 4],
    }
}

fn client_tls_view(server_name: &str, protocol: &str) -> ClientTlsView {
    ClientTlsView {
        version: RStr::from_str("TLSv1.3"),
        cipher: RStr::from_str("TLS13_AES_128_GCM_SHA256"),
        server_name: lent(server_name),
        protocol: lent(protocol),
        ..NO_TLS
    }
}

fn summary_view(summary: &FakeSummary) -> SummaryView {
    SummaryView {
        status: summary.status.unwrap_or(0).into(),
        answered_by: summary.answered_by,
        answerer: lent(&summary.answerer),
        from_client: summary.from_client,
        to_client: summary.to_client,
        elapsed: summary.elapsed.as_micros() as u64,
        ..NO_SUMMARY
    }
}

fn response_view(response: &FakeResponse, slots: &[FieldSlot]) -> ResponseView {
    ResponseView {
        status: response.status.into(),
        version: 11,
        reason: lent(&response.reason),
        fields: slots.as_ptr(),
        field_count: slots.len(),
        reserved: [0; 4],
    }
}

pub(crate) fn address(client: SocketAddr) -> Address {
    let (ip, family) = match client.ip() {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped(), 4),
        IpAddr::V6(ip) => (ip, 6),
    };
    Address {
        ip: ip.octets(),
        port: client.port(),
        family,
        reserved: 0,
    }
}
