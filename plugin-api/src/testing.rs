//! Runs hooks in unit tests, without a proxy.
//!
//! ```
//! use plugin_api::prelude::*;
//! use plugin_api::testing;
//!
//! #[derive(Deserialize)]
//! struct Stamp { text: String }
//!
//! #[filter]
//! impl Filter for Stamp {
//!     fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
//!         exchange.request_mut().set("X-Stamp", &self.text)?;
//!         proceed()
//!     }
//! }
//!
//! let filter: Stamp = testing::configured("text = 'seen'").unwrap();
//! let run = testing::get("http://a.example/").field("Accept", "*/*").run(&filter);
//! assert_eq!(run.outcome(), &Ok(Flow::Proceed));
//! assert_eq!(run.request_field("x-stamp"), Some("seen"));
//! ```
//!
//! Hooks are called through the same table of functions as in the proxy, so panics become errors, too, and an async
//! hook is polled to its end. Edits are rejected as in the proxy.
#![expect(unsafe_code, reason = "plays the host's part of the boundary")]

mod block_on;
mod calls;
mod connection;
mod fake;
#[cfg(feature = "schema")]
mod schema;
pub mod web;

use crate::abi::hook::Hook;
use crate::abi::{FilterTableRef, answered, code, flag};
use crate::adapter::{self, Table};
use crate::configuration::configure;
use crate::{
    AnsweredBy, Direction, Error, Filter, Flow, Interception, LogLine, MessageKind, Outcome, Reply,
};
use core::ffi::c_void;
use fake::{Fake, FakeRequest, FakeResponse, FakeSummary};
use proxy_websocket::check_message;
use std::net::{IpAddr, SocketAddr};
use std::ptr;
use std::time::Duration;

pub use calls::answer_calls;
pub(crate) use calls::answer_to;
pub use connection::Connection;
#[cfg(feature = "schema")]
pub use schema::check_schema;

/// Creates a filter from the text of its configuration table, as the proxy does.
///
/// # Errors
/// The error that the proxy would report at startup.
pub fn configured<F: Filter>(config: &str) -> Result<F, Error> {
    configure(config)
}

/// A GET request for `url`.
pub fn get(url: &str) -> TestRequest {
    request("GET", url)
}

/// A request as a client would send it; for CONNECT, `url` is `host:port`.
pub fn request(method: &str, url: &str) -> TestRequest {
    TestRequest {
        request: FakeRequest::new(method, url),
        client: SocketAddr::from(([127, 0, 0, 1], 50000)),
        user: String::new(),
        local: None,
        client_tls: None,
        body: None,
        tunnel: None,
        is_certified: false,
    }
}

/// A request to be run.
pub struct TestRequest {
    request: FakeRequest,
    client: SocketAddr,
    user: String,
    local: Option<SocketAddr>,
    client_tls: Option<(String, String)>,
    body: Option<Vec<u8>>,
    tunnel: Option<String>,
    is_certified: bool,
}

impl TestRequest {
    /// Adds a field line.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.request
            .fields
            .push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// Sets the client's address, instead of 127.0.0.1.
    #[must_use]
    pub fn client(mut self, client: SocketAddr) -> Self {
        self.client = client;
        self
    }

    /// Sets the user as whom the client has authenticated.
    #[must_use]
    pub fn user(mut self, name: &str) -> Self {
        self.user = name.to_owned();
        self
    }

    /// Sets the local address that the client connected to.
    #[must_use]
    pub fn local_address(mut self, local: SocketAddr) -> Self {
        self.local = Some(local);
        self
    }

    /// Sets the TLS session of the client with the proxy: its server name and negotiated protocol.
    #[must_use]
    pub fn client_tls(mut self, server_name: &str, protocol: &str) -> Self {
        self.client_tls = Some((server_name.to_owned(), protocol.to_owned()));
        self
    }

    /// Sets the whole content, for `handle_client_body`.
    #[must_use]
    pub fn body(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.body = Some(content.into());
        self
    }

    /// Sends the request inside an intercepted tunnel to this address: the requested host is not proven, unless it is
    /// [`certified`](Self::certified).
    #[must_use]
    pub fn inside_tunnel_to(mut self, address: &str) -> Self {
        self.tunnel = Some(address.to_owned());
        self
    }

    /// The upstream's certificate is verified for the host that the client requests.
    #[must_use]
    pub fn certified(mut self) -> Self {
        self.is_certified = true;
        self
    }

    /// Runs `authenticate`, `before_upstream_connection`, `handle_client_request` and, if there is a body,
    /// `handle_client_body`, as long as they proceed.
    pub fn run<F: Filter>(self, filter: &F) -> Run<'_, F> {
        let client = self.client;
        let (fake, body) = self.into_fake(client);
        let mut run = Run::new(filter, fake, None);
        run.begin(body);
        run
    }

    /// Like [`run`](Self::run), on a connection that exchanges share.
    pub fn run_on<'f, F: Filter>(self, connection: &'f Connection<'_, F>) -> Run<'f, F> {
        let (fake, body) = self.into_fake(connection.client());
        let mut run = Run::new(connection.filter(), fake, Some(connection.state()));
        run.begin(body);
        run
    }

    fn into_fake(self, client: SocketAddr) -> (Fake, Option<Vec<u8>>) {
        let mut fake = Fake::new(self.request, client);
        fake.user = self.user;
        fake.is_certified = self.is_certified;
        (fake.local, fake.client_tls) = (self.local, self.client_tls);
        if let Some(address) = self.tunnel {
            fake.upstream.0.clone_from(&address);
            fake.tunnel = Some(address);
        }
        (fake, self.body)
    }
}

/// An exchange under test, after its request hooks have run.
pub struct Run<'f, F: Filter> {
    filter: &'f F,
    table: FilterTableRef,
    state: *mut c_void,
    /// Null if the state belongs to a [`Connection`] or is not needed.
    own_connection_state: *mut c_void,
    // A pointer, because a pending hook keeps pointers into it.
    fake: *mut Fake,
    outcome: Outcome,
}

// SAFETY, for all blocks below: `fake` and `state` live until the run is dropped, and calls go one after another.
impl<'f, F: Filter> Run<'f, F> {
    fn new(filter: &'f F, mut fake: Fake, connection: Option<*mut c_void>) -> Self {
        let table = Table::<F>::REF;
        let mut own_connection_state = ptr::null_mut();
        fake.connection_state = connection.unwrap_or_else(|| {
            own_connection_state = connection::new_state(filter);
            own_connection_state
        });
        let state = match adapter::needs_state::<F>() {
            true => unsafe { table.state_new()(ptr::from_ref(filter).cast_mut().cast()) },
            false => ptr::null_mut(),
        };
        let fake = Box::into_raw(Box::new(fake));
        Self {
            filter,
            table,
            state,
            own_connection_state,
            fake,
            outcome: Ok(Flow::Proceed),
        }
    }

    fn begin(&mut self, body: Option<Vec<u8>>) {
        let hooks = [
            Hook::Authenticate,
            Hook::BeforeUpstreamConnection,
            Hook::HandleClientRequest,
        ];
        for hook in hooks {
            if self.outcome == Ok(Flow::Proceed) {
                self.decide(hook);
            }
        }
        if let Some(body) = body.filter(|_| self.outcome == Ok(Flow::Proceed)) {
            self.fake_mut().body = body;
            self.decide(Hook::HandleClientBody);
        }
    }

    /// The outcome of the last hook that returns one.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The reply, if that was the outcome.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.outcome {
            Ok(Flow::Reply(reply)) => Some(reply),
            _ => None,
        }
    }

    /// The destination of the exchange.
    pub fn upstream(&self) -> (&str, u16) {
        let (host, port) = &self.fake().upstream;
        (host, *port)
    }

    /// The method that is sent to the upstream.
    pub fn method(&self) -> &str {
        &self.fake().request.method
    }

    /// Host and port of the request.
    pub fn request_host(&self) -> (&str, u16) {
        let request = &self.fake().request;
        (&request.host, request.port)
    }

    /// The scheme for the upstream: `http`, `https`, or empty for a tunnel.
    pub fn upstream_scheme(&self) -> &str {
        &self.fake().upstream_scheme
    }

    /// The parent proxy of the exchange.
    pub fn parent(&self) -> Option<&str> {
        self.fake().parent.as_deref()
    }

    /// The user of the client.
    pub fn user(&self) -> Option<&str> {
        Some(self.fake().user.as_str()).filter(|user| !user.is_empty())
    }

    /// The whole body, after a body hook.
    pub fn body(&self) -> &[u8] {
        &self.fake().body
    }

    /// The mode for request bodies that this exchange has set, if any.
    pub fn client_body_mode(&self) -> Option<crate::BodyMode> {
        self.fake().body_modes[0]
    }

    /// The mode for response bodies that this exchange has set, if any.
    pub fn upstream_body_mode(&self) -> Option<crate::BodyMode> {
        self.fake().body_modes[1]
    }

    /// Path and query of the request.
    pub fn path(&self) -> &str {
        &self.fake().request.path
    }

    /// The first field of this name in the request.
    pub fn request_field(&self, name: &str) -> Option<&str> {
        fake::find(&self.fake().request.fields, name)
    }

    /// The status of the response, once there is one.
    pub fn status(&self) -> Option<u16> {
        self.fake()
            .response
            .as_ref()
            .map(|response| response.status)
    }

    /// The first field of this name in the response.
    pub fn response_field(&self, name: &str) -> Option<&str> {
        fake::find(&self.fake().response.as_ref()?.fields, name)
    }

    /// The fields added to the access log line.
    pub fn log_fields(&self) -> &[(String, String)] {
        &self.fake().log_fields
    }

    /// A response arrives: runs `handle_upstream_response`.
    pub fn response(&mut self, status: u16, fields: &[(&str, &str)]) -> &Outcome {
        unsafe { (*self.fake).response = Some(FakeResponse::new(status, fields)) };
        self.decide(Hook::HandleUpstreamResponse);
        &self.outcome
    }

    /// The whole content of the response arrives: runs `handle_upstream_body`; [`body`](Self::body) has the result.
    pub fn response_body(&mut self, content: impl Into<Vec<u8>>) -> &Outcome {
        self.fake_mut().body = content.into();
        self.decide(Hook::HandleUpstreamBody);
        &self.outcome
    }

    /// A new connection needs addresses: runs `resolve_dns`. Returns the addresses; none if the plugin sets none.
    pub fn resolve(&mut self) -> &[IpAddr] {
        self.fake_mut().addresses.clear();
        self.decide(Hook::ResolveDns);
        &self.fake().addresses
    }

    /// The local address to connect from, if `resolve_dns` has set one.
    pub fn source_address(&self) -> Option<IpAddr> {
        self.fake().source
    }

    /// A connection is established: runs `on_upstream_connected`.
    ///
    /// # Errors
    /// The panic message of the hook.
    pub fn upstream_connected(&mut self) -> Result<(), Error> {
        self.notify(Hook::OnUpstreamConnected)
    }

    /// Connecting fails for this reason: runs `on_upstream_failed`.
    pub fn upstream_failed(&mut self, reason: &str) -> &Outcome {
        self.fake_mut().failure_reason = reason.to_owned();
        self.decide(Hook::OnUpstreamFailed);
        &self.outcome
    }

    /// A client speaks TLS in its tunnel: runs `handle_tls_hello`, then `do_intercept`.
    ///
    /// # Errors
    /// The error of a hook, or that it closed the tunnel.
    pub fn tls_hello(&mut self, server_name: &str, protocols: &str) -> Result<Interception, Error> {
        self.fake_mut().tls_hello = Some((server_name.to_owned(), protocols.to_owned()));
        self.decide(Hook::HandleTlsHello);
        if self.outcome != Ok(Flow::Proceed) {
            return Err(Error::new(format!("the hook returned {:?}", self.outcome)));
        }
        match self.ask(Hook::DoIntercept) {
            code::PROCEED => Ok(Interception::Default),
            code::INTERCEPT => Ok(Interception::Intercept),
            code::TUNNEL => Ok(Interception::Tunnel),
            _ => Err(self.failure()),
        }
    }

    /// A piece of the response content arrives; returns what would be forwarded to the client.
    ///
    /// # Errors
    /// The error of the hook.
    pub fn chunk(&mut self, chunk: &[u8], end: bool) -> Result<Vec<u8>, Error> {
        self.pass(Hook::HandleUpstreamChunk, chunk, u32::from(end))
    }

    /// A piece of the request content arrives; returns what would be forwarded to the upstream.
    ///
    /// # Errors
    /// The error of the hook.
    pub fn client_chunk(&mut self, chunk: &[u8], end: bool) -> Result<Vec<u8>, Error> {
        self.pass(Hook::HandleClientChunk, chunk, u32::from(end))
    }

    /// Bytes pass through a tunnel; returns what would be forwarded.
    ///
    /// # Errors
    /// The error of the hook.
    pub fn tunnel_chunk(&mut self, from: Direction, chunk: &[u8]) -> Result<Vec<u8>, Error> {
        let flags = match from {
            Direction::Client => 0,
            Direction::Upstream => flag::FROM_UPSTREAM,
        };
        self.pass(Hook::HandleTunnelChunk, chunk, flags)
    }

    /// A WebSocket message passes; returns what would be forwarded, none if it is dropped.
    /// [`sent_messages`](Self::sent_messages) has the messages that the plugin sent itself.
    ///
    /// # Errors
    /// The error of the hook, or that its replacement is not valid for the kind of message.
    pub fn websocket_message(
        &mut self,
        from: Direction,
        kind: MessageKind,
        data: impl AsRef<[u8]>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let from = match from {
            Direction::Client => 0,
            Direction::Upstream => flag::FROM_UPSTREAM,
        };
        let flags = from | u32::from(kind.number()) << flag::MESSAGE_SHIFT;
        let passed = self.call_with(Hook::HandleWebSocketMessage, data.as_ref(), flags)?;
        match &passed {
            Some(data) if check_message(kind, data).is_err() => Err(Error::new(format!(
                "a {kind:?} message cannot be replaced with this data"
            ))),
            _ => Ok(passed),
        }
    }

    /// The WebSocket messages that the plugin sent itself, in order, each with its destination.
    pub fn sent_messages(&self) -> &[(Direction, MessageKind, Vec<u8>)] {
        &self.fake().sent
    }

    fn pass(&mut self, hook: Hook, data: &[u8], flags: u32) -> Result<Vec<u8>, Error> {
        self.call_with(hook, data, flags)
            .map(Option::unwrap_or_default)
    }

    /// The data to forward; `None` if the hook has emitted nothing, not even an empty replacement.
    fn call_with(&mut self, hook: Hook, data: &[u8], flags: u32) -> Result<Option<Vec<u8>>, Error> {
        if !self.is_wanted(hook) {
            return Ok(Some(data.to_vec()));
        }
        let view = unsafe { Fake::lend(self.fake, hook) };
        let call = self.table.call_with();
        let answer = unsafe { call(self.filter(), self.state, view, data.into(), flags) };
        let emitted = self.fake_mut().emitted.take();
        match answer {
            code::PROCEED => Ok(Some(data.to_vec())),
            code::REPLACED => Ok(emitted),
            code::CLOSE => Err(Error::new("the hook closed the exchange")),
            _ => Err(self.failure()),
        }
    }

    /// Sets the upstream's address, for `on_upstream_connected` and later hooks.
    pub fn set_upstream_address(&mut self, address: SocketAddr) {
        self.fake_mut().upstream_address = Some(address);
    }

    /// Sets the summary of the exchange, instead of the one that [`access_log`](Self::access_log) derives.
    pub fn end_as(
        &mut self,
        status: Option<u16>,
        answered_by: AnsweredBy<'_>,
        bytes_from_client: u64,
        bytes_to_client: u64,
        duration: Duration,
    ) {
        let (answered_by, answerer) = match answered_by {
            AnsweredBy::Nobody => (answered::NOBODY, ""),
            AnsweredBy::Upstream => (answered::UPSTREAM, ""),
            AnsweredBy::Plugin(name) => (answered::PLUGIN, name),
            AnsweredBy::Proxy(reason) => (answered::PROXY, reason),
        };
        self.fake_mut().summary = Some(FakeSummary {
            status,
            answered_by,
            answerer: answerer.to_owned(),
            from_client: bytes_from_client,
            to_client: bytes_to_client,
            elapsed: duration,
        });
    }

    /// Ends the exchange: runs `on_access_log`. Unless [`end_as`](Self::end_as) has set another summary, the client got
    /// the plugin's reply or else the response, and no bytes were counted.
    ///
    /// # Errors
    /// The panic message of the hook.
    pub fn access_log(&mut self) -> Result<LogLine, Error> {
        if let Ok(Flow::Reply(reply)) = &self.outcome {
            let fields = reply.fields.iter();
            let response = FakeResponse {
                status: reply.status,
                reason: String::new(),
                fields: fields
                    .map(|(name, value)| (name.to_string(), value.clone()))
                    .collect(),
            };
            let name = std::any::type_name::<F>();
            let name = name.rsplit("::").next().unwrap_or(name).to_owned();
            let status = response.status;
            self.fake_mut().response = Some(response);
            self.fake_mut().summary.get_or_insert(FakeSummary {
                status: Some(status),
                answered_by: answered::PLUGIN,
                answerer: name,
                ..FakeSummary::default()
            });
        }
        let status = self.status();
        self.fake_mut().summary.get_or_insert(FakeSummary {
            status,
            answered_by: match status {
                Some(_) => answered::UPSTREAM,
                None => answered::NOBODY,
            },
            ..FakeSummary::default()
        });
        match self.ask(Hook::OnAccessLog) {
            code::PROCEED => Ok(LogLine::Write),
            code::SUPPRESS => Ok(LogLine::Suppress),
            _ => Err(self.failure()),
        }
    }

    /// Releases the upstream connection: runs `on_upstream_connection_close`.
    ///
    /// # Errors
    /// The panic message of the hook.
    pub fn upstream_connection_close(&mut self) -> Result<(), Error> {
        self.notify(Hook::OnUpstreamConnectionClose)
    }

    fn notify(&mut self, hook: Hook) -> Result<(), Error> {
        match self.ask(hook) {
            code::PROCEED => Ok(()),
            _ => Err(self.failure()),
        }
    }

    fn decide(&mut self, hook: Hook) {
        let mut answer = self.ask(hook);
        if answer == code::PENDING {
            answer = block_on::poll_to_end(self.table, self.state);
        }
        self.outcome = match answer {
            code::PROCEED => Ok(Flow::Proceed),
            code::CLOSE => Ok(Flow::Close),
            code::RETRY => Ok(Flow::Retry),
            code::RESPOND => match unsafe { (*self.fake).reply.take() } {
                Some(reply) => Ok(Flow::Reply(reply)),
                None => Err(Error::new(
                    "the hook announced a reply but did not provide one",
                )),
            },
            _ => Err(self.failure()),
        };
    }

    fn ask(&mut self, hook: Hook) -> u32 {
        if !self.is_wanted(hook) {
            return code::PROCEED;
        }
        unsafe { self.table.call()(self.filter(), self.state, Fake::lend(self.fake, hook)) }
    }

    fn is_wanted(&self, hook: Hook) -> bool {
        F::HOOKS.bits() & hook.bit() != 0
    }

    fn filter(&self) -> *mut c_void {
        ptr::from_ref(self.filter).cast_mut().cast()
    }

    fn fake(&self) -> &Fake {
        unsafe { &*self.fake }
    }

    fn fake_mut(&mut self) -> &mut Fake {
        unsafe { &mut *self.fake }
    }

    fn failure(&mut self) -> Error {
        let failure = unsafe { (*self.fake).failure.take() };
        failure.map_or_else(
            || Error::new("the hook failed without an error message"),
            Error::new,
        )
    }
}

impl<F: Filter> Drop for Run<'_, F> {
    fn drop(&mut self) {
        if !self.state.is_null() {
            unsafe { self.table.state_drop()(self.state) };
        }
        if !self.own_connection_state.is_null() {
            unsafe { self.table.connection_drop()(self.own_connection_state) };
        }
        drop(unsafe { Box::from_raw(self.fake) });
    }
}
