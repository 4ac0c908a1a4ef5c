//! What plugins add to the cost of an exchange, without its sockets.
//!
//! A module of the library, with the feature `benches` only, because the bench measures private items. An exchange goes
//! through a real [`ExchangePlugins`] in the same order as in `exchange`. Parsing the two heads is included, since
//! plugins may edit them.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::call::Visible;
use super::host_table::HOST_TABLE;
use super::load::{LoadRequest, Loaded, load};
use super::marks::Role;
use super::spec::PluginSpec;
use super::statistics;
use super::{
    BodyFacts, Chain, ContentHooks, ExchangeFacts, ExchangePlugins, Hook, Subject, Verdict,
    WorkerChain,
};
use crate::buffers;
use crate::deadline::Deadlines;
use crate::http1::{FieldLine, HeadLimits, RequestHead, ResponseHead};
use crate::relay::ContentHook;
use crate::side::Side;

/// The messages that pass through the plugins.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a> {
    /// The head of the request.
    pub request: &'a [u8],
    /// The head of the response.
    pub response: &'a [u8],
    /// The pieces of the response's content.
    pub pieces: &'a [Vec<u8>],
}

/// Starts counting and timing calls.
pub fn count_calls() {
    statistics::start();
}

/// A chain of plugins on its own worker, on this thread.
pub struct Measured {
    _visible: Visible,
    runtime: tokio::runtime::LocalRuntime,
    chain: Rc<WorkerChain>,
}

impl Measured {
    /// A chain of `count` instances of the plugin named by `spec`, each with its own configuration.
    ///
    /// # Errors
    /// If the plugin cannot be loaded, or the system is out of descriptors.
    pub fn new(spec: &str, count: usize, dirs: &[PathBuf]) -> Result<Self, Box<dyn Error>> {
        let request = LoadRequest {
            spec: PluginSpec::parse(spec)?,
            config: String::new(),
            hook_limit: Duration::from_secs(5),
            position: 0,
        };
        let mut plugins = Vec::new();
        for _ in 0..count {
            let none = Loaded::default();
            let loaded = load(std::slice::from_ref(&request), dirs, HOST_TABLE, &none)
                .map_err(|mut errors| errors.remove(0).1)?;
            plugins.extend(loaded.filters);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())?;
        let chain = Arc::new(Chain::new(plugins, Vec::new(), 0));
        let chain = runtime.block_on(async { WorkerChain::new(&chain, &Deadlines::new()) });
        Ok(Self {
            _visible: Visible::new(Role::Worker(0)),
            runtime,
            chain,
        })
    }

    /// Runs `exchanges` exchanges through the plugins, one after the other.
    ///
    /// # Panics
    /// If a head is malformed, or a plugin does not let the exchange pass.
    pub fn run(&self, messages: Messages<'_>, exchanges: usize) {
        self.runtime.block_on(async {
            for _ in 0..exchanges {
                self.exchange(messages).await;
            }
        });
    }

    async fn exchange(&self, messages: Messages<'_>) {
        let limits = &HeadLimits::default();
        let (text, lines) = received(messages.request);
        let mut request = RequestHead::parse(text, 0, lines, limits).expect("a request head");
        let session = self.session();
        for hook in [
            Hook::Authenticate,
            Hook::BeforeUpstreamConnection,
            Hook::HandleClientRequest,
        ] {
            ask(session.as_ref(), hook, &mut request, None).await;
        }
        if let Some(session) = &session {
            std::hint::black_box((session.redirected_to(), session.route_overrides()));
            session
                .notify(Hook::OnUpstreamConnected, &request)
                .expect("these plugins do not fail");
        }
        let (text, lines) = received(messages.response);
        let mut response = ResponseHead::parse(text, 0, lines, limits).expect("a response head");
        let hook = Hook::HandleUpstreamResponse;
        ask(session.as_ref(), hook, &mut request, Some(&mut response)).await;
        if let Some(session) = session
            .as_ref()
            .filter(|all| all.wants_bodies(Side::Upstream))
        {
            see(session, &request, &response, messages.pieces);
        }
        match &session {
            Some(session) => session.keep_response(response),
            None => buffers::give_back_head(response.into_buffers()),
        }
        if let Some(session) = &session {
            session.run_at_end(Hook::OnAccessLog, &request);
            session.run_at_end(Hook::OnUpstreamConnectionClose, &request);
        }
        drop(session);
        buffers::give_back_head(request.into_buffers());
    }

    fn session(&self) -> Option<ExchangePlugins> {
        let facts = ExchangeFacts {
            connection_id: 1,
            exchange_id: 1,
            client: SocketAddr::from(([127, 0, 0, 1], 50_000)),
        };
        (!self.chain.is_empty()).then(|| ExchangePlugins::new(&self.chain, None, None, facts))
    }
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Measured")
    }
}

fn received(text: &[u8]) -> (Vec<u8>, Vec<FieldLine>) {
    let mut buffer = buffers::small();
    buffer.extend_from_slice(text);
    (buffer, buffers::lines())
}

async fn ask(
    session: Option<&ExchangePlugins>,
    hook: Hook,
    request: &mut RequestHead,
    response: Option<&mut ResponseHead>,
) {
    let Some(session) = session.filter(|session| session.has_listeners(hook)) else {
        return;
    };
    if let Some(walk) = session.walk(hook, Subject { request, response }) {
        let verdict = walk.verdict().await;
        assert!(matches!(verdict, Verdict::Proceed), "{verdict:?}");
    }
}

fn see(
    session: &ExchangePlugins,
    request: &RequestHead,
    response: &ResponseHead,
    pieces: &[Vec<u8>],
) {
    let facts = BodyFacts::of(response.fields());
    let plan = session
        .body_plan(Side::Upstream, facts)
        .expect("a plan for the content");
    let Some(plan) = plan else { return };
    let mut hooks = ContentHooks::new(session, &plan, request, Some(response));
    let mut replacement = Vec::new();
    for (position, piece) in pieces.iter().enumerate() {
        let is_end = position + 1 == pieces.len();
        hooks
            .see(piece, is_end, &mut replacement)
            .expect("content that passes");
    }
}
