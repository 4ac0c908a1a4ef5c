//! Plugins that answer requests addressed to the proxy itself: their routes, and one task per request.
//!
//! A [`WebTask`] is polled by the exchange it belongs to, and uses the client's connection through callbacks while it is:
//! it reads content, puts an answer together or sends one, or asks for the request to be forwarded, which the exchange
//! then does between two polls. What cannot be polled any more can do nothing.
#![expect(unsafe_code, reason = "lends an exchange across the binary boundary")]

mod callbacks;
mod incoming;
mod outgoing;

use std::ffi::c_void;
use std::net::SocketAddr;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use abi_stable::std_types::RStr;
use plugin_api::abi::web::{Capture, RouteSink, RouteView, WebView};
use plugin_api::abi::{FieldSlot, RequestView, code};
use plugin_api::waker;

use super::facts::ExchangeFacts;
use super::guard::guarded;
use super::instance::{Instance, Task, Web};
use super::views;
use crate::config::Config;
use crate::error::{Cause, PluginFailure, PluginFailureKind};
use crate::http1::{BodyFraming, RequestHead, Scheme};
use crate::reply::PluginReply;
use crate::stream::{Reader, Writer};
use crate::websocket::{Handshake, MessageLimits, ServerSocket};
use crate::worker_context::WorkerContext;
use incoming::Incoming;
pub(crate) use outgoing::Outgoing;

/// The most routes that are taken from one plugin.
const MAX_ROUTES: u32 = 10_000;

/// A route as its plugin tells it.
#[derive(Clone, Debug)]
pub(crate) struct ToldRoute {
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
pub(crate) fn routes(plugin: &Instance<Web>) -> Option<Vec<ToldRoute>> {
    let mut routes: Vec<ToldRoute> = Vec::new();
    let sink = RouteSink {
        context: (&raw mut routes).cast(),
        add,
    };
    plugin.tell_routes(&sink).then_some(routes)
}

unsafe extern "C" fn add(context: *mut c_void, route: &RouteView) {
    guarded((), || {
        // SAFETY: `routes` passes the address of its list, which outlives the call.
        let routes = unsafe { &mut *context.cast::<Vec<ToldRoute>>() };
        let number = routes.len() as u32;
        if number < MAX_ROUTES {
            routes.push(ToldRoute {
                number,
                protocols: route.protocols,
                syntax: route.syntax,
                pattern: route.pattern.to_string(),
                methods: route.methods.to_string(),
            });
        }
    });
}

/// What a request asks of a plugin.
#[derive(Debug)]
pub(crate) struct WebAsked {
    /// The plugin's route that it is for.
    pub(crate) route: u32,
    pub(crate) captures: Vec<(String, String)>,
    /// It asks for a WebSocket.
    pub(crate) handshake: Option<Handshake>,
    pub(crate) facts: ExchangeFacts,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) framing: BodyFraming,
    /// The connection ends with the answer.
    pub(crate) is_last: bool,
}

/// Where a plugin wants the request forwarded to.
#[derive(Debug)]
pub(crate) struct WantedForward {
    /// The request as it shall be sent there.
    pub(crate) head: RequestHead,
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What came of that.
#[derive(Debug, Default)]
pub(crate) struct ForwardOutcome {
    /// 0: there is no whole response.
    pub(crate) status: u16,
    /// Nothing else can be answered.
    pub(crate) is_answered: bool,
    /// The client has been read beyond the request's head.
    pub(crate) has_read_on: bool,
    /// A value of [`fault`](plugin_api::abi::web::fault).
    pub(crate) fault: u32,
    /// Empty if it went well.
    pub(crate) error: String,
}

/// What a task has come to.
#[derive(Debug)]
pub(crate) enum WebStep {
    /// The request shall be forwarded; the task goes on when it is told the outcome.
    Forward(Box<WantedForward>),
    Over(Result<(), PluginFailure>),
}

/// How a request was answered by a task that is over.
pub(crate) enum WebAnswer {
    /// With this, which is to be sent.
    Reply(PluginReply),
    /// With this, of which all is here.
    Started(Box<Outgoing>),
    /// It has become a WebSocket, which is to be closed.
    Socket(Box<ServerSocket>),
}

/// What is left of a task.
pub(crate) struct Ended {
    pub(crate) answer: Option<WebAnswer>,
    /// Whether the request's content has been read to its end.
    pub(crate) has_read_request: bool,
    /// How reading it has failed, if it has.
    pub(crate) fault: Option<Cause>,
    /// The rest of what a client was being told to send its content, which has to come before anything else.
    pub(crate) invitation: &'static [u8],
    pub(crate) log_fields: Vec<(String, String)>,
}

/// What a task may use while it is polled.
pub(crate) struct Lent<'a, 'b> {
    pub(crate) reader: &'a mut Reader<'b>,
    pub(crate) writer: &'a mut Writer<'b>,
    pub(crate) request: &'a mut RequestHead,
    pub(crate) worker: &'a WorkerContext,
    pub(crate) config: &'a Config,
}

/// A plugin's answer to one request, under way. Dropped, it is given up.
pub(crate) struct WebTask {
    /// None where the plugin has panicked instead. Dropped first.
    task: Option<Task>,
    /// Owned; the task uses it through callbacks.
    inner: NonNull<Inner>,
}

/// What the callbacks of a task reach.
struct Inner {
    plugin: String,
    /// A `Lent`, while the task is polled; else null.
    lent: *mut c_void,
    request_view: RequestView,
    slots: Vec<FieldSlot>,
    #[expect(dead_code, reason = "what the views below lead to")]
    captures: Vec<(String, String)>,
    capture_views: Vec<Capture>,
    incoming: Incoming,
    /// A forward has taken content off the connection: whatever comes now is not where `incoming` believes.
    is_content_gone: bool,
    is_last: bool,
    is_websocket: bool,
    reply: Option<PluginReply>,
    outgoing: Option<Box<Outgoing>>,
    /// The task sends what nobody gets: there is no reason to let it go on.
    client_stopped_reading: bool,
    /// Who waits for the client to take what is sent.
    sender: Option<Waker>,
    /// What a WebSocket is accepted with, until it is.
    handshake: Option<Handshake>,
    socket: Option<Box<ServerSocket>>,
    /// The message that was last received, which is lent.
    message: Vec<u8>,
    /// What shall be forwarded, as soon as the task waits.
    wanted: Option<Box<WantedForward>>,
    /// Who in the task waits for what comes of it.
    forwarder: Option<Waker>,
    forwarded: Option<ForwardOutcome>,
    /// What `poll_forward` has last told, whose text is lent.
    told: ForwardOutcome,
    /// How reading the request has failed.
    fault: Option<Cause>,
    failure: String,
    /// What a client that waits for it still has to be told.
    invitation: &'static [u8],
    log_fields: Vec<(String, String)>,
}

impl WebTask {
    /// Begins to answer.
    ///
    /// # Errors
    /// The plugin panicked.
    pub(crate) fn begin(
        plugin: &Arc<Instance<Web>>,
        asked: WebAsked,
        request: &RequestHead,
    ) -> Result<Self, PluginFailure> {
        let mut slots = Vec::new();
        let inner = NonNull::from(Box::leak(Box::new(Inner {
            plugin: plugin.name().to_owned(),
            lent: ptr::null_mut(),
            request_view: views::request_view(request, &mut slots),
            slots,
            capture_views: asked.captures.iter().map(capture_view).collect(),
            captures: asked.captures,
            incoming: Incoming::new(asked.framing),
            is_content_gone: false,
            is_last: asked.is_last,
            is_websocket: asked.handshake.is_some(),
            reply: None,
            outgoing: None,
            client_stopped_reading: false,
            sender: None,
            handshake: asked.handshake,
            socket: None,
            message: Vec::new(),
            wanted: None,
            forwarder: None,
            forwarded: None,
            told: ForwardOutcome::default(),
            fault: None,
            failure: String::new(),
            invitation: b"",
            log_fields: Vec::new(),
        })));
        // SAFETY: just made, and freed when this task is dropped.
        let kept = unsafe { inner.as_ref() };
        let view = WebView {
            host: inner.as_ptr().cast(),
            callbacks: callbacks::CALLBACKS,
            // Written to later, which what is derived from a shared reference would not allow.
            // SAFETY: as above.
            request: unsafe { &raw const (*inner.as_ptr()).request_view },
            captures: kept.capture_views.as_ptr(),
            capture_count: kept.capture_views.len(),
            route: asked.route,
            is_websocket: kept.is_websocket.into(),
            connection_id: asked.facts.connection_id,
            exchange_id: asked.facts.exchange_id,
            client: views::address(asked.facts.client),
            local: asked.local.map_or(views::NO_ADDRESS, views::address),
            reserved: [0; 4],
        };
        let begun = Self {
            // SAFETY: what the view leads to outlives the task.
            task: unsafe { plugin.serve(&view) },
            inner,
        };
        match begun.task.is_some() {
            true => Ok(begun),
            false => Err(begun
                .inner()
                .failed(code::PANIC, "it panicked before it replied")),
        }
    }

    fn inner(&self) -> &Inner {
        // SAFETY: owned, and no callback runs while `self` is borrowed.
        unsafe { self.inner.as_ref() }
    }

    fn inner_mut(&mut self) -> &mut Inner {
        // SAFETY: as above.
        unsafe { self.inner.as_mut() }
    }

    /// Lets the task go on. Whatever it has sent is on its way as far as the client takes it.
    pub(crate) fn poll(&mut self, lent: &mut Lent<'_, '_>, cx: &mut Context<'_>) -> Poll<WebStep> {
        // The task uses it during the call alone.
        self.inner_mut().lent = ptr::from_mut(lent).cast();
        let waker = waker::lend(cx.waker());
        let task = self.task.as_mut();
        let answer = task.map_or(code::PANIC, |task| task.poll(&waker));
        let inner = self.inner_mut();
        inner.lent = ptr::null_mut();
        match answer {
            code::PENDING if inner.client_stopped_reading => Poll::Ready(WebStep::Over(Ok(()))),
            code::PENDING => match inner.wanted.take() {
                Some(wanted) => {
                    // From here on the request answers, if anything does.
                    inner.reply = None;
                    inner.hide();
                    Poll::Ready(WebStep::Forward(wanted))
                }
                None => {
                    inner.push_on(lent, cx);
                    Poll::Pending
                }
            },
            code::PROCEED => Poll::Ready(WebStep::Over(Ok(()))),
            answer => {
                let message = std::mem::take(&mut inner.failure);
                Poll::Ready(WebStep::Over(Err(inner.failed(answer, &message))))
            }
        }
    }

    /// Tells the task what came of forwarding `request`, as that is now.
    pub(crate) fn forwarded(&mut self, outcome: ForwardOutcome, request: &RequestHead) {
        let inner = self.inner_mut();
        inner.is_content_gone |= outcome.has_read_on;
        inner.forwarded = Some(outcome);
        inner.show(request);
        if let Some(waker) = inner.forwarder.take() {
            waker.wake();
        }
    }

    /// Ends it, over or not, and tells what is left of it.
    pub(crate) fn end(mut self) -> Ended {
        let inner = self.inner_mut();
        let socket = inner.socket.take().map(WebAnswer::Socket);
        let started = inner.outgoing.take().map(WebAnswer::Started);
        let reply = inner.reply.take().map(WebAnswer::Reply);
        Ended {
            answer: socket.or(started).or(reply),
            has_read_request: inner.incoming.is_over(),
            fault: inner.fault.take(),
            invitation: inner.take_invitation(),
            log_fields: std::mem::take(&mut inner.log_fields),
        }
    }

    /// Whether it answers a request for a WebSocket.
    pub(crate) fn is_websocket(&self) -> bool {
        self.inner().is_websocket
    }

    pub(crate) fn take_log_fields(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.inner_mut().log_fields)
    }
}

impl Drop for WebTask {
    fn drop(&mut self) {
        // First, as it uses the other.
        self.task = None;
        // SAFETY: owned, and dropped once.
        drop(unsafe { Box::from_raw(self.inner.as_ptr()) });
    }
}

impl Inner {
    /// Makes the task see the request as it is now.
    fn show(&mut self, request: &RequestHead) {
        self.request_view = views::request_view(request, &mut self.slots);
    }

    /// Makes the task see no request, as long as that is changed and moved by others: what is dropped may still look.
    fn hide(&mut self) {
        self.request_view = views::NO_REQUEST;
    }

    /// The task does something else than what it waited for in this poll, which does not happen then.
    fn give_up(&mut self) {
        self.wanted = None;
        self.forwarder = None;
        self.client_stopped_reading = false;
    }

    /// Sends what waits as far as the client takes it. An error shows when more is sent, or at the end.
    fn push_on(&mut self, lent: &mut Lent<'_, '_>, cx: &mut Context<'_>) {
        if let Some(socket) = &mut self.socket {
            socket.drive(lent.reader, lent.writer, cx);
        }
        if let Some(outgoing) = &mut self.outgoing {
            let stall = lent.config.timeouts.stall;
            let before = outgoing.sent;
            let flushed = outgoing.poll_flush(lent.writer, stall, cx);
            // Whoever waits with a waker of its own is not woken any more: ours has taken its place.
            if flushed.is_ready() || outgoing.sent > before {
                self.sender.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Whether nothing else can be answered. What came of forwarding counts whether or not the task has asked.
    fn is_answered(&self) -> bool {
        let untold = self.forwarded.as_ref();
        self.outgoing.is_some()
            || self.socket.is_some()
            || self.told.is_answered
            || untold.is_some_and(|outcome| outcome.is_answered)
    }

    /// What has to be sent of a word that the client has got a part of.
    fn take_invitation(&mut self) -> &'static [u8] {
        let rest = std::mem::take(&mut self.invitation);
        match rest.len() < callbacks::CONTINUE.len() {
            true => rest,
            false => b"",
        }
    }

    /// Accepts the WebSocket that is asked for, unless that has been done or something else was answered.
    fn accept(&mut self, worker: &WorkerContext, config: &Config, subprotocol: Option<&str>) {
        if self.reply.is_some() || self.is_answered() {
            return;
        }
        let Some(handshake) = self.handshake.take() else {
            return;
        };
        let limits = MessageLimits {
            idle: config.timeouts.tunnel_idle,
            max_len: config.limits.max_body_buffer,
        };
        let mut socket = ServerSocket::new(limits, &worker.deadlines);
        socket.greet(|out| worker.with_date(|date| handshake.write_accept(subprotocol, date, out)));
        self.socket = Some(Box::new(socket));
    }

    fn failed(&self, answer: u32, message: &str) -> PluginFailure {
        PluginFailure {
            plugin: self.plugin.clone(),
            hook: match self.is_websocket {
                true => "handle_websocket",
                false => "handle_request",
            },
            message: match (message, answer) {
                ("", code::ERROR) => "it failed without an error message".to_owned(),
                ("", answer) => {
                    format!("it returned {answer}, which is not a valid result of this function")
                }
                (message, _) => message.to_owned(),
            },
            kind: PluginFailureKind::Broken,
        }
    }
}

fn capture_view((name, value): &(String, String)) -> Capture {
    let text = |text: &str| -> RStr<'static> { views::text(text.as_bytes()) };
    Capture {
        name: text(name),
        value: text(value),
    }
}
