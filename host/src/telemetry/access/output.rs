//! The access log of a generation: where its lines go, and how they are laid out.
//!
//! A file stays open as long as a generation uses it. Each worker switches to the output of a new generation by itself, so
//! no line in the old layout can get into a new file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::AccessLayout;
use super::record::AccessNeeds;
use super::selection::Selection;
use crate::config::{AccessLogConfig, AccessLogFile, LogConfig, LogLevel};
use crate::telemetry::output::Output;
use crate::telemetry::writer::{LineQueue, LogWriter, Written};
use crate::telemetry::{self, TelemetryError};

/// The access log of a generation.
#[derive(Debug)]
pub(crate) struct AccessOutput {
    pub(super) is_on: bool,
    pub(super) layout: AccessLayout,
    pub(super) selection: Selection,
    /// `None` if lines go to the log.
    own: Option<Arc<OwnLog>>,
}

/// An access log beside the log.
#[derive(Debug)]
struct OwnLog {
    /// `None`: standard output.
    path: Option<Arc<Path>>,
    writer: LogWriter,
}

impl AccessOutput {
    /// Opens the access log, to replace that of a generation `before`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(
        log: &LogConfig,
        config: &AccessLogConfig,
        before: Option<&Self>,
    ) -> Result<Self, TelemetryError> {
        let own = match &config.file {
            AccessLogFile::File(path) => Some(OwnLog::reuse_or_open(Some(path), before)?),
            // Two threads that write to the same terminal or pipe would mix their lines.
            AccessLogFile::StandardOutput if log.file.is_some() => {
                Some(OwnLog::reuse_or_open(None, before)?)
            }
            AccessLogFile::Log | AccessLogFile::Off | AccessLogFile::StandardOutput => None,
        };
        let layout = match own {
            Some(_) => telemetry::layout(&LogConfig {
                file: own
                    .as_ref()
                    .and_then(|own| own.path.as_deref().map(PathBuf::from)),
                ..log.clone()
            }),
            None => telemetry::layout(log),
        };
        Ok(Self {
            is_on: match config.file {
                AccessLogFile::Log => log.level <= LogLevel::Info,
                AccessLogFile::Off => false,
                AccessLogFile::StandardOutput | AccessLogFile::File(_) => true,
            },
            layout: AccessLayout::new(&config.format, &layout),
            selection: Selection::new(config),
            own,
        })
    }

    /// What has to be known at the end of an exchange.
    pub(crate) fn needs(&self) -> AccessNeeds {
        if !self.is_on {
            return AccessNeeds::default();
        }
        let needs = self.layout.needs();
        AccessNeeds {
            details: needs.details || !self.selection.is_everything(),
            ..needs
        }
    }

    /// The queue of the lines; `None` if they go to the log.
    pub(super) fn queue(&self) -> Option<LineQueue> {
        self.own.as_ref().map(|own| own.writer.queue())
    }

    /// Opens the file again, as [`LogSink::reopen`](telemetry::LogSink::reopen) does.
    pub(crate) fn reopen(&self) -> bool {
        let own = self.own.as_ref();
        let Some((own, path)) = own.and_then(|own| Some((own, own.path.as_ref()?))) else {
            return false;
        };
        telemetry::reopen("access log", own.writer.queue(), Arc::clone(path));
        true
    }
}

impl OwnLog {
    fn reuse_or_open(
        path: Option<&Path>,
        before: Option<&AccessOutput>,
    ) -> Result<Arc<Self>, TelemetryError> {
        let before = before.and_then(|before| before.own.as_ref());
        if let Some(before) = before.filter(|before| before.path.as_deref() == path) {
            return Ok(Arc::clone(before));
        }
        let output = Output::open_or_standard_output(path).map_err(|source| match path {
            Some(path) => TelemetryError::AccessLogFile {
                path: path.to_owned(),
                source,
            },
            None => TelemetryError::StandardOutput(source),
        })?;
        let writer = LogWriter::start(output, Written::AccessLog);
        Ok(Arc::new(Self {
            path: path.map(Arc::from),
            writer: writer.map_err(TelemetryError::Thread)?,
        }))
    }
}
