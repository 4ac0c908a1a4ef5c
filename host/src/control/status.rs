//! The status of a running proxy, and how it is shown.

use std::fmt::{self, Write};
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// The status of a running proxy. Later versions add fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// The version of the proxy.
    pub(crate) version: String,
    pub(crate) pid: u32,
    /// Seconds since the start.
    pub(crate) uptime_seconds: u64,
    pub(crate) stage: Stage,
    pub(crate) generations: GenerationsStatus,
    /// The addresses of the listeners, each once.
    pub(crate) listeners: Vec<String>,
    /// What all workers that respond have open.
    #[serde(flatten)]
    pub(crate) open: OpenStatus,
    pub(crate) workers: Vec<WorkerStatus>,
    pub(crate) plugins: Vec<PluginStatus>,
    /// The path of the control socket.
    pub(crate) control_socket: String,
    pub(crate) log: LogStatus,
}

/// What a proxy is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// It accepts connections.
    #[default]
    Serving,
    /// It finishes open exchanges and accepts no connections.
    Draining,
    /// It aborts open exchanges.
    Aborting,
    /// This version of the program does not know it.
    #[serde(other)]
    Unknown,
}

/// The generations of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GenerationsStatus {
    /// The number of the active one: 1 at the start, plus 1 for each reload.
    pub(crate) active: u64,
    /// The numbers of replaced ones that open exchanges and connections still use.
    pub(crate) replaced: Vec<u64>,
    /// Whether a reload is running.
    pub(crate) is_reloading: bool,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WorkerStatus {
    pub(crate) number: usize,
    pub(crate) state: WorkerState,
    /// What it has open; nothing unless it is running.
    #[serde(flatten)]
    pub(crate) open: OpenStatus,
}

/// What is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OpenStatus {
    /// Client connections, idle ones included.
    pub(crate) connections: u64,
    /// Exchanges that end by themselves.
    pub(crate) exchanges: u64,
    pub(crate) event_streams: u64,
    /// CONNECT, and upgrades to protocols other than WebSocket.
    pub(crate) tunnels: u64,
    pub(crate) websockets: u64,
}

impl AddAssign for OpenStatus {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.exchanges += other.exchanges;
        self.event_streams += other.event_streams;
        self.tunnels += other.tunnels;
        self.websockets += other.websockets;
    }
}

impl fmt::Display for OpenStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections, {} exchanges, {} event streams, {} tunnels, {} WebSockets",
            self.connections, self.exchanges, self.event_streams, self.tunnels, self.websockets
        )
    }
}

/// Whether a worker runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkerState {
    #[default]
    Running,
    /// It did not respond in time, because a plugin blocks it or the machine is overloaded.
    Busy,
    /// It has drained.
    Ended,
    /// This version of the program does not know it.
    #[serde(other)]
    Unknown,
}

/// The calls of a plugin, of all hooks and generations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PluginStatus {
    /// The library and the name, as `libx.so:X`.
    pub(crate) name: String,
    /// Whether the active generation has it.
    pub(crate) is_active: bool,
    /// 0 if calls are not counted (`plugin_statistics`).
    pub(crate) calls: u64,
    /// Calls that returned an error or panicked.
    pub(crate) errors: u64,
    /// The time of all calls together, in microseconds.
    pub(crate) time_us: u64,
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogStatus {
    /// The log file; `None`: standard output.
    pub(crate) file: Option<String>,
    /// The lowest level that is logged.
    pub(crate) level: String,
    /// Lines of the log and the access log that were not written, because the disk is full or too slow.
    pub(crate) dropped_lines: u64,
}

/// The status for an operator.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Serving => "serving",
            Stage::Draining => "draining",
            Stage::Aborting => "aborting open exchanges",
            Stage::Unknown => "unknown",
        };
        writeln!(
            f,
            "proxy {}, pid {}, up {}: {stage}",
            self.version,
            self.pid,
            duration(self.uptime_seconds)
        )?;
        writeln!(f, "{:<15} {}", "listeners", self.listeners.join(" "))?;
        writeln!(f, "{:<15} {}", "generation", self.generations)?;
        writeln!(f, "{:<15} {}", "open", self.open)?;
        writeln!(f, "{:<15} {}", "control socket", self.control_socket)?;
        let log = self.log.file.as_deref().unwrap_or("standard output");
        write!(f, "{:<15} {log}, level {}", "log", self.log.level)?;
        match self.log.dropped_lines {
            0 => writeln!(f)?,
            dropped => writeln!(f, ", {dropped} lines dropped")?,
        }
        table(
            f,
            &[
                "worker",
                "state",
                "connections",
                "exchanges",
                "event streams",
                "tunnels",
                "WebSockets",
            ],
            self.workers.iter().map(WorkerStatus::row),
        )?;
        if !self.plugins.is_empty() {
            table(
                f,
                &["plugin", "calls", "errors", "time"],
                self.plugins.iter().map(PluginStatus::row),
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for GenerationsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.active)?;
        if self.is_reloading {
            f.write_str(", reloading")?;
        }
        if !self.replaced.is_empty() {
            let replaced: Vec<String> = self.replaced.iter().map(u64::to_string).collect();
            write!(f, "; still in use: {}", replaced.join(", "))?;
        }
        Ok(())
    }
}

impl WorkerStatus {
    fn row(&self) -> Vec<String> {
        let state = match self.state {
            WorkerState::Running => "running",
            WorkerState::Busy => "busy: no response",
            WorkerState::Ended => "ended",
            WorkerState::Unknown => "unknown",
        };
        let open = &self.open;
        let counts = [
            open.connections,
            open.exchanges,
            open.event_streams,
            open.tunnels,
            open.websockets,
        ];
        let shown = counts.iter().map(|count| match self.state {
            WorkerState::Busy | WorkerState::Unknown => "?".to_owned(),
            _ => count.to_string(),
        });
        let head = [self.number.to_string(), state.to_owned()];
        head.into_iter().chain(shown).collect()
    }
}

impl PluginStatus {
    fn row(&self) -> Vec<String> {
        let name = match self.is_active {
            true => self.name.clone(),
            false => format!("{} (no longer loaded)", self.name),
        };
        vec![
            name,
            self.calls.to_string(),
            self.errors.to_string(),
            format!("{:.3} s", self.time_us as f64 / 1e6),
        ]
    }
}

/// Columns as wide as their widest cell; the first one is aligned to the left, numbers to the right.
fn table(
    f: &mut fmt::Formatter<'_>,
    heads: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> fmt::Result {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    f.write_char('\n')?;
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => write!(line, "{cell:<width$}")?,
                _ => write!(line, "  {cell:>width$}")?,
            }
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Whole seconds as `3d 4h`, `4h 12m`, `12m 5s` or `5s`.
fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, minutes) => format!("{minutes}m {rest}s"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_have_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (725, "12m 5s"),
            (15_120, "4h 12m"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn the_status_is_shown_as_a_table() {
        let status = Status {
            version: "1.2.3".to_owned(),
            pid: 77,
            uptime_seconds: 61,
            stage: Stage::Draining,
            generations: GenerationsStatus {
                active: 3,
                replaced: vec![1, 2],
                is_reloading: false,
            },
            listeners: vec!["::1:8899".to_owned()],
            open: OpenStatus {
                connections: 12,
                tunnels: 2,
                ..OpenStatus::default()
            },
            workers: vec![
                WorkerStatus {
                    number: 0,
                    state: WorkerState::Running,
                    open: OpenStatus {
                        connections: 12,
                        tunnels: 2,
                        ..OpenStatus::default()
                    },
                },
                WorkerStatus {
                    number: 1,
                    state: WorkerState::Busy,
                    open: OpenStatus::default(),
                },
            ],
            plugins: vec![PluginStatus {
                name: "libx.so:X".to_owned(),
                is_active: true,
                calls: 5,
                errors: 1,
                time_us: 1_500_000,
            }],
            control_socket: "/run/x.sock".to_owned(),
            log: LogStatus {
                file: None,
                level: "INFO".to_owned(),
                dropped_lines: 3,
            },
        };
        let expected = "\
proxy 1.2.3, pid 77, up 1m 1s: draining
listeners       ::1:8899
generation      3; still in use: 1, 2
open            12 connections, 0 exchanges, 0 event streams, 2 tunnels, 0 WebSockets
control socket  /run/x.sock
log             standard output, level INFO, 3 lines dropped

worker              state  connections  exchanges  event streams  tunnels  WebSockets
0                 running           12          0              0        2           0
1       busy: no response            ?          ?              ?        ?           ?

plugin     calls  errors     time
libx.so:X      5       1  1.500 s
";
        assert_eq!(status.to_string(), expected);
    }

    #[test]
    fn a_status_of_another_version_is_understood_as_far_as_possible() {
        let json =
            r#"{"version":"9","stage":"napping","workers":[{"state":"asleep","x":1}],"y":2}"#;
        let status: Status = serde_json::from_str(json).unwrap();
        assert_eq!(status.stage, Stage::Unknown);
        assert_eq!(status.workers[0].state, WorkerState::Unknown);
    }
}
