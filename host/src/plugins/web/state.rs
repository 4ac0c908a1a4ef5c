//! What the callbacks of a task share with its owner.
//!
//! `WebView::host` leads here.

use std::ffi::c_void;
use std::ptr;
use std::task::{Context, Waker};

use abi_stable::std_types::RStr;
use plugin_api::abi::web::Capture;
use plugin_api::abi::{FieldSlot, RequestView};

use super::super::views;
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use crate::config::Config;
use crate::error::Cause;
use crate::http1::{BodyFraming, RequestHead, Scheme};
use crate::reply::PluginReply;
use crate::stream::{Reader, Writer};
use crate::websocket::{Handshake, MessageLimits, ServerSocket};
use crate::worker_context::WorkerContext;

/// The interim response that a client waits for before it sends content.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a task may use while it is polled.
pub(crate) struct TaskAccess<'a, 'b> {
    pub(crate) reader: &'a mut Reader<'b>,
    pub(crate) writer: &'a mut Writer<'b>,
    pub(crate) request: &'a mut RequestHead,
    pub(crate) worker: &'a WorkerContext,
    pub(crate) config: &'a Config,
}

/// Where a plugin wants the request forwarded to.
#[derive(Debug)]
pub(crate) struct WantedForward {
    /// The request as it is to be sent there.
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
    /// The client has been answered, so nothing else can be.
    pub(crate) is_answered: bool,
    /// The client has been read beyond the request's head.
    pub(crate) has_read_on: bool,
    /// A value of [`fault`](plugin_api::abi::web::fault).
    pub(crate) fault: u32,
    /// Empty if it went well.
    pub(crate) error: String,
}

/// A task, as its callbacks reach it.
pub(super) struct TaskState {
    /// A `TaskAccess`, while the task is polled; else null.
    pub(super) access: *mut c_void,
    pub(super) shown: ShownRequest,
    pub(super) content: RequestContent,
    pub(super) answer: Answering,
    pub(super) forward: Forwarding,
    pub(super) socket: TaskSocket,
    /// The connection ends with the answer.
    pub(super) is_last: bool,
    /// Why the task failed; empty if it gave no reason.
    pub(super) failure: String,
    /// For the access log.
    pub(super) log_fields: Vec<(String, String)>,
}

/// The request as the task sees it.
pub(super) struct ShownRequest {
    pub(super) view: RequestView,
    slots: Vec<FieldSlot>,
    pub(super) captures: Vec<Capture>,
    #[expect(dead_code, reason = "the texts of the captures")]
    texts: Vec<(String, String)>,
}

/// The request's content, as far as the task has read it.
pub(super) struct RequestContent {
    pub(super) incoming: Incoming,
    /// A forward has read content off the connection, so `incoming` no longer knows where it is.
    pub(super) is_gone: bool,
    /// How reading has failed.
    pub(super) fault: Option<Cause>,
    /// What a client that waits for 100 Continue has not been sent of it yet.
    pub(super) rest_of_continue: &'static [u8],
}

/// The answer of the task itself.
#[derive(Default)]
pub(super) struct Answering {
    pub(super) reply: Option<PluginReply>,
    /// Of which the head has been sent, or is about to be.
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// The task sends content that the client does not receive, so it is not polled any more.
    pub(super) is_discarded: bool,
    /// Of the part of the task that waits until the client takes what is sent.
    pub(super) sender: Option<Waker>,
}

/// The forward of the request that the task has begun.
#[derive(Default)]
pub(super) struct Forwarding {
    /// Begins as soon as the task waits.
    pub(super) wanted: Option<Box<WantedForward>>,
    /// Of the part of the task that waits for the outcome.
    pub(super) waiter: Option<Waker>,
    /// Not yet read by the task.
    pub(super) outcome: Option<ForwardOutcome>,
    /// Read by the task last, which is lent its text.
    pub(super) read: ForwardOutcome,
}

/// The WebSocket of the task.
#[derive(Default)]
pub(super) struct TaskSocket {
    /// Until it is accepted.
    pub(super) handshake: Option<Handshake>,
    pub(super) socket: Option<Box<ServerSocket>>,
    /// The message that was last received, which is lent to the task.
    pub(super) message: Vec<u8>,
}

impl ShownRequest {
    pub(super) fn new(request: &RequestHead, captures: Vec<(String, String)>) -> Self {
        let mut slots = Vec::new();
        Self {
            view: views::request_view(request, &mut slots),
            slots,
            captures: captures.iter().map(capture_view).collect(),
            texts: captures,
        }
    }

    /// Shows the request as it is now.
    pub(super) fn show(&mut self, request: &RequestHead) {
        self.view = views::request_view(request, &mut self.slots);
    }

    /// Shows no request, as long as others change and move it: what is dropped meanwhile may still read the view.
    pub(super) fn hide(&mut self) {
        self.view = views::NO_REQUEST;
    }
}

impl RequestContent {
    pub(super) fn new(framing: BodyFraming) -> Self {
        Self {
            incoming: Incoming::new(framing),
            is_gone: false,
            fault: None,
            rest_of_continue: b"",
        }
    }

    /// The rest of 100 Continue, if the client has received a part of it.
    pub(super) fn take_rest_of_continue(&mut self) -> &'static [u8] {
        let rest = std::mem::take(&mut self.rest_of_continue);
        match rest.len() < CONTINUE.len() {
            true => rest,
            false => b"",
        }
    }
}

impl TaskState {
    pub(super) fn new(
        request: &RequestHead,
        captures: Vec<(String, String)>,
        framing: BodyFraming,
        handshake: Option<Handshake>,
        is_last: bool,
    ) -> Self {
        Self {
            access: ptr::null_mut(),
            shown: ShownRequest::new(request, captures),
            content: RequestContent::new(framing),
            answer: Answering::default(),
            forward: Forwarding::default(),
            socket: TaskSocket {
                handshake,
                ..TaskSocket::default()
            },
            is_last,
            failure: String::new(),
            log_fields: Vec::new(),
        }
    }

    /// The task does something else than it waited for in this poll: a forward that has not begun is given up.
    pub(super) fn give_up_wait(&mut self) {
        self.forward.wanted = None;
        self.forward.waiter = None;
        self.answer.is_discarded = false;
    }

    /// Sends what is buffered, as far as the client takes it. An error shows when more is sent, or at the end.
    pub(super) fn push_on(&mut self, access: &mut TaskAccess<'_, '_>, cx: &mut Context<'_>) {
        if let Some(socket) = &mut self.socket.socket {
            socket.drive(access.reader, access.writer, cx);
        }
        if let Some(outgoing) = &mut self.answer.outgoing {
            let stall = access.config.timeouts.stall;
            let before = outgoing.sent;
            let flushed = outgoing.poll_flush(access.writer, stall, cx);
            // A part of the task with a waker of its own is not woken any more: that of the task has taken its place.
            if flushed.is_ready() || outgoing.sent > before {
                self.answer.sender.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Whether nothing else can be answered. The outcome of a forward counts whether or not the task has read it.
    pub(super) fn is_answered(&self) -> bool {
        let unread = self.forward.outcome.as_ref();
        self.answer.outgoing.is_some()
            || self.socket.socket.is_some()
            || self.forward.read.is_answered
            || unread.is_some_and(|outcome| outcome.is_answered)
    }

    /// Accepts the WebSocket that is requested, unless that has been done or something else was answered.
    pub(super) fn accept(&mut self, access: &TaskAccess<'_, '_>, subprotocol: Option<&str>) {
        if self.answer.reply.is_some() || self.is_answered() {
            return;
        }
        let Some(handshake) = self.socket.handshake.take() else {
            return;
        };
        let limits = MessageLimits {
            idle: access.config.timeouts.tunnel_idle,
            max_len: access.config.limits.max_body_buffer,
        };
        let worker = access.worker;
        let mut socket = ServerSocket::new(limits, &worker.deadlines);
        socket.greet(|out| worker.with_date(|date| handshake.write_accept(subprotocol, date, out)));
        self.socket.socket = Some(Box::new(socket));
    }
}

fn capture_view((name, value): &(String, String)) -> Capture {
    let text = |text: &str| -> RStr<'static> { views::text(text.as_bytes()) };
    Capture {
        name: text(name),
        value: text(value),
    }
}
