//! Reloads: a new generation is made beside the one in force, and takes its place when it is whole.
//!
//! Making one reads files and runs code of plugins, so it has a thread of its own: signals are heard meanwhile. One at a
//! time is made; a request that comes meanwhile is for another one afterwards. A failure changes nothing. Generations
//! that have been replaced are kept until nothing uses them any more, so that their plugins never end on a worker.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::thread;

use tokio::sync::{oneshot, watch};

use super::observe::Observer;
use super::signals::RELOAD;
use super::{ConfigSource, end_in_background};
use crate::config::Config;
use crate::generation::{self, Generation};
use crate::plugins::call::Visible;
use crate::plugins::callee::Place;
use crate::plugins::marks::{self, Role};
use crate::worker::Followed;

/// What is in force, what was, and what is being made.
pub(super) struct Generations {
    source: ConfigSource,
    observer: Arc<Observer>,
    current: watch::Sender<Arc<Generation>>,
    replaced: Vec<Arc<Generation>>,
    under_way: Option<oneshot::Receiver<Result<Generation, Vec<String>>>>,
    /// Workers that have changed over to the current one.
    followers: BTreeSet<usize>,
    /// One more reload has been asked for while one was under way.
    is_wanted_again: bool,
}

impl Generations {
    pub(super) fn new(
        first: Arc<Generation>,
        source: ConfigSource,
        observer: Arc<Observer>,
    ) -> Self {
        Self {
            source,
            observer,
            current: watch::Sender::new(first),
            replaced: Vec::new(),
            under_way: None,
            followers: BTreeSet::new(),
            is_wanted_again: false,
        }
    }

    /// For a worker, which changes over when it sees a new one.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Generation>> {
        self.current.subscribe()
    }

    /// Begins a reload, or has one follow that which is under way.
    pub(super) fn reload(&mut self) {
        if self.under_way.is_some() {
            let waits = waits_for().unwrap_or_default();
            tracing::info!("{RELOAD}: a reload is under way{waits}; another one follows");
            self.is_wanted_again = true;
            return;
        }
        let (send, receive) = oneshot::channel();
        let (source, observer) = (Arc::clone(&self.source), Arc::clone(&self.observer));
        let current = self.current.borrow().clone();
        let make = move || {
            let _visible = Visible::new(Role::Background);
            let made = make(&source, &observer, &current);
            // Not to be the last owner when the server drops it.
            drop(current);
            // The server may be about to end.
            let _ = send.send(made);
        };
        match thread::Builder::new().name("reload".to_owned()).spawn(make) {
            Ok(_) => self.under_way = Some(receive),
            Err(error) => tracing::error!(%error, "{RELOAD}: cannot reload"),
        }
    }

    /// Waits for the reload that is under way and puts its result in force; the new generation, if there is one. Pends
    /// where none is under way. Cancel safe.
    pub(super) async fn reloaded(&mut self) -> Option<Arc<Generation>> {
        let Some(under_way) = &mut self.under_way else {
            return pending().await;
        };
        let made = under_way.await;
        self.under_way = None;
        let generation = match made {
            Ok(Ok(generation)) => Some(self.replace(generation)),
            Ok(Err(problems)) => {
                let number = self.current.borrow().number;
                for problem in problems {
                    tracing::error!("{RELOAD}: not reloaded, generation {number} stays: {problem}");
                }
                None
            }
            Err(_) => {
                tracing::error!("{RELOAD}: not reloaded: the reload panicked");
                None
            }
        };
        if std::mem::take(&mut self.is_wanted_again) {
            self.reload();
        }
        generation
    }

    fn replace(&mut self, generation: Generation) -> Arc<Generation> {
        let generation = Arc::new(generation);
        self.followers.clear();
        let before = self.current.send_replace(Arc::clone(&generation));
        self.replaced.push(before);
        generation
    }

    /// Notes that one of the `workers` has changed over to a generation. One that has started again may say so twice.
    pub(super) fn followed(&mut self, followed: Followed, workers: usize) {
        let current = self.current.borrow();
        let number = followed.generation;
        if current.number == number
            && self.followers.insert(followed.worker)
            && self.followers.len() == workers
        {
            let plugins = current.plugin_names().len();
            tracing::info!("{RELOAD}: generation {number} is in force; plugins: {plugins}");
        }
    }

    /// Whether generations that have been replaced are still used.
    pub(super) fn has_replaced(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// Ends the replaced generations that nothing uses any more.
    pub(super) fn end_unused(&mut self) {
        let (used, unused) = std::mem::take(&mut self.replaced)
            .into_iter()
            .partition::<Vec<_>, _>(|generation| Arc::strong_count(generation) > 1);
        self.replaced = used;
        for generation in unused.into_iter().filter_map(Arc::into_inner) {
            let (number, others) = (generation.number, self.replaced.len());
            tracing::info!("generation {number} has ended; {others} replaced ones are in use");
            end_in_background(generation);
        }
    }

    /// Says that a reload which is under way comes too late.
    pub(super) fn tell_given_up(&self) {
        if self.under_way.is_some() {
            tracing::warn!("{RELOAD}: not reloaded: shutting down");
        }
    }

    /// What is left when the workers have ended.
    pub(super) fn into_left(self) -> Left {
        let mut generations = self.replaced;
        generations.push(self.current.borrow().clone());
        Left {
            generations,
            under_way: self.under_way,
        }
    }
}

/// Generations that nobody uses any more, but for a reload that is under way.
pub(super) struct Left {
    /// The one in force last.
    generations: Vec<Arc<Generation>>,
    under_way: Option<oneshot::Receiver<Result<Generation, Vec<String>>>>,
}

impl Left {
    /// Ends them; code of plugins runs here. Never returns if that does not, nor if a reload that is under way does not
    /// end: it holds the generation that it is made from.
    pub(super) fn end(self) {
        if let Some(under_way) = self.under_way {
            let generations = self.generations.iter();
            generations.for_each(|generation| generation.flush_events());
            drop(under_way.blocking_recv());
        }
        let generations = self.generations.into_iter().filter_map(Arc::into_inner);
        generations.for_each(Generation::end);
    }
}

/// What of a plugin the reload under way is in.
fn waits_for() -> Option<String> {
    let mut calls = marks::calls_under_way().into_iter();
    let call = calls.find(|call| [Place::INIT, Place::NEW].contains(&call.place()))?;
    let (plugin, hook) = (call.plugin().name(), call.place().name());
    Some(format!(", it waits for {hook} of {plugin}"))
}

/// The generation that the configuration says now, or everything that is wrong.
fn make(
    source: &ConfigSource,
    observer: &Observer,
    current: &Generation,
) -> Result<Generation, Vec<String>> {
    let config = source().map_err(|error| vec![error.to_string()])?;
    let config = with_settings_of_the_start(config, &current.config);
    observer.prepare(&config);
    generation::build(config, Some(current))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// Settings that are for the whole run stay as they are; a change is reported.
fn with_settings_of_the_start(new: Config, running: &Config) -> Config {
    let changed = [
        ("hostname", new.hostname != running.hostname),
        ("port", new.port != running.port),
        ("num_workers", new.num_workers != running.num_workers),
        ("backlog", new.backlog != running.backlog),
        ("log", new.log != running.log),
        (
            "open_file_limit",
            new.open_file_limit != running.open_file_limit,
        ),
        ("pid_file", new.pid_file != running.pid_file),
    ];
    for (setting, _) in changed.iter().filter(|(_, has_changed)| *has_changed) {
        tracing::warn!("{RELOAD}: a change of {setting} needs a restart, it is ignored");
    }
    Config {
        hostname: running.hostname.clone(),
        port: running.port,
        num_workers: running.num_workers,
        backlog: running.backlog,
        log: running.log.clone(),
        open_file_limit: running.open_file_limit,
        pid_file: running.pid_file.clone(),
        ..new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_stays_as_it_is() {
        let running = Config::default();
        let new = Config {
            port: running.port + 1,
            backlog: running.backlog + 1,
            via: "other".to_owned(),
            ..Config::default()
        };
        let config = with_settings_of_the_start(new, &running);
        assert_eq!(
            (config.port, config.backlog),
            (running.port, running.backlog)
        );
        assert_eq!(config.via, "other");
    }
}
