//! The data behind the callbacks of a running hook: the views that plugins read, and the edits they have made.
#![expect(unsafe_code, reason = "keeps pointers to heads while a hook runs")]

use std::ffi::c_void;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use abi_stable::std_types::{RSlice, RStr};
use plugin_api::abi::{
    BodyMode, ClientTlsView, ExchangeView, FieldSlot, RequestView, ResponseView, SummaryView,
    TlsHelloView,
};

use super::callbacks::CALLBACKS;
use super::hello::{NO_HELLO, ShownHello};
use super::session::{ExchangeFacts, Subject};
use super::summary::{self, NO_SUMMARY, Summary};
use super::{BodyFacts, ClientEnd, ClientPlugins, Hook, WorkerChain, views};
use crate::buffers;
use crate::content_coding::{Coding, Codings};
use crate::http1::{RequestHead, ResponseHead, Scheme, Trailers};
use crate::reply::PluginReply;
use crate::side::Side;
use crate::upstream::Parent;
use crate::websocket::Sent;

/// One exchange, as plugins and callbacks share it.
pub(super) struct Inner {
    pub(super) chain: Option<Rc<WorkerChain>>,
    pub(super) client: Option<Rc<ClientPlugins>>,
    pub(super) view: ExchangeView,
    pub(super) hook: Hook,
    /// The plugin whose hook runs.
    pub(super) running: usize,
    /// Set while a hook runs that may edit, null otherwise.
    pub(super) request: *mut RequestHead,
    pub(super) response: *mut ResponseHead,
    pub(super) trailers: *mut Trailers,
    pub(super) reply: Option<PluginReply>,
    pub(super) emitted: Vec<u8>,
    /// Something was emitted, if only something empty.
    pub(super) has_emitted: bool,
    /// WebSocket messages of the running plugin's own.
    pub(super) sent: Vec<Sent>,
    pub(super) failure: String,
    pub(super) log_fields: Vec<(String, String)>,
    pub(super) redirected_to: Option<(String, u16)>,
    /// Where the client's tunnel leads, if that is another host than the request is for.
    pub(super) tunnel: Option<Box<TunnelEnd>>,
    /// The server name of the hello is no mere claim.
    pub(super) is_server_name_proven: bool,
    pub(super) scheme: Option<Scheme>,
    pub(super) parent: Option<Parent>,
    /// The plugin that has chosen it.
    pub(super) parent_chooser: usize,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) user: String,
    /// What plugins said about the bodies of this exchange.
    pub(super) body_modes: Vec<(usize, Side, BodyMode)>,
    /// The whole content, while body hooks run.
    pub(super) body: Vec<u8>,
    pub(super) has_new_body: bool,
    /// The plugin whose hook runs gets it without its content coding, which the host redoes.
    pub(super) is_body_decoded: bool,
    pub(super) failure_reason: String,
    /// By plugin, as far as anything was to be noted: most plugins keep nothing.
    pub(super) states: Vec<PluginState>,
    /// The final response, once the exchange is done with it.
    pub(super) kept_response: Option<ResponseHead>,
    request_view: RequestView,
    response_view: ResponseView,
    request_slots: Vec<FieldSlot>,
    response_slots: Vec<FieldSlot>,
    trailer_slots: Vec<FieldSlot>,
    is_request_shown: bool,
    hello: Option<Box<ShownHello>>,
    hello_view: TlsHelloView,
    client_end: Option<Rc<ClientEnd>>,
    client_tls_view: ClientTlsView,
    summary_view: SummaryView,
}

/// Where a tunnel leads whose requests name another host: an address, or the host of a front.
#[derive(Debug)]
pub(crate) struct TunnelEnd {
    /// In its canonical form.
    pub(crate) host: String,
    /// How the client speaks inside the tunnel, and so the proxy with the upstream.
    pub(crate) scheme: Scheme,
    /// TLS with the upstream is verified for the host that the request is for.
    pub(crate) is_verified: bool,
}

/// A plugin's own state for this exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PluginState {
    /// Not made, or the plugin keeps none.
    NotMade,
    /// Never null.
    Made(*mut c_void),
    /// The plugin panicked: it is not called again in this exchange.
    Lost,
}

impl Inner {
    pub(super) fn new() -> Self {
        let empty = RStr::from_str("");
        Self {
            chain: None,
            client: None,
            view: ExchangeView {
                host: std::ptr::null_mut(),
                callbacks: CALLBACKS,
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
            },
            hook: Hook::BeforeUpstreamConnection,
            running: 0,
            request: std::ptr::null_mut(),
            response: std::ptr::null_mut(),
            trailers: std::ptr::null_mut(),
            reply: None,
            emitted: Vec::new(),
            has_emitted: false,
            sent: Vec::new(),
            failure: String::new(),
            log_fields: Vec::new(),
            redirected_to: None,
            tunnel: None,
            is_server_name_proven: false,
            scheme: None,
            parent: None,
            parent_chooser: 0,
            addresses: Vec::new(),
            source: None,
            user: String::new(),
            body_modes: Vec::new(),
            body: Vec::new(),
            has_new_body: false,
            is_body_decoded: false,
            failure_reason: String::new(),
            states: Vec::new(),
            kept_response: None,
            request_view: views::NO_REQUEST,
            response_view: ResponseView {
                status: 0,
                version: 0,
                reason: empty,
                fields: std::ptr::null(),
                field_count: 0,
                reserved: [0; 4],
            },
            request_slots: Vec::new(),
            response_slots: Vec::new(),
            trailer_slots: Vec::new(),
            is_request_shown: false,
            hello: None,
            hello_view: NO_HELLO,
            client_end: None,
            client_tls_view: views::NO_TLS,
            summary_view: NO_SUMMARY,
        }
    }

    /// Makes it the part of a new exchange.
    pub(super) fn begin(
        &mut self,
        chain: &Rc<WorkerChain>,
        client: Option<&Rc<ClientPlugins>>,
        end: Option<&Rc<ClientEnd>>,
        facts: ExchangeFacts,
    ) {
        self.view.connection_id = facts.connection_id;
        self.view.exchange_id = facts.exchange_id;
        self.view.client = views::address(facts.client);
        self.view.connection_state = std::ptr::null_mut();
        self.chain = Some(Rc::clone(chain));
        self.client = client.map(Rc::clone);
        if let Some(end) = end {
            self.view.local = end.local.map_or(views::NO_ADDRESS, views::address);
            if let Some(facts) = &end.tls {
                self.client_tls_view = views::tls_view(facts);
                self.view.client_tls = &raw const self.client_tls_view;
            }
            self.client_end = Some(Rc::clone(end));
        }
    }

    /// Shows both ends of the upstream connection.
    pub(super) fn show_upstream_ends(&mut self, ends: Option<(SocketAddr, SocketAddr)>) {
        let (peer, local) = match ends {
            Some((peer, local)) => (views::address(peer), views::address(local)),
            None => (views::NO_ADDRESS, views::NO_ADDRESS),
        };
        (self.view.upstream_address, self.view.upstream_local) = (peer, local);
    }

    /// Shows what the exchange came to, until it ends; its texts have to last as long.
    pub(super) fn show_summary(&mut self, summary: &Summary<'_>) {
        self.summary_view = summary::view(summary);
        self.view.summary = &raw const self.summary_view;
    }

    /// The summary's texts may go.
    pub(super) fn hide_summary(&mut self) {
        self.view.summary = std::ptr::null();
    }

    pub(super) fn state(&self, index: usize) -> PluginState {
        self.states
            .get(index)
            .copied()
            .unwrap_or(PluginState::NotMade)
    }

    pub(super) fn set_state(&mut self, index: usize, state: PluginState) {
        if self.states.len() <= index {
            self.states.resize(index + 1, PluginState::NotMade);
        }
        self.states[index] = state;
    }

    /// Forgets the exchange, keeps the small allocations.
    pub(super) fn end(&mut self) {
        self.detach();
        self.hide_response();
        self.is_request_shown = false;
        self.view.request = std::ptr::null();
        self.view.tls_hello = std::ptr::null();
        self.hello = None;
        self.view.local = views::NO_ADDRESS;
        self.show_upstream_ends(None);
        self.view.client_tls = std::ptr::null();
        self.client_end = None;
        self.hide_summary();
        self.view.user = RStr::from_str("");
        self.view.failure = RStr::from_str("");
        self.reply = None;
        self.emitted.clear();
        self.sent.clear();
        self.failure.clear();
        self.log_fields.clear();
        self.redirected_to = None;
        self.tunnel = None;
        self.is_server_name_proven = false;
        self.scheme = None;
        self.parent = None;
        self.addresses.clear();
        self.source = None;
        self.user.clear();
        self.body_modes.clear();
        self.drop_body();
        self.failure_reason.clear();
        self.states.clear();
        self.chain = None;
        self.client = None;
        if let Some(head) = self.kept_response.take() {
            buffers::give_back_head(head.into_buffers());
        }
    }

    /// The request begins its way anew, to `leads_to` if that is not what it says itself; what plugins have wanted of an
    /// earlier try is of the past.
    pub(super) fn begin_again(&mut self, leads_to: Option<(String, u16)>) {
        self.forget_request();
        self.redirected_to = leads_to;
        self.scheme = None;
        self.parent = None;
        self.addresses.clear();
        self.source = None;
    }

    /// Lets a hook see the heads and edit them.
    pub(super) fn attach(&mut self, subject: Subject<'_>) {
        self.request = subject.request;
        if !self.is_request_shown {
            self.refresh_request();
        }
        match subject.response {
            Some(head) => {
                self.response = head;
                self.refresh_response();
            }
            None => self.hide_response(),
        }
    }

    /// Lets hooks that only look see the heads.
    pub(super) fn show(&mut self, request: &RequestHead, response: Option<&ResponseHead>) {
        if !self.is_request_shown {
            self.show_request(request);
        }
        match response {
            Some(head) => self.show_response(head),
            None => self.hide_response(),
        }
    }

    pub(super) fn detach(&mut self) {
        self.request = std::ptr::null_mut();
        self.response = std::ptr::null_mut();
        self.hide_trailers();
    }

    /// The trailers have passed.
    pub(super) fn hide_trailers(&mut self) {
        self.trailers = std::ptr::null_mut();
        self.view.trailers = std::ptr::null();
        self.view.trailer_count = 0;
    }

    /// The response is no longer where it was shown.
    pub(super) fn hide_response(&mut self) {
        self.response = std::ptr::null_mut();
        self.view.response = std::ptr::null();
    }

    /// The request is no longer where it was shown.
    pub(super) fn forget_request(&mut self) {
        self.is_request_shown = false;
        self.view.request = std::ptr::null();
    }

    /// Makes plugins see the request, and where it goes, as they are now.
    pub(super) fn refresh_request(&mut self) {
        // SAFETY: set by `attach`, whose caller keeps the head borrowed until `detach`.
        if let Some(head) = unsafe { self.request.as_ref() } {
            self.show_request(head);
        }
    }

    /// As [`refresh_request`](Self::refresh_request) where nothing but fields has changed.
    pub(super) fn refresh_request_fields(&mut self) {
        // SAFETY: as in `refresh_request`.
        let Some(head) = (unsafe { self.request.as_ref() }) else {
            return;
        };
        if head.raw_target().as_ptr() != self.request_view.target.as_ptr() {
            // The text has moved.
            return self.show_request(head);
        }
        views::fill_slots(head.fields(), &mut self.request_slots);
        self.request_view.fields = self.request_slots.as_ptr();
        self.request_view.field_count = self.request_slots.len();
    }

    fn show_request(&mut self, head: &RequestHead) {
        self.request_view = views::request_view(head, &mut self.request_slots);
        self.view.request = &raw const self.request_view;
        self.is_request_shown = true;
        self.show_upstream();
    }

    /// Makes plugins see where the exchange goes.
    pub(super) fn show_upstream(&mut self) {
        let (host, port) = match (&self.redirected_to, &self.tunnel) {
            (Some((host, port)), _) => (views::text(host.as_bytes()), u32::from(*port)),
            (None, Some(end)) => (views::text(end.host.as_bytes()), self.request_view.port),
            (None, None) => (self.request_view.host, self.request_view.port),
        };
        self.view.upstream_host = host;
        self.view.upstream_port = port;
        self.view.upstream_scheme = match self.scheme {
            _ if self.request_view.scheme.is_empty() => self.request_view.scheme,
            Some(Scheme::Https) => RStr::from_str("https"),
            Some(Scheme::Http) => RStr::from_str("http"),
            None => self.request_view.scheme,
        };
    }

    /// Whether the upstream is known to be the host that the request is for: the connection is made by that name, or
    /// its certificate is verified for it.
    pub(super) fn is_proven(&self) -> bool {
        match (&self.redirected_to, &self.tunnel) {
            (Some(_), _) => !self.is_redirected(),
            (None, Some(end)) => {
                end.is_verified && self.scheme.unwrap_or(end.scheme) == Scheme::Https
            }
            (None, None) => true,
        }
    }

    /// Whether a plugin has sent the exchange to another host than the request is for.
    pub(super) fn is_redirected(&self) -> bool {
        let redirected_to = self.redirected_to.as_ref();
        redirected_to.is_some_and(|(host, _)| *host != self.request_view.host.as_str())
    }

    /// Makes plugins see the response as it is now.
    pub(super) fn refresh_response(&mut self) {
        // SAFETY: as in `refresh_request`.
        if let Some(head) = unsafe { self.response.as_ref() } {
            self.show_response(head);
        }
    }

    fn show_response(&mut self, head: &ResponseHead) {
        self.response_view = views::response_view(head, &mut self.response_slots);
        self.view.response = &raw const self.response_view;
    }

    /// Makes plugins see the trailers as they are now; nothing when there are none.
    pub(super) fn refresh_trailers(&mut self) {
        // SAFETY: set for the time of a trailer hook, from trailers that stay borrowed.
        let count = match unsafe { self.trailers.as_ref() } {
            Some(trailers) => {
                views::fill_slots(trailers.fields(), &mut self.trailer_slots);
                self.trailer_slots.len()
            }
            None => 0,
        };
        self.view.trailers = self.trailer_slots.as_ptr();
        self.view.trailer_count = count;
    }

    /// Gives plugins the whole content to look at.
    pub(super) fn show_body(&mut self, content: Vec<u8>, is_decoded: bool) {
        self.body = content;
        self.is_body_decoded = is_decoded;
        self.has_new_body = false;
        self.refresh_body();
    }

    pub(super) fn refresh_body(&mut self) {
        self.view.body = views::bytes(&self.body);
    }

    /// Takes back the whole content.
    pub(super) fn take_body(&mut self) -> Vec<u8> {
        self.view.body = RSlice::from_slice(&[]);
        std::mem::take(&mut self.body)
    }

    fn drop_body(&mut self) {
        drop(self.take_body());
        self.has_new_body = false;
    }

    /// How the content is coded that goes this way, as the head says now.
    pub(super) fn coding(&self, way: Side) -> Option<Coding> {
        // SAFETY: as in `refresh_request`.
        let facts = unsafe {
            match way {
                Side::Client => self
                    .request
                    .as_ref()
                    .map(|head| BodyFacts::of(head.fields())),
                Side::Upstream => self
                    .response
                    .as_ref()
                    .map(|head| BodyFacts::of(head.fields())),
            }
        };
        match facts?.codings {
            Codings::One(coding) => Some(coding),
            _ => None,
        }
    }

    /// Shows what the client has said inside of its tunnel.
    pub(super) fn show_hello(&mut self, hello: Box<ShownHello>) {
        self.hello_view = hello.view();
        self.hello = Some(hello);
        self.view.tls_hello = &raw const self.hello_view;
    }

    pub(super) fn set_user(&mut self, name: &str) {
        self.user.clear();
        self.user.push_str(name);
        self.view.user = views::text(self.user.as_bytes());
    }

    pub(super) fn set_failure_reason(&mut self, reason: &str) {
        self.failure_reason.clear();
        self.failure_reason.push_str(reason);
        self.view.failure = views::text(self.failure_reason.as_bytes());
    }
}
