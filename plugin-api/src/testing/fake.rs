//! An exchange without a proxy: the views a hook reads and the callbacks it edits by.
//!
//! Keeps everything owned and rebuilds the views after each edit. Refuses what the proxy refuses: bad names and
//! values, fields that belong to the proxy, and edits in the wrong hook.
#![expect(unsafe_code, reason = "plays the host's part of the boundary")]

use crate::abi::hook::{Hook, Permission};
use crate::abi::{
    Address, BodyMode, ClientTlsView, ExchangeCallbacks, ExchangeCallbacksRef, ExchangeView,
    FieldSlot, RequestView, ResponseView, SummaryView, TlsHelloView, answered, code, direction,
    edit, fact, head,
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
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ptr;
use std::time::Duration;

pub(super) type Fields = Vec<(String, Vec<u8>)>;

pub(super) struct FakeRequest {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) fields: Fields,
}

impl FakeRequest {
    pub(super) fn new(method: &str, url: &str) -> Self {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if method == "CONNECT" => ("", url),
            None => ("http", url),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = split_authority(authority);
        let path = match path {
            "" if method == "CONNECT" => String::new(),
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        };
        Self {
            method: method.to_owned(),
            target: url.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            host: canonical_host(host).map_or_else(|_| host.to_ascii_lowercase(), Cow::into_owned),
            port: port.unwrap_or(if scheme == "http" { 80 } else { 443 }),
            path,
            fields: vec![("Host".to_owned(), authority.as_bytes().to_vec())],
        }
    }
}

impl FakeRequest {
    fn readdress(&mut self, host: &str, port: u16) {
        let host_field = match (host.contains(':'), self.scheme.as_str(), port) {
            (false, "http", 80) | (false, "https", 443) => host.to_owned(),
            (true, "http", 80) | (true, "https", 443) => format!("[{host}]"),
            (false, _, _) => format!("{host}:{port}"),
            (true, _, _) => format!("[{host}]:{port}"),
        };
        self.fields
            .retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
        self.fields
            .insert(0, ("Host".to_owned(), host_field.into_bytes()));
        (self.host, self.port) = (host.to_owned(), port);
    }
}

fn split_authority(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

pub(super) struct FakeResponse {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) fields: Fields,
}

impl FakeResponse {
    pub(super) fn new(status: u16, fields: &[(&str, &str)]) -> Self {
        let owned = |field: &(&str, &str)| (field.0.to_owned(), field.1.as_bytes().to_vec());
        Self {
            status,
            reason: String::new(),
            fields: fields.iter().map(owned).collect(),
        }
    }
}

/// The first field of this name, if it is text.
pub(super) fn find<'x>(fields: &'x Fields, name: &str) -> Option<&'x str> {
    let (_, value) = fields
        .iter()
        .find(|field| field.0.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

/// What the host knows of one exchange. Hooks reach it by address only.
pub(super) struct Fake {
    pub(super) request: FakeRequest,
    pub(super) response: Option<FakeResponse>,
    pub(super) upstream: (String, u16),
    pub(super) upstream_scheme: String,
    /// The address that the client's tunnel leads to, if there is one.
    pub(super) tunnel: Option<String>,
    /// The upstream's certificate is verified for whatever name the client gives it.
    pub(super) is_certified: bool,
    pub(super) parent: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) user: String,
    pub(super) body: Vec<u8>,
    pub(super) body_modes: [Option<crate::BodyMode>; 2],
    pub(super) failure_reason: String,
    pub(super) tls_hello: Option<(String, String)>,
    pub(super) connection_state: *mut c_void,
    pub(super) reply: Option<Reply>,
    pub(super) emitted: Option<Vec<u8>>,
    pub(super) sent: Vec<(Direction, MessageKind, Vec<u8>)>,
    pub(super) log_fields: Vec<(String, String)>,
    pub(super) failure: Option<String>,
    pub(super) local: Option<SocketAddr>,
    pub(super) upstream_address: Option<SocketAddr>,
    /// Server name and protocol.
    pub(super) client_tls: Option<(String, String)>,
    pub(super) summary: Option<FakeSummary>,
    client: SocketAddr,
    running: Option<Hook>,
    views: Option<Views>,
}

/// What the exchange came to.
#[derive(Clone)]
pub(super) struct FakeSummary {
    pub(super) status: Option<u16>,
    pub(super) answered_by: u32,
    pub(super) answerer: String,
    pub(super) from_client: u64,
    pub(super) to_client: u64,
    pub(super) elapsed: Duration,
}

impl Default for FakeSummary {
    fn default() -> Self {
        Self {
            status: None,
            answered_by: answered::NOBODY,
            answerer: String::new(),
            from_client: 0,
            to_client: 0,
            elapsed: Duration::ZERO,
        }
    }
}

struct Views {
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
    pub(super) fn new(request: FakeRequest, client: SocketAddr) -> Self {
        Self {
            upstream: (request.host.clone(), request.port),
            upstream_scheme: request.scheme.clone(),
            tunnel: None,
            is_certified: false,
            parent: None,
            addresses: Vec::new(),
            source: None,
            user: String::new(),
            body: Vec::new(),
            body_modes: [None; 2],
            failure_reason: String::new(),
            tls_hello: None,
            connection_state: ptr::null_mut(),
            request,
            response: None,
            reply: None,
            emitted: None,
            sent: Vec::new(),
            log_fields: Vec::new(),
            failure: None,
            local: None,
            upstream_address: None,
            client_tls: None,
            summary: None,
            client,
            running: None,
            views: None,
        }
    }

    /// Prepares the views for a call of this hook.
    ///
    /// # Safety
    /// `fake` must be valid, and stay in place for as long as the result is used.
    pub(super) unsafe fn lend(fake: *mut Self, hook: Hook) -> *mut ExchangeView {
        unsafe {
            (*fake).running = Some(hook);
            if (*fake).views.is_none() {
                (*fake).views = Some(Views::empty());
            }
            Self::refresh(fake)
        }
    }

    /// Writes the views anew, at their old addresses.
    ///
    /// # Safety
    /// As for `lend`, which must have been called.
    unsafe fn refresh(fake: *mut Self) -> *mut ExchangeView {
        // SAFETY: all pointers derive from `fake`, so that none of them invalidates another.
        unsafe {
            let Some(views) = &mut (*fake).views else {
                return ptr::null_mut();
            };
            let views = &raw mut *views;
            (*views).request_slots = slots(&(*fake).request.fields);
            (*views).request = request_view(&(*fake).request, &(*views).request_slots);
            let mut response = ptr::null();
            if let Some(arrived) = &(*fake).response {
                (*views).response_slots = slots(&arrived.fields);
                (*views).response = response_view(arrived, &(*views).response_slots);
                response = &raw const (*views).response;
            }
            let mut tls_hello = ptr::null();
            if let Some((server_name, protocols)) = &(*fake).tls_hello {
                (*views).tls_hello = TlsHelloView {
                    server_name: lent(server_name),
                    protocols: lent(protocols),
                    reserved: [0; 4],
                };
                tls_hello = &raw const (*views).tls_hello;
            }
            let mut client_tls = ptr::null();
            if let Some((server_name, protocol)) = &(*fake).client_tls {
                (*views).client_tls = ClientTlsView {
                    version: RStr::from_str("TLSv1.3"),
                    cipher: RStr::from_str("TLS13_AES_128_GCM_SHA256"),
                    server_name: lent(server_name),
                    protocol: lent(protocol),
                    ..NO_TLS
                };
                client_tls = &raw const (*views).client_tls;
            }
            let mut summary = ptr::null();
            if let Some(made) = &(*fake).summary {
                (*views).summary = SummaryView {
                    status: made.status.unwrap_or(0).into(),
                    answered_by: made.answered_by,
                    answerer: lent(&made.answerer),
                    from_client: made.from_client,
                    to_client: made.to_client,
                    elapsed: made.elapsed.as_micros() as u64,
                    ..NO_SUMMARY
                };
                summary = &raw const (*views).summary;
            }
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

    /// Whether the running hook may do that.
    fn may(&self, permission: Permission) -> bool {
        self.running.is_some_and(|hook| hook.may(permission))
    }

    /// Whether the [`fact`] holds.
    fn holds(&self, which: u32) -> bool {
        let host = self.request.host.as_str();
        let is_in_tunnel = self.tunnel.as_ref() == Some(&self.upstream.0);
        match which {
            fact::HOST_PROVEN => {
                let is_verified = self.is_certified && self.upstream_scheme == "https";
                self.upstream.0 == host || is_verified && is_in_tunnel
            }
            fact::SERVER_NAME_PROVEN => self.tls_hello.as_ref().is_some_and(|(server_name, _)| {
                self.is_certified || canonical_host(server_name).is_ok_and(|name| name == host)
            }),
            fact::REDIRECTED => self.upstream.0 != host && !is_in_tunnel,
            _ => false,
        }
    }

    fn fields(&mut self, which: u32) -> Option<&mut Fields> {
        match which {
            head::REQUEST if self.may(Permission::EditRequest) => Some(&mut self.request.fields),
            head::RESPONSE if self.may(Permission::EditResponse) => {
                self.response.as_mut().map(|response| &mut response.fields)
            }
            _ => None,
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

/// `text` with the lifetime the views are declared with; what it is really valid for stands there.
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

pub(super) fn address(client: SocketAddr) -> Address {
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

struct Callbacks;

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
    const REF: ExchangeCallbacksRef = ExchangeCallbacksRef(Self::TABLE.as_prefix());
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
    use super::*;
    use crate::abi::message;

    fn fake() -> Fake {
        let client = SocketAddr::from(([127, 0, 0, 1], 50000));
        let mut fake = Fake::new(FakeRequest::new("GET", "http://a.example/"), client);
        fake.response = Some(FakeResponse::new(200, &[]));
        fake
    }

    #[test]
    fn a_hook_may_do_what_the_table_says_and_nothing_else() {
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
