//! One exchange on its way through the plugin chain.
//!
//! A session owns what plugins see of the exchange and what they ask for: edits, a reply, another upstream, log
//! fields. It exists only when the chain is not empty. Its clones are handles to the same exchange, for the two
//! directions of its content. While a hook runs, nothing of the host touches the heads that the hook works on; a hook
//! that waits keeps them borrowed, dropping the wait cancels it first, and no other hook of the exchange runs meanwhile.
#![expect(unsafe_code, reason = "hands plugins what they see of an exchange")]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use plugin_api::abi::code;
use plugin_api::abi::hook::Permission;

use super::inner::{Inner, PluginState, TunnelEnd};
use super::instance::{Filter, Instance};
use super::waiting::WaitingHook;
use super::{Chain, ClientEnd, ClientPlugins, Hook, Summary, WorkerChain};
use crate::buffers;
use crate::error::{PluginFailure, PluginFailureKind};
use crate::http1::{RequestHead, ResponseHead, Scheme, Trailers};
use crate::reply::PluginReply;
use crate::upstream::Parent;

/// Sessions kept for reuse per worker.
const SPARE_KEPT: usize = 128;

thread_local! {
    static SPARE: RefCell<Vec<Rc<Core>>> = const { RefCell::new(Vec::new()) };
}

/// Stands for the answer of a plugin that cannot be asked.
const LOST: u32 = u32::MAX;

/// What a walk through the chain came to.
#[derive(Debug)]
pub(crate) enum Verdict {
    Proceed,
    /// Answer with this; the name is the plugin's.
    Reply(PluginReply, String),
    /// Close without an answer.
    Close(String),
    /// Connect again, to where the exchange goes now.
    Retry,
    Failed(PluginFailure),
}

/// The heads that a hook works on.
pub(crate) struct Subject<'a> {
    pub(crate) request: &'a mut RequestHead,
    pub(crate) response: Option<&'a mut ResponseHead>,
}

/// What plugins may know of an exchange besides its messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeFacts {
    pub(crate) connection_id: u64,
    pub(crate) exchange_id: u64,
    pub(crate) client: SocketAddr,
}

/// One exchange in the chain.
#[derive(Clone)]
pub(crate) struct Session {
    core: Rc<Core>,
}

/// What the handles of one exchange share. Plugins are given addresses in it, so it stays in its `Rc`.
struct Core {
    inner: UnsafeCell<Inner>,
    /// Bits of the hooks that anybody listens to.
    hooks: Cell<u64>,
    /// A hook has not decided yet.
    is_waiting: Cell<bool>,
    /// Who waits for it to decide.
    waiter: Cell<Option<Waker>>,
}

impl Session {
    pub(crate) fn new(
        chain: &Rc<WorkerChain>,
        client: Option<&Rc<ClientPlugins>>,
        end: Option<&Rc<ClientEnd>>,
        facts: ExchangeFacts,
    ) -> Self {
        let core = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            Rc::new(Core {
                inner: UnsafeCell::new(Inner::new()),
                hooks: Cell::new(0),
                is_waiting: Cell::new(false),
                waiter: Cell::new(None),
            })
        });
        core.hooks.set(chain.hooks);
        let session = Self { core };
        // From the cell itself: plugins keep it longer than any reference made here lives.
        let host = session.core.inner.get();
        session.with(|inner| inner.view.host = host.cast());
        session.with(|inner| inner.begin(chain, client, end, facts));
        session
    }

    #[inline]
    pub(crate) fn has_listeners(&self, hook: Hook) -> bool {
        self.core.hooks.get() & hook.bit() != 0
    }

    /// Calls `hook` of every plugin that listens to it, until one of them has something to say. `None`: nobody has, which
    /// is so for nearly all exchanges and needs no future.
    pub(crate) fn walk<'a>(&'a self, hook: Hook, subject: Subject<'a>) -> Option<Walk<'a>> {
        self.with(|inner| inner.attach(subject));
        let attached = Detach(self);
        let (position, result) = self.call_from(0, hook)?;
        Some(Walk {
            attached,
            hook,
            position,
            result,
            _subject: PhantomData,
        })
    }

    /// Calls `hook` of every plugin that listens to it, until one of them ends the walk.
    ///
    /// Cancel safe: a hook that waits is cancelled.
    pub(crate) async fn run(&self, hook: Hook, subject: Subject<'_>) -> Verdict {
        match self.walk(hook, subject) {
            Some(walk) => walk.verdict().await,
            None => Verdict::Proceed,
        }
    }

    /// As [`run`](Self::run), until a plugin has said where the upstream's name leads.
    pub(crate) async fn resolve(&self, subject: Subject<'_>) -> Verdict {
        let hook = Hook::ResolveDns;
        self.with(|inner| {
            inner.addresses.clear();
            inner.attach(subject);
        });
        let _detached_at_the_end = Detach(self);
        for position in 0..self.listeners(hook).len() {
            let index = self.listeners(hook)[position];
            match self.decide(index, hook).await {
                Verdict::Proceed if self.with(|inner| inner.addresses.is_empty()) => {}
                verdict => return verdict,
            }
        }
        Verdict::Proceed
    }

    /// Tells the plugins something that they cannot change.
    #[inline]
    pub(crate) fn notify(&self, hook: Hook, request: &RequestHead) -> Result<(), PluginFailure> {
        if self.has_listeners(hook) {
            return self.notify_listeners(hook, request);
        }
        Ok(())
    }

    fn notify_listeners(&self, hook: Hook, request: &RequestHead) -> Result<(), PluginFailure> {
        self.with(|inner| inner.show(request, None));
        self.call_all(hook)
    }

    /// Calls `hook` of every listener; the failure of the first that fails.
    fn call_all(&self, hook: Hook) -> Result<(), PluginFailure> {
        match self.call_from(0, hook) {
            None => Ok(()),
            Some((position, result)) => {
                Err(self.failure(self.listeners(hook)[position], hook, result))
            }
        }
    }

    /// Runs a hook that ends an exchange and cannot wait. `false`: suppress the log line.
    #[inline]
    pub(crate) fn run_at_end(&self, hook: Hook, request: &RequestHead) -> bool {
        !self.has_listeners(hook) || self.run_listeners_at_end(hook, request)
    }

    fn run_listeners_at_end(&self, hook: Hook, request: &RequestHead) -> bool {
        let kept = self.with(|inner| inner.kept_response.take());
        self.with(|inner| inner.show(request, kept.as_ref()));
        let (mut may_log, mut next) = (true, 0);
        while let Some((position, result)) = self.call_from(next, hook) {
            match result {
                code::SUPPRESS => may_log = false,
                // Its failure has been told.
                LOST => {}
                result => report(&self.failure(self.listeners(hook)[position], hook, result)),
            }
            next = position + 1;
        }
        self.with(|inner| {
            inner.hide_response();
            inner.kept_response = kept;
        });
        may_log
    }

    /// Lets plugins edit a trailer section.
    pub(crate) fn run_trailers(
        &self,
        hook: Hook,
        trailers: &mut Trailers,
    ) -> Result<(), PluginFailure> {
        self.with(|inner| {
            inner.trailers = trailers;
            inner.refresh_trailers();
        });
        let result = self.call_all(hook);
        self.with(Inner::hide_trailers);
        result
    }

    // ---- what plugins have asked for ---------------------------------------------------------------------------------

    /// Where plugins have sent the exchange instead of the request's own host and port.
    pub(crate) fn redirected_to(&self) -> Option<(String, u16)> {
        self.with(|inner| inner.redirected_to.clone())
    }

    /// How plugins want the upstream to be spoken to.
    pub(crate) fn scheme(&self) -> Option<Scheme> {
        self.with(|inner| inner.scheme)
    }

    /// The parent proxy that plugins want to be gone through.
    pub(crate) fn parent(&self) -> Option<Parent> {
        self.with(|inner| inner.parent.clone())
    }

    /// The plugin that has chosen the parent proxy.
    pub(crate) fn parent_chooser(&self) -> String {
        let index = self.with(|inner| inner.parent_chooser);
        self.plugin(index).name().to_owned()
    }

    /// Where plugins say the upstream's name leads, and where to connect from.
    pub(crate) fn addresses(&self) -> (Vec<IpAddr>, Option<IpAddr>) {
        self.with(|inner| (std::mem::take(&mut inner.addresses), inner.source.take()))
    }

    /// What plugins want to be in the access log.
    pub(crate) fn log_fields(&self) -> Vec<(String, String)> {
        self.with(|inner| std::mem::take(&mut inner.log_fields))
    }

    // ---- what plugins are told ---------------------------------------------------------------------------------------

    /// Whether any hook comes last that sees the response and what the exchange came to.
    pub(crate) fn has_listeners_at_end(&self) -> bool {
        self.has_listeners(Hook::OnAccessLog) || self.has_listeners(Hook::OnUpstreamConnectionClose)
    }

    /// Calls `work` while plugins can see what the exchange came to.
    pub(crate) fn with_summary<R>(&self, summary: &Summary<'_>, work: impl FnOnce() -> R) -> R {
        self.with(|inner| inner.show_summary(summary));
        let result = work();
        self.with(|inner| inner.hide_summary());
        result
    }

    /// Shows plugins both ends of the upstream connection: the peer's address, and ours.
    pub(crate) fn show_upstream_ends(&self, ends: Option<(SocketAddr, SocketAddr)>) {
        self.with(|inner| inner.show_upstream_ends(ends));
    }

    /// Keeps the final response for the hooks that come last.
    pub(crate) fn keep_response(&self, head: ResponseHead) {
        if self.has_listeners_at_end() {
            self.with(|inner| inner.kept_response = Some(head));
        } else {
            buffers::give_back_head(head.into_buffers());
        }
    }

    /// The client has authenticated with the proxy.
    pub(crate) fn set_user(&self, name: &str) {
        self.with(|inner| inner.set_user(name));
    }

    /// Calls `use_user` with who the client is; empty if it has not authenticated.
    pub(crate) fn with_user<R>(&self, use_user: impl FnOnce(&str) -> R) -> R {
        self.with(|inner| use_user(&inner.user))
    }

    /// The request came through a tunnel that leads to another host than the request is for.
    pub(crate) fn set_tunnel(&self, end: TunnelEnd) {
        self.with(|inner| inner.tunnel = Some(Box::new(end)));
    }

    /// Whether the server name of a client's hello is the upstream's, and not only its claim.
    pub(crate) fn set_server_name_proven(&self, is_proven: bool) {
        self.with(|inner| inner.is_server_name_proven = is_proven);
    }

    /// There is no upstream, for this reason; empty when there is one again.
    pub(crate) fn set_failure_reason(&self, reason: &str) {
        self.with(|inner| inner.set_failure_reason(reason));
    }

    /// Lets hooks that only look see the request, where it is now.
    pub(crate) fn show_request(&self, request: &RequestHead) {
        self.with(|inner| inner.show(request, None));
    }

    /// The request's head has moved in memory.
    pub(crate) fn forget_request(&self) {
        self.with(Inner::forget_request);
    }

    /// The request has another head, and begins its way; to `leads_to` if that is not what it says itself.
    pub(crate) fn begin_again(&self, leads_to: Option<(String, u16)>) {
        self.with(|inner| inner.begin_again(leads_to));
    }

    // ---- calls -------------------------------------------------------------------------------------------------------

    /// Calls `hook` of the listeners from the given one on, as long as they let the exchange pass: position and answer
    /// of the first that does not.
    pub(super) fn call_from(&self, first: usize, hook: Hook) -> Option<(usize, u32)> {
        let chain = self.chain();
        let listeners = &chain.listeners[hook as usize];
        for (position, &index) in listeners.iter().enumerate().skip(first) {
            let plugin = chain.plugin(index);
            let Some(state) = self.state_of(plugin, index) else {
                return Some((position, LOST));
            };
            match self.call(plugin, index, hook, state) {
                code::PROCEED => {}
                result => return Some((position, result)),
            }
        }
        None
    }

    /// Calls one plugin's hook, to its decision.
    pub(super) async fn decide(&self, index: usize, hook: Hook) -> Verdict {
        let state = match self.sure_state(index, hook) {
            Ok(state) => state,
            Err(failure) => return Verdict::Failed(failure),
        };
        let result = self.call(self.plugin(index), index, hook, state);
        self.verdict(index, hook, result).await
    }

    /// What a plugin's answer means; waits for the decision of one that has none yet.
    async fn verdict(&self, index: usize, hook: Hook, mut result: u32) -> Verdict {
        if result == code::PENDING {
            result = match self.wait(index, hook).await {
                Some(result) => result,
                None => return Verdict::Failed(self.late(index, hook)),
            };
        }
        let name = || self.plugin(index).name().to_owned();
        match result {
            code::PROCEED => Verdict::Proceed,
            code::RESPOND => match self.with(|inner| inner.reply.take()) {
                Some(reply) => Verdict::Reply(reply, name()),
                None => Verdict::Failed(self.failure(index, hook, code::ERROR)),
            },
            code::CLOSE => Verdict::Close(name()),
            code::RETRY if hook.may(Permission::Retry) => Verdict::Retry,
            result => Verdict::Failed(self.failure(index, hook, result)),
        }
    }

    #[inline]
    fn call(
        &self,
        plugin: &Arc<Instance<Filter>>,
        index: usize,
        hook: Hook,
        state: *mut c_void,
    ) -> u32 {
        let Some(inner) = self.prepare(plugin, index, hook) else {
            return code::ERROR;
        };
        // SAFETY: the state is this plugin's own, the view lives as long as the session, and the heads that its
        // callbacks reach were attached by the caller and stay borrowed until they are detached.
        unsafe { plugin.call(hook, state, &raw mut (*inner).view) }
    }

    /// Calls a hook that is given data.
    pub(super) fn call_with(
        &self,
        index: usize,
        hook: Hook,
        state: *mut c_void,
        data: &[u8],
        flags: u32,
    ) -> u32 {
        let plugin = self.plugin(index);
        let Some(inner) = self.prepare(plugin, index, hook) else {
            return code::ERROR;
        };
        // SAFETY: as in `call`; the data is borrowed for the call only.
        unsafe {
            (*inner).emitted.clear();
            (*inner).has_emitted = false;
            plugin.call_with(hook, state, &raw mut (*inner).view, data, flags)
        }
    }

    /// Says whose hook runs. `None`: the plugin cannot keep what it needs for the connection, or another hook of the
    /// exchange has not decided yet.
    #[inline]
    fn prepare(
        &self,
        plugin: &Arc<Instance<Filter>>,
        index: usize,
        hook: Hook,
    ) -> Option<*mut Inner> {
        if self.core.is_waiting.get() {
            debug_assert!(false, "{} while another hook waits", hook.name());
            return None;
        }
        let inner = self.core.inner.get();
        // SAFETY: no other reference into the core is alive.
        unsafe {
            if (*inner).view.request.is_null() {
                debug_assert!(false, "{} sees no request", hook.name());
                return None;
            }
            (*inner).hook = hook;
            (*inner).running = index;
            (*inner).view.hook = hook as u32;
            // Null otherwise, as it was at the beginning.
            if let Some(client) = &(*inner).client {
                let Some(state) = client.state(plugin) else {
                    "creating its state for the client connection failed"
                        .clone_into(&mut (*inner).failure);
                    return None;
                };
                (*inner).view.connection_state = state;
            }
        }
        Some(inner)
    }

    /// Polls a hook that waits; `None` when it took too long, after which it is cancelled.
    async fn wait(&self, index: usize, hook: Hook) -> Option<u32> {
        let state = self.state(index)?;
        let _others_wait = Waiting::begin(&self.core);
        let chain = self.with(|inner| inner.chain.clone())?;
        let deadline = chain.deadlines.slot();
        deadline.arm(chain.plugin(index).hook_limit);
        let waiting = WaitingHook::new(chain, index, state, hook);
        deadline.bound(waiting).await
    }

    /// Ready when no hook of this exchange waits.
    pub(super) fn poll_quiet(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.core.is_waiting.get() {
            return Poll::Ready(());
        }
        self.core.waiter.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// The plugin's state, made at first use; `None` when the plugin is out of this exchange.
    pub(super) fn state(&self, index: usize) -> Option<*mut c_void> {
        self.state_of(self.plugin(index), index)
    }

    #[inline]
    fn state_of(&self, plugin: &Instance<Filter>, index: usize) -> Option<*mut c_void> {
        match self.with(|inner| inner.state(index)) {
            PluginState::Made(state) => Some(state),
            PluginState::Lost => None,
            PluginState::NotMade if !plugin.needs_state => Some(std::ptr::null_mut()),
            PluginState::NotMade => self.make_state(plugin, index),
        }
    }

    #[inline(never)]
    fn make_state(&self, plugin: &Instance<Filter>, index: usize) -> Option<*mut c_void> {
        let state = plugin.new_state();
        let made = match state.is_null() {
            true => PluginState::Lost,
            false => PluginState::Made(state),
        };
        self.with(|inner| inner.set_state(index, made));
        (!state.is_null()).then_some(state)
    }

    /// The plugin's state, or its failure: a plugin that cannot be asked must not be passed by.
    pub(super) fn sure_state(
        &self,
        index: usize,
        hook: Hook,
    ) -> Result<*mut c_void, PluginFailure> {
        let state = self.state(index);
        state.ok_or_else(|| self.failure(index, hook, LOST))
    }

    pub(super) fn failure(&self, index: usize, hook: Hook, result: u32) -> PluginFailure {
        if result == code::PANIC {
            self.drop_state(index);
            self.with(|inner| inner.set_state(index, PluginState::Lost));
        }
        let said = self.with(|inner| std::mem::take(&mut inner.failure));
        let message = match result {
            code::PANIC => format!("it panicked: {said}"),
            code::ERROR if !said.is_empty() => said,
            code::ERROR => "it failed without an error message".to_owned(),
            LOST => "it has no state for this exchange: creating the state failed, or the plugin panicked earlier"
                .to_owned(),
            code::RETRY => "only on_upstream_failed may request a retry".to_owned(),
            unknown => format!("it returned {unknown}, which is not a valid result of this hook"),
        };
        PluginFailure {
            plugin: self.plugin(index).name().to_owned(),
            hook: hook.name(),
            message,
            kind: PluginFailureKind::Broken,
        }
    }

    fn late(&self, index: usize, hook: Hook) -> PluginFailure {
        let plugin = self.plugin(index);
        let limit = plugin.hook_limit.as_secs_f64();
        PluginFailure {
            plugin: plugin.name().to_owned(),
            hook: hook.name(),
            message: format!("it did not finish within {limit} s"),
            kind: PluginFailureKind::Late,
        }
    }

    fn drop_state(&self, index: usize) {
        let PluginState::Made(state) = self.with(|inner| inner.state(index)) else {
            return;
        };
        self.with(|inner| inner.set_state(index, PluginState::NotMade));
        // SAFETY: made by this plugin, dropped once.
        unsafe { self.plugin(index).drop_state(state) }
    }

    pub(super) fn listeners(&self, hook: Hook) -> &[usize] {
        &self.chain().listeners[hook as usize]
    }

    pub(super) fn plugin(&self, index: usize) -> &Arc<Instance<Filter>> {
        self.chain().plugin(index)
    }

    pub(super) fn chain(&self) -> &Chain {
        static NONE: Chain = Chain::empty();
        // SAFETY: set from `new` until the last handle is dropped, and never changed in between.
        match unsafe { &(*self.core.inner.get()).chain } {
            Some(chain) => chain,
            None => &NONE,
        }
    }

    /// Short access to what is shared; `work` calls no plugin and keeps no reference.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: one thread, and no reference made here is alive while a plugin runs or another one is made.
        work(unsafe { &mut *self.core.inner.get() })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

pub(super) fn report(failure: &PluginFailure) {
    tracing::error!(
        plugin = failure.plugin,
        hook = failure.hook,
        error = failure.message,
        "a plugin failed"
    );
}

impl Drop for Session {
    fn drop(&mut self) {
        if Rc::strong_count(&self.core) > 1 {
            return;
        }
        // Only of plugins that have one, or are out of the exchange.
        for index in 0..self.with(|inner| inner.states.len()) {
            self.drop_state(index);
        }
        self.with(Inner::end);
        let core = Rc::clone(&self.core);
        // While the thread ends the pool may be gone already.
        let _ = SPARE.try_with(|spare| {
            let spare = &mut *spare.borrow_mut();
            if spare.len() < SPARE_KEPT {
                spare.push(core);
            }
        });
    }
}

/// A walk through the chain that a plugin has interrupted: its hook waits, or it has something to say.
///
/// Cancel safe: a hook that waits is cancelled.
pub(crate) struct Walk<'a> {
    attached: Detach<'a>,
    hook: Hook,
    /// The plugin's among the listeners.
    position: usize,
    /// What it has answered; PENDING as long as nobody waits for the hook.
    result: u32,
    _subject: PhantomData<Subject<'a>>,
}

impl Walk<'_> {
    /// What the rest of the walk comes to.
    pub(crate) async fn verdict(mut self) -> Verdict {
        let Detach(session) = self.attached;
        loop {
            let index = session.listeners(self.hook)[self.position];
            let result = std::mem::replace(&mut self.result, code::PROCEED);
            match session.verdict(index, self.hook, result).await {
                Verdict::Proceed => {}
                verdict => return verdict,
            }
            match session.call_from(self.position + 1, self.hook) {
                Some((position, result)) => (self.position, self.result) = (position, result),
                None => return Verdict::Proceed,
            }
        }
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        if self.result == code::PENDING {
            let Detach(session) = self.attached;
            let index = session.listeners(self.hook)[self.position];
            if let Some(state) = session.state(index) {
                // SAFETY: the state is this plugin's own.
                unsafe { session.plugin(index).cancel(self.hook, state) };
            }
        }
    }
}

/// Marks that a hook waits, for as long as it lives.
struct Waiting<'a>(&'a Core);

impl<'a> Waiting<'a> {
    fn begin(core: &'a Core) -> Self {
        core.is_waiting.set(true);
        Self(core)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.is_waiting.set(false);
        if let Some(waker) = self.0.waiter.take() {
            waker.wake();
        }
    }
}

/// Detaches the heads when a walk ends, also when it is dropped while a hook waits.
struct Detach<'a>(&'a Session);

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        // A waiting hook has been cancelled before.
        self.0.with(|inner| {
            inner.detach();
            inner.hide_response();
        });
    }
}
