//! One plugin of an exchange, and its calls.
//!
//! While a hook runs, nothing of the host touches the heads that it works on. A hook that waits keeps them borrowed,
//! dropping the wait cancels it first, and no other hook of the exchange runs meanwhile.
#![expect(
    unsafe_code,
    reason = "calls plugins with what they see of an exchange"
)]

use std::ffi::c_void;
use std::sync::Arc;

use plugin_api::abi::code;
use plugin_api::abi::hook::{Hook, Permission};

use super::chain::Chain;
use super::exchange::{ExchangePlugins, Waiting};
use super::exchange_state::ExchangeState;
use super::instance::{Filter, Instance};
use super::state::PluginState;
use super::waiting::WaitingHook;
use crate::error::{PluginFailure, PluginFailureKind};
use crate::reply::PluginReply;

/// Stands for the result of a plugin that cannot be called.
pub(super) const LOST: u32 = u32::MAX;

/// What a hook has decided; of several plugins, the first one that does not let the exchange proceed.
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

/// A plugin that listens to a hook of an exchange.
#[derive(Clone, Copy)]
pub(super) struct Listener<'a> {
    exchange: &'a ExchangePlugins,
    plugin: &'a Arc<Instance<Filter>>,
    /// Position of the plugin in the chain.
    index: usize,
    hook: Hook,
}

impl ExchangePlugins {
    /// The plugin at this position of the chain.
    #[inline]
    pub(super) fn listener(&self, index: usize, hook: Hook) -> Listener<'_> {
        Listener::new(self, self.chain(), index, hook)
    }

    /// The plugins that listen to the hook, in call order.
    pub(super) fn listeners(&self, hook: Hook) -> impl Iterator<Item = Listener<'_>> {
        let chain = self.chain();
        let listeners = chain.listeners(hook).iter();
        listeners.map(move |&index| Listener::new(self, chain, index, hook))
    }
}

impl<'a> Listener<'a> {
    #[inline]
    fn new(exchange: &'a ExchangePlugins, chain: &'a Chain, index: usize, hook: Hook) -> Self {
        Self {
            exchange,
            plugin: chain.plugin(index),
            index,
            hook,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.plugin.name()
    }

    /// Calls the hook; its result, or LOST where the plugin cannot be called.
    // Always: the listener of a walk is then never put together in memory.
    #[inline(always)]
    pub(super) fn call(&self) -> u32 {
        let Some(state) = self.state() else {
            return LOST;
        };
        let Some(exchange) = self.prepare() else {
            return code::ERROR;
        };
        // SAFETY: the state is this plugin's own, the view lives as long as the exchange, and the heads that its
        // callbacks reach were attached by the caller and stay borrowed until they are detached.
        unsafe {
            let view = &raw mut (*exchange).shown.view;
            self.plugin.call(self.hook, state, view)
        }
    }

    /// As [`call`](Self::call), of a hook that is given data.
    #[inline]
    pub(super) fn call_with(&self, data: &[u8], flags: u32) -> u32 {
        let Some(state) = self.state() else {
            return LOST;
        };
        let Some(exchange) = self.prepare() else {
            return code::ERROR;
        };
        // SAFETY: as in `call`; the data is borrowed for the call only.
        unsafe {
            (*exchange).output.emitted = None;
            let view = &raw mut (*exchange).shown.view;
            self.plugin.call_with(self.hook, state, view, data, flags)
        }
    }

    /// Calls the hook, to its decision.
    ///
    /// Cancel safe: a hook that waits is cancelled.
    pub(super) async fn decide(&self) -> Verdict {
        self.verdict(self.call()).await
    }

    /// What a result of the hook means; waits for the decision of a hook that has none yet.
    pub(super) async fn verdict(&self, mut result: u32) -> Verdict {
        if result == code::PENDING {
            result = match self.wait().await {
                Some(result) => result,
                None => return Verdict::Failed(self.late()),
            };
        }
        let name = || self.name().to_owned();
        match result {
            code::PROCEED => Verdict::Proceed,
            code::RESPOND => match self.exchange.with(|state| state.output.reply.take()) {
                Some(reply) => Verdict::Reply(reply, name()),
                None => Verdict::Failed(self.failure(code::ERROR)),
            },
            code::CLOSE => Verdict::Close(name()),
            code::RETRY if self.hook.may(Permission::Retry) => Verdict::Retry,
            result => Verdict::Failed(self.failure(result)),
        }
    }

    /// What the running hook has put in the place of its data.
    #[inline]
    pub(super) fn take_emitted(&self) -> Option<Vec<u8>> {
        self.exchange.with(|state| state.output.emitted.take())
    }

    /// Cancels a hook that waits.
    pub(super) fn cancel(&self) {
        if let Some(state) = self.state() {
            // SAFETY: the state is this plugin's own.
            unsafe { self.plugin.cancel(self.hook, state) };
        }
    }

    /// The failure that a result stands for.
    pub(super) fn failure(&self, result: u32) -> PluginFailure {
        if result == code::PANIC {
            self.exchange.drop_state(self.index);
            self.set_state(PluginState::Lost);
        }
        let message = self
            .exchange
            .with(|state| std::mem::take(&mut state.output.failure));
        let message = match result {
            code::PANIC => format!("it panicked: {message}"),
            code::ERROR if !message.is_empty() => message,
            code::ERROR => "it failed without an error message".to_owned(),
            LOST => "it has no state for this exchange: creating the state failed, or the plugin panicked earlier"
                .to_owned(),
            code::RETRY => "only on_upstream_failed may request a retry".to_owned(),
            unknown => format!("it returned {unknown}, which is not a valid result of this hook"),
        };
        self.failed(message, PluginFailureKind::Broken)
    }

    fn late(&self) -> PluginFailure {
        let limit = self.plugin.hook_limit.as_secs_f64();
        self.failed(
            format!("it did not finish within {limit} s"),
            PluginFailureKind::Late,
        )
    }

    /// A failure with this message.
    pub(super) fn failed(&self, message: String, kind: PluginFailureKind) -> PluginFailure {
        PluginFailure {
            plugin: self.name().to_owned(),
            hook: self.hook.name(),
            message,
            kind,
        }
    }

    /// Notes which hook runs. `None`: the plugin cannot keep what it needs for the connection, or another hook of the
    /// exchange has not decided yet.
    // In both ways of calling; as a function of its own it costs what the rest of it does.
    #[inline(always)]
    fn prepare(&self) -> Option<*mut ExchangeState> {
        if self.exchange.is_waiting() {
            debug_assert!(false, "{} while another hook waits", self.hook.name());
            return None;
        }
        let exchange = self.exchange.state_ptr();
        // SAFETY: no other reference into the exchange is alive.
        unsafe {
            if !(*exchange).shown.has_request() {
                debug_assert!(false, "{} sees no request", self.hook.name());
                return None;
            }
            (*exchange).running.hook = self.hook;
            (*exchange).running.plugin = self.index;
            (*exchange).shown.view.hook = self.hook as u32;
            // Null otherwise, as it was at the beginning.
            if let Some(client) = &(*exchange).client {
                let Some(state) = client.state(self.plugin) else {
                    "creating its state for the client connection failed"
                        .clone_into(&mut (*exchange).output.failure);
                    return None;
                };
                (*exchange).shown.view.connection_state = state;
            }
        }
        Some(exchange)
    }

    /// Polls a hook that waits; `None` when it took too long, after which it is cancelled.
    async fn wait(&self) -> Option<u32> {
        let state = self.state()?;
        let _others_wait = Waiting::begin(self.exchange);
        let chain = self.exchange.with(|state| state.chain.clone())?;
        let deadline = chain.deadlines().slot();
        deadline.arm(self.plugin.hook_limit);
        let waiting = WaitingHook::new(chain, self.index, state, self.hook);
        deadline.bound(waiting).await
    }

    /// The plugin's state, made at first use; `None` if the plugin is not called any more in this exchange.
    #[inline]
    fn state(&self) -> Option<*mut c_void> {
        match self.exchange.with(|state| state.states.of(self.index)) {
            PluginState::Made(state) => Some(state),
            PluginState::Lost => None,
            PluginState::NotMade if !self.plugin.needs_state => Some(std::ptr::null_mut()),
            PluginState::NotMade => self.make_state(),
        }
    }

    #[inline(never)]
    fn make_state(&self) -> Option<*mut c_void> {
        let state = self.plugin.new_state();
        self.set_state(PluginState::made(state));
        (!state.is_null()).then_some(state)
    }

    fn set_state(&self, made: PluginState) {
        self.exchange
            .with(|state| state.states.set(self.index, made));
    }
}

/// Logs the failure of a plugin that no answer to the client can show.
pub(super) fn report(failure: &PluginFailure) {
    tracing::error!(
        plugin = failure.plugin,
        hook = failure.hook,
        error = failure.message,
        "a plugin failed"
    );
}
