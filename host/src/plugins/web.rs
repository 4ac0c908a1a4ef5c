//! Plugins that answer requests addressed to the proxy itself: their routes, and one task per request.
//!
//! A [`WebTask`] is polled by the exchange it belongs to, and uses the client's connection through callbacks while it is:
//! it reads content, builds a reply or sends one in pieces, or has the request forwarded, which the exchange then does
//! between two polls. A task that is not polled any more can do nothing.
#![expect(unsafe_code, reason = "lends an exchange across the binary boundary")]

mod callbacks;
mod incoming;
mod outgoing;
mod state;

use std::ffi::c_void;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{Context, Poll};

use plugin_api::abi::code;
use plugin_api::abi::web::{RouteSink, RouteView, WebView};
use plugin_api::waker;

use super::facts::ExchangeFacts;
use super::guard::guarded;
use super::instance::{Instance, Task, Web};
use super::views;
use crate::error::{Cause, PluginFailure, PluginFailureKind};
use crate::http1::{BodyFraming, RequestHead};
use crate::reply::PluginReply;
use crate::websocket::{Handshake, ServerSocket};
pub(crate) use outgoing::Outgoing;
use state::TaskState;
pub(crate) use state::{ForwardOutcome, TaskAccess, WantedForward};

/// The most routes of one plugin; further ones are ignored.
const MAX_ROUTES: u32 = 10_000;

/// A route as its plugin declares it.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredRoute {
    /// The plugin's number for it.
    pub(crate) number: u32,
    /// Bits of [`protocol`](plugin_api::abi::web::protocol).
    pub(crate) protocols: u32,
    /// A value of [`syntax`](plugin_api::abi::web::syntax).
    pub(crate) syntax: u32,
    pub(crate) pattern: String,
    /// Separated by commas; empty for all.
    pub(crate) methods: String,
}

/// The routes of a plugin; `None` if it panicked.
pub(crate) fn routes(plugin: &Instance<Web>) -> Option<Vec<DeclaredRoute>> {
    let mut routes: Vec<DeclaredRoute> = Vec::new();
    let sink = RouteSink {
        context: (&raw mut routes).cast(),
        add,
    };
    plugin.declare_routes(&sink).then_some(routes)
}

unsafe extern "C" fn add(context: *mut c_void, route: &RouteView) {
    guarded((), || {
        // SAFETY: `routes` passes the address of its list, which outlives the call.
        let routes = unsafe { &mut *context.cast::<Vec<DeclaredRoute>>() };
        let number = routes.len() as u32;
        if number < MAX_ROUTES {
            routes.push(DeclaredRoute {
                number,
                protocols: route.protocols,
                syntax: route.syntax,
                pattern: route.pattern.to_string(),
                methods: route.methods.to_string(),
            });
        }
    });
}

/// A request for a plugin.
#[derive(Debug)]
pub(crate) struct WebRequest {
    /// The plugin's route that it is for.
    pub(crate) route: u32,
    pub(crate) captures: Vec<(String, String)>,
    /// Of a request for a WebSocket.
    pub(crate) handshake: Option<Handshake>,
    pub(crate) facts: ExchangeFacts,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) framing: BodyFraming,
    /// The connection ends with the answer.
    pub(crate) is_last: bool,
}

/// Continues with a request that is to be forwarded, after which [`WebTask::forwarded`] is called; breaks when the task is
/// over.
pub(crate) type TaskStep = ControlFlow<Result<(), PluginFailure>, Box<WantedForward>>;

/// How a task that is over has answered.
pub(crate) enum TaskAnswer {
    /// With this, which is to be sent.
    Reply(PluginReply),
    /// With this, whose content is complete.
    Started(Box<Outgoing>),
    /// With a WebSocket, which is to be closed.
    Socket(Box<ServerSocket>),
}

/// What is left of a task.
pub(crate) struct EndedTask {
    pub(crate) answer: Option<TaskAnswer>,
    /// Whether the request's content has been read to its end.
    pub(crate) has_read_request: bool,
    /// How reading it has failed, if it has.
    pub(crate) fault: Option<Cause>,
    /// The rest of a 100 Continue that the client has received in part, which has to be sent before anything else.
    pub(crate) rest_of_continue: &'static [u8],
    pub(crate) log_fields: Vec<(String, String)>,
}

/// A plugin's answer to one request, under way. Dropping it cancels it.
pub(crate) struct WebTask {
    /// None if the plugin panicked instead of creating it. Dropped first.
    task: Option<Task>,
    /// Owned; the task uses it through callbacks.
    state: NonNull<TaskState>,
    /// The plugin's name.
    plugin: Box<str>,
    is_websocket: bool,
}

impl WebTask {
    /// Begins to answer.
    ///
    /// # Errors
    /// The plugin panicked.
    pub(crate) fn begin(
        plugin: &Arc<Instance<Web>>,
        asked: WebRequest,
        request: &RequestHead,
    ) -> Result<Self, PluginFailure> {
        let is_websocket = asked.handshake.is_some();
        let state = NonNull::from(Box::leak(Box::new(TaskState::new(
            request,
            asked.captures,
            asked.framing,
            asked.handshake,
            asked.is_last,
        ))));
        // SAFETY: just made, and freed when this task is dropped.
        let captures = unsafe { &state.as_ref().shown.captures };
        let view = WebView {
            host: state.as_ptr().cast(),
            callbacks: callbacks::CALLBACKS,
            // Written to later, which what is derived from a shared reference would not allow.
            // SAFETY: as above.
            request: unsafe { &raw const (*state.as_ptr()).shown.view },
            captures: captures.as_ptr(),
            capture_count: captures.len(),
            route: asked.route,
            is_websocket: is_websocket.into(),
            connection_id: asked.facts.connection_id,
            exchange_id: asked.facts.exchange_id,
            client: views::address(asked.facts.client),
            local: asked.local.map_or(views::NO_ADDRESS, views::address),
            reserved: [0; 4],
        };
        let begun = Self {
            // SAFETY: what the view leads to outlives the task.
            task: unsafe { plugin.serve(&view) },
            state,
            plugin: plugin.name().into(),
            is_websocket,
        };
        match begun.task.is_some() {
            true => Ok(begun),
            false => Err(begun.failed(code::PANIC, "it panicked before it replied")),
        }
    }

    fn state(&mut self) -> &mut TaskState {
        // SAFETY: owned, and no callback runs while `self` is borrowed.
        unsafe { self.state.as_mut() }
    }

    /// Polls the task. What it has sent is written as far as the client takes it.
    pub(crate) fn poll(
        &mut self,
        access: &mut TaskAccess<'_, '_>,
        cx: &mut Context<'_>,
    ) -> Poll<TaskStep> {
        // The task uses it during the call alone.
        self.state().access = ptr::from_mut(access).cast();
        let waker = waker::lend(cx.waker());
        let task = self.task.as_mut();
        let result = task.map_or(code::PANIC, |task| task.poll(&waker));
        let state = self.state();
        state.access = ptr::null_mut();
        match result {
            code::PENDING if state.answer.is_discarded => Poll::Ready(ControlFlow::Break(Ok(()))),
            code::PENDING => match state.forward.wanted.take() {
                Some(wanted) => {
                    // From here on the forward answers, if anything does.
                    state.answer.reply = None;
                    state.shown.hide();
                    Poll::Ready(ControlFlow::Continue(wanted))
                }
                None => {
                    state.push_on(access, cx);
                    Poll::Pending
                }
            },
            code::PROCEED => Poll::Ready(ControlFlow::Break(Ok(()))),
            result => {
                let message = std::mem::take(&mut state.failure);
                Poll::Ready(ControlFlow::Break(Err(self.failed(result, &message))))
            }
        }
    }

    /// Passes the outcome of forwarding `request`, as that is now, to the task.
    pub(crate) fn forwarded(&mut self, outcome: ForwardOutcome, request: &RequestHead) {
        let state = self.state();
        state.content.is_gone |= outcome.has_read_on;
        state.forward.outcome = Some(outcome);
        state.shown.show(request);
        if let Some(waker) = state.forward.waiter.take() {
            waker.wake();
        }
    }

    /// Ends the task, over or not; returns what is left of it.
    pub(crate) fn end(mut self) -> EndedTask {
        let state = self.state();
        let socket = state.socket.socket.take().map(TaskAnswer::Socket);
        let started = state.answer.outgoing.take().map(TaskAnswer::Started);
        let reply = state.answer.reply.take().map(TaskAnswer::Reply);
        EndedTask {
            answer: socket.or(started).or(reply),
            has_read_request: state.content.incoming.is_over(),
            fault: state.content.fault.take(),
            rest_of_continue: state.content.take_rest_of_continue(),
            log_fields: std::mem::take(&mut state.log_fields),
        }
    }

    /// Whether it answers a request for a WebSocket.
    pub(crate) fn is_websocket(&self) -> bool {
        self.is_websocket
    }

    pub(crate) fn take_log_fields(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state().log_fields)
    }

    fn failed(&self, result: u32, message: &str) -> PluginFailure {
        PluginFailure {
            plugin: self.plugin.to_string(),
            hook: match self.is_websocket {
                true => "handle_websocket",
                false => "handle_request",
            },
            message: match (message, result) {
                ("", code::ERROR) => "it failed without an error message".to_owned(),
                ("", result) => {
                    format!("it returned {result}, which is not a valid result of this function")
                }
                (message, _) => message.to_owned(),
            },
            kind: PluginFailureKind::Broken,
        }
    }
}

impl Drop for WebTask {
    fn drop(&mut self) {
        // First, as it uses the other.
        self.task = None;
        // SAFETY: owned, and dropped once.
        drop(unsafe { Box::from_raw(self.state.as_ptr()) });
    }
}
