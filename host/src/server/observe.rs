//! Observes the calls into plugins: crashes, calls that block, and statistics.
//!
//! Nothing runs while there are no plugins. It starts before the first plugin is loaded, so that one that blocks or
//! crashes during creation is named like any other.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;
use crate::generation::Generation;
use crate::handover::Handover;
use crate::plugins::watchdog::{self, Patience, Watchdog};
use crate::plugins::{last_words, statistics};

/// The watchdog of this process, and its inputs.
pub(super) struct Observer {
    workers: usize,
    /// Takes connections from workers that are stuck in a plugin. `None` with a single worker.
    handover: Option<Arc<Handover>>,
    /// `None` until there are plugins.
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

    /// Prepares for loading the plugins of this configuration, if it has any.
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

    /// Applies the settings of this generation, which is now the current one.
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

/// Like [`Observer::prepare`], before there are workers to watch.
pub(super) fn prepare_start(config: &Config) {
    if !config.plugins.is_empty() {
        last_words::install();
        count_calls(config);
    }
}

/// Starts or stops counting calls. Nothing is set up while there are no plugins.
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
