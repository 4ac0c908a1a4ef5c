//! The trait that an author implements: plain Rust, with the contract of every hook.

use crate::{
    BodyMode, Chunk, ChunkOutcome, ClientConnection, Direction, Error, Exchange, Flow, Hooks,
    Interception, LogLine, Outcome, WebSocketMessage, proceed,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::future::Future;

/// Types of this crate, under names that work in the output of `#[filter]` even if the crate is renamed.
#[doc(hidden)]
pub trait Names {
    /// [`Hooks`](crate::Hooks).
    type ApiHooks;
    /// [`Error`](crate::Error).
    type ApiError;
}

impl<F> Names for F {
    type ApiHooks = Hooks;
    type ApiError = Error;
}

/// A configured plugin.
///
/// Write `#[filter]` on the implementation, and implement only the hooks you need: the attribute fills in `HOOKS`,
/// `ASYNC_HOOKS`, `KEEPS_STATE`, `KEEPS_CONNECTION`, `type Config = Self`, `type State = ()`, `type Connection = ()`
/// and `new`, and rejects a function that is not a hook:
///
/// ```compile_fail
/// # use plugin_api::prelude::*;
/// # #[derive(Deserialize)] struct Misspelt {}
/// #[filter]
/// impl Filter for Misspelt {
///     fn on_acess_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine { LogLine::Write }
/// }
/// ```
///
/// One value serves all exchanges, from several threads at once; hooks of one exchange run one after the other. A hook
/// must not block for longer than about a millisecond, because many connections share its thread: write longer work as
/// an `async fn`, which is possible for every hook that returns an [`Outcome`]. The futures run on the thread of the
/// exchange, need not be `Send`, and are dropped when the client resets its connection. They have a time limit of five
/// seconds (`timeouts.plugin_hook`), after which the exchange is answered with 504 and the log names the plugin.
/// [`sleep`](crate::sleep), [`Call`](crate::Call), [`run_blocking`](crate::run_blocking) and [`spawn`](crate::spawn)
/// use the timers, the HTTP client and the threads of the proxy; with the feature `tokio`, the library has its own
/// runtime, and `tokio::time` and `tokio::net` work.
///
/// An error or a panic in a hook fails the exchange (500) and is logged; it does not affect other exchanges.
#[expect(unused_variables, reason = "the parameters' names are documentation")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a filter",
    note = "write `#[filter] impl Filter for {Self}`",
    note = "for other kinds of plugins, `export_plugins!` needs the name of the kind: `; web: {Self}` for `WebRoutes`, `; protocols: {Self}` for `Protocol`, `; subscribers: {Self}` for `Subscriber`"
)]
pub trait Filter: Names + Sized + Send + Sync + 'static {
    /// The hooks to call. `#[filter]` sets those that are implemented.
    const HOOKS: Hooks = Hooks::ALL;
    /// The async hooks. `#[filter]` sets those that are implemented with `async`.
    const ASYNC_HOOKS: Hooks = Hooks::NONE;
    /// Whether [`State`](Self::State) is a type other than `()`, which has no cost. Set by `#[filter]`.
    const KEEPS_STATE: bool = true;
    /// Whether [`Connection`](Self::Connection) is a type other than `()`. Set by `#[filter]`.
    const KEEPS_CONNECTION: bool = true;
    /// The default mode for request bodies; [`Exchange::set_client_body`] overrides it.
    const CLIENT_BODY: BodyMode = BodyMode::DEFAULT;
    /// The default mode for response bodies; [`Exchange::set_upstream_body`] overrides it.
    const UPSTREAM_BODY: BodyMode = BodyMode::DEFAULT;
    /// A JSON Schema of the configuration, stored in the library for editors and tools; `writeOnly` or `x-secret` marks
    /// secrets. Empty: none.
    const CONFIG_SCHEMA: &'static str = "";
    /// The type of the configuration of the plugin; [`NoConfig`] for none. With `#[serde(deny_unknown_fields)]`,
    /// misspelt keys prevent startup.
    type Config: DeserializeOwned;
    /// The state of one exchange, shared by its hooks: [`Exchange::state`]. `Default` is called once per exchange,
    /// before the first hook; a panic in it fails the exchange.
    type State: Default + 'static;
    /// The state of one client connection: [`Exchange::connection`]. Exchanges of one connection may run concurrently,
    /// on one thread; so the state is shared, and changes need a `Cell` or a `RefCell`. `Default` is called once per
    /// connection, before the first hook; a panic in it fails each exchange of the connection. Each instance of the
    /// filter has its own state: an instance that a reload creates does not see the state of its predecessor.
    type Connection: Default + 'static;

    /// Called once, before the first exchange; may block.
    ///
    /// # Errors
    /// An error prevents startup, with its message.
    fn new(config: Self::Config) -> Result<Self, Error>;

    // ---- the client connection -----------------------------------------------------------------------------------

    /// A client has connected and nothing has been read. A close is all that the client sees; a reply is not possible,
    /// because there is no request yet. Not called for connections that were accepted before the plugin was loaded:
    /// after a reload, exchanges of such connections may still begin.
    ///
    #[doc = may!(on_client_connection)]
    ///
    /// # Errors
    /// Close the connection.
    fn on_client_connection(&self, connection: &mut ClientConnection<'_, Self>) -> Outcome {
        proceed()
    }

    /// The client connection and all of its exchanges have ended. Called for every connection for which
    /// [`on_client_connection`](Self::on_client_connection) was called, regardless of who closed it.
    fn on_client_connection_close(&self, connection: &mut ClientConnection<'_, Self>) {}

    // ---- the request ---------------------------------------------------------------------------------------------

    /// A request head has arrived: authenticates and authorizes the client. The credentials are in
    /// `Proxy-Authorization` of the request, which is not forwarded. Called for every request, after `basic_auth` of
    /// the proxy and before all other hooks of all plugins; not for requests inside an intercepted tunnel, whose user
    /// is that of the CONNECT.
    ///
    /// The reply is usually a [`challenge`](crate::challenge).
    ///
    #[doc = may!(authenticate)]
    ///
    /// # Errors
    /// Fail the exchange.
    fn authenticate(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::AUTHENTICATE)
    }

    /// Runs when [`authenticate`](Self::authenticate) returns [`Flow::Async`]. `#[filter]` generates it from an `async
    /// fn` of that name. The other async versions work in the same way.
    fn authenticate_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// The request head is complete, and no name has been resolved and no connection made. The hook for denying and
    /// redirecting; also called for CONNECT, with the destination of the tunnel as upstream.
    ///
    /// After a reply or close, later plugins and hooks up to [`on_access_log`](Self::on_access_log) are skipped.
    ///
    #[doc = may!(before_upstream_connection)]
    ///
    /// # Errors
    /// Fail the exchange.
    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::BEFORE_UPSTREAM_CONNECTION)
    }

    /// See [`authenticate_async`](Self::authenticate_async).
    fn before_upstream_connection_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// All plugins have accepted the upstream; the request is about to be sent. The hook for changing the request. Also
    /// called for CONNECT, and with interception for each request inside the tunnel.
    ///
    #[doc = may!(handle_client_request)]
    ///
    /// # Errors
    /// Fail the exchange.
    fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::HANDLE_CLIENT_REQUEST)
    }

    /// See [`authenticate_async`](Self::authenticate_async).
    fn handle_client_request_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// A client speaks TLS inside its tunnel: the CONNECT has been answered, and the whole ClientHello has arrived but
    /// has not been answered. [`Exchange::tls_hello`] has its server name and its protocols, both chosen by the client.
    /// The exchange is that of the CONNECT, with its state. Called once for each tunnel with TLS, whether it is going
    /// to be intercepted or not.
    ///
    /// Cannot reply, because the CONNECT has been answered; a close ends the tunnel.
    ///
    #[doc = may!(handle_tls_hello)]
    ///
    /// # Errors
    /// Close the tunnel. So does an async hook that exceeds its time limit.
    fn handle_tls_hello(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::HANDLE_TLS_HELLO)
    }

    /// See [`authenticate_async`](Self::authenticate_async).
    fn handle_tls_hello_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// Whether the proxy intercepts the TLS of this tunnel, so that plugins see each request inside as an exchange.
    /// Called right after [`handle_tls_hello`](Self::handle_tls_hello), with the same data, but only if the proxy has a
    /// CA: without one, all tunnels are relayed without decryption, and this hook is not called.
    ///
    /// The first plugin that returns another value than [`Interception::Default`] decides, and overrides `include`,
    /// `exclude` and the list of clients that rejected our certificate; otherwise these decide. TLS whose client offers
    /// only protocols other than HTTP (ALPN) is never intercepted. Must not block; there is no async version, and a
    /// panic closes the tunnel.
    fn do_intercept(&self, exchange: &mut Exchange<'_, Self>) -> Interception {
        Interception::Default
    }

    /// The whole content of the request has arrived, and no connection has been made: [`Exchange::body`] has it,
    /// [`Exchange::set_body`] replaces it. Not called for a request without content, and not for one beyond the limit
    /// of [`CLIENT_BODY`](Self::CLIENT_BODY).
    ///
    #[doc = may!(handle_client_body)]
    ///
    /// # Errors
    /// Fail the exchange.
    fn handle_client_body(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::HANDLE_CLIENT_BODY)
    }

    /// See [`authenticate_async`](Self::authenticate_async).
    fn handle_client_body_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// A piece of the request content, after transfer decoding, in the size in which it arrived. `end` is set in the
    /// last call, whose `chunk` may be empty. Each plugin gets the output of the previous one. The proxy does the
    /// framing, so the length may change. Never called for a request without content.
    ///
    /// Must not block; there is no async version.
    ///
    #[doc = may!(handle_client_chunk)]
    ///
    /// # Errors
    /// End the exchange; the upstream sees an incomplete request.
    fn handle_client_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        chunk: &[u8],
        end: bool,
    ) -> ChunkOutcome {
        Ok(Chunk::Pass)
    }

    /// The content of the request has ended with [trailers](Exchange::trailers).
    ///
    #[doc = may!(handle_client_trailers)]
    ///
    /// # Errors
    /// End the exchange; the upstream sees an incomplete request.
    fn handle_client_trailers(&self, exchange: &mut Exchange<'_, Self>) -> Result<(), Error> {
        Ok(())
    }

    // ---- the upstream connection ---------------------------------------------------------------------------------

    /// A connection to [`Exchange::upstream`] is needed, and its host is a name. [`Exchange::set_addresses`] sets its
    /// addresses; the first plugin that calls it decides, and if none does, the proxy resolves the name.
    /// [`Exchange::set_source_address`] sets the source address. A connection is reused only for exchanges with the
    /// same answer. Not called for IP addresses, nor with a parent proxy, which resolves the name itself.
    ///
    #[doc = may!(resolve_dns)]
    ///
    /// # Errors
    /// Fail the exchange.
    fn resolve_dns(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::RESOLVE_DNS)
    }

    /// See [`authenticate_async`](Self::authenticate_async).
    fn resolve_dns_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// The exchange has a connection, new or reused, and the request is about to be sent on it.
    fn on_upstream_connected(&self, exchange: &mut Exchange<'_, Self>) {}

    /// Connecting failed, for the reason in [`Exchange::failure`]. The client gets 502 or 504, unless this hook
    /// replies, or sets another upstream or parent and returns [`Flow::Retry`], which is possible at most four times
    /// for one exchange.
    ///
    #[doc = may!(on_upstream_failed)]
    ///
    /// # Errors
    /// Fail the exchange.
    fn on_upstream_failed(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::ON_UPSTREAM_FAILED)
    }

    /// See [`authenticate_async`](Self::authenticate_async).
    fn on_upstream_failed_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    // ---- the response --------------------------------------------------------------------------------------------

    /// The head of the final response has arrived and nothing of it has been sent to the client. Not called for
    /// CONNECT, for upgraded connections, and for replies of the proxy or a plugin.
    ///
    /// The request can no longer be changed. A reply takes the place of the response.
    ///
    #[doc = may!(handle_upstream_response)]
    ///
    /// # Errors
    /// Fail the exchange.
    fn handle_upstream_response(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::HANDLE_UPSTREAM_RESPONSE)
    }

    /// See [`authenticate_async`](Self::authenticate_async).
    fn handle_upstream_response_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// The whole content of the response has arrived, and nothing of the response has been sent to the client:
    /// [`Exchange::body`] has it, [`Exchange::set_body`] replaces it. Not called for a response without content, and
    /// not for one beyond the limit of [`UPSTREAM_BODY`](Self::UPSTREAM_BODY).
    ///
    #[doc = may!(handle_upstream_body)]
    ///
    /// # Errors
    /// Fail the exchange.
    fn handle_upstream_body(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::HANDLE_UPSTREAM_BODY)
    }

    /// See [`authenticate_async`](Self::authenticate_async).
    fn handle_upstream_body_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// A piece of the response content; works like [`handle_client_chunk`](Self::handle_client_chunk). Content codings
    /// such as gzip are decoded only for a plugin whose [`BodyMode`] requests it. Never called for a response without
    /// content.
    ///
    /// May read both heads. Must not block; there is no async version.
    ///
    #[doc = may!(handle_upstream_chunk)]
    ///
    /// # Errors
    /// Cut off the response; the client sees that it is incomplete.
    fn handle_upstream_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        chunk: &[u8],
        end: bool,
    ) -> ChunkOutcome {
        Ok(Chunk::Pass)
    }

    /// The content of the response has ended with [trailers](Exchange::trailers).
    ///
    #[doc = may!(handle_upstream_trailers)]
    ///
    /// # Errors
    /// Cut off the response; the client sees that it is incomplete.
    fn handle_upstream_trailers(&self, exchange: &mut Exchange<'_, Self>) -> Result<(), Error> {
        Ok(())
    }

    // ---- tunnels and WebSockets ----------------------------------------------------------------------------------

    /// Bytes that pass through a tunnel: of a CONNECT, or of a connection that has switched protocols. For intercepted
    /// TLS that does not carry HTTP (IMAPS, MQTTS and the like), they are the decrypted bytes. Pieces have the size in
    /// which they arrived. With this hook, the proxy copies the bytes instead of splicing them in the kernel. For a
    /// WebSocket whose messages a plugin observes, they are the frames as each side sends them, and messages are read
    /// from the output of this hook.
    ///
    #[doc = may!(handle_tunnel_chunk)]
    ///
    /// # Errors
    /// End the tunnel with a reset.
    fn handle_tunnel_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        from: Direction,
        chunk: &[u8],
    ) -> ChunkOutcome {
        Ok(Chunk::Pass)
    }

    /// A WebSocket message (RFC 6455) from either side, whole, assembled from its frames. Pings, Pongs and Closes are
    /// messages, too; a text is valid UTF-8, a Close is well-formed. Each plugin gets the output of the previous one,
    /// with the same kind; the message is forwarded in one frame.
    ///
    /// With this hook, the proxy removes `Sec-WebSocket-Extensions` from the request, so that messages are not
    /// compressed, and answers with 502 if the upstream accepts an extension anyway. A peer that violates the protocol
    /// gets a Close (1002, 1007 for text that is not UTF-8, 1009 for a message above `max_body_buffer`), and the other
    /// side a Close with 1001.
    ///
    /// [`Chunk::Close`] gives both sides a Close with 1001. For another code, send both a Close of that code. If a
    /// Close is dropped, the other side does not get it; it sees only the end of the connection. Must not block; there
    /// is no async version.
    ///
    #[doc = may!(handle_websocket_message)]
    ///
    /// # Errors
    /// End the WebSocket: both sides get a Close with 1011. So does a replacement that its kind does not allow, such as
    /// a text that is not UTF-8.
    fn handle_websocket_message(
        &self,
        exchange: &mut Exchange<'_, Self>,
        message: &WebSocketMessage<'_>,
    ) -> ChunkOutcome {
        Ok(Chunk::Pass)
    }

    // ---- the end of the exchange ---------------------------------------------------------------------------------

    /// The exchange has ended, with or without an error, and its line is about to be written to the access log. Called
    /// for all plugins, including those that an earlier reply has skipped.
    ///
    /// May read the request, the [response](Exchange::response) that was sent to the client and the
    /// [summary](Exchange::summary), and [add to the line](Exchange::add_log_field).
    fn on_access_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine {
        LogLine::Write
    }

    /// The exchange has released its upstream connection, which was closed or is kept for reuse. Not called if there
    /// was none.
    ///
    /// May read both heads.
    fn on_upstream_connection_close(&self, exchange: &mut Exchange<'_, Self>) {}
}

/// The configuration of a plugin without settings: any key is an error.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// The result of a hook that is not implemented: its async version decides, if there is one.
fn either_twin<F: Filter>(hook: Hooks) -> Outcome {
    if F::ASYNC_HOOKS.has(hook) {
        Ok(Flow::Async)
    } else {
        proceed()
    }
}
