//! A response that is being written to a file.
//!
//! It belongs to its exchange: if it is unfinished when the exchange ends, it is abandoned, so that a response that was
//! cut off, or that the client did not wait for, leaves no file.

use crate::config::Config;
use crate::rule::{FileNames, shown};
use crate::writer::{FileCommand, FileWriter, Queue, Ticket};
use plugin_api::{Error, info, warn};
use std::path::Path;
use std::sync::Arc;

/// Starts recordings.
pub(crate) struct Recorder {
    file_names: FileNames,
    max_file: u64,
    writer: FileWriter,
}

impl Recorder {
    /// Starts the thread, with these settings.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            writer: FileWriter::start(config.max_waiting)?,
            max_file: config.max_file,
            file_names: FileNames {
                directory: config.directory,
                prefix: config.prefix,
            },
        })
    }

    /// Starts a file for `host` with these bytes.
    pub(crate) fn begin(&self, host: &str, head: Vec<u8>) -> Recording {
        let mut recording = Recording {
            queue: self.writer.queue.clone(),
            ticket: Ticket::new(self.file_names.next(host)),
            left: self.max_file,
            stage: RecordingStage::UnderWay,
        };
        recording.command(head.len(), || FileCommand::Create(head));
        recording
    }
}

/// A file that is being written.
pub(crate) struct Recording {
    queue: Queue,
    ticket: Arc<Ticket>,
    /// The number of bytes that still fit into the file.
    left: u64,
    stage: RecordingStage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RecordingStage {
    UnderWay,
    Finished,
    GivenUp,
}

impl Recording {
    /// Adds bytes to the file.
    pub(crate) fn append(&mut self, content: &[u8]) {
        if !content.is_empty() {
            self.command(content.len(), || FileCommand::Append(content.to_vec()));
        }
    }

    /// Completes the file.
    pub(crate) fn finish(&mut self) {
        if self.stage == RecordingStage::UnderWay {
            self.stage = RecordingStage::Finished;
            self.queue.put(&self.ticket, FileCommand::Finish);
        }
    }

    /// The path of the file, if it is complete and, as far as is known, can be written.
    pub(crate) fn file(&self) -> Option<&Path> {
        let is_there = self.stage == RecordingStage::Finished && !self.ticket.is_lost();
        is_there.then_some(&self.ticket.path)
    }

    fn command(&mut self, len: usize, command: impl FnOnce() -> FileCommand) {
        if self.stage != RecordingStage::UnderWay || self.ticket.is_lost() {
            return;
        }
        let Some(left) = self.left.checked_sub(len as u64) else {
            info!(
                "Not cached: {} would exceed max_file",
                shown(&self.ticket.path)
            );
            return self.give_up("it exceeds max_file");
        };
        self.left = left;
        if !self.queue.put(&self.ticket, command()) {
            warn!(
                "Not cached: {} exceeds max_waiting while waiting for the disk",
                shown(&self.ticket.path)
            );
            self.give_up("it exceeds max_waiting");
        }
    }

    fn give_up(&mut self, reason: &'static str) {
        self.stage = RecordingStage::GivenUp;
        self.queue.put(&self.ticket, FileCommand::Abandon(reason));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.stage == RecordingStage::UnderWay {
            self.give_up("the response is incomplete");
        }
    }
}
