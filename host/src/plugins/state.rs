//! The values that plugins keep for an exchange or a client connection.

use std::ffi::c_void;

/// A plugin's own state for an exchange, or for a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PluginState {
    /// Not made, or the plugin keeps none.
    NotMade,
    /// Never null.
    Made(*mut c_void),
    /// Making it panicked, or the plugin panicked later: it is not called again.
    Lost,
}

impl PluginState {
    /// What a plugin has made; null if that panicked.
    pub(super) fn made(state: *mut c_void) -> Self {
        match state.is_null() {
            true => Self::Lost,
            false => Self::Made(state),
        }
    }
}

/// The states of an exchange, by the position of their plugin in the chain; most plugins keep none.
#[derive(Debug, Default)]
pub(super) struct ExchangeStates(Vec<PluginState>);

impl ExchangeStates {
    #[inline]
    pub(super) fn of(&self, index: usize) -> PluginState {
        let state = self.0.get(index).copied();
        state.unwrap_or(PluginState::NotMade)
    }

    pub(super) fn set(&mut self, index: usize, state: PluginState) {
        if self.0.len() <= index {
            self.0.resize(index + 1, PluginState::NotMade);
        }
        self.0[index] = state;
    }

    /// Forgets the plugin's state, which the caller drops.
    pub(super) fn take(&mut self, index: usize) -> PluginState {
        let state = self.0.get_mut(index);
        state.map_or(PluginState::NotMade, |state| {
            std::mem::replace(state, PluginState::NotMade)
        })
    }

    /// One more than the highest position that has been set.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets all of them; keeps the allocation.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
