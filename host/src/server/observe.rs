//! What observes the calls into plugins: how they end the process, how long they take, how often there are any.
//!
//! Nothing of it runs before there are plugins. It begins before the first of them is loaded, so that one that blocks or
//! dies while it is made is named like any other.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;
use crate::generation::Generation;
use crate::handover::Handover;
use crate::plugins::watchdog::{self, Patience, Watchdog};
use crate::plugins::{last_words, statistics};

/// The watchdog of this process, and what it needs.
pub(super) struct Observer {
    workers: usize,
    /// Connections of workers that are stuck in a plugin. None where there is no other worker.
    handover: Option<Arc<Handover>>,
    /// None before there are plugins.
    watchdog: Mutex<Option<Watchdog>>,
}

impl Observer {
    pub(super) fn new(workers: usize, handover: Option<Arc<Handover>>) -> Self {
        Self {
            workers,
            handover,
            watchdog: Mutex::new(None),
        }
    }

    /// Plugins of this configuration are about to be loaded, if it has some.
    pub(super) fn prepare(&self, config: &Config) {
        if config.plugins.is_empty() {
            return;
        }
        last_words::install();
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        if watchdog.is_none() {
            *watchdog = self.start_watchdog(config);
        }
    }

    /// This generation is in force from now on.
    pub(super) fn follow(&self, generation: &Generation) {
        let config = &generation.config;
        self.prepare(config);
        count_calls(config);
        let watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watchdog) = &*watchdog {
            watchdog.set_patience(patience(config));
        }
    }

    fn start_watchdog(&self, config: &Config) -> Option<Watchdog> {
        let handover = self.handover.clone();
        let started = watchdog::start(patience(config), self.workers, move |stuck| {
            if let Some(handover) = &handover {
                handover.relieve(stuck);
            }
        });
        started
            .inspect_err(|error| {
                tracing::error!(%error, "cannot start the watchdog thread: blocked plugins are not reported");
            })
            .ok()
    }
}

/// As [`Observer::prepare`], before there are workers to watch.
pub(super) fn prepare_start(config: &Config) {
    if !config.plugins.is_empty() {
        last_words::install();
        count_calls(config);
    }
}

/// Counts calls from now on, or no longer. Nothing is set up while there are no plugins.
fn count_calls(config: &Config) {
    match config.plugin_statistics {
        true if config.plugins.is_empty() => {}
        true => statistics::start(),
        false => statistics::stop(),
    }
}

fn patience(config: &Config) -> Patience {
    Patience {
        worker: config.timeouts.plugin_budget,
        background: config.timeouts.plugin_hook,
    }
}
