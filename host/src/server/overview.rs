//! What `proxy status` shows: facts of the server itself, and what the workers report.
//!
//! A worker counts its connections in memory of its own, and reports on request, so that serving costs nothing more. A
//! worker that does not respond in time is shown as busy: a plugin blocks it, or the machine is overloaded.

use std::cell::RefCell;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;

use crate::config::LogConfig;
use crate::control::status::{
    GenerationsStatus, LogStatus, OpenStatus, PluginStatus, Stage, Status, WorkerState,
    WorkerStatus,
};
use crate::in_flight::ExchangeKind;
use crate::plugins::statistics::{self, PluginCalls};
use crate::telemetry;
use crate::worker::{ShutdownStage, WorkerReport};

/// How long workers may take to report.
const REPORT_LIMIT: Duration = Duration::from_millis(500);

/// Where a worker sends its next report.
pub(super) type ReportTo = Option<UnboundedSender<WorkerReport>>;

/// The facts of a running proxy.
#[derive(Debug)]
pub(super) struct Overview {
    started: Instant,
    listeners: RefCell<Vec<String>>,
    control_socket: RefCell<String>,
    log: RefCell<LogStatus>,
    stage: watch::Receiver<ShutdownStage>,
    /// The numbers of the generations, and the names of the active plugins.
    generations: RefCell<(GenerationsStatus, Vec<String>)>,
    /// By the number of the worker. Locked, so that each request for reports gets its own.
    workers: Mutex<Vec<watch::Sender<ReportTo>>>,
}

fn log_status(log: &LogConfig) -> LogStatus {
    LogStatus {
        file: log.file.as_ref().map(|file| file.display().to_string()),
        level: format!("{:?}", log.level).to_uppercase(),
        dropped_lines: 0,
    }
}

impl Overview {
    pub(super) fn new(
        log: &LogConfig,
        stage: watch::Receiver<ShutdownStage>,
        workers: Vec<watch::Sender<ReportTo>>,
    ) -> Self {
        Self {
            started: Instant::now(),
            listeners: RefCell::default(),
            control_socket: RefCell::default(),
            log: log_status(log).into(),
            stage,
            generations: RefCell::default(),
            workers: Mutex::new(workers),
        }
    }

    /// Sets the addresses of the listeners.
    pub(super) fn set_listeners(&self, addresses: &[String]) {
        self.listeners.replace(addresses.to_vec());
    }

    /// Sets where the control socket is.
    pub(super) fn set_control_socket(&self, path: &Path) {
        self.control_socket.replace(path.display().to_string());
    }

    /// Notes where the log goes, which a reload may change.
    pub(super) fn set_log(&self, log: &LogConfig) {
        self.log.replace(log_status(log));
    }

    /// Notes the generations, and the names of the active plugins.
    pub(super) fn note(&self, generations: (GenerationsStatus, Vec<String>)) {
        self.generations.replace(generations);
    }

    /// The status of the proxy, within [`REPORT_LIMIT`] for each request that waits.
    pub(super) async fn status(&self) -> Status {
        let workers = self.workers().await;
        let (generations, plugins) = self.generations.borrow().clone();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            stage: self.stage(),
            generations,
            listeners: self.listeners.borrow().clone(),
            open: sum(&workers),
            workers,
            plugins: plugins_status(&plugins, &statistics::summary()),
            control_socket: self.control_socket.borrow().clone(),
            log: LogStatus {
                dropped_lines: telemetry::dropped_lines(),
                ..self.log.borrow().clone()
            },
        }
    }

    fn stage(&self) -> Stage {
        match *self.stage.borrow() {
            ShutdownStage::Serving => Stage::Serving,
            ShutdownStage::Retiring | ShutdownStage::Draining => Stage::Draining,
            ShutdownStage::Aborting => Stage::Aborting,
        }
    }

    /// What each worker reports.
    pub(super) async fn workers(&self) -> Vec<WorkerStatus> {
        let workers = self.workers.lock().await;
        let (report_to, mut reports) = mpsc::unbounded_channel();
        let mut shown: Vec<WorkerStatus> = Vec::with_capacity(workers.len());
        for (number, worker) in workers.iter().enumerate() {
            let state = match worker.send(Some(report_to.clone())) {
                Ok(()) => WorkerState::Busy,
                Err(_) => WorkerState::Ended,
            };
            shown.push(WorkerStatus {
                number,
                state,
                open: OpenStatus::default(),
            });
        }
        drop(report_to);
        let is_missing = |shown: &[WorkerStatus]| {
            let mut shown = shown.iter();
            shown.any(|worker| worker.state == WorkerState::Busy)
        };
        let received = async {
            while is_missing(&shown)
                && let Some(report) = reports.recv().await
            {
                if let Some(worker) = shown.get_mut(report.worker) {
                    worker.state = WorkerState::Running;
                    worker.open = open(&report);
                }
            }
        };
        // Who is missing is shown as busy.
        let _ = timeout(REPORT_LIMIT, received).await;
        for worker in workers.iter() {
            worker.send_if_modified(|report_to| {
                *report_to = None;
                false
            });
        }
        shown
    }
}

/// What all workers have open together.
pub(super) fn sum(workers: &[WorkerStatus]) -> OpenStatus {
    let mut sum = OpenStatus::default();
    workers.iter().for_each(|worker| sum += worker.open);
    sum
}

fn open(report: &WorkerReport) -> OpenStatus {
    let of = |kind| report.in_flight.of(kind) as u64;
    OpenStatus {
        connections: report.connections as u64,
        exchanges: of(ExchangeKind::Plain),
        event_streams: of(ExchangeKind::EventStream),
        tunnels: of(ExchangeKind::Tunnel),
        websockets: of(ExchangeKind::WebSocket),
    }
}

/// The active plugins, which are named with version and file, and those that were active before.
fn plugins_status(active: &[String], calls: &[PluginCalls]) -> Vec<PluginStatus> {
    let is_of = |name: &str, calls: &PluginCalls| {
        let rest = name.strip_prefix(calls.library);
        let rest = rest.and_then(|rest| rest.strip_prefix(':'));
        rest.and_then(|rest| rest.strip_prefix(calls.name))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let called = calls.iter().map(|calls| PluginStatus {
        name: format!("{}:{}", calls.library, calls.name),
        is_active: active.iter().any(|name| is_of(name, calls)),
        calls: calls.calls,
        errors: calls.errors,
        time_us: calls.time_us,
    });
    let uncalled = active.iter().filter(|name| {
        let mut calls = calls.iter();
        !calls.any(|calls| is_of(name, calls))
    });
    let uncalled = uncalled.map(|name| PluginStatus {
        name: name.split(' ').next().unwrap_or_default().to_owned(),
        is_active: true,
        ..PluginStatus::default()
    });
    called.chain(uncalled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_shown_whether_they_were_called_or_not() {
        let calls = |library, name| PluginCalls {
            library,
            name,
            calls: 3,
            errors: 1,
            time_us: 7,
        };
        let active = [
            "libx.so:Called 1.0.0 from /x/libx.so".to_owned(),
            "libx.so:Unused 1.0.0 from /x/libx.so".to_owned(),
        ];
        let shown = plugins_status(
            &active,
            &[calls("libx.so", "Call"), calls("libx.so", "Called")],
        );
        let shown: Vec<_> = shown
            .iter()
            .map(|plugin| (&*plugin.name, plugin.is_active, plugin.calls))
            .collect();
        assert_eq!(
            shown,
            [
                ("libx.so:Call", false, 3),
                ("libx.so:Called", true, 3),
                ("libx.so:Unused", true, 0)
            ]
        );
    }
}
