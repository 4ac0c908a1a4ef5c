//! Reloads: a new generation is built beside the current one and replaces it once it is complete.
//!
//! Building reads files and runs code of plugins, so it has a thread of its own and signals are still handled
//! meanwhile. Only one build runs at a time; a request during a build causes another one afterwards. A failure changes
//! nothing. Replaced generations are kept until nothing uses them, so that their plugins are never dropped on a worker.

use std::collections::BTreeSet;
use std::future::pending;
use std::mem::take;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::adopt::Passed;
use super::listen::{Bound, NewListeners, listen};
use super::listeners::Listeners;
use super::observe::Observer;
use super::requester::Requester;
use super::{ConfigSource, announce, end_in_background};
use crate::config::{Config, ServerConfig};
use crate::control::message::Refusal;
use crate::control::status::GenerationsStatus;
use crate::generation::{self, Generation, Problems};
use crate::plugins::call::Visible;
use crate::plugins::callee::Place;
use crate::plugins::marks::{self, Role};
use crate::telemetry::LogSink;
use crate::worker::Switched;

/// The current generation, the replaced ones, and the one being built.
pub(super) struct Generations {
    source: ConfigSource,
    log: LogSink,
    observer: Arc<Observer>,
    /// Those of the current generation.
    pub(super) listeners: Listeners,
    current: watch::Sender<Arc<Generation>>,
    replaced: Vec<Arc<Generation>>,
    build_in_progress: Option<oneshot::Receiver<Made>>,
    /// What is being built.
    build: Build,
    /// Certificate files have changed during the build.
    is_renewal_due: bool,
    /// Certificate files that have changed, if their content has.
    changed_files: Vec<PathBuf>,
    /// How far the workers are on their way to the current generation.
    progress: SwitchProgress,
    /// Who has requested the current reload.
    requesters: Vec<Requester>,
    /// Who has requested another one during the current one.
    next_requesters: Vec<Requester>,
    /// Who waits until all workers use the current generation.
    switch_requesters: Vec<Requester>,
}

/// How far the workers are on their way to a generation.
#[derive(Debug, Default)]
struct SwitchProgress {
    /// Those that use it, or cannot.
    workers: BTreeSet<usize>,
    /// Why some of them cannot.
    problems: Vec<String>,
}

impl SwitchProgress {
    /// Whether this is the first report of the last one of the `workers`.
    fn is_last(&mut self, switched: Switched, workers: usize) -> bool {
        let is_first = self.workers.insert(switched.worker);
        if is_first {
            self.problems.extend(switched.problem);
        }
        is_first && self.workers.len() == workers
    }
}

/// What a generation is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    /// Everything is read again.
    Reload,
    /// Only the certificates are.
    Renewal,
}

/// What was built, with the listeners that it adds; or all problems. `None`: nothing differs.
type Made = Result<Option<(Generation, NewListeners)>, Refusal>;

impl Generations {
    pub(super) fn new(
        first: Arc<Generation>,
        source: ConfigSource,
        log: LogSink,
        observer: Arc<Observer>,
        listeners: Listeners,
    ) -> Self {
        Self {
            source,
            log,
            observer,
            listeners,
            current: watch::Sender::new(first),
            replaced: Vec::new(),
            build_in_progress: None,
            build: Build::Reload,
            is_renewal_due: false,
            changed_files: Vec::new(),
            progress: SwitchProgress::default(),
            requesters: Vec::new(),
            next_requesters: Vec::new(),
            switch_requesters: Vec::new(),
        }
    }

    /// How long exchanges may take to end when the proxy stops.
    pub(super) fn drain_timeout(&self) -> Duration {
        self.current.borrow().config.server.drain_timeout
    }

    /// The current generation.
    pub(super) fn current(&self) -> Arc<Generation> {
        self.current.borrow().clone()
    }

    /// The number of the current generation.
    pub(super) fn number(&self) -> u64 {
        self.current.borrow().number
    }

    pub(super) fn is_reloading(&self) -> bool {
        self.build_in_progress.is_some()
    }

    /// Notifies a worker of new generations.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Generation>> {
        self.current.subscribe()
    }

    /// Starts a reload, or requests one after the current one.
    pub(super) fn reload(&mut self, requester: Requester) {
        if self.build_in_progress.is_some() {
            let call = blocking_call().unwrap_or_default();
            tracing::info!(
                "{requester}: a reload is already running{call}; another one will follow"
            );
            requester.progress(format!(
                "another reload is running{call}; this one will follow"
            ));
            return self.next_requesters.push(requester);
        }
        self.requesters.push(requester);
        self.start(Build::Reload);
    }

    /// Uses the certificates in these files if their content has changed. Nothing else is read again.
    pub(super) fn renew(&mut self, changed: Vec<PathBuf>) {
        self.changed_files = changed;
        match self.build_in_progress {
            // It may have read them before.
            Some(_) => self.is_renewal_due = true,
            None => self.start(Build::Renewal),
        }
    }

    fn start(&mut self, build: Build) {
        let (send, receive) = oneshot::channel();
        let (source, observer) = (Arc::clone(&self.source), Arc::clone(&self.observer));
        let log = self.log.clone();
        let (current, bound) = (self.current.borrow().clone(), self.listeners.bound());
        let make = move || {
            let _visible = Visible::new(Role::Background);
            let made = match build {
                Build::Reload => make(&source, &log, &observer, &current, &bound).map(Some),
                Build::Renewal => renew(&current),
            };
            // Dropped here, so that this thread is not their last owner.
            drop((current, bound));
            // The server may be ending.
            let _ = send.send(made);
        };
        match thread::Builder::new().name("reload".to_owned()).spawn(make) {
            Ok(_) => {
                self.build_in_progress = Some(receive);
                self.build = build;
            }
            Err(error) => {
                tracing::error!(%error, "reload: cannot reload");
                let refusal = Refusal::of(format!("cannot reload: {error}"));
                self.requesters
                    .drain(..)
                    .for_each(|requester| requester.fail(&refusal));
            }
        }
    }

    /// Waits for the current reload and makes its result the current generation; returns it if there is one. Pends
    /// while no reload runs. Cancel safe.
    pub(super) async fn reloaded(&mut self) -> Option<Arc<Generation>> {
        let Some(build_in_progress) = &mut self.build_in_progress else {
            return pending().await;
        };
        let made = build_in_progress.await;
        self.build_in_progress = None;
        let generation = match made {
            Ok(Ok(made)) => made.map(|(generation, new)| {
                match self.build {
                    Build::Reload => announce(&generation),
                    Build::Renewal => tracing::info!(
                        "certificate files have changed: {}",
                        shown(&self.changed_files)
                    ),
                }
                self.listeners.follow(&generation, new);
                self.replace(generation)
            }),
            Ok(Err(refusal)) => {
                self.fail(refusal);
                None
            }
            Err(_) => {
                self.fail(Refusal::of("the reload panicked"));
                None
            }
        };
        self.requesters.append(&mut self.next_requesters);
        if !self.requesters.is_empty() {
            self.start(Build::Reload);
        } else if take(&mut self.is_renewal_due) {
            self.start(Build::Renewal);
        }
        generation
    }

    /// Logs why the current generation remains active, and reports it to those who have requested another one.
    fn fail(&mut self, mut refusal: Refusal) {
        let number = self.current.borrow().number;
        for problem in &mut refusal.problems {
            match self.build {
                Build::Reload => {
                    *problem =
                        format!("not reloaded, generation {number} remains active: {problem}");
                    tracing::error!("reload: {problem}");
                }
                Build::Renewal => tracing::error!(
                    "certificate files have changed ({}), but are not used, generation {number} remains active: {problem}",
                    shown(&self.changed_files)
                ),
            }
        }
        self.requesters
            .drain(..)
            .for_each(|requester| requester.fail(&refusal));
    }

    fn replace(&mut self, generation: Generation) -> Arc<Generation> {
        let generation = Arc::new(generation);
        self.progress = SwitchProgress::default();
        for requester in &self.requesters {
            let number = generation.number;
            requester.progress(format!(
                "generation {number} is ready; the workers switch to it"
            ));
        }
        // Those who wait for an older generation get this one.
        self.switch_requesters.append(&mut self.requesters);
        let before = self.current.send_replace(Arc::clone(&generation));
        self.replaced.push(before);
        generation
    }

    /// Records that one of the `workers` uses a generation, or cannot. A restarted worker may report this twice.
    pub(super) fn switched(&mut self, switched: Switched, workers: usize) {
        let current = self.current.borrow();
        let number = switched.generation;
        if current.number != number || !self.progress.is_last(switched, workers) {
            return;
        }
        let problems = take(&mut self.progress.problems);
        if !problems.is_empty() {
            let refusal = Refusal {
                is_configuration: false,
                problems,
            };
            tracing::error!("reload: generation {number} is not active on all workers");
            let requesters = self.switch_requesters.drain(..);
            return requesters.for_each(|requester| requester.fail(&refusal));
        }
        let plugins = current.plugin_names().len();
        tracing::info!("reload: generation {number} is active; plugins: {plugins}");
        let done = format!("generation {number} is active; workers: {workers}; plugins: {plugins}");
        let requesters = self.switch_requesters.drain(..);
        requesters.for_each(|requester| requester.done(&*done));
    }

    /// Whether replaced generations are still in use.
    pub(super) fn has_replaced(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// Ends replaced generations that nothing uses any more.
    pub(super) fn end_unused(&mut self) {
        let (used, unused) = take(&mut self.replaced)
            .into_iter()
            .partition::<Vec<_>, _>(|generation| Arc::strong_count(generation) > 1);
        self.replaced = used;
        for generation in unused.into_iter().filter_map(Arc::into_inner) {
            let (number, others) = (generation.number, self.replaced.len());
            tracing::info!(
                "generation {number} has ended; {others} replaced generations are still in use"
            );
            end_in_background(generation);
        }
    }

    /// The numbers of the generations, and the names of the plugins of the active one.
    pub(super) fn status(&self) -> (GenerationsStatus, Vec<String>) {
        let current = self.current.borrow();
        let status = GenerationsStatus {
            active: current.number,
            replaced: self
                .replaced
                .iter()
                .map(|generation| generation.number)
                .collect(),
            is_reloading: self.build_in_progress.is_some(),
        };
        (status, current.plugin_names().to_vec())
    }

    /// Reports that the current reload is abandoned.
    pub(super) fn abandon(&mut self) {
        if self.build_in_progress.is_some() {
            tracing::warn!("reload: not reloaded: shutting down");
        }
        let waiting = [
            &mut self.requesters,
            &mut self.next_requesters,
            &mut self.switch_requesters,
        ];
        for requester in waiting.into_iter().flat_map(|waiting| waiting.drain(..)) {
            requester.refuse("not reloaded: the proxy is shutting down");
        }
    }

    /// Returns what is left when the workers have ended.
    pub(super) fn into_remaining(self) -> Remaining {
        let mut generations = self.replaced;
        generations.push(self.current.borrow().clone());
        Remaining {
            generations,
            build_in_progress: self.build_in_progress,
        }
    }
}

/// Generations that nothing uses any more, except possibly a reload.
pub(super) struct Remaining {
    /// The last current generation.
    generations: Vec<Arc<Generation>>,
    build_in_progress: Option<oneshot::Receiver<Made>>,
}

impl Remaining {
    /// Ends them, which runs code of plugins. Never returns if that code does not, or if a reload does not end, because
    /// it holds the generation that it is based on.
    pub(super) fn end(self) {
        if let Some(build_in_progress) = self.build_in_progress {
            let generations = self.generations.iter();
            generations.for_each(|generation| generation.flush_events());
            drop(build_in_progress.blocking_recv());
        }
        let generations = self.generations.into_iter().filter_map(Arc::into_inner);
        generations.for_each(Generation::end);
    }
}

fn shown(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

/// The plugin call that the current reload is in.
fn blocking_call() -> Option<String> {
    let mut calls = marks::calls_under_way().into_iter();
    let call = calls.find(|call| [Place::INIT, Place::NEW].contains(&call.place()))?;
    let (plugin, hook) = (call.plugin().name(), call.place().name());
    Some(format!(" (in {hook} of {plugin})"))
}

/// Builds a generation from the current configuration, binds the listeners that are not among the `bound` ones, and changes
/// the log. If anything is wrong, nothing changes.
fn make(
    source: &ConfigSource,
    log: &LogSink,
    observer: &Observer,
    current: &Generation,
    bound: &[Arc<Bound>],
) -> Result<(Generation, NewListeners), Refusal> {
    let in_configuration = |problems: Vec<String>| Refusal {
        is_configuration: true,
        problems,
    };
    let config = source()
        .map_err(|errors| in_configuration(errors.iter().map(ToString::to_string).collect()))?;
    let config = with_startup_settings(config, &current.config);
    observer.prepare(&config);
    let next_log = log.prepare(&config.log).map_err(|error| error.to_string());
    let generation = match generation::build(config, Some(current)) {
        Ok(generation) => generation,
        Err(problems) => {
            let of_log = next_log.err();
            let mut refusal = refusal(problems);
            refusal.problems.extend(of_log);
            return Err(refusal);
        }
    };
    let bound = listen(&generation, bound, &mut Passed::none())
        .map_err(|error| (error.is_configuration(), error.to_string()))
        .and_then(|new| Ok((new, next_log.map_err(|error| (false, error))?)));
    match bound {
        Ok((new, next_log)) => {
            log.switch(next_log);
            Ok((generation, new))
        }
        Err((is_configuration, problem)) => {
            generation.end();
            Err(Refusal {
                is_configuration,
                problems: vec![problem],
            })
        }
    }
}

/// The current generation with the certificates as their files are now.
fn renew(current: &Generation) -> Made {
    let renewed = generation::renew(current).map_err(refusal)?;
    Ok(renewed.map(|generation| (generation, NewListeners::default())))
}

fn refusal(problems: Problems) -> Refusal {
    Refusal {
        is_configuration: problems.is_configuration(),
        problems: problems.iter().map(ToString::to_string).collect(),
    }
}

/// Keeps the settings that need a restart, and reports if they have changed.
fn with_startup_settings(new: Config, running: &Config) -> Config {
    // All fields are listed, so that whoever adds one decides whether a reload changes it.
    let Config {
        num_workers,
        backlog,
        log: _,
        access_log: _,
        open_file_limit,
        pid_file,
        port_file,
        server:
            ServerConfig {
                drain_timeout: _,
                control_socket,
                user,
                group,
            },
        origins: _,
        listeners: _,
        plugins: _,
        plugin_dirs: _,
        plugin_statistics: _,
        basic_auth: _,
        disable_headers: _,
        timeouts: _,
        host_timeouts: _,
        limits: _,
        dns: _,
        compatibility: _,
        tls: _,
        interception: _,
        web_server: _,
        disable_http_proxy: _,
        via: _,
    } = running;
    let changed = [
        ("num_workers", new.num_workers != *num_workers),
        ("backlog", new.backlog != *backlog),
        ("open_file_limit", new.open_file_limit != *open_file_limit),
        ("pid_file", new.pid_file != *pid_file),
        (
            "server.control_socket",
            new.server.control_socket != *control_socket,
        ),
        ("port_file", new.port_file != *port_file),
        ("server.user", new.server.user != *user),
        ("server.group", new.server.group != *group),
    ];
    for (setting, _) in changed.iter().filter(|(_, has_changed)| *has_changed) {
        tracing::warn!(
            "reload: {setting} has changed, which a reload cannot apply: restart the proxy"
        );
    }
    Config {
        num_workers: *num_workers,
        backlog: *backlog,
        open_file_limit: *open_file_limit,
        pid_file: pid_file.clone(),
        port_file: port_file.clone(),
        server: ServerConfig {
            control_socket: control_socket.clone(),
            user: user.clone(),
            group: group.clone(),
            ..new.server
        },
        ..new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_cannot_switch_are_heard_before_the_outcome() {
        let report = |worker, problem: Option<&str>| Switched {
            worker,
            generation: 2,
            problem: problem.map(str::to_owned),
        };
        let mut progress = SwitchProgress::default();
        assert!(!progress.is_last(report(1, Some("no descriptors")), 2));
        assert!(!progress.is_last(report(1, None), 2), "the same worker");
        assert!(progress.is_last(report(0, None), 2));
        assert!(!progress.is_last(report(0, None), 2), "a second time");
        assert_eq!(progress.problems, ["no descriptors"]);
    }

    #[test]
    fn settings_that_need_a_restart_are_not_changed() {
        let running = Config::default();
        let new = Config {
            backlog: running.backlog + 1,
            via: "other".to_owned(),
            ..Config::default()
        };
        let config = with_startup_settings(new, &running);
        assert_eq!(config.backlog, running.backlog);
        assert_eq!(config.via, "other");
    }
}
