//! The trait an author implements: plain Rust, and the contract of every hook.

use crate::{
    BodyMode, Chunk, ChunkOutcome, ClientConnection, Direction, Error, Exchange, Flow, Hooks,
    Interception, LogLine, Outcome, WebSocketMessage, proceed,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::future::Future;

/// Types of this crate under names that `#[filter]` can write whatever the crate is called where it stands.
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
/// Write `#[filter]` above the implementation and only the functions you need: the attribute fills in `HOOKS`,
/// `ASYNC_HOOKS`, `KEEPS_STATE`, `KEEPS_CONNECTION`, `type Config = Self`, `type State = ()`, `type Connection = ()`
/// and `new`, and refuses a function that is no hook:
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
/// One value serves all exchanges, from several threads at once; hooks of one exchange run one after the other.
/// A hook must not block for longer than about a millisecond, since many connections share its thread: what
/// takes longer is an `async fn`. Every hook that answers an [`Outcome`] may be written so. Their futures run on the
/// thread of the exchange, need not be `Send`, are dropped when the client resets its connection, and have five
/// seconds, or what `timeouts.plugin_hook` says: then the exchange is answered 504 and the plugin named in the log.
/// [`sleep`](crate::sleep), [`Call`](crate::Call), [`run_blocking`](crate::run_blocking) and [`spawn`](crate::spawn)
/// use the proxy's own timers, client and threads; with the feature `tokio` the library has its own, and `tokio::time`
/// and `tokio::net` work.
///
/// An error or a panic in a hook fails the exchange (500), is logged, and harms no other exchange.
#[expect(unused_variables, reason = "the parameters' names are documentation")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a filter",
    note = "write `#[filter] impl Filter for {Self}`",
    note = "for other kinds of plugins, `export_plugins!` needs the name of the kind: `; web: {Self}` for `WebRoutes`, `; protocols: {Self}` for `Protocol`, `; subscribers: {Self}` for `Subscriber`"
)]
pub trait Filter: Names + Sized + Send + Sync + 'static {
    /// The hooks to call. `#[filter]` names those that are written.
    const HOOKS: Hooks = Hooks::ALL;
    /// Those of them that are async. `#[filter]` names those that are written with `async`.
    const ASYNC_HOOKS: Hooks = Hooks::NONE;
    /// Whether [`State`](Self::State) is anything but `()`, which costs an exchange nothing. `#[filter]` knows.
    const KEEPS_STATE: bool = true;
    /// Whether [`Connection`](Self::Connection) is anything but `()`. `#[filter]` knows.
    const KEEPS_CONNECTION: bool = true;
    /// How the body hooks get requests' bodies, unless [`Exchange::set_client_body`] says otherwise.
    const CLIENT_BODY: BodyMode = BodyMode::DEFAULT;
    /// How the body hooks get responses' bodies, unless [`Exchange::set_upstream_body`] says otherwise.
    const UPSTREAM_BODY: BodyMode = BodyMode::DEFAULT;
    /// A JSON Schema of the configuration, carried in the library for those who write or check one. None: empty.
    const CONFIG_SCHEMA: &'static str = "";
    /// What the plugin's table in the configuration is read as; [`NoConfig`] takes none. Put
    /// `#[serde(deny_unknown_fields)]` on it, and misspelt keys are refused at the start.
    type Config: DeserializeOwned;
    /// What the filter keeps for one exchange, from hook to hook: [`Exchange::state`]. `Default` is called once per
    /// exchange, before the first hook that is called, whatever the type's size; its panic fails the exchange.
    type State: Default + 'static;
    /// What the filter keeps for one client connection: [`Exchange::connection`]. Exchanges of one connection may be
    /// under way side by side, on one thread; hence it is shared, and changes need a `Cell` or a `RefCell`. `Default`
    /// is called once per connection, before the first hook that is called; its panic fails each exchange of the
    /// connection. Each instance of the filter has its own: one that a reload has made finds nothing of the one that it
    /// replaces.
    type Connection: Default + 'static;

    /// Called once, before the first exchange; may block.
    ///
    /// # Errors
    /// An error keeps the proxy from starting, with its text.
    fn new(config: Self::Config) -> Result<Self, Error>;

    // ---- the client's connection ---------------------------------------------------------------------------------

    /// A client has connected and nothing has been read. A close is all that the client sees; it cannot be given a
    /// reply, since it has asked for nothing. Not called for a connection that is older than the plugin: after a reload,
    /// exchanges of such a connection may begin all the same.
    ///
    #[doc = may!(on_client_connection)]
    ///
    /// # Errors
    /// Close the connection.
    fn on_client_connection(&self, connection: &mut ClientConnection<'_, Self>) -> Outcome {
        proceed()
    }

    /// The client's connection is over, and so are all of its exchanges. Called for every connection for which
    /// [`on_client_connection`](Self::on_client_connection) was, whoever closed it.
    fn on_client_connection_close(&self, connection: &mut ClientConnection<'_, Self>) {}

    // ---- the request ---------------------------------------------------------------------------------------------

    /// A request head has arrived: who sends it, and may they? The credentials are in the request's
    /// `Proxy-Authorization`, which goes no further than this proxy. Called after the proxy's own `basic_auth`,
    /// for every request, before all other plugins' other hooks; not for those inside of a tunnel that the proxy looks
    /// into, whose user is the one of the CONNECT.
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

    /// What runs when [`authenticate`](Self::authenticate) answers [`Flow::Async`], and what `#[filter]` makes of an
    /// `async fn` of that name. The other async twins are the same for their hooks.
    fn authenticate_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// The request head is complete and nothing has been looked up or dialled. The place to deny and to redirect;
    /// also called for CONNECT, with the tunnel's destination as upstream.
    ///
    /// A reply or close ends the request: later plugins are not asked, later hooks but
    /// [`on_access_log`](Self::on_access_log) not called.
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

    /// All plugins have agreed to the upstream; the request is about to be sent. The place to change it. Also called
    /// for CONNECT, as the hook before; with interception then for each request inside of the tunnel.
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

    /// A client speaks TLS inside of its tunnel: its CONNECT has been answered, its first message has arrived whole, and
    /// nobody has answered that. [`Exchange::tls_hello`] has the server name and the protocols that it asks for; both
    /// are the client's to choose. The exchange is that of the CONNECT, with its state. Called once for each tunnel,
    /// whether the proxy is configured to look inside of it or not; not for tunnels in which something else is spoken.
    ///
    /// Cannot reply, since the client has its answer; a close ends the tunnel.
    ///
    #[doc = may!(handle_tls_hello)]
    ///
    /// # Errors
    /// Close the tunnel. So does an async hook that takes too long.
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

    /// Whether the proxy ends the TLS of this tunnel, so that plugins see the requests inside, each as an exchange of its
    /// own. Called right after [`handle_tls_hello`](Self::handle_tls_hello) and with the same in hand, but only where
    /// the proxy has an authority to sign with: without one all tunnels are relayed unseen, and nobody is asked.
    ///
    /// The first plugin that has an opinion decides, against the configuration's `include` and `exclude` and against what
    /// clients are known to refuse. [`Interception::Default`] leaves it to those. A client that speaks no HTTP is relayed
    /// unseen in any case. Must not keep the exchange waiting; there is no async twin, and a panic closes the tunnel.
    fn do_intercept(&self, exchange: &mut Exchange<'_, Self>) -> Interception {
        Interception::Default
    }

    /// The request's whole content has arrived, and nothing has been dialled: [`Exchange::body`] has it,
    /// [`Exchange::set_body`] replaces it. Not called for a request without content, and not for one beyond the
    /// limit of [`CLIENT_BODY`](Self::CLIENT_BODY).
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

    /// A piece of the request's content passes, after transfer decoding and as large as it happened to come. `end`
    /// is set in the last call, whose `chunk` may be empty. Each plugin gets what the one before it made of the
    /// piece. Framing is the proxy's: a body may change its length. Never called for a request without content.
    ///
    /// Must not keep the exchange waiting; there is no async twin.
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

    /// The request's content is over and has [trailers](Exchange::trailers).
    ///
    #[doc = may!(handle_client_trailers)]
    ///
    /// # Errors
    /// End the exchange; the upstream sees an incomplete request.
    fn handle_client_trailers(&self, exchange: &mut Exchange<'_, Self>) -> Result<(), Error> {
        Ok(())
    }

    // ---- the upstream's connection -------------------------------------------------------------------------------

    /// A connection to [`Exchange::upstream`] is needed, whose host is a name. [`Exchange::set_addresses`] says where
    /// that is; the first plugin that does decides, and without one the proxy resolves the name itself.
    /// [`Exchange::set_source_address`] says where to connect from. A kept connection serves only exchanges for which
    /// the answer was the same. Not called for IP addresses, nor with a parent proxy, which resolves by itself.
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

    /// There is a connection for this exchange, a new or a kept one, and the request is about to be sent on it.
    fn on_upstream_connected(&self, exchange: &mut Exchange<'_, Self>) {}

    /// A connection could not be made, for the reason in [`Exchange::failure`]. The client will be answered 502 or 504, unless
    /// this hook replies, or sets another upstream or parent and answers [`Flow::Retry`], which is tried at most
    /// four times for one exchange.
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
    /// CONNECT, for upgraded connections, and for what the proxy or a plugin answers itself.
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

    /// The response's whole content has arrived, and nothing of the response has been sent to the client:
    /// [`Exchange::body`] has it, [`Exchange::set_body`] replaces it. Not called for a response without content,
    /// and not for one beyond the limit of [`UPSTREAM_BODY`](Self::UPSTREAM_BODY).
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

    /// A piece of the response's content passes; as [`handle_client_chunk`](Self::handle_client_chunk), the other way.
    /// Content codings such as gzip are undone only for a plugin whose [`BodyMode`] asks for it. Never called for a
    /// response without content.
    ///
    /// May read both heads. Must not keep the exchange waiting; there is no async twin.
    ///
    #[doc = may!(handle_upstream_chunk)]
    ///
    /// # Errors
    /// End the response where it is, visibly incomplete.
    fn handle_upstream_chunk(
        &self,
        exchange: &mut Exchange<'_, Self>,
        chunk: &[u8],
        end: bool,
    ) -> ChunkOutcome {
        Ok(Chunk::Pass)
    }

    /// The response's content is over and has [trailers](Exchange::trailers).
    ///
    #[doc = may!(handle_upstream_trailers)]
    ///
    /// # Errors
    /// End the response where it is, visibly incomplete.
    fn handle_upstream_trailers(&self, exchange: &mut Exchange<'_, Self>) -> Result<(), Error> {
        Ok(())
    }

    // ---- tunnels and WebSockets ----------------------------------------------------------------------------------

    /// Bytes pass through a tunnel: of a CONNECT, or of a connection that has switched protocols. Of intercepted TLS that
    /// carries no HTTP (IMAPS, MQTTS and the like) they are what is inside. They come as large as they happened to
    /// arrive. A tunnel that somebody listens to is copied through the proxy instead of spliced in the kernel. Of a
    /// WebSocket whose messages somebody listens to they are the frames as each side sends them, and what this hook makes
    /// of them is what messages are read from.
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

    /// A WebSocket message passes (RFC 6455): whole, put together from its frames, whichever side sends it. Pings, Pongs
    /// and Closes are messages, too; a text is UTF-8, a Close well formed. Each plugin gets what the one before it
    /// made of the message, which keeps its kind; it goes on in one frame.
    ///
    /// For a listener the proxy takes `Sec-WebSocket-Extensions` out of the request, so that no message is compressed,
    /// and answers 502 if the upstream accepts an extension all the same. A peer that breaks the protocol gets a Close
    /// that says so (1002, 1007 for text that is not UTF-8, 1009 for a message beyond the proxy's `max_body_buffer`), and
    /// the other side one with 1001.
    ///
    /// [`Chunk::Close`] gives both sides a Close with 1001. For another code, send both a Close of that code. A Close
    /// that is dropped is not told to the other side, which learns of the end when the connection ends. Must not keep
    /// the exchange waiting; there is no async twin.
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

    /// The exchange is over, however it ended, and its line is about to be written to the access log. Called for
    /// all plugins, also for those that an earlier reply kept from being asked.
    ///
    /// May read the request, the [response](Exchange::response) that the client was given and what the exchange
    /// [came to](Exchange::summary), and [add to the line](Exchange::add_log_field).
    fn on_access_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine {
        LogLine::Write
    }

    /// The exchange has let go of its upstream connection, which was closed or is kept for another exchange. Not
    /// called if it had none.
    ///
    /// May read both heads.
    fn on_upstream_connection_close(&self, exchange: &mut Exchange<'_, Self>) {}
}

/// The configuration of a plugin that has none: any key is refused.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// What a hook that is not written answers: its async twin decides, if that is written.
fn either_twin<F: Filter>(hook: Hooks) -> Outcome {
    if F::ASYNC_HOOKS.has(hook) {
        Ok(Flow::Async)
    } else {
        proceed()
    }
}
