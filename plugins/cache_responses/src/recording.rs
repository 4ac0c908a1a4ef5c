//! One response on its way into a file.
//!
//! Belongs to its exchange: what is not finished when the exchange is over is given up, so that a response that broke
//! off, or that the client did not wait for, leaves no file.

use crate::config::Config;
use crate::rule::{Place, shown};
use crate::writer::{Queue, Step, Ticket, Writer};
use plugin_api::{Error, info, warn};
use std::path::Path;
use std::sync::Arc;

/// Begins recordings.
pub(crate) struct Recorder {
    place: Place,
    max_file: u64,
    writer: Writer,
}

impl Recorder {
    /// A recorder as configured, with its thread.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            writer: Writer::start(config.max_waiting)?,
            max_file: config.max_file,
            place: Place {
                directory: config.directory,
                prefix: config.prefix,
            },
        })
    }

    /// Begins a file for `host` with these bytes.
    pub(crate) fn begin(&self, host: &str, head: Vec<u8>) -> Recording {
        let mut recording = Recording {
            queue: self.writer.queue.clone(),
            ticket: Ticket::new(self.place.next(host)),
            left: self.max_file,
            stage: Stage::UnderWay,
        };
        recording.step(head.len(), || Step::Begin(head));
        recording
    }
}

/// A file that is being written.
pub(crate) struct Recording {
    queue: Queue,
    ticket: Arc<Ticket>,
    /// Bytes that still fit into the file.
    left: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    UnderWay,
    Finished,
    GivenUp,
}

impl Recording {
    /// Adds bytes to the file.
    pub(crate) fn append(&mut self, content: &[u8]) {
        if !content.is_empty() {
            self.step(content.len(), || Step::Append(content.to_vec()));
        }
    }

    /// The response is whole.
    pub(crate) fn finish(&mut self) {
        if self.stage == Stage::UnderWay {
            self.stage = Stage::Finished;
            self.queue.put(&self.ticket, Step::Finish);
        }
    }

    /// The file, if it is finished and, as far as is known by now, can be written.
    pub(crate) fn file(&self) -> Option<&Path> {
        let is_there = self.stage == Stage::Finished && !self.ticket.is_lost();
        is_there.then_some(&self.ticket.path)
    }

    fn step(&mut self, len: usize, step: impl FnOnce() -> Step) {
        if self.stage != Stage::UnderWay || self.ticket.is_lost() {
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
        if !self.queue.put(&self.ticket, step()) {
            warn!(
                "Not cached: {} exceeds max_waiting while waiting for the disk",
                shown(&self.ticket.path)
            );
            self.give_up("it exceeds max_waiting");
        }
    }

    fn give_up(&mut self, reason: &'static str) {
        self.stage = Stage::GivenUp;
        self.queue.put(&self.ticket, Step::GiveUp(reason));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.stage == Stage::UnderWay {
            self.give_up("the response is incomplete");
        }
    }
}
