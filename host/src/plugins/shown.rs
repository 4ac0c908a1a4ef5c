//! What plugins see of an exchange: the view that each hook is given, and everything that it leads to.
//!
//! The view has pointers into this value, which therefore stays where it is while the exchange lasts. What is not shown
//! has a null pointer there, so its old values are never read.

use std::net::SocketAddr;
use std::rc::Rc;

use abi_stable::std_types::{RSlice, RStr};
use plugin_api::abi::{
    ClientTlsView, ExchangeCallbacksRef, ExchangeView, FieldSlot, RequestView, ResponseView,
    SummaryView, TlsHelloView,
};

use super::facts::{ClientEnd, ExchangeFacts};
use super::hello::{NO_HELLO, ShownHello};
use super::route::ExchangeRoute;
use super::summary::{self, NO_SUMMARY, Summary};
use super::views;
use crate::http1::{RequestHead, ResponseHead, Scheme, Trailers};

/// The view of one exchange, and what it leads to.
pub(super) struct Shown {
    pub(super) view: ExchangeView,
    request: RequestView,
    response: ResponseView,
    hello: TlsHelloView,
    client_tls: ClientTlsView,
    summary: SummaryView,
    slots: Slots,
    texts: Texts,
}

/// The lists of fields that the views of heads and trailers lead to. Filled anew before each use.
#[derive(Default)]
struct Slots {
    request: Vec<FieldSlot>,
    response: Vec<FieldSlot>,
    trailers: Vec<FieldSlot>,
}

/// The texts that views lead to and that no one else keeps.
#[derive(Default)]
struct Texts {
    user: String,
    failure: String,
    hello: Option<Box<ShownHello>>,
    client_end: Option<Rc<ClientEnd>>,
}

impl Shown {
    pub(super) fn new(callbacks: ExchangeCallbacksRef) -> Self {
        Self {
            view: empty_view(callbacks),
            request: views::NO_REQUEST,
            response: views::NO_RESPONSE,
            hello: NO_HELLO,
            client_tls: views::NO_TLS,
            summary: NO_SUMMARY,
            slots: Slots::default(),
            texts: Texts::default(),
        }
    }

    /// Shows a new exchange, of which nothing else is known yet.
    pub(super) fn begin(&mut self, facts: ExchangeFacts, end: Option<&Rc<ClientEnd>>) {
        self.view.connection_id = facts.connection_id;
        self.view.exchange_id = facts.exchange_id;
        self.view.client = views::address(facts.client);
        if let Some(end) = end {
            self.view.local = end.local.map_or(views::NO_ADDRESS, views::address);
            if let Some(facts) = &end.tls {
                self.client_tls = views::tls_view(facts);
                self.view.client_tls = &raw const self.client_tls;
            }
            self.texts.client_end = Some(Rc::clone(end));
        }
    }

    /// Shows nothing of the exchange any more. The slots and the small texts keep their allocations.
    pub(super) fn end(&mut self) {
        self.view = empty_view(self.view.callbacks);
        self.texts.user.clear();
        self.texts.failure.clear();
        self.texts.hello = None;
        self.texts.client_end = None;
    }

    // ---- heads -----------------------------------------------------------------------------------------------

    #[inline]
    pub(super) fn has_request(&self) -> bool {
        !self.view.request.is_null()
    }

    /// Shows the request as it is now, and where it goes.
    pub(super) fn show_request(&mut self, head: &RequestHead, route: &ExchangeRoute) {
        self.request = views::request_view(head, &mut self.slots.request);
        self.view.request = &raw const self.request;
        self.show_upstream(route);
    }

    /// As [`show_request`](Self::show_request) where only fields have changed.
    #[inline]
    pub(super) fn show_request_fields(&mut self, head: &RequestHead, route: &ExchangeRoute) {
        if head.raw_target().as_ptr() != self.request.target.as_ptr() {
            // The text has moved.
            return self.show_request(head, route);
        }
        views::fill_slots(head.fields(), &mut self.slots.request);
        self.request.fields = self.slots.request.as_ptr();
        self.request.field_count = self.slots.request.len();
    }

    /// The request is no longer where it was shown.
    #[inline]
    pub(super) fn hide_request(&mut self) {
        self.view.request = std::ptr::null();
    }

    /// The host that the shown request is for.
    pub(super) fn requested_host(&self) -> &str {
        self.request.host.as_str()
    }

    /// Shows where the exchange goes.
    pub(super) fn show_upstream(&mut self, route: &ExchangeRoute) {
        let (host, port) = match route.other_host() {
            Some((host, port)) => (
                views::text(host.as_bytes()),
                port.map_or(self.request.port, u32::from),
            ),
            None => (self.request.host, self.request.port),
        };
        self.view.upstream_host = host;
        self.view.upstream_port = port;
        self.view.upstream_scheme = match route.overrides.scheme {
            _ if self.request.scheme.is_empty() => self.request.scheme,
            Some(Scheme::Https) => RStr::from_str("https"),
            Some(Scheme::Http) => RStr::from_str("http"),
            None => self.request.scheme,
        };
    }

    /// Shows the response as it is now.
    pub(super) fn show_response(&mut self, head: &ResponseHead) {
        self.response = views::response_view(head, &mut self.slots.response);
        self.view.response = &raw const self.response;
    }

    /// The response is no longer where it was shown.
    #[inline]
    pub(super) fn hide_response(&mut self) {
        self.view.response = std::ptr::null();
    }

    /// Shows the trailers as they are now.
    pub(super) fn show_trailers(&mut self, trailers: &Trailers) {
        views::fill_slots(trailers.fields(), &mut self.slots.trailers);
        self.view.trailers = self.slots.trailers.as_ptr();
        self.view.trailer_count = self.slots.trailers.len();
    }

    #[inline]
    pub(super) fn hide_trailers(&mut self) {
        self.view.trailers = std::ptr::null();
        self.view.trailer_count = 0;
    }

    // ---- content ---------------------------------------------------------------------------------------------

    /// Shows whole content, which stays where it is until it is hidden.
    pub(super) fn show_content(&mut self, content: &[u8]) {
        self.view.body = views::bytes(content);
    }

    pub(super) fn hide_content(&mut self) {
        self.view.body = RSlice::from_slice(&[]);
    }

    // ---- connections and people ------------------------------------------------------------------------------

    /// Shows both ends of the upstream connection: the peer's address, and ours.
    pub(super) fn show_upstream_ends(&mut self, ends: Option<(SocketAddr, SocketAddr)>) {
        let (peer, local) = match ends {
            Some((peer, local)) => (views::address(peer), views::address(local)),
            None => (views::NO_ADDRESS, views::NO_ADDRESS),
        };
        (self.view.upstream_address, self.view.upstream_local) = (peer, local);
    }

    /// Shows the ClientHello of the client in its tunnel, to the end of the exchange.
    pub(super) fn show_hello(&mut self, hello: Box<ShownHello>) {
        self.hello = hello.view();
        self.texts.hello = Some(hello);
        self.view.tls_hello = &raw const self.hello;
    }

    /// Who the client is; empty if it has not authenticated.
    pub(super) fn user(&self) -> &str {
        &self.texts.user
    }

    pub(super) fn show_user(&mut self, name: &str) {
        name.clone_into(&mut self.texts.user);
        self.view.user = views::text(self.texts.user.as_bytes());
    }

    /// Shows why there is no upstream; empty when there is one again.
    pub(super) fn show_failure(&mut self, reason: &str) {
        reason.clone_into(&mut self.texts.failure);
        self.view.failure = views::text(self.texts.failure.as_bytes());
    }

    // ---- the end ---------------------------------------------------------------------------------------------

    /// Shows what the exchange came to, whose texts stay where they are until it is hidden.
    pub(super) fn show_summary(&mut self, summary: &Summary<'_>) {
        self.summary = summary::view(summary);
        self.view.summary = &raw const self.summary;
    }

    pub(super) fn hide_summary(&mut self) {
        self.view.summary = std::ptr::null();
    }
}

/// The view of an exchange of which nothing is known.
fn empty_view(callbacks: ExchangeCallbacksRef) -> ExchangeView {
    let empty = RStr::from_str("");
    ExchangeView {
        host: std::ptr::null_mut(),
        callbacks,
        request: std::ptr::null(),
        response: std::ptr::null(),
        upstream_host: empty,
        upstream_scheme: empty,
        upstream_port: 0,
        hook: 0,
        connection_id: 0,
        exchange_id: 0,
        client: views::NO_ADDRESS,
        connection_state: std::ptr::null_mut(),
        user: empty,
        body: RSlice::from_slice(&[]),
        trailers: std::ptr::null(),
        trailer_count: 0,
        failure: empty,
        tls_hello: std::ptr::null(),
        reserved: [0; 8],
        local: views::NO_ADDRESS,
        upstream_address: views::NO_ADDRESS,
        upstream_local: views::NO_ADDRESS,
        client_tls: std::ptr::null(),
        summary: std::ptr::null(),
    }
}
