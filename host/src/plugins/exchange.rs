//! The plugins of one exchange: what they see and what they have decided.
//!
//! An [`ExchangePlugins`] exists only when the chain is not empty. Its clones are handles to the same exchange, for the two
//! directions of its content. `listener` calls one plugin of it, `walk` calls all that listen to a hook.
#![expect(
    unsafe_code,
    reason = "shares an exchange with the callbacks of its hooks"
)]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use plugin_api::abi::hook::Hook;

use super::callbacks::CALLBACKS;
use super::chain::{Chain, WorkerChain};
use super::client::ClientPlugins;
use super::exchange_state::ExchangeState;
use super::facts::{ClientEnd, ExchangeFacts};
use super::hello::ShownHello;
use super::route::{RouteOverrides, TunnelEnd};
use super::state::PluginState;
use super::summary::Summary;
use crate::buffers;
use crate::http1::{RequestHead, ResponseHead};

/// Exchanges whose allocations are kept for reuse, per worker.
const MAX_SPARE: usize = 128;

thread_local! {
    static SPARE: RefCell<Vec<Rc<Core>>> = const { RefCell::new(Vec::new()) };
}

/// A handle to one exchange, as its plugins see it.
#[derive(Clone)]
pub(crate) struct ExchangePlugins {
    core: Rc<Core>,
}

/// What the handles of one exchange share. Plugins are given addresses in it, so it stays in its `Rc`.
struct Core {
    state: UnsafeCell<ExchangeState>,
    /// Bits of the hooks that any plugin listens to.
    hooks: Cell<u64>,
    /// A hook waits: it has not decided yet.
    is_waiting: Cell<bool>,
    /// Woken when it has.
    waiter: Cell<Option<Waker>>,
}

impl ExchangePlugins {
    pub(crate) fn new(
        chain: &Rc<WorkerChain>,
        client: Option<&Rc<ClientPlugins>>,
        end: Option<&Rc<ClientEnd>>,
        facts: ExchangeFacts,
    ) -> Self {
        let core = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            Rc::new(Core {
                state: UnsafeCell::new(ExchangeState::new(CALLBACKS)),
                hooks: Cell::new(0),
                is_waiting: Cell::new(false),
                waiter: Cell::new(None),
            })
        });
        core.hooks.set(chain.hooks());
        let exchange = Self { core };
        // From the cell itself: plugins keep it longer than any reference made here lives.
        let host = exchange.state_ptr();
        exchange.with(|state| {
            state.chain = Some(Rc::clone(chain));
            state.client = client.map(Rc::clone);
            state.shown.view.host = host.cast();
            state.shown.begin(facts, end);
        });
        exchange
    }

    #[inline]
    pub(crate) fn has_listeners(&self, hook: Hook) -> bool {
        self.core.hooks.get() & hook.bit() != 0
    }

    /// Whether any plugin listens to the hooks at the end, which see the response and what the exchange came to.
    pub(crate) fn has_listeners_at_end(&self) -> bool {
        self.has_listeners(Hook::OnAccessLog) || self.has_listeners(Hook::OnUpstreamConnectionClose)
    }

    // ---- what plugins have decided ---------------------------------------------------------------------------

    /// What plugins have chosen for the route so far; `None` if nothing.
    pub(crate) fn route_overrides(&self) -> Option<RouteOverrides> {
        self.with(|state| {
            let overrides = &state.route.overrides;
            let is_any = overrides.redirected_to.is_some()
                || overrides.scheme.is_some()
                || overrides.parent.is_some();
            is_any.then(|| overrides.clone())
        })
    }

    /// Where plugins have redirected the exchange, instead of the request's own host and port.
    pub(crate) fn redirected_to(&self) -> Option<(String, u16)> {
        self.with(|state| state.route.overrides.redirected_to.clone())
    }

    /// The name of the plugin that has chosen the parent proxy.
    pub(crate) fn parent_chooser(&self) -> String {
        let index = self.with(|state| state.route.parent_chooser);
        self.chain().plugin(index).name().to_owned()
    }

    /// The addresses that plugins have found for the upstream's name, and the one to connect from.
    pub(crate) fn take_addresses(&self) -> (Vec<IpAddr>, Option<IpAddr>) {
        self.with(|state| {
            let overrides = &mut state.route.overrides;
            (
                std::mem::take(&mut overrides.addresses),
                overrides.source.take(),
            )
        })
    }

    /// Fields of plugins for the access log.
    pub(crate) fn take_log_fields(&self) -> Vec<(String, String)> {
        self.with(|state| std::mem::take(&mut state.log_fields))
    }

    /// Calls `use_user` with the name of the client's user; empty if it has not authenticated.
    pub(crate) fn with_user<R>(&self, use_user: impl FnOnce(&str) -> R) -> R {
        self.with(|state| use_user(state.shown.user()))
    }

    // ---- what plugins see ------------------------------------------------------------------------------------

    /// Shows the request, where it is now, to hooks that cannot edit it.
    pub(crate) fn show_request(&self, request: &RequestHead) {
        self.with(|state| state.show(request, None));
    }

    /// The request's head has moved in memory, or has changed.
    pub(crate) fn forget_request(&self) {
        self.with(|state| state.shown.hide_request());
    }

    /// The request has another head and starts again, for `leads_to` if that is another host than its own.
    pub(crate) fn begin_again(&self, leads_to: Option<(String, u16)>) {
        self.with(|state| state.begin_again(leads_to));
    }

    /// Keeps the final response for the hooks at the end.
    pub(crate) fn keep_response(&self, head: ResponseHead) {
        if self.has_listeners_at_end() {
            self.with(|state| state.kept_response = Some(head));
        } else {
            buffers::give_back_head(head.into_buffers());
        }
    }

    /// The client has authenticated with the proxy.
    pub(crate) fn set_user(&self, name: &str) {
        self.with(|state| state.shown.show_user(name));
    }

    /// The request came through a tunnel that leads to another host than the request is for.
    pub(crate) fn set_tunnel(&self, end: TunnelEnd) {
        self.with(|state| state.route.tunnel = Some(Box::new(end)));
    }

    /// Shows the ClientHello of the client in its tunnel, to the end of the exchange.
    pub(crate) fn show_hello(&self, hello: Box<ShownHello>) {
        self.with(|state| state.shown.show_hello(hello));
    }

    /// Whether the server name of the ClientHello is known to be the upstream's, and not only claimed.
    pub(crate) fn set_server_name_proven(&self, is_proven: bool) {
        self.with(|state| state.route.is_server_name_proven = is_proven);
    }

    /// Shows both ends of the upstream connection: the peer's address, and ours.
    pub(crate) fn show_upstream_ends(&self, ends: Option<(SocketAddr, SocketAddr)>) {
        self.with(|state| state.shown.show_upstream_ends(ends));
    }

    /// Shows why there is no upstream; empty when there is one again.
    pub(crate) fn set_failure_reason(&self, reason: &str) {
        self.with(|state| state.shown.show_failure(reason));
    }

    /// Calls `work` while plugins can see what the exchange came to.
    pub(crate) fn with_summary<R>(&self, summary: &Summary<'_>, work: impl FnOnce() -> R) -> R {
        self.with(|state| state.shown.show_summary(summary));
        let result = work();
        self.with(|state| state.shown.hide_summary());
        result
    }

    // ---- for calls of the plugins ----------------------------------------------------------------------------

    #[inline]
    pub(super) fn chain(&self) -> &Chain {
        static NONE: Chain = Chain::empty();
        // SAFETY: set from `new` until the last handle is dropped, and never changed in between.
        match unsafe { &(*self.core.state.get()).chain } {
            Some(chain) => chain,
            None => &NONE,
        }
    }

    /// Short access to what is shared; `work` calls no plugin and keeps no reference.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut ExchangeState) -> R) -> R {
        // SAFETY: one thread, and no reference made here is alive while a plugin runs or another one is made.
        work(unsafe { &mut *self.core.state.get() })
    }

    /// Where that is, for as long as there is a handle.
    #[inline]
    pub(super) fn state_ptr(&self) -> *mut ExchangeState {
        self.core.state.get()
    }

    /// Drops what the plugin keeps for this exchange.
    pub(super) fn drop_state(&self, index: usize) {
        if let PluginState::Made(state) = self.with(|exchange| exchange.states.take(index)) {
            // SAFETY: made by this plugin, dropped once.
            unsafe { self.chain().plugin(index).drop_state(state) }
        }
    }

    /// Whether a hook of this exchange waits.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.core.is_waiting.get()
    }

    /// Ready when no hook of this exchange waits.
    pub(super) fn poll_not_waiting(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_waiting() {
            return Poll::Ready(());
        }
        self.core.waiter.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl std::fmt::Debug for ExchangePlugins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExchangePlugins")
    }
}

impl Drop for ExchangePlugins {
    fn drop(&mut self) {
        if Rc::strong_count(&self.core) > 1 {
            return;
        }
        // Only of plugins that have one, or have lost it.
        for index in 0..self.with(|state| state.states.len()) {
            self.drop_state(index);
        }
        self.with(ExchangeState::end);
        let core = Rc::clone(&self.core);
        // While the thread ends the pool may be gone already.
        let _ = SPARE.try_with(|spare| {
            let spare = &mut *spare.borrow_mut();
            if spare.len() < MAX_SPARE {
                spare.push(core);
            }
        });
    }
}

/// Marks that a hook of the exchange waits, for as long as it lives.
pub(super) struct Waiting<'a>(&'a ExchangePlugins);

impl<'a> Waiting<'a> {
    pub(super) fn begin(exchange: &'a ExchangePlugins) -> Self {
        exchange.core.is_waiting.set(true);
        Self(exchange)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.core.is_waiting.set(false);
        if let Some(waker) = self.0.core.waiter.take() {
            waker.wake();
        }
    }
}
