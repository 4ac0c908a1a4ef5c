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
mod line;
mod repeats;
mod writer;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::config::{LogConfig, LogLevel};
use line::LineFormat;
use repeats::Repeats;
use writer::LogWriter;

pub use access::{AccessLog, AccessRecord};
pub(crate) use repeats::limit_repeats_of_this_thread;
pub use writer::LogSink;

/// Why logging cannot start.
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
    writer: LogWriter,
}

impl Telemetry {
    /// The sink for whole lines, such as batches of access lines.
    pub fn sink(&self) -> LogSink {
        self.writer.sink()
    }
}

/// Opens the destination, starts the writer and installs the process's `tracing` subscriber.
///
/// # Errors
/// The log file cannot be written, or the process already has a subscriber.
pub fn start(config: &LogConfig) -> Result<Telemetry, TelemetryError> {
    let repeats = Repeats::default();
    let destination = destination(config)?;
    let file = config.file.as_deref();
    let writer = LogWriter::start(destination, file, config.level, repeats.clone())
        .map_err(TelemetryError::Thread)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(LineFormat)
        .with_writer(writer.sink());
    let subscriber = tracing_subscriber::registry()
        .with(enabled_targets(config.level))
        .with(repeats)
        .with(lines);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| TelemetryError::AlreadyStarted)?;
    Ok(Telemetry { writer })
}

fn destination(config: &LogConfig) -> Result<Box<dyn Write + Send>, TelemetryError> {
    let Some(path) = &config.file else {
        direct::set_destination(&io::stdout());
        return Ok(Box::new(io::stdout()));
    };
    let file = open(path)?;
    direct::set_destination(&file);
    Ok(Box::new(file))
}

/// Opens the log file, or creates it.
fn open(path: &Path) -> Result<File, TelemetryError> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|source| TelemetryError::LogFile {
        path: path.to_owned(),
        source,
    })
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
        self.0.send(access::behind_batch(line));
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
