//! A request for a route, and its response.
#![expect(unsafe_code, reason = "reads the host's view and calls its callbacks")]

use crate::abi::code;
use crate::abi::web::fault;
use crate::abi::web::{
    Capture, ForwardView, ForwardedView, UNKNOWN_LENGTH, WebView, forwarded_host,
};
use crate::exchange::socket_address;
use crate::{EditError, Error, Reply, Request, waker};
use abi_stable::std_types::RStr;
use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;

/// A request addressed to the proxy itself, for its plugin to answer.
///
/// There are three ways to answer: [`reply`](Self::reply) with everything at once; [`start`](Self::start) and
/// [`send`](Self::send) piece by piece; [`forward`](Self::forward) to an upstream.
pub struct WebExchange {
    view: WebView,
    /// A forward has begun. If the exchange is used meanwhile, the forward has been leaked.
    is_forwarding: Cell<bool>,
}

// SAFETY, for all calls below: the host keeps everything behind the view until it drops the task that has it, and
// answers callbacks at any time.
impl WebExchange {
    /// # Safety
    /// Everything behind the view must live as long as this value.
    pub(super) unsafe fn new(view: WebView) -> Self {
        Self {
            view,
            is_forwarding: Cell::new(false),
        }
    }

    pub(super) fn view(&self) -> &WebView {
        self.cancel_leaked_forward();
        &self.view
    }

    /// Cancels a leaked forward: its request must not change while it is read.
    fn cancel_leaked_forward(&self) {
        if !self.is_forwarding.replace(false) {
            return;
        }
        if let Some(cancel) = self.view.callbacks.cancel_forward() {
            unsafe { cancel(self.view.host) };
        }
    }

    /// The request; once it has been [forwarded](Self::forward) and answered, as it was sent.
    pub fn request(&self) -> Request<'_> {
        Request {
            view: unsafe { &*self.view().request },
        }
    }

    /// The index of the matching [route](crate::WebRoutes::routes) of the plugin, from 0.
    pub fn route(&self) -> usize {
        self.view().route as usize
    }

    /// The capture with this name: decoded, or [as it was sent](crate::Route::captures_as_sent).
    pub fn capture(&self, name: &str) -> Option<&str> {
        let capture = self
            .capture_list()
            .iter()
            .find(|capture| capture.name == name);
        capture.map(|capture| capture.value.as_str())
    }

    /// All captures with their names, in the order of the pattern.
    pub fn captures(&self) -> impl Iterator<Item = (&str, &str)> {
        let captures = self.capture_list().iter();
        captures.map(|capture| (capture.name.as_str(), capture.value.as_str()))
    }

    fn capture_list(&self) -> &[Capture] {
        match self.view().capture_count {
            0 => &[],
            count => unsafe { std::slice::from_raw_parts(self.view().captures, count) },
        }
    }

    /// The id of the client connection, counted since the proxy started.
    pub fn connection_id(&self) -> u64 {
        self.view().connection_id
    }

    /// The id of the exchange, counted since the proxy started.
    pub fn exchange_id(&self) -> u64 {
        self.view().exchange_id
    }

    /// The address of the client; none if it has no IP address, as on a Unix socket.
    pub fn client(&self) -> Option<SocketAddr> {
        socket_address(&self.view().client)
    }

    /// The local address that the client connected to.
    pub fn local(&self) -> Option<SocketAddr> {
        socket_address(&self.view().local)
    }

    /// Adds a field to the access log line of the exchange.
    pub fn add_log_field(&mut self, key: &str, value: &str) {
        let add = self.view().callbacks.add_log_field();
        unsafe { add(self.view().host, key.into(), value.into()) };
    }

    // ---- the content of the request ------------------------------------------------------------------------------

    /// Reads available content of the request, waiting for the first byte; 0 at the end. Cancel safe.
    ///
    /// # Errors
    /// The client disconnected, sent less than announced, or stalled. If
    /// [`handle_request`](crate::WebRoutes::handle_request) returns this error, the client gets 400 or 408. Or the
    /// content was [forwarded](Self::forward).
    pub async fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let (view, read) = (*self.view(), self.view().callbacks.read());
        poll_fn(|cx| {
            let mut len = 0;
            let waker = waker::lend(cx.waker());
            let (first, room_len) = (room.as_mut_ptr(), room.len());
            let answer = unsafe { read(view.host, first, room_len, &waker, &mut len) };
            polled(answer, len.min(room_len))
        })
        .await
    }

    /// The whole content of the request.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); or it is longer than `limit` bytes: if
    /// [`handle_request`](crate::WebRoutes::handle_request) returns this error, the client gets 413.
    pub async fn body(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        loop {
            let start = content.len();
            if start > limit {
                self.reply(Reply::new(413).body("413 Content Too Large\n"))?;
                return Err(Error::new(format!(
                    "the content is longer than {limit} bytes"
                )));
            }
            // One byte above the limit, to detect that it is exceeded.
            let room = (limit - start).saturating_add(1).min(16 * 1024);
            content.resize(start + room, 0);
            let len = self.read(&mut content[start..]).await?;
            content.truncate(start + len);
            if len == 0 {
                return Ok(content);
            }
        }
    }

    // ---- the response --------------------------------------------------------------------------------------------

    /// Sends this response when the task ends. A later reply replaces it. The proxy adds Date and Content-Length, and
    /// omits the content for HEAD.
    ///
    /// # Errors
    /// The proxy rejects the reply: a field is invalid or set by the proxy, or it is too late.
    pub fn reply(&mut self, reply: Reply) -> Result<(), Error> {
        self.say(&reply)?;
        Ok(())
    }

    /// Sends the head of a response whose content follows with [`send`](Self::send): content of unknown length, which
    /// ends when the task ends.
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    pub fn start(&mut self, reply: Reply) -> Result<(), Error> {
        self.begin(&reply, UNKNOWN_LENGTH)
    }

    /// Sends this, to be followed by [`send`](Self::send): content of `len` bytes, those in `reply` included. Further
    /// content is rejected; if less is sent, the client sees that the response is incomplete.
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    pub fn start_with_length(&mut self, reply: Reply, len: u64) -> Result<(), Error> {
        self.begin(&reply, len)
    }

    fn begin(&mut self, reply: &Reply, len: u64) -> Result<(), Error> {
        self.say(reply)?;
        let start = self.view().callbacks.start();
        EditError::check(unsafe { start(self.view().host, len) })?;
        Ok(())
    }

    fn say(&mut self, said: &Reply) -> Result<(), EditError> {
        let (host, callbacks) = (self.view().host, self.view().callbacks);
        let (status, reason) = (said.status.into(), &*said.reason);
        EditError::check(unsafe { callbacks.reply()(host, status, reason.into()) })?;
        for (name, value) in &said.fields {
            let (name, value) = ((&**name).into(), value.as_slice().into());
            EditError::check(unsafe { callbacks.reply_field()(host, name, value) })?;
        }
        EditError::check(unsafe { callbacks.reply_body()(host, (&*said.body).into()) })
    }

    /// Sends more content of a response that was [started](Self::start). Waits while the client does not read. A
    /// request whose response has no content, such as HEAD, ends here: `handle_request` is dropped.
    ///
    /// # Errors
    /// The client disconnected or stopped reading, no response was started, or it is more content than announced.
    pub async fn send(&mut self, content: impl AsRef<[u8]>) -> io::Result<()> {
        let mut content = content.as_ref();
        let (view, write) = (*self.view(), self.view().callbacks.write());
        while !content.is_empty() {
            let written = poll_fn(|cx| {
                let mut len = 0;
                let waker = waker::lend(cx.waker());
                let answer = unsafe { write(view.host, content.into(), &waker, &mut len) };
                polled(answer, len.min(content.len()))
            })
            .await?;
            content = &content[written..];
        }
        Ok(())
    }

    /// Waits until the sent content has been written to the connection.
    ///
    /// # Errors
    /// The client disconnected or stopped reading.
    pub async fn flush(&mut self) -> io::Result<()> {
        let (view, flush) = (*self.view(), self.view().callbacks.flush());
        poll_fn(|cx| polled(unsafe { flush(view.host, &waker::lend(cx.waker())) }, ())).await
    }

    // ---- the response of an upstream -----------------------------------------------------------------------------

    /// Replaces all fields of this name in the request by one with this value, for a [forward](Self::forward).
    ///
    /// # Errors
    /// The proxy rejects the edit.
    pub fn set_request_field(
        &mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<(), EditError> {
        let set = self.view().callbacks.set_field();
        EditError::check(unsafe { set(self.view().host, name.into(), value.as_ref().into()) })
    }

    /// Adds a field line to the request, for a [forward](Self::forward).
    ///
    /// # Errors
    /// The proxy rejects the edit.
    pub fn append_request_field(
        &mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<(), EditError> {
        let append = self.view().callbacks.append_field();
        EditError::check(unsafe { append(self.view().host, name.into(), value.as_ref().into()) })
    }

    /// Removes all fields of this name from the request.
    ///
    /// # Errors
    /// The proxy rejects the edit.
    pub fn remove_request_field(&mut self, name: &str) -> Result<(), EditError> {
        let remove = self.view().callbacks.remove_field();
        EditError::check(unsafe { remove(self.view().host, name.into()) })
    }

    /// Forwards the request, with its content, and streams the response to the client, using the connection pool of the
    /// proxy. From here on it is an ordinary exchange: the filters see it, and a requested WebSocket is relayed.
    /// Nothing else of the task runs meanwhile. If the upstream switches protocols, the task ends here and is dropped
    /// when the connection ends; it may forward to another upstream if this one [could not be
    /// reached](ForwardError::may_try_again).
    ///
    /// The forward begins when the future is polled and the task waits for the first time. If the future is dropped or
    /// leaked before that, nothing is forwarded: the request and an earlier reply are unchanged.
    ///
    /// # Errors
    /// There is no complete response. If [`handle_request`](crate::WebRoutes::handle_request) returns this error, the
    /// client gets 502 or 504, unless something has been sent.
    pub async fn forward(&mut self, to: &ForwardTo<'_>) -> Result<Forwarded, ForwardError> {
        let (view, callbacks) = (*self.view(), self.view().callbacks);
        let asked = unsafe { callbacks.forward()(view.host, &to.view()) };
        EditError::check(asked).map_err(|error| ForwardError {
            message: format!("cannot forward to {}: {error}", to.url),
            is_answered: error == EditError::Stale,
            fault: ForwardFault::Caller,
        })?;
        let under_way = ForwardInProgress::begin(self);
        let mut outcome = ForwardedView {
            status: 0,
            is_answered: 0,
            fault: fault::NONE,
            padding: 0,
            error: RStr::from_str(""),
            reserved: [0; 4],
        };
        let told = poll_fn(|cx| {
            // The task itself is polled when the forward has ended; a combinator in it has to be woken.
            let waker = match waker::is_lent(cx.waker()) {
                true => waker::nobody(),
                false => waker::lend(cx.waker()),
            };
            polled(
                unsafe { callbacks.poll_forward()(view.host, &waker, &mut outcome) },
                (),
            )
        })
        .await;
        under_way.end();
        told.map_err(|error| ForwardError {
            message: error.to_string(),
            is_answered: true,
            fault: ForwardFault::Client,
        })?;
        let fault = match outcome.fault {
            fault::NONE => {
                return Ok(Forwarded {
                    status: outcome.status as u16,
                });
            }
            fault::UNREACHED => ForwardFault::Unreached,
            fault::CLIENT => ForwardFault::Client,
            fault::FILTER => ForwardFault::Filter,
            // A fault that only a newer proxy knows concerns the upstream at most.
            _ => ForwardFault::Upstream,
        };
        Err(ForwardError {
            message: outcome.error.to_string(),
            is_answered: outcome.is_answered != 0,
            fault,
        })
    }
}

/// A forward in progress, cancelled when dropped early.
struct ForwardInProgress<'e>(&'e WebExchange);

impl<'e> ForwardInProgress<'e> {
    fn begin(exchange: &'e WebExchange) -> Self {
        exchange.is_forwarding.set(true);
        Self(exchange)
    }

    fn end(self) {
        self.0.is_forwarding.set(false);
    }
}

impl Drop for ForwardInProgress<'_> {
    fn drop(&mut self) {
        self.0.cancel_leaked_forward();
    }
}

/// Where a request is forwarded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardTo<'u> {
    /// An absolute http or https URL, path and query included; https is verified against its host.
    pub url: &'u str,
    /// Whether the upstream gets the Host of the client instead of its own.
    pub keeps_host: bool,
}

impl<'u> ForwardTo<'u> {
    /// To this URL, with its own host as Host.
    pub fn new(url: &'u str) -> Self {
        Self {
            url,
            keeps_host: false,
        }
    }

    /// Keeps the Host that the client sent.
    #[must_use]
    pub fn keeping_host(mut self) -> Self {
        self.keeps_host = true;
        self
    }

    fn view(&self) -> ForwardView {
        ForwardView {
            // SAFETY: the `'static` is nominal; the host copies during the call.
            url: unsafe { std::mem::transmute::<&str, &'static str>(self.url) }.into(),
            host: match self.keeps_host {
                true => forwarded_host::CLIENT,
                false => forwarded_host::UPSTREAM,
            },
            padding: 0,
            reserved: [0; 4],
        }
    }
}

/// The result of a forward whose response has been sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forwarded {
    /// The status of the response, which may come from a filter.
    pub status: u16,
}

/// Why a forwarded request has no complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardError {
    pub(crate) message: String,
    pub(crate) is_answered: bool,
    pub(crate) fault: ForwardFault,
}

/// Which side caused a forward to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardFault {
    /// Connecting to the upstream failed. It has received nothing of the request, so any request may be sent to another
    /// upstream.
    Unreached,
    /// The upstream failed and may have received the request: only an idempotent request may be sent to another
    /// upstream.
    Upstream,
    /// The client disconnected or violated the protocol.
    Client,
    /// A filter failed.
    Filter,
    /// The URL is invalid, the content has been read, or a response has been started.
    Caller,
}

impl ForwardError {
    /// Whether nothing has been sent to the client and none of its content is lost, so that another upstream may be
    /// tried or a reply sent.
    pub fn may_try_again(&self) -> bool {
        !self.is_answered
    }

    /// Which side caused the failure.
    pub fn fault(&self) -> ForwardFault {
        self.fault
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ForwardError {}

pub(super) fn polled<T>(answer: u32, value: T) -> Poll<io::Result<T>> {
    match answer {
        code::PENDING => Poll::Pending,
        code::PROCEED => Poll::Ready(Ok(value)),
        _ => Poll::Ready(Err(io::Error::other(
            "the connection of the client is closed",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::ForwardTo;
    use crate::prelude::*;
    use crate::testing::{self, web};
    use crate::{Route, WebExchange, WebRoutes};
    use std::future::{Future, poll_fn};
    use std::task::Poll;
    use std::time::Duration;

    /// Replies with the content, and forwards it first if the path says so.
    struct Echoes;

    impl WebRoutes for Echoes {
        type Config = NoConfig;

        fn new(_: NoConfig) -> Result<Self, Error> {
            Ok(Self)
        }

        fn routes(&self) -> Vec<Route> {
            vec![Route::new("/here"), Route::new("/there")]
        }

        async fn handle_request(&self, exchange: &mut WebExchange) -> Result<(), Error> {
            if exchange.route() == 1 {
                exchange.forward(&ForwardTo::new("http://there/")).await?;
            }
            let content = exchange.body(usize::MAX).await?;
            match exchange.route() {
                0 => exchange.reply(Reply::new(200).body(content)),
                _ => Err(Error::new("the request has content")),
            }
        }
    }

    fn post<'a>() -> web::TestRequest<'a> {
        web::request(testing::request("POST", "http://localhost/here").body("content"))
    }

    #[test]
    fn content_without_a_limit_is_complete() {
        let run = post().run(&Echoes);
        let reply = run.reply().expect("it is answered");
        assert_eq!(reply.body, &b"content"[..]);
    }

    /// Begins a forward and cancels it, by dropping or leaking it.
    struct CancelsForward;

    impl WebRoutes for CancelsForward {
        type Config = NoConfig;

        fn new(_: NoConfig) -> Result<Self, Error> {
            Ok(Self)
        }

        fn routes(&self) -> Vec<Route> {
            vec![Route::new("/dropped"), Route::new("/leaked")]
        }

        async fn handle_request(&self, exchange: &mut WebExchange) -> Result<(), Error> {
            let is_dropped = exchange.route() == 0;
            let to = ForwardTo::new("http://there/");
            let mut forward = Box::pin(exchange.forward(&to));
            poll_fn(|cx| Poll::Ready(forward.as_mut().poll(cx).is_pending())).await;
            match is_dropped {
                true => drop(forward),
                false => std::mem::forget(forward),
            }
            let path = exchange.request().path().to_owned();
            crate::sleep(Duration::from_millis(1)).await;
            exchange.reply(Reply::new(200).body(path))
        }
    }

    #[test]
    fn a_cancelled_forward_is_not_made() {
        for route in [0, 1] {
            let run = post().route(route).answer(|_| Ok(204)).run(&CancelsForward);
            assert_eq!((run.status(), run.forwards()), (200, &[][..]), "{route}");
        }
    }

    #[test]
    fn content_is_forwarded() {
        let run = post().route(1).answer(|_| Ok(200)).run(&Echoes);
        assert_eq!(
            run.failure(),
            Some("the connection of the client is closed")
        );
    }
}
