//! One exchange on its way through the plugin chain.
//!
//! A session owns what plugins see of the exchange and what they ask for: edits, a reply, another upstream, log
//! fields. It exists only when the chain is not empty. Its clones are handles to the same exchange, for the two
//! directions of its content. While a hook runs, nothing of the host touches the heads that the hook works on; a hook
//! that waits keeps them borrowed, dropping the wait cancels it first, and no other hook of the exchange runs meanwhile.
#![expect(unsafe_code, reason = "calls plugins through their tables")]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::c_void;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use abi_stable::std_types::RSlice;
use plugin_api::abi::code;

use super::inner::{Inner, PluginState};
use super::waiting::WaitingHook;
use super::{Chain, ClientPlugins, Hook};
use crate::deadline::Deadlines;
use crate::error::{PluginFailure, PluginFailureKind};
use crate::http1::{RequestHead, ResponseHead, Scheme, Trailers};
use crate::upstream::Parent;

/// Sessions kept for reuse per worker.
const SPARE_KEPT: usize = 128;

thread_local! {
    static SPARE: RefCell<Vec<Rc<Core>>> = const { RefCell::new(Vec::new()) };
}

/// How long an asynchronous hook may take.
const HOOK_LIMIT: Duration = Duration::from_secs(5);

/// A response that a plugin has made.
#[derive(Debug, Default)]
pub(crate) struct PluginReply {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

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
    /// A hook has not decided yet.
    is_waiting: Cell<bool>,
    /// Who waits for it to decide.
    waiter: Cell<Option<Waker>>,
}

impl Session {
    pub(crate) fn new(
        chain: &Arc<Chain>,
        deadlines: &Rc<Deadlines>,
        client: Option<&Rc<ClientPlugins>>,
        facts: ExchangeFacts,
    ) -> Self {
        let core = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            Rc::new(Core {
                inner: UnsafeCell::new(Inner::new()),
                is_waiting: Cell::new(false),
                waiter: Cell::new(None),
            })
        });
        let session = Self { core };
        session.with(|inner| inner.begin(chain, deadlines, client, facts));
        session
    }

    pub(crate) fn has_listeners(&self, hook: Hook) -> bool {
        self.chain().has_listeners(hook)
    }

    /// Calls `hook` of every plugin that listens to it, until one of them ends the walk.
    ///
    /// Cancel safe: a hook that waits is cancelled.
    pub(crate) async fn run(&self, hook: Hook, subject: Subject<'_>) -> Verdict {
        self.with(|inner| inner.attach(subject));
        let _detached_at_the_end = Detach(self);
        for position in 0..self.listeners(hook).len() {
            let index = self.listeners(hook)[position];
            match self.decide(index, hook).await {
                Verdict::Proceed => {}
                verdict => return verdict,
            }
        }
        Verdict::Proceed
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
    pub(crate) fn tell(&self, hook: Hook, request: &RequestHead) {
        if !self.has_listeners(hook) {
            return;
        }
        self.with(|inner| inner.show(request, None));
        for position in 0..self.listeners(hook).len() {
            let index = self.listeners(hook)[position];
            if let Some(state) = self.state(index) {
                match self.call(index, hook, state) {
                    code::PROCEED => {}
                    result => report(&self.failure(index, hook, result)),
                }
            }
        }
    }

    /// Runs a hook that ends an exchange and cannot wait. `false`: suppress the log line.
    pub(crate) fn run_at_end(&self, hook: Hook, request: &RequestHead) -> bool {
        if !self.has_listeners(hook) {
            return true;
        }
        let kept = self.with(|inner| inner.kept_response.take());
        self.with(|inner| inner.show(request, kept.as_ref()));
        let mut may_log = true;
        for position in 0..self.listeners(hook).len() {
            let index = self.listeners(hook)[position];
            let Some(state) = self.state(index) else {
                continue;
            };
            match self.call(index, hook, state) {
                code::PROCEED => {}
                code::SUPPRESS => may_log = false,
                result => report(&self.failure(index, hook, result)),
            }
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
        let _detached_at_the_end = Detach(self);
        for position in 0..self.listeners(hook).len() {
            let index = self.listeners(hook)[position];
            if let Some(state) = self.state(index) {
                match self.call(index, hook, state) {
                    code::PROCEED => {}
                    result => return Err(self.failure(index, hook, result)),
                }
            }
        }
        Ok(())
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
        self.chain().plugins[index].name.clone()
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

    /// Keeps the final response for the hooks that come last.
    pub(crate) fn keep_response(&self, head: ResponseHead) {
        self.with(|inner| inner.kept_response = Some(head));
    }

    /// The client has authenticated with the proxy.
    pub(crate) fn set_user(&self, name: &str) {
        self.with(|inner| inner.set_user(name));
    }

    /// There is no upstream, for this reason.
    pub(crate) fn set_failure_reason(&self, reason: &str) {
        self.with(|inner| inner.set_failure_reason(reason));
    }

    /// The request's head has moved in memory.
    pub(crate) fn forget_request(&self) {
        self.with(Inner::forget_request);
    }

    // ---- calls -------------------------------------------------------------------------------------------------------

    /// Calls one plugin's hook, to its decision.
    pub(super) async fn decide(&self, index: usize, hook: Hook) -> Verdict {
        let Some(state) = self.state(index) else {
            return Verdict::Proceed;
        };
        let result = match self.call(index, hook, state) {
            code::PENDING => match self.wait(index, state).await {
                Some(result) => result,
                None => return Verdict::Failed(self.late(index, hook)),
            },
            result => result,
        };
        let name = || self.chain().plugins[index].name.clone();
        match result {
            code::PROCEED => Verdict::Proceed,
            code::RESPOND => match self.with(|inner| inner.reply.take()) {
                Some(reply) => Verdict::Reply(reply, name()),
                None => Verdict::Failed(self.failure(index, hook, code::ERROR)),
            },
            code::CLOSE => Verdict::Close(name()),
            code::RETRY if hook == Hook::OnUpstreamFailed => Verdict::Retry,
            result => Verdict::Failed(self.failure(index, hook, result)),
        }
    }

    fn call(&self, index: usize, hook: Hook, state: *mut c_void) -> u32 {
        let plugin = &self.chain().plugins[index];
        let Some(inner) = self.prepare(index, hook) else {
            return code::ERROR;
        };
        // SAFETY: object and state are this plugin's own, the view lives as long as the session, and the heads that
        // its callbacks reach were attached by the caller and stay borrowed until they are detached.
        unsafe { plugin.table.call()(plugin.object, state, &raw mut (*inner).view) }
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
        let plugin = &self.chain().plugins[index];
        let Some(inner) = self.prepare(index, hook) else {
            return code::ERROR;
        };
        // SAFETY: as in `call`; the data is borrowed for the call only.
        unsafe {
            (*inner).emitted.clear();
            let view = &raw mut (*inner).view;
            plugin.table.call_with()(plugin.object, state, view, RSlice::from_slice(data), flags)
        }
    }

    /// Says whose hook runs. `None`: the plugin cannot keep what it needs for the connection.
    fn prepare(&self, index: usize, hook: Hook) -> Option<*mut Inner> {
        let inner = self.core.inner.get();
        // SAFETY: no other reference into the core is alive.
        unsafe {
            (*inner).hook = hook;
            (*inner).running = index;
            (*inner).view.hook = hook as u32;
            (*inner).view.connection_state = match &(*inner).client {
                Some(client) => client.state(index)?,
                None => std::ptr::null_mut(),
            };
        }
        Some(inner)
    }

    /// Polls a hook that waits; `None` when it took too long, after which it is cancelled.
    async fn wait(&self, index: usize, state: *mut c_void) -> Option<u32> {
        let _others_wait = Waiting::begin(&self.core);
        let deadline = self.with(|inner| inner.deadlines.as_ref().map(|all| all.slot()))?;
        deadline.arm(HOOK_LIMIT);
        let waiting = WaitingHook::new(self.chain().plugins[index].table, state);
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
        match self.with(|inner| inner.states[index]) {
            PluginState::Made(state) => return Some(state),
            PluginState::Lost => return None,
            PluginState::NotMade => {}
        }
        let plugin = &self.chain().plugins[index];
        let made = if plugin.needs_state == 0 {
            PluginState::Made(std::ptr::null_mut())
        } else {
            // SAFETY: the object is this plugin's own.
            let state = unsafe { plugin.table.state_new()(plugin.object) };
            if state.is_null() {
                PluginState::Lost
            } else {
                PluginState::Made(state)
            }
        };
        self.with(|inner| inner.states[index] = made);
        match made {
            PluginState::Made(state) => Some(state),
            _ => None,
        }
    }

    pub(super) fn failure(&self, index: usize, hook: Hook, result: u32) -> PluginFailure {
        if result == code::PANIC {
            self.drop_state(index);
            self.with(|inner| inner.states[index] = PluginState::Lost);
        }
        let said = self.with(|inner| std::mem::take(&mut inner.failure));
        let message = match result {
            code::PANIC => format!("it panicked: {said}"),
            code::ERROR if !said.is_empty() => said,
            code::ERROR => "it failed without saying why".to_owned(),
            code::RETRY => "only on_upstream_failed can ask to try again".to_owned(),
            unknown => format!("it returned {unknown}, which this proxy does not know here"),
        };
        PluginFailure {
            plugin: self.chain().plugins[index].name.clone(),
            hook: hook.name(),
            message,
            kind: PluginFailureKind::Broken,
        }
    }

    fn late(&self, index: usize, hook: Hook) -> PluginFailure {
        PluginFailure {
            plugin: self.chain().plugins[index].name.clone(),
            hook: hook.name(),
            message: format!("it did not end within {} s", HOOK_LIMIT.as_secs()),
            kind: PluginFailureKind::Late,
        }
    }

    fn drop_state(&self, index: usize) {
        let made =
            self.with(|inner| std::mem::replace(&mut inner.states[index], PluginState::NotMade));
        if let PluginState::Made(state) = made
            && !state.is_null()
        {
            // SAFETY: made by this plugin's `state_new`, dropped once.
            unsafe { self.chain().plugins[index].table.state_drop()(state) }
        }
    }

    pub(super) fn listeners(&self, hook: Hook) -> &[usize] {
        &self.chain().listeners[hook as usize]
    }

    pub(super) fn chain(&self) -> &Chain {
        static NONE: Chain = Chain::empty();
        // SAFETY: set from `new` until the last handle is dropped, and never changed in between.
        unsafe { (*self.core.inner.get()).chain.as_deref() }.unwrap_or(&NONE)
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
        "{}",
        failure.message
    );
}

impl Drop for Session {
    fn drop(&mut self) {
        if Rc::strong_count(&self.core) > 1 {
            return;
        }
        for index in 0..self.chain().plugins.len() {
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
