//! Runs routes in unit tests, without a proxy and without a network.
//!
//! ```
//! use plugin_api::prelude::*;
//! use plugin_api::testing::web;
//! use plugin_api::{ForwardTo, Route, WebExchange, WebRoutes};
//!
//! struct Ask;
//!
//! impl WebRoutes for Ask {
//!     type Config = NoConfig;
//!     fn new(_: NoConfig) -> Result<Self, Error> { Ok(Self) }
//!     fn routes(&self) -> Vec<Route> { vec![Route::new("/ask/{whom}")] }
//!
//!     async fn handle_request(&self, exchange: &mut WebExchange) -> Result<(), Error> {
//!         let url = format!("http://{}.example/", exchange.capture("whom").unwrap_or("a"));
//!         exchange.forward(&ForwardTo::new(&url)).await?;
//!         Ok(())
//!     }
//! }
//!
//! let run = web::get("/ask/b").captures(&[("whom", "b")]).answer(|_| Ok(204)).run(&Ask);
//! assert_eq!((run.status(), &*run.forwards()[0]), (204, "http://b.example/"));
//! ```
//!
//! A plugin runs behind the table of functions that the proxy calls, and the same edits are rejected. The proxy matches
//! paths to routes; a test specifies the route.

use super::fake::{self, Fake};
use crate::abi::hook::Hook;
use crate::abi::web::{
    Capture, ForwardView, ForwardedView, MessageView, UNKNOWN_LENGTH, WebCallbacks,
    WebCallbacksRef, WebView, fault, forwarded_host,
};
use crate::abi::{ExchangeCallbacksRef, RawWaker, code, edit, head};
use crate::guard::guarded;
use crate::{
    Error, ForwardFault, MessageKind, Reply, WebRoutes, close_data, configuration, waker,
    web::Table,
};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;
use proxy_websocket::check_message;
use std::collections::VecDeque;
use std::io::Read;
use std::net::SocketAddr;
use std::task::Waker;
use std::{ptr, slice, thread};

/// Creates a plugin from the text of its configuration table, as the proxy does.
///
/// # Errors
/// The error that the proxy would report at startup.
pub fn configured<W: WebRoutes>(config: &str) -> Result<W, Error> {
    W::new(configuration::read(config)?)
}

/// A GET request for this path of the proxy, without TLS.
pub fn get<'a>(path: &str) -> TestRequest<'a> {
    request(super::get(&format!("http://localhost:8899{path}")))
}

/// Any request: `request(testing::request("PUT", "https://localhost/x").body("content"))`.
pub fn request<'a>(call: super::TestRequest) -> TestRequest<'a> {
    TestRequest(Run {
        client: call.client,
        fake: Fake::new(call.request, call.client),
        edits: None,
        route: 0,
        captures: Vec::new(),
        content: call.body.unwrap_or_default().into(),
        is_content_gone: false,
        room: None,
        is_websocket: false,
        is_accepted: false,
        received: VecDeque::new(),
        message: Vec::new(),
        sent: Vec::new(),
        answer: Box::new(|_| Err(ForwardFault::Unreached)),
        answered: Ok(500),
        pending: None,
        forwarder: None,
        forwards: Vec::new(),
    })
}

/// A request for a route, to be run.
pub struct TestRequest<'a>(Run<'a>);

impl<'a> TestRequest<'a> {
    /// Sets the plugin's route, counted from 0; by default the first one.
    #[must_use]
    pub fn route(mut self, number: u32) -> Self {
        self.0.route = number;
        self
    }

    /// Sets the captures of the route's pattern: decoded, or as sent for a route with
    /// [`captures_as_sent`](crate::Route::captures_as_sent).
    #[must_use]
    pub fn captures(mut self, captures: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.0.captures = captures.iter().map(owned).collect();
        self
    }

    /// Makes it a WebSocket, whose client sends these messages and closes.
    #[must_use]
    pub fn websocket(mut self, messages: &[(MessageKind, &[u8])]) -> Self {
        let owned = |(kind, data): &(MessageKind, &[u8])| (*kind, data.to_vec());
        self.0.received = messages.iter().map(owned).collect();
        self.0.is_websocket = true;
        self
    }

    /// Sets the upstreams: for a URL, a status (101 switches protocols), or who caused the failure.
    #[must_use]
    pub fn answer(mut self, answer: impl FnMut(&str) -> Result<u16, ForwardFault> + 'a) -> Self {
        self.0.answer = Box::new(answer);
        self
    }

    /// Runs the plugin.
    pub fn run<W: WebRoutes>(self, plugin: &W) -> Run<'a> {
        // A pointer, because the task keeps pointers into it.
        let run = Box::into_raw(Box::new(self.0));
        let table = Table::<W>::REF;
        // SAFETY, for all of it: the plugin is of the table's type; the run and the captures outlive the task.
        unsafe {
            let exchange = Fake::lend(run.cast(), Hook::HandleClientRequest);
            (*run).edits = Some((*exchange).callbacks);
            let capture = |(name, value): &(String, String)| Capture {
                name: lent(name),
                value: lent(value),
            };
            let captures = &(*run).captures;
            let captures: Vec<Capture> = captures.iter().map(capture).collect();
            let view = WebView {
                host: run.cast(),
                callbacks: callbacks((*exchange).callbacks),
                request: (*exchange).request,
                captures: captures.as_ptr(),
                capture_count: captures.len(),
                route: (*run).route,
                is_websocket: (*run).is_websocket.into(),
                connection_id: 1,
                exchange_id: 1,
                client: fake::address((*run).client),
                local: fake::address(SocketAddr::from(([127, 0, 0, 1], 8899))),
                reserved: [0; 4],
            };
            let task = table.serve()(ptr::from_ref(plugin).cast_mut().cast(), &view);
            let waker = waker::lend(Waker::noop());
            // Everything else that it waits for comes from another thread, except the end of a tunnel.
            while table.poll()(task, &waker) == code::PENDING {
                match (*run).pending.take() {
                    Some(pending) => Run::forward(run, pending),
                    None => thread::yield_now(),
                }
                if (*run).answered == Ok(101) {
                    break;
                }
            }
            table.drop()(task);
            *Box::from_raw(run)
        }
    }
}

type UpstreamHandler<'a> = Box<dyn FnMut(&str) -> Result<u16, ForwardFault> + 'a>;

/// The result of a request. Begins with the `Fake`, so that the callbacks of both take the same handle.
#[repr(C)]
pub struct Run<'a> {
    fake: Fake,
    client: SocketAddr,
    edits: Option<ExchangeCallbacksRef>,
    route: u32,
    captures: Vec<(String, String)>,
    /// The part of the request's content that has not been read.
    content: VecDeque<u8>,
    /// The content was forwarded with the request.
    is_content_gone: bool,
    /// The number of bytes that may still be sent, once the response is started.
    room: Option<u64>,
    is_websocket: bool,
    is_accepted: bool,
    received: VecDeque<(MessageKind, Vec<u8>)>,
    /// The last received message.
    message: Vec<u8>,
    sent: Vec<(MessageKind, Vec<u8>)>,
    answer: UpstreamHandler<'a>,
    /// The result of the last upstream that was tried.
    answered: Result<u16, ForwardFault>,
    /// A forward that begins when the task waits.
    pending: Option<PendingForward>,
    /// The waker of the task that waits for its result.
    forwarder: Option<Waker>,
    forwards: Vec<String>,
}

/// A request to be forwarded.
struct PendingForward {
    url: String,
    authority: String,
    keeps_host: bool,
}

impl Run<'_> {
    /// The status of the response: 101 for a WebSocket, or that of the plugin or an upstream; 502 if the upstream is
    /// unreachable, 500 without a response.
    pub fn status(&self) -> u16 {
        match (&self.answered, self.reply()) {
            _ if self.is_accepted => 101,
            (_, Some(reply)) => reply.status,
            (Ok(status), None) => *status,
            (Err(_), None) => 502,
        }
    }

    /// The plugin's own response; its body is everything that was sent.
    pub fn reply(&self) -> Option<&Reply> {
        self.fake.reply.as_ref()
    }

    /// The URLs of the upstreams that were tried, in order.
    pub fn forwards(&self) -> &[String] {
        &self.forwards
    }

    /// The first field of this name that upstreams received; Host is that of the last one.
    pub fn request_field(&self, name: &str) -> Option<&str> {
        fake::find(&self.fake.request.fields, name)
    }

    /// The messages that the plugin sent, in order.
    pub fn messages(&self) -> &[(MessageKind, Vec<u8>)] {
        &self.sent
    }

    /// The error of the plugin.
    pub fn failure(&self) -> Option<&str> {
        self.fake.failure.as_deref()
    }
}

impl Run<'_> {
    /// Lets the upstream answer.
    ///
    /// # Safety
    /// `run` is valid and lent, and its task is not polled meanwhile.
    unsafe fn forward(run: *mut Self, pending: PendingForward) {
        unsafe {
            (*run).answered = ((*run).answer)(&pending.url);
            // After a failure, the request is unchanged.
            if !pending.keeps_host && (*run).answered.is_ok() {
                let fields = (*run).fake.request.fields.iter_mut();
                for (_, value) in fields.filter(|(name, _)| name.eq_ignore_ascii_case("host")) {
                    *value = pending.authority.as_bytes().to_vec();
                }
                Fake::lend(run.cast(), Hook::HandleClientRequest);
            }
            let is_taken = (*run).answered != Err(ForwardFault::Unreached);
            (*run).is_content_gone |= is_taken && !(*run).content.is_empty();
            (*run).forwards.push(pending.url);
            (*run).forwarder.take().into_iter().for_each(Waker::wake);
        }
    }
}

fn lent(text: &str) -> RStr<'static> {
    // SAFETY: whoever lends it keeps it for as long as the task may read it.
    unsafe { RStr::from_raw_parts(text.as_ptr(), text.len()) }
}

fn callbacks(exchange: ExchangeCallbacksRef) -> WebCallbacksRef {
    let callbacks = WebCallbacks {
        set_field,
        append_field,
        remove_field,
        read,
        reply: exchange.reply(),
        reply_field: exchange.reply_field(),
        reply_body: exchange.reply_body(),
        start,
        write,
        flush,
        forward,
        poll_forward,
        accept,
        receive,
        send_message,
        add_log_field: exchange.add_log_field(),
        fail: exchange.fail(),
        cancel_forward,
    };
    callbacks.leak_into_prefix()
}

// SAFETY, for all callbacks: tasks pass the handle that they were given, which is that of a `Run` and a `Fake`.

unsafe fn edit(host: *mut c_void, make: impl FnOnce(ExchangeCallbacksRef) -> u32) -> u32 {
    let edits = unsafe { (*host.cast::<Run<'_>>()).edits };
    answered(edit::STALE, || edits.map_or(edit::STALE, make))
}

/// The result of `work`; `otherwise` if it panics.
fn answered(otherwise: u32, work: impl FnOnce() -> u32) -> u32 {
    guarded(work).unwrap_or(otherwise)
}

unsafe extern "C" fn set_field(host: *mut c_void, name: RStr<'_>, value: RSlice<'_, u8>) -> u32 {
    unsafe { edit(host, |to| to.set_field()(host, head::REQUEST, name, value)) }
}

unsafe extern "C" fn append_field(host: *mut c_void, name: RStr<'_>, value: RSlice<'_, u8>) -> u32 {
    unsafe {
        edit(host, |to| {
            to.append_field()(host, head::REQUEST, name, value)
        })
    }
}

unsafe extern "C" fn remove_field(host: *mut c_void, name: RStr<'_>) -> u32 {
    unsafe { edit(host, |to| to.remove_field()(host, head::REQUEST, name)) }
}

unsafe extern "C" fn read(
    host: *mut c_void,
    room: *mut u8,
    room_len: usize,
    _: &RawWaker,
    len: &mut usize,
) -> u32 {
    answered(code::ERROR, || {
        let host = host.cast::<Run<'_>>();
        if unsafe { (*host).is_content_gone } {
            return code::ERROR;
        }
        let content = unsafe { &mut (*host).content };
        *len = content
            .read(unsafe { slice::from_raw_parts_mut(room, room_len) })
            .unwrap_or(0);
        code::PROCEED
    })
}

unsafe extern "C" fn start(host: *mut c_void, len: u64) -> u32 {
    answered(edit::STALE, || {
        unsafe {
            let here = host.cast::<Run<'_>>();
            let Some(reply) = &(*here).fake.reply else {
                return edit::STALE;
            };
            (*here).room = match len {
                UNKNOWN_LENGTH => Some(len),
                len => len.checked_sub(reply.body.len() as u64),
            };
            // From here on, it is too late for another reply.
            Fake::lend(host.cast(), Hook::OnAccessLog);
            (*here).room.map_or(edit::BAD_VALUE, |_| edit::OK)
        }
    })
}

unsafe extern "C" fn write(
    host: *mut c_void,
    content: RSlice<'_, u8>,
    _: &RawWaker,
    len: &mut usize,
) -> u32 {
    answered(code::ERROR, || {
        unsafe {
            let host = host.cast::<Run<'_>>();
            let room = (*host)
                .room
                .and_then(|room| room.checked_sub(content.len() as u64));
            let (Some(room), Some(reply)) = (room, &mut (*host).fake.reply) else {
                return code::ERROR;
            };
            reply.body.to_mut().extend_from_slice(&content);
            ((*host).room, *len) = (Some(room), content.len());
        }
        code::PROCEED
    })
}

unsafe extern "C" fn flush(_: *mut c_void, _: &RawWaker) -> u32 {
    code::PROCEED
}

unsafe extern "C" fn forward(host: *mut c_void, to: &ForwardView) -> u32 {
    answered(edit::STALE, || {
        let url = to.url.as_str();
        let authority = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        let Some(authority) =
            authority.filter(|url| url.bytes().all(|byte| byte.is_ascii_graphic()))
        else {
            return edit::BAD_VALUE;
        };
        unsafe {
            let host = host.cast::<Run<'_>>();
            if (*host).room.is_some() || (*host).is_accepted {
                return edit::STALE;
            }
            let authority = authority.split(['/', '?']).next().unwrap_or_default();
            (*host).pending = Some(PendingForward {
                url: url.to_owned(),
                authority: authority.to_owned(),
                keeps_host: to.host != forwarded_host::UPSTREAM,
            });
        }
        edit::OK
    })
}

unsafe extern "C" fn poll_forward(
    host: *mut c_void,
    waker: &RawWaker,
    outcome: &mut ForwardedView,
) -> u32 {
    answered(code::ERROR, || {
        let run = host.cast::<Run<'_>>();
        unsafe {
            if (*run).pending.is_some() {
                let is_to_be_woken = !waker.data.is_null();
                (*run).forwarder = is_to_be_woken.then(|| (*waker::lent(waker)).clone());
                return code::PENDING;
            }
        }
        match unsafe { &(*run).answered } {
            Ok(101) => return code::PENDING,
            Ok(status) => (outcome.status, outcome.is_answered) = ((*status).into(), 1),
            Err(whose) => {
                outcome.fault = match whose {
                    ForwardFault::Unreached => fault::UNREACHED,
                    ForwardFault::Upstream => fault::UPSTREAM,
                    ForwardFault::Client => fault::CLIENT,
                    ForwardFault::Filter | ForwardFault::Caller => fault::FILTER,
                };
                outcome.error = RStr::from_str("not answered in this test");
            }
        }
        code::PROCEED
    })
}

unsafe extern "C" fn cancel_forward(host: *mut c_void) {
    let run = host.cast::<Run<'_>>();
    answered(edit::STALE, || {
        unsafe { ((*run).pending, (*run).forwarder) = (None, None) };
        edit::OK
    });
}

unsafe fn accept_now(host: *mut Run<'_>) -> bool {
    unsafe {
        (*host).is_accepted |= (*host).fake.reply.is_none();
        (*host).is_accepted
    }
}

unsafe extern "C" fn accept(host: *mut c_void, _: RStr<'_>) -> u32 {
    answered(edit::STALE, || match unsafe { accept_now(host.cast()) } {
        true => edit::OK,
        false => edit::STALE,
    })
}

unsafe extern "C" fn receive(host: *mut c_void, _: &RawWaker, message: &mut MessageView) -> u32 {
    answered(code::ERROR, || unsafe {
        let host = host.cast::<Run<'_>>();
        if !accept_now(host) {
            return code::ERROR;
        }
        let next = (*host).received.pop_front();
        let answer = if next.is_some() {
            code::PROCEED
        } else {
            code::CLOSE
        };
        let (kind, data) = next.unwrap_or_else(|| (MessageKind::Close, close_data(1000, "")));
        message.kind = kind.number().into();
        (*host).message = data;
        let data = &(*host).message;
        message.data = RSlice::from_raw_parts(data.as_ptr(), data.len());
        answer
    })
}

unsafe extern "C" fn send_message(
    host: *mut c_void,
    kind: u32,
    data: RSlice<'_, u8>,
    _: &RawWaker,
) -> u32 {
    answered(code::ERROR, || {
        let kind = MessageKind::from_number(kind);
        let Some(kind) = kind.filter(|kind| check_message(*kind, &data).is_ok()) else {
            return code::ERROR;
        };
        unsafe {
            let host = host.cast::<Run<'_>>();
            if !accept_now(host) {
                return code::ERROR;
            }
            (*host).sent.push((kind, data.to_vec()));
        }
        code::PROCEED
    })
}
