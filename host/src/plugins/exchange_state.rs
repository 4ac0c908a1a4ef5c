//! What the handles of one exchange and the callbacks of its hooks share.
//!
//! `ExchangeView::host` leads here: what plugins see, the heads that the running hook may edit, and what plugins have
//! decided so far.
#![expect(unsafe_code, reason = "keeps pointers to heads while a hook runs")]

use std::rc::Rc;

use plugin_api::abi::hook::{Hook, Permission};
use plugin_api::abi::{BodyMode, ExchangeCallbacksRef};

use super::chain::WorkerChain;
use super::client::ClientPlugins;
use super::route::{ExchangeRoute, RouteOverrides};
use super::shown::Shown;
use super::state::ExchangeStates;
use crate::buffers;
use crate::content_coding::{Coding, Codings};
use crate::http1::{RequestHead, ResponseHead, Trailers};
use crate::reply::PluginReply;
use crate::side::Side;
use crate::websocket::PluginMessage;

/// The heads that a hook works on.
pub(crate) struct Subject<'a> {
    pub(crate) request: &'a mut RequestHead,
    pub(crate) response: Option<&'a mut ResponseHead>,
}

/// One exchange, as plugins and callbacks share it.
pub(super) struct ExchangeState {
    pub(super) chain: Option<Rc<WorkerChain>>,
    pub(super) client: Option<Rc<ClientPlugins>>,
    pub(super) shown: Shown,
    pub(super) running: RunningHook,
    pub(super) editable: EditableHeads,
    pub(super) output: HookOutput,
    pub(super) content: WholeContent,
    pub(super) route: ExchangeRoute,
    /// For the access log.
    pub(super) log_fields: Vec<(String, String)>,
    /// How plugins want the bodies of this exchange, with their positions in the chain; later entries count.
    pub(super) body_modes: Vec<(usize, Side, BodyMode)>,
    pub(super) states: ExchangeStates,
    /// The final response, for the hooks at the end.
    pub(super) kept_response: Option<ResponseHead>,
}

/// The hook that runs.
pub(super) struct RunningHook {
    pub(super) hook: Hook,
    /// Position of its plugin in the chain.
    pub(super) plugin: usize,
}

/// The heads that a hook may edit; null while it may not.
pub(super) struct EditableHeads {
    pub(super) request: *mut RequestHead,
    pub(super) response: *mut ResponseHead,
    pub(super) trailers: *mut Trailers,
}

/// What the running hook has produced besides its result.
#[derive(Default)]
pub(super) struct HookOutput {
    pub(super) reply: Option<PluginReply>,
    /// Data in place of what the hook was given.
    pub(super) emitted: Option<Vec<u8>>,
    /// WebSocket messages of the plugin's own.
    pub(super) messages: Vec<PluginMessage>,
    /// Why it failed; empty if it gave no reason.
    pub(super) failure: String,
}

/// Content that is given to plugins whole, while they have it.
#[derive(Default)]
pub(super) struct WholeContent {
    pub(super) bytes: Vec<u8>,
    /// The running hook has replaced it.
    pub(super) is_replaced: bool,
    /// The plugin gets it without its content coding, which the host applies again.
    pub(super) is_decoded: bool,
}

impl EditableHeads {
    const NONE: Self = Self {
        request: std::ptr::null_mut(),
        response: std::ptr::null_mut(),
        trailers: std::ptr::null_mut(),
    };
}

impl ExchangeState {
    pub(super) fn new(callbacks: ExchangeCallbacksRef) -> Self {
        Self {
            chain: None,
            client: None,
            shown: Shown::new(callbacks),
            running: RunningHook {
                hook: Hook::BeforeUpstreamConnection,
                plugin: 0,
            },
            editable: EditableHeads::NONE,
            output: HookOutput::default(),
            content: WholeContent::default(),
            route: ExchangeRoute::default(),
            log_fields: Vec::new(),
            body_modes: Vec::new(),
            states: ExchangeStates::default(),
            kept_response: None,
        }
    }

    /// Forgets the exchange; keeps the small allocations.
    pub(super) fn end(&mut self) {
        self.shown.end();
        self.editable = EditableHeads::NONE;
        self.output = HookOutput::default();
        self.content = WholeContent::default();
        self.route = ExchangeRoute::default();
        self.log_fields.clear();
        self.body_modes.clear();
        self.states.clear();
        self.chain = None;
        self.client = None;
        if let Some(head) = self.kept_response.take() {
            buffers::give_back_head(head.into_buffers());
        }
    }

    /// The request starts again, for `leads_to` if that is another host than its own. What plugins have chosen for its
    /// earlier route no longer counts.
    pub(super) fn begin_again(&mut self, leads_to: Option<(String, u16)>) {
        self.shown.hide_request();
        self.route.overrides = RouteOverrides {
            redirected_to: leads_to,
            ..RouteOverrides::default()
        };
    }

    /// Whether the running hook has this permission.
    #[inline]
    pub(super) fn may(&self, permission: Permission) -> bool {
        self.running.hook.may(permission)
    }

    // ---- heads -----------------------------------------------------------------------------------------------

    /// Shows the heads to hooks, which may edit them.
    #[inline]
    pub(super) fn attach(&mut self, subject: Subject<'_>) {
        self.editable.request = subject.request;
        if !self.shown.has_request() {
            self.refresh_request();
        }
        match subject.response {
            Some(head) => {
                self.editable.response = head;
                self.refresh_response();
            }
            None => self.hide_response(),
        }
    }

    /// Shows the heads to hooks, which cannot edit them.
    #[inline]
    pub(super) fn show(&mut self, request: &RequestHead, response: Option<&ResponseHead>) {
        if !self.shown.has_request() {
            self.shown.show_request(request, &self.route);
        }
        match response {
            Some(head) => self.shown.show_response(head),
            None => self.hide_response(),
        }
    }

    /// Ends the use of heads and trailers; only the request stays shown.
    #[inline]
    pub(super) fn detach(&mut self) {
        self.editable.request = std::ptr::null_mut();
        self.hide_response();
        self.hide_trailers();
    }

    /// The response is no longer where it was shown.
    #[inline]
    pub(super) fn hide_response(&mut self) {
        self.editable.response = std::ptr::null_mut();
        self.shown.hide_response();
    }

    /// The trailers are no longer where they were shown.
    #[inline]
    pub(super) fn hide_trailers(&mut self) {
        self.editable.trailers = std::ptr::null_mut();
        self.shown.hide_trailers();
    }

    /// Shows the request, and where it goes, as they are now.
    #[inline]
    pub(super) fn refresh_request(&mut self) {
        // SAFETY: set by `attach`, whose caller keeps the head borrowed until `detach`.
        if let Some(head) = unsafe { self.editable.request.as_ref() } {
            self.shown.show_request(head, &self.route);
        }
    }

    /// As [`refresh_request`](Self::refresh_request) where only fields have changed.
    #[inline]
    pub(super) fn refresh_request_fields(&mut self) {
        // SAFETY: as in `refresh_request`.
        if let Some(head) = unsafe { self.editable.request.as_ref() } {
            self.shown.show_request_fields(head, &self.route);
        }
    }

    /// Shows where the exchange goes now.
    pub(super) fn refresh_upstream(&mut self) {
        self.shown.show_upstream(&self.route);
    }

    /// Shows the response as it is now.
    pub(super) fn refresh_response(&mut self) {
        // SAFETY: as in `refresh_request`.
        if let Some(head) = unsafe { self.editable.response.as_ref() } {
            self.shown.show_response(head);
        }
    }

    /// Shows the trailers as they are now.
    pub(super) fn refresh_trailers(&mut self) {
        // SAFETY: set for the time of a trailer hook, from trailers that stay borrowed.
        match unsafe { self.editable.trailers.as_ref() } {
            Some(trailers) => self.shown.show_trailers(trailers),
            None => self.shown.hide_trailers(),
        }
    }

    /// Whether the upstream is known to be the host that the request is for.
    pub(super) fn is_proven(&self) -> bool {
        self.route.is_proven(self.shown.requested_host())
    }

    /// Whether a plugin has redirected the exchange to another host than the request is for.
    pub(super) fn is_redirected(&self) -> bool {
        self.route.is_redirected_from(self.shown.requested_host())
    }

    // ---- content ---------------------------------------------------------------------------------------------

    /// Gives whole content to a hook.
    pub(super) fn lend_content(&mut self, bytes: Vec<u8>, is_decoded: bool) {
        self.content = WholeContent {
            bytes,
            is_replaced: false,
            is_decoded,
        };
        self.shown.show_content(&self.content.bytes);
    }

    /// The running hook replaces the content.
    pub(super) fn replace_content(&mut self, bytes: Vec<u8>) {
        self.content.bytes = bytes;
        self.content.is_replaced = true;
        self.shown.show_content(&self.content.bytes);
    }

    /// Takes the content back.
    pub(super) fn take_content(&mut self) -> WholeContent {
        self.shown.hide_content();
        std::mem::take(&mut self.content)
    }

    /// The content coding of this side's message, by its head as it is now.
    pub(super) fn coding(&self, side: Side) -> Option<Coding> {
        // SAFETY: as in `refresh_request`.
        let fields = unsafe {
            match side {
                Side::Client => self.editable.request.as_ref().map(RequestHead::fields),
                Side::Upstream => self.editable.response.as_ref().map(ResponseHead::fields),
            }
        };
        match Codings::of(fields?.named("content-encoding")) {
            Codings::One(coding) => Some(coding),
            _ => None,
        }
    }
}
