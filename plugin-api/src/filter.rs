//! The trait an author implements: plain Rust, and the contract of every hook.

use crate::{Chunk, ChunkOutcome, Error, Exchange, Flow, Hooks, LogLine, Outcome, proceed};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::future::Future;

/// A configured plugin.
///
/// Write `#[filter]` above the implementation and only the functions you need: the attribute fills in `HOOKS`,
/// `ASYNC_HOOKS`, `type Config = Self`, `type State = ()` and `new`, and refuses a function that is no hook:
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
/// takes longer is an `async fn`. Those three hooks that answer an [`Outcome`] may be written so. Their futures
/// run on the thread of the exchange, need not be `Send`, and are dropped when the client leaves. The proxy's
/// timers and sockets are not within their reach; with the feature `tokio` the library has its own, and
/// `tokio::time` and `tokio::net` work.
///
/// An error or a panic in a hook fails the exchange (500), is logged, and harms no other exchange.
#[expect(unused_variables, reason = "the parameters' names are documentation")]
pub trait Filter: Sized + Send + Sync + 'static {
    /// The hooks to call. `#[filter]` names those that are written.
    const HOOKS: Hooks = Hooks::ALL;
    /// Those of them that are async. `#[filter]` names those that are written with `async`.
    const ASYNC_HOOKS: Hooks = Hooks::NONE;
    /// What the plugin's table in the configuration is read as; [`NoConfig`] takes none. Put
    /// `#[serde(deny_unknown_fields)]` on it, and misspelt keys are refused at the start.
    type Config: DeserializeOwned;
    /// What the filter keeps for one exchange, from hook to hook: [`Exchange::state`].
    type State: Default + 'static;

    /// Called once, before the first exchange; may block.
    ///
    /// # Errors
    /// An error keeps the proxy from starting, with its text.
    fn new(config: Self::Config) -> Result<Self, Error>;

    /// The request head is complete and nothing has been looked up or dialled. The place to deny and to redirect;
    /// also called for CONNECT, with the tunnel's destination as upstream.
    ///
    /// May edit the request, [set the upstream](Exchange::set_upstream), reply and close. A reply or close ends
    /// the request: later plugins are not asked, later hooks but [`on_access_log`](Self::on_access_log) not called.
    ///
    /// # Errors
    /// Fail the exchange.
    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::BEFORE_UPSTREAM_CONNECTION)
    }

    /// What runs when [`before_upstream_connection`](Self::before_upstream_connection) answers [`Flow::Async`],
    /// and what `#[filter]` makes of an `async fn` of that name.
    fn before_upstream_connection_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// All plugins have agreed to the upstream; the request is about to be sent. The place to change it, and the
    /// last one to set the upstream. Also called for CONNECT.
    ///
    /// May do what [`before_upstream_connection`](Self::before_upstream_connection) may.
    ///
    /// # Errors
    /// Fail the exchange.
    fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::HANDLE_CLIENT_REQUEST)
    }

    /// What runs when [`handle_client_request`](Self::handle_client_request) answers [`Flow::Async`].
    fn handle_client_request_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// The head of the final response has arrived and nothing of it has been sent to the client. Not called for
    /// CONNECT, for upgraded connections, and for what the proxy or a plugin answers itself.
    ///
    /// May edit the response, reply in its place, and close. The request is history.
    ///
    /// # Errors
    /// Fail the exchange.
    fn handle_upstream_response(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        either_twin::<Self>(Hooks::HANDLE_UPSTREAM_RESPONSE)
    }

    /// What runs when [`handle_upstream_response`](Self::handle_upstream_response) answers [`Flow::Async`].
    fn handle_upstream_response_async(
        &self,
        exchange: &mut Exchange<'_, Self>,
    ) -> impl Future<Output = Outcome> {
        async { proceed() }
    }

    /// A piece of the response's content has arrived, after transfer decoding and as large as it happened to come.
    /// `end` is set in the last call, whose `chunk` may be empty. Each plugin gets what the one before it made of
    /// the piece. Content codings such as gzip are not undone. Framing is the proxy's: a body may change its length.
    ///
    /// May read both heads. Must not keep the exchange waiting; there is no async twin.
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

    /// The exchange is over, however it ended, and its line is about to be written to the access log. Called for
    /// all plugins, also for those that an earlier reply kept from being asked.
    ///
    /// May read both heads and [add to the line](Exchange::add_log_field).
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
