//! Logging: diagnostics by `tracing`, and one access log line per exchange.
//!
//! A line looks like `2019-09-27 12:44:02,212 - INFO - pid:7077 - access_log:71 - <message and fields>`, in local time.
//! Every line is written by one thread with a bounded queue, so that no worker waits for a disk or a terminal; lines
//! that do not fit are dropped, counted and reported. Level checks cost one load. Lines that peers can cause are
//! limited by source location, see `repeats`. Workers decide when to submit their batch.

mod access;
mod clock;
pub(crate) mod direct;
mod escape;
mod json;
mod line;
mod output;
mod repeats;
mod writer;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, thread};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::config::{LogConfig, LogLevel};
use line::{Layout, LineFormat, SharedLayout};
use output::Output;
use repeats::Repeats;
use writer::{LineQueue, LogWriter, Written};

pub(crate) use access::AccessOutput;
pub use access::{AccessDetails, AccessLog, AccessNeeds, AccessRecord, AccessTls};
pub(crate) use repeats::limit_repeats_of_this_thread;
pub(crate) use writer::dropped_lines;

/// Why logging cannot start, or cannot go on as configured.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log file cannot be opened or created.
    #[error("log file {}: {source}; specify another file with --log-file", .path.display())]
    LogFile {
        /// As configured.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file of the access log cannot be opened or created.
    #[error("access log file {}: {source}; specify another file in access_log.file", .path.display())]
    AccessLogFile {
        /// As configured.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Standard output cannot be used.
    #[error("standard output: {0}; specify a file with --log-file")]
    StandardOutput(#[source] io::Error),
    /// The system cannot start the writer's thread.
    #[error("cannot start the log writer: {0}; free memory or raise the limit on threads")]
    Thread(#[source] io::Error),
    /// This process already has a subscriber.
    #[error("log: this process already has a tracing subscriber; start the log only once")]
    AlreadyStarted,
}

/// The running log. Dropping it writes what is still queued; later lines are lost.
#[derive(Debug)]
pub struct Telemetry {
    sink: LogSink,
    _writer: LogWriter,
}

impl Telemetry {
    /// The sink for whole lines, such as batches of access lines.
    pub fn sink(&self) -> LogSink {
        self.sink.clone()
    }
}

/// Opens the destination, starts the writer and installs the process's `tracing` subscriber.
///
/// # Errors
/// The log file cannot be written, or the process already has a subscriber.
pub fn start(config: &LogConfig) -> Result<Telemetry, TelemetryError> {
    line::begun_at();
    let repeats = Repeats::default();
    let layout = SharedLayout::new(layout(config));
    let output = open(config.file.as_deref())?;
    direct::set_output(&output);
    let written = Written::Log {
        layout: layout.clone(),
        repeats: repeats.clone(),
    };
    let writer = LogWriter::start(output, written).map_err(TelemetryError::Thread)?;
    let (targets, levels) = reload::Layer::new(enabled_targets(config.level));
    let sink = LogSink {
        queue: writer.queue(),
        in_force: Some(Arc::new(InForce {
            file: Mutex::new(config.file.as_deref().map(Arc::from)),
            layout: layout.clone(),
            levels,
        })),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(LineFormat(layout))
        .with_writer(sink.clone());
    let subscriber = tracing_subscriber::registry()
        .with(targets)
        .with(repeats)
        .with(lines);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| TelemetryError::AlreadyStarted)?;
    Ok(Telemetry {
        sink,
        _writer: writer,
    })
}

/// How the lines of this log are laid out.
fn layout(config: &LogConfig) -> Layout {
    Layout {
        format: config.format.clone(),
        is_coloured: config.file.is_none() && is_colour_wanted(),
    }
}

/// Whether standard output is a terminal that is to have colours. NO_COLOR, CLICOLOR and CLICOLOR_FORCE overrule it.
pub(crate) fn is_colour_wanted() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Opens the log file, or standard output if there is none.
fn open(path: Option<&Path>) -> Result<Output, TelemetryError> {
    Output::open_or_standard_output(path).map_err(|source| match path {
        Some(path) => TelemetryError::LogFile {
            path: path.to_owned(),
            source,
        },
        None => TelemetryError::StandardOutput(source),
    })
}

/// The log, for whole lines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogSink {
    queue: LineQueue,
    /// `None` if everything is dropped.
    in_force: Option<Arc<InForce>>,
}

/// What a reload can change of the log.
struct InForce {
    /// The log file, if the log goes to one.
    file: Mutex<Option<Arc<Path>>>,
    layout: SharedLayout,
    levels: reload::Handle<Targets, Registry>,
}

/// A log whose file is open, to take the place of the current one.
#[derive(Debug)]
pub(crate) struct NextLog {
    config: LogConfig,
    /// `None` if the file stays the same.
    output: Option<Output>,
}

impl LogSink {
    /// A sink that drops everything, for embedding the proxy without a log.
    pub fn discard() -> Self {
        LogSink {
            queue: LineQueue::discard(),
            in_force: None,
        }
    }

    /// Queues whole lines, each with its line end. Never waits: if the queue is full, they are dropped and counted.
    pub fn send(&self, lines: Vec<u8>) {
        self.queue.send(lines);
    }

    /// Whether lines are written at all.
    pub(crate) fn is_connected(&self) -> bool {
        self.queue.is_connected()
    }

    /// Opens the log file again, because the one that is open may have been renamed. Returns at once. If the file
    /// cannot be opened, the log reports it and stays in the file that is open. `false`: the log does not go to a
    /// file.
    pub(crate) fn reopen(&self) -> bool {
        let file = self.in_force.as_ref().and_then(|log| log.file());
        let has_file = file.is_some();
        if let Some(path) = file {
            reopen("log", self.queue.clone(), path);
        }
        has_file
    }

    /// Opens the file of a configuration that is to be in force soon.
    ///
    /// # Errors
    /// The file cannot be opened; nothing has changed.
    pub(crate) fn prepare(&self, config: &LogConfig) -> Result<NextLog, TelemetryError> {
        let has_changed = |log: &Arc<InForce>| log.file().as_deref() != config.file.as_deref();
        let output = match self.in_force.as_ref().is_some_and(has_changed) {
            true => Some(open(config.file.as_deref())?),
            false => None,
        };
        Ok(NextLog {
            config: config.clone(),
            output,
        })
    }

    /// From now on the log has another level, layout and file. Lines before go where they would have gone.
    pub(crate) fn switch(&self, next: NextLog) {
        let Some(log) = &self.in_force else {
            return;
        };
        if let Some(output) = next.output {
            if !self.queue.redirect(output) {
                tracing::error!("the log stays in its file: its queue is full");
                return;
            }
            let file = next.config.file.as_deref().map(Arc::from);
            *log.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        }
        log.layout.set(layout(&next.config));
        // It fails only if the subscriber is gone, and then there is nothing to filter.
        let _ = log.levels.reload(enabled_targets(next.config.level));
    }
}

impl InForce {
    fn file(&self) -> Option<Arc<Path>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.clone()
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InForce").finish_non_exhaustive()
    }
}

/// Opens a file again and redirects the queue to it, on a thread of its own: opening and queueing may wait for a disk, for
/// the reader of a FIFO, for the lines before.
fn reopen(name: &'static str, queue: LineQueue, path: Arc<Path>) {
    let reopen = move || match Output::open(&path).map(|output| queue.redirect(output)) {
        Ok(true) => tracing::info!("the {name} file has been reopened"),
        Ok(false) => {
            tracing::error!("the {name} stays in the file that is open: its queue is full")
        }
        Err(error) => tracing::error!(
            "{name} file {}: {error}; the {name} stays in the file that is open",
            path.display()
        ),
    };
    let thread = thread::Builder::new().name(format!("reopen-{name}"));
    if let Err(error) = thread.spawn(reopen) {
        tracing::error!(%error, "the {name} file cannot be reopened");
    }
}

/// Enables the events of the proxy and of plugins from the configured level, and of other libraries from WARN: their
/// details would hide ours.
fn enabled_targets(level: LogLevel) -> Targets {
    let ours = level_filter(level);
    Targets::new()
        .with_target("proxy", ours)
        .with_target("plugin", ours)
        .with_default(ours.min(LevelFilter::WARN))
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = EventWriter<'a>;

    fn make_writer(&'a self) -> EventWriter<'a> {
        EventWriter(self)
    }
}

/// Passes the single `write` of an event to the sink, after the thread's access lines.
#[derive(Debug)]
pub struct EventWriter<'a>(&'a LogSink);

impl Write for EventWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.queue.send(access::behind_batch(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_log_file_that_cannot_be_written() {
        let config = LogConfig {
            level: LogLevel::Info,
            file: Some("/nonexistent/proxy.log".into()),
            ..LogConfig::default()
        };
        let error = start(&config).err().map(|error| error.to_string());
        assert_eq!(
            error.as_deref(),
            Some(
                "log file /nonexistent/proxy.log: No such file or directory (os error 2); specify another file with \
                 --log-file"
            )
        );
    }

    #[test]
    fn omits_debug_lines_of_other_libraries() {
        use tracing::Level;
        let enabled = enabled_targets(LogLevel::Debug);
        assert!(enabled.would_enable("proxy_host::exchange", &Level::DEBUG));
        assert!(enabled.would_enable("plugin", &Level::DEBUG));
        assert!(enabled.would_enable("hickory_resolver", &Level::WARN));
        assert!(!enabled.would_enable("hickory_resolver", &Level::INFO));
        let enabled = enabled_targets(LogLevel::Critical);
        assert!(enabled.would_enable("proxy", &Level::ERROR));
        assert!(!enabled.would_enable("hickory_resolver", &Level::WARN));
    }
}
