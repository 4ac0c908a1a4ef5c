//! A hook of an exchange, of every plugin that listens to it: first to last, until one of them decides otherwise.

use std::marker::PhantomData;

use plugin_api::abi::code;
use plugin_api::abi::hook::Hook;

use super::exchange::ExchangePlugins;
use super::exchange_state::{ExchangeState, Subject};
use super::listener::{LOST, Listener, Verdict, report};
use crate::error::PluginFailure;
use crate::http1::{RequestHead, Trailers};

impl ExchangePlugins {
    /// Calls the hook of every plugin that listens to it, until one of them does not let the exchange proceed. `None`: all
    /// do, which is so for nearly all exchanges and needs no future.
    pub(crate) fn walk<'a>(&'a self, hook: Hook, subject: Subject<'a>) -> Option<Walk<'a>> {
        self.with(|state| state.attach(subject));
        let attached = Attached(self);
        let (position, result) = self.call_from(0, hook)?;
        Some(Walk {
            attached,
            hook,
            position,
            result,
            _subject: PhantomData,
        })
    }

    /// Calls the hook of every plugin that listens to it, until one of them does not let the exchange proceed.
    ///
    /// Cancel safe: a hook that waits is cancelled.
    pub(crate) async fn run(&self, hook: Hook, subject: Subject<'_>) -> Verdict {
        match self.walk(hook, subject) {
            Some(walk) => walk.verdict().await,
            None => Verdict::Proceed,
        }
    }

    /// As [`run`](Self::run) for `resolve_dns`, until a plugin has resolved the upstream's name.
    pub(crate) async fn resolve(&self, subject: Subject<'_>) -> Verdict {
        self.with(|state| {
            state.route.overrides.addresses.clear();
            state.attach(subject);
        });
        let _attached = Attached(self);
        for listener in self.listeners(Hook::ResolveDns) {
            match listener.decide().await {
                Verdict::Proceed
                    if self.with(|state| state.route.overrides.addresses.is_empty()) => {}
                verdict => return verdict,
            }
        }
        Verdict::Proceed
    }

    /// Calls a hook that can change nothing.
    #[inline]
    pub(crate) fn notify(&self, hook: Hook, request: &RequestHead) -> Result<(), PluginFailure> {
        if self.has_listeners(hook) {
            return self.notify_listeners(hook, request);
        }
        Ok(())
    }

    fn notify_listeners(&self, hook: Hook, request: &RequestHead) -> Result<(), PluginFailure> {
        self.with(|state| state.show(request, None));
        self.call_all(hook)
    }

    /// Lets plugins edit a trailer section.
    pub(crate) fn run_trailers(
        &self,
        hook: Hook,
        trailers: &mut Trailers,
    ) -> Result<(), PluginFailure> {
        self.with(|state| {
            state.editable.trailers = trailers;
            state.refresh_trailers();
        });
        let result = self.call_all(hook);
        self.with(ExchangeState::hide_trailers);
        result
    }

    /// Asks plugins whether to intercept the TLS of this tunnel; `None` if all of them leave it open.
    ///
    /// # Errors
    /// A plugin failed, which has been reported.
    pub(crate) fn ask_about_interception(
        &self,
        request: &RequestHead,
    ) -> Result<Option<bool>, PluginFailure> {
        let hook = Hook::DoIntercept;
        if !self.has_listeners(hook) {
            return Ok(None);
        }
        self.with(|state| state.show(request, None));
        match self.call_from(0, hook) {
            None => Ok(None),
            Some((_, code::INTERCEPT)) => Ok(Some(true)),
            Some((_, code::TUNNEL)) => Ok(Some(false)),
            Some((position, result)) => {
                let failure = self.listener_at(position, hook).failure(result);
                report(&failure);
                Err(failure)
            }
        }
    }

    /// Runs a hook that ends an exchange and cannot wait. `false`: suppress the log line.
    #[inline]
    pub(crate) fn run_at_end(&self, hook: Hook, request: &RequestHead) -> bool {
        !self.has_listeners(hook) || self.run_listeners_at_end(hook, request)
    }

    fn run_listeners_at_end(&self, hook: Hook, request: &RequestHead) -> bool {
        let kept = self.with(|state| state.kept_response.take());
        self.with(|state| state.show(request, kept.as_ref()));
        let (mut may_log, mut next) = (true, 0);
        while let Some((position, result)) = self.call_from(next, hook) {
            match result {
                code::SUPPRESS => may_log = false,
                // Its failure has been reported.
                LOST => {}
                result => report(&self.listener_at(position, hook).failure(result)),
            }
            next = position + 1;
        }
        self.with(|state| {
            state.hide_response();
            state.kept_response = kept;
        });
        may_log
    }

    /// Calls the hook of every listener; the failure of the first that fails.
    fn call_all(&self, hook: Hook) -> Result<(), PluginFailure> {
        match self.call_from(0, hook) {
            None => Ok(()),
            Some((position, result)) => Err(self.listener_at(position, hook).failure(result)),
        }
    }

    /// Calls the hook of the listeners from the given one on, as long as they let the exchange proceed: position and
    /// result of the first that does not.
    fn call_from(&self, first: usize, hook: Hook) -> Option<(usize, u32)> {
        for (position, listener) in self.listeners(hook).enumerate().skip(first) {
            match listener.call() {
                code::PROCEED => {}
                result => return Some((position, result)),
            }
        }
        None
    }

    fn listener_at(&self, position: usize, hook: Hook) -> Listener<'_> {
        self.listener(self.chain().listeners(hook)[position], hook)
    }
}

/// A walk through the chain that a plugin has interrupted: its hook waits, or has decided otherwise.
///
/// Cancel safe: a hook that waits is cancelled.
pub(crate) struct Walk<'a> {
    attached: Attached<'a>,
    hook: Hook,
    /// The plugin's among the listeners.
    position: usize,
    /// What it has returned; PENDING until the wait for its decision begins.
    result: u32,
    _subject: PhantomData<Subject<'a>>,
}

impl Walk<'_> {
    /// What the rest of the walk comes to.
    pub(crate) async fn verdict(mut self) -> Verdict {
        let Attached(exchange) = self.attached;
        loop {
            let listener = exchange.listener_at(self.position, self.hook);
            let result = std::mem::replace(&mut self.result, code::PROCEED);
            match listener.verdict(result).await {
                Verdict::Proceed => {}
                verdict => return verdict,
            }
            match exchange.call_from(self.position + 1, self.hook) {
                Some((position, result)) => (self.position, self.result) = (position, result),
                None => return Verdict::Proceed,
            }
        }
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        if self.result == code::PENDING {
            let Attached(exchange) = self.attached;
            exchange.listener_at(self.position, self.hook).cancel();
        }
    }
}

/// Heads are attached to the exchange. Detaches them when a walk ends, also when it is dropped while a hook waits.
struct Attached<'a>(&'a ExchangePlugins);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        // A waiting hook has been cancelled before.
        self.0.with(ExchangeState::detach);
    }
}
