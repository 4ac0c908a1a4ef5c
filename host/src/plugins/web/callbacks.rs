//! The callbacks of a task that answers a request: the functions behind [`WebView::callbacks`].
//!
//! Each works only while its task is polled, checks what it is given, and never lets a panic cross into the plugin.
//!
//! [`WebView::callbacks`]: plugin_api::abi::web::WebView::callbacks
#![expect(
    unsafe_code,
    reason = "functions that plugins call across the binary boundary"
)]

use std::ffi::c_void;
use std::io;
use std::slice;
use std::task::{Context, Poll, ready};

use abi_stable::prefix_type::WithMetadata;
use abi_stable::staticref;
use abi_stable::std_types::{RSlice, RStr};
use plugin_api::abi::web::{
    ForwardView, ForwardedView, MessageView, UNKNOWN_LENGTH, WebCallbacks, WebCallbacksRef,
    forwarded_host,
};
use plugin_api::abi::{RawWaker, code, edit};
use plugin_api::waker;
use plugin_contract::field::is_host_owned;

use super::super::edits;
use super::super::guard::guarded;
use super::super::views;
use super::outgoing::Outgoing;
use super::state::{CONTINUE, ForwardOutcome, TaskAccess, TaskState, WantedForward};
use crate::buffers;
use crate::http1::{self, FieldId, FieldRefused, FieldsMut, RequestHead, Version};
use crate::reply::{PluginReply, Reply, ReplyForm};
use crate::websocket::{Kind, ReceivedMessage, SendError};

/// The table that every task is given.
pub(super) const CALLBACKS: WebCallbacksRef = WebCallbacksRef(Table::VALUE.as_prefix());

struct Table;

impl Table {
    staticref!(const VALUE: WithMetadata<WebCallbacks> = WithMetadata::new(WebCallbacks {
        set_field,
        append_field,
        remove_field,
        read,
        reply,
        reply_field,
        reply_body,
        start,
        write,
        flush,
        forward,
        poll_forward,
        accept,
        receive,
        send_message,
        add_log_field,
        fail,
        cancel_forward,
    }));
}

/// Runs `work`; gives `otherwise` outside of polls, and when it panics.
///
/// # Safety
/// `host` is the pointer of a view whose task is alive.
unsafe fn with_task(
    host: *mut c_void,
    otherwise: u32,
    work: impl FnOnce(&mut TaskState, &mut TaskAccess<'_, '_>) -> u32,
) -> u32 {
    // SAFETY: the state lives as long as the task, and there is no other reference to it or to what it may use while the
    // task runs.
    let task = unsafe { &mut *host.cast::<TaskState>() };
    let Some(access) = (unsafe { task.access.cast::<TaskAccess<'_, '_>>().as_mut() }) else {
        return otherwise;
    };
    guarded(otherwise, || work(task, access))
}

/// As [`with_task`], for edits. Gives up a forward that has not begun.
unsafe fn edit(
    host: *mut c_void,
    work: impl FnOnce(&mut TaskState, &mut TaskAccess<'_, '_>) -> u32,
) -> u32 {
    let work = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>| {
        task.give_up_wait();
        work(task, access)
    };
    // SAFETY: as there.
    unsafe { with_task(host, edit::STALE, work) }
}

/// As [`edit`](fn@edit), for what may have to wait.
unsafe fn step(
    host: *mut c_void,
    waker: &RawWaker,
    work: impl FnOnce(&mut TaskState, &mut TaskAccess<'_, '_>, &mut Context<'_>) -> Poll<Result<(), ()>>,
) -> u32 {
    let work = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>, cx: &mut Context<'_>| {
        task.give_up_wait();
        work(task, access, cx)
    };
    // SAFETY: as there.
    unsafe { wait(host, waker, work) }
}

/// As [`with_task`], for what may have to wait.
unsafe fn wait(
    host: *mut c_void,
    waker: &RawWaker,
    work: impl FnOnce(&mut TaskState, &mut TaskAccess<'_, '_>, &mut Context<'_>) -> Poll<Result<(), ()>>,
) -> u32 {
    // SAFETY: lent for this call.
    let waker = unsafe { waker::lent(waker) };
    let work = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>| match work(
        task,
        access,
        &mut Context::from_waker(&waker),
    ) {
        Poll::Pending => code::PENDING,
        Poll::Ready(Ok(())) => code::PROCEED,
        Poll::Ready(Err(())) => code::ERROR,
    };
    // SAFETY: as there.
    unsafe { with_task(host, code::ERROR, work) }
}

// ---- the request's fields ----------------------------------------------------------------------------------------

fn edit_request(
    task: &mut TaskState,
    access: &mut TaskAccess<'_, '_>,
    name: &str,
    change: impl FnOnce(&mut FieldsMut<'_>) -> Result<(), FieldRefused>,
) -> u32 {
    if is_host_owned(name) {
        return edit::HOST_OWNED;
    }
    let changed = change(&mut access.request.fields_mut());
    task.shown.show(access.request);
    changed.map_or_else(edits::refusal_code, |()| edit::OK)
}

unsafe extern "C" fn set_field(host: *mut c_void, name: RStr<'_>, value: RSlice<'_, u8>) -> u32 {
    let (name, value) = (name.as_str(), value.as_slice());
    let set = |fields: &mut FieldsMut<'_>| fields.set(name, value);
    // SAFETY: called by a living task.
    unsafe { edit(host, |task, access| edit_request(task, access, name, set)) }
}

unsafe extern "C" fn append_field(host: *mut c_void, name: RStr<'_>, value: RSlice<'_, u8>) -> u32 {
    let (name, value) = (name.as_str(), value.as_slice());
    let append = |fields: &mut FieldsMut<'_>| fields.append(name, value);
    // SAFETY: called by a living task.
    unsafe {
        edit(host, |task, access| {
            edit_request(task, access, name, append)
        })
    }
}

unsafe extern "C" fn remove_field(host: *mut c_void, name: RStr<'_>) -> u32 {
    let name = name.as_str();
    let remove = |fields: &mut FieldsMut<'_>| {
        fields.remove(name);
        Ok(())
    };
    // SAFETY: called by a living task.
    unsafe {
        edit(host, |task, access| {
            edit_request(task, access, name, remove)
        })
    }
}

// ---- the request's content ---------------------------------------------------------------------------------------

unsafe extern "C" fn read(
    host: *mut c_void,
    room: *mut u8,
    room_len: usize,
    waker: &RawWaker,
    len: &mut usize,
) -> u32 {
    *len = 0;
    let read = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>, cx: &mut Context<'_>| {
        if room_len == 0 {
            return Poll::Ready(Ok(()));
        }
        if task.content.is_gone {
            return Poll::Ready(Err(()));
        }
        let stall = access.config.timeouts.stall;
        let waits_for_continue = !task.content.incoming.has_begun()
            && task.answer.outgoing.is_none()
            && access.request.fields().has(FieldId::Expect)
            && access.request.version() != Version::Http10
            && access.reader.buffered().is_empty();
        if waits_for_continue {
            task.content.rest_of_continue = CONTINUE;
            task.content.incoming.begin();
            access.writer.deadline().arm(stall);
        }
        while !task.content.rest_of_continue.is_empty() {
            match access.writer.poll_write(cx, task.content.rest_of_continue) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(len)) if len > 0 => {
                    task.content.rest_of_continue = &task.content.rest_of_continue[len..]
                }
                Poll::Ready(_) => return Poll::Ready(Err(())),
            }
        }
        // SAFETY: the plugin lends room of this length for the call.
        let room = unsafe { slice::from_raw_parts_mut(room, room_len) };
        match task
            .content
            .incoming
            .poll_read(access.reader, room, stall, cx)
        {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(read)) => {
                *len = read;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(cause)) => {
                task.content.fault = Some(cause);
                Poll::Ready(Err(()))
            }
        }
    };
    // SAFETY: called by a living task.
    unsafe { step(host, waker, read) }
}

// ---- the answer --------------------------------------------------------------------------------------------------

unsafe extern "C" fn reply(host: *mut c_void, status: u32, reason: RStr<'_>) -> u32 {
    let begin = |task: &mut TaskState, _: &mut TaskAccess<'_, '_>| {
        if task.is_answered() {
            return edit::STALE;
        }
        let Some(reply) = edits::new_reply(status, reason.as_str()) else {
            return edit::BAD_VALUE;
        };
        task.answer.reply = Some(reply);
        edit::OK
    };
    // SAFETY: called by a living task.
    unsafe { edit(host, begin) }
}

unsafe extern "C" fn reply_field(host: *mut c_void, name: RStr<'_>, value: RSlice<'_, u8>) -> u32 {
    let (name, value) = (name.as_str(), value.as_slice());
    let add = |task: &mut TaskState, _: &mut TaskAccess<'_, '_>| {
        edits::add_reply_field(task.answer.reply.as_mut(), name, value)
    };
    // SAFETY: called by a living task.
    unsafe { edit(host, add) }
}

unsafe extern "C" fn reply_body(host: *mut c_void, content: RSlice<'_, u8>) -> u32 {
    let add = |task: &mut TaskState, _: &mut TaskAccess<'_, '_>| {
        edits::add_reply_content(task.answer.reply.as_mut(), content.as_slice())
    };
    // SAFETY: called by a living task.
    unsafe { edit(host, add) }
}

unsafe extern "C" fn start(host: *mut c_void, len: u64) -> u32 {
    let start = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>| {
        let len = Some(len).filter(|&len| len != UNKNOWN_LENGTH);
        let fits = |reply: &PluginReply| len.is_none_or(|len| reply.body.len() as u64 <= len);
        let reply = match task.answer.reply.take_if(|reply| fits(reply)) {
            Some(reply) => reply,
            None if task.answer.reply.is_some() => return edit::BAD_VALUE,
            None => return edit::STALE,
        };
        let mut reply = Reply::from_plugin(reply).of_server();
        let content = std::mem::take(&mut reply.body).into_owned();
        let is_http10 = access.request.version() == Version::Http10;
        let form = ReplyForm {
            is_head: access.request.is_method("HEAD"),
            is_last: task.is_last,
        };
        let mut outgoing = access
            .worker
            .with_date(|date| Outgoing::new(&reply, len, form, is_http10, date));
        outgoing.put_before(task.content.take_rest_of_continue());
        let mut rest = &content[..];
        while !rest.is_empty() {
            match outgoing.push(rest) {
                Ok(pushed) => rest = &rest[pushed..],
                Err(_) => return edit::BAD_VALUE,
            }
        }
        task.answer.outgoing = Some(Box::new(outgoing));
        edit::OK
    };
    // SAFETY: called by a living task.
    unsafe { edit(host, start) }
}

unsafe extern "C" fn write(
    host: *mut c_void,
    content: RSlice<'_, u8>,
    waker: &RawWaker,
    len: &mut usize,
) -> u32 {
    *len = 0;
    let write = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>, cx: &mut Context<'_>| {
        let Some(outgoing) = task.answer.outgoing.as_mut() else {
            return Poll::Ready(Err(()));
        };
        if outgoing.discards_content() && !content.is_empty() {
            // Nothing would ever make the task wait. Its owner does not poll it any more.
            task.answer.is_discarded = true;
            return Poll::Pending;
        }
        task.answer.sender = None;
        if outgoing.is_full() {
            let stall = access.config.timeouts.stall;
            match outgoing.poll_flush(access.writer, stall, cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending if outgoing.is_full() => {
                    task.answer.sender = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                _ => {}
            }
        }
        Poll::Ready(
            outgoing
                .push(content.as_slice())
                .map(|pushed| *len = pushed)
                .map_err(drop),
        )
    };
    // SAFETY: called by a living task.
    unsafe { step(host, waker, write) }
}

unsafe extern "C" fn flush(host: *mut c_void, waker: &RawWaker) -> u32 {
    let flush = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>, cx: &mut Context<'_>| {
        let stall = access.config.timeouts.stall;
        let Some(outgoing) = task.answer.outgoing.as_mut() else {
            return Poll::Ready(Err(()));
        };
        let flushed = outgoing.poll_flush(access.writer, stall, cx);
        task.answer.sender = flushed.is_pending().then(|| cx.waker().clone());
        flushed.map_err(drop::<io::Error>)
    };
    // SAFETY: called by a living task.
    unsafe { step(host, waker, flush) }
}

// ---- forwarding --------------------------------------------------------------------------------------------------

unsafe extern "C" fn forward(host: *mut c_void, to: &ForwardView) -> u32 {
    let forward = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>| {
        if task.is_answered() || task.content.incoming.has_begun() {
            return edit::STALE;
        }
        let keeps_host = to.host == forwarded_host::CLIENT;
        match wanted(access, to.url.as_str(), keeps_host) {
            Some(wanted) => {
                task.forward.outcome = None;
                task.forward.wanted = Some(Box::new(wanted));
                edit::OK
            }
            None => edit::BAD_VALUE,
        }
    };
    // SAFETY: called by a living task.
    unsafe { edit(host, forward) }
}

/// The request as it is sent to `url`; `None` if that is none.
fn wanted(access: &TaskAccess<'_, '_>, url: &str, keeps_host: bool) -> Option<WantedForward> {
    let head = retargeted(access, url)?;
    let scheme = head.target().scheme?;
    let (host, port) = (head.host().to_owned(), head.port());
    let kept = match keeps_host && !access.request.host().is_empty() {
        true => {
            let mut url = format!("{}://", scheme.as_str()).into_bytes();
            access.request.write_authority(&mut url);
            url.extend_from_slice(head.path());
            Some(retargeted(access, str::from_utf8(&url).ok()?)?)
        }
        false => None,
    };
    Some(WantedForward {
        head: kept.unwrap_or(head),
        scheme,
        host,
        port,
    })
}

/// The request with another target, read by the same rules as a client's.
fn retargeted(access: &TaskAccess<'_, '_>, url: &str) -> Option<RequestHead> {
    let request = &*access.request;
    let is_text = url
        .bytes()
        .all(|byte| byte > b' ' && byte != 0x7f && byte != b'#');
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))?;
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    if !is_text || request.is_method("CONNECT") {
        return None;
    }
    let mut text = buffers::small();
    text.extend_from_slice(request.method_bytes());
    text.extend_from_slice(format!(" {url} HTTP/1.1\r\nHost: {authority}\r\n").as_bytes());
    for line in request
        .fields()
        .lines()
        .filter(|line| FieldId::of(line.name) != FieldId::Host)
    {
        http1::write_field(&mut text, line.name, line.value);
    }
    text.extend_from_slice(b"\r\n");
    match RequestHead::parse(text, 0, buffers::lines(), &access.config.limits.head()) {
        Ok(mut head) => {
            head.set_version(request.version());
            Some(head)
        }
        Err(refused) => {
            buffers::give_back_head((refused.text, refused.lines));
            None
        }
    }
}

unsafe extern "C" fn poll_forward(
    host: *mut c_void,
    waker: &RawWaker,
    outcome: &mut ForwardedView,
) -> u32 {
    let is_to_be_woken = !waker.data.is_null();
    let poll = |task: &mut TaskState, _: &mut TaskAccess<'_, '_>, cx: &mut Context<'_>| {
        if task.forward.wanted.is_some() {
            // The owner of the task takes it from there, and polls again when it is done.
            task.forward.waiter = is_to_be_woken.then(|| cx.waker().clone());
            return Poll::Pending;
        }
        let Some(read) = task.forward.outcome.take() else {
            return Poll::Ready(Err(()));
        };
        task.forward.read = read;
        let ForwardOutcome {
            status,
            is_answered,
            fault,
            error,
            ..
        } = &task.forward.read;
        *outcome = ForwardedView {
            status: (*status).into(),
            is_answered: (*is_answered).into(),
            fault: *fault,
            padding: 0,
            error: views::text(error.as_bytes()),
            reserved: [0; 4],
        };
        Poll::Ready(Ok(()))
    };
    // SAFETY: called by a living task.
    unsafe { wait(host, waker, poll) }
}

unsafe extern "C" fn cancel_forward(host: *mut c_void) {
    let cancel = |task: &mut TaskState, _: &mut TaskAccess<'_, '_>| {
        task.give_up_wait();
        edit::OK
    };
    // SAFETY: called by a living task.
    unsafe { with_task(host, edit::STALE, cancel) };
}

// ---- WebSockets --------------------------------------------------------------------------------------------------

unsafe extern "C" fn accept(host: *mut c_void, subprotocol: RStr<'_>) -> u32 {
    let accept = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>| {
        let name = Some(subprotocol.as_str()).filter(|name| !name.is_empty());
        match &task.socket.handshake {
            None => edit::STALE,
            Some(handshake) if name.is_some_and(|name| !handshake.offers(name)) => edit::BAD_VALUE,
            Some(_) => {
                task.accept(access, name);
                edit::OK
            }
        }
    };
    // SAFETY: called by a living task.
    unsafe { edit(host, accept) }
}

unsafe extern "C" fn receive(
    host: *mut c_void,
    waker: &RawWaker,
    message: &mut MessageView,
) -> u32 {
    let mut is_last = false;
    let receive = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>, cx: &mut Context<'_>| {
        task.accept(access, None);
        let Some(socket) = &mut task.socket.socket else {
            return Poll::Ready(Err(()));
        };
        let received = ready!(socket.poll_receive(access.reader, access.writer, cx));
        (message.kind, task.socket.message) = match received {
            ReceivedMessage::Data { kind, data } => (kind.number().into(), data),
            ReceivedMessage::Closed(data) => {
                is_last = true;
                let kind = data.as_ref().map_or(0, |_| Kind::Close.number());
                (kind.into(), data.unwrap_or_default())
            }
        };
        message.data = views::bytes(&task.socket.message);
        Poll::Ready(Ok(()))
    };
    // SAFETY: called by a living task.
    match unsafe { step(host, waker, receive) } {
        code::PROCEED if is_last => code::CLOSE,
        answer => answer,
    }
}

unsafe extern "C" fn send_message(
    host: *mut c_void,
    kind: u32,
    data: RSlice<'_, u8>,
    waker: &RawWaker,
) -> u32 {
    let send = |task: &mut TaskState, access: &mut TaskAccess<'_, '_>, cx: &mut Context<'_>| {
        task.accept(access, None);
        let (Some(socket), Some(kind)) = (&mut task.socket.socket, Kind::from_number(kind)) else {
            return Poll::Ready(Err(()));
        };
        socket
            .poll_send(kind, data.as_slice(), access.writer, cx)
            .map_err(drop::<SendError>)
    };
    // SAFETY: called by a living task.
    unsafe { step(host, waker, send) }
}

// ---- the end -----------------------------------------------------------------------------------------------------

unsafe extern "C" fn add_log_field(host: *mut c_void, key: RStr<'_>, value: RStr<'_>) -> u32 {
    let add = |task: &mut TaskState, _: &mut TaskAccess<'_, '_>| {
        edits::add_log_field(&mut task.log_fields, key.as_str(), value.as_str())
    };
    // SAFETY: called by a living task.
    unsafe { edit(host, add) }
}

unsafe extern "C" fn fail(host: *mut c_void, _kind: u32, message: RStr<'_>) {
    let note = |task: &mut TaskState, _: &mut TaskAccess<'_, '_>| {
        message.as_str().clone_into(&mut task.failure);
        edit::OK
    };
    // SAFETY: called by a living task.
    unsafe { edit(host, note) };
}
