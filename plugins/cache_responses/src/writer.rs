//! The thread that writes the files.
//!
//! Workers must not wait for a disk, so their commands are queued; the memory of the queue is limited. The thread
//! creates a file that only its owner can read, and only if its name does not exist, not even as a link; a file that
//! cannot be written, or is abandoned, is removed. A file is complete when the log says so.

use crate::rule::shown;
use plugin_api::{Error, debug, info, warn};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

/// The memory of a command in the queue, beside its bytes, so that many small ones are limited, too.
const COMMAND_COST: u64 = 128;

/// A file, shared by the worker and the thread.
pub(crate) struct Ticket {
    pub(crate) path: PathBuf,
    is_lost: AtomicBool,
}

impl Ticket {
    pub(crate) fn new(path: PathBuf) -> Arc<Self> {
        let is_lost = AtomicBool::new(false);
        Arc::new(Self { path, is_lost })
    }

    /// Whether the file does not exist, or will not.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }
}

/// A command for the thread.
pub(crate) enum FileCommand {
    /// Create the file with these bytes.
    Create(Vec<u8>),
    /// Append these bytes.
    Append(Vec<u8>),
    /// The file is complete.
    Finish,
    /// Remove the file, for this reason.
    Abandon(&'static str),
}

impl FileCommand {
    fn cost(&self) -> u64 {
        match self {
            Self::Create(bytes) | Self::Append(bytes) => bytes.len() as u64 + COMMAND_COST,
            // Once per file, and never refused.
            Self::Finish | Self::Abandon(_) => 0,
        }
    }
}

/// The queue, as workers use it.
#[derive(Clone)]
pub(crate) struct Queue {
    commands: Sender<Option<(Arc<Ticket>, FileCommand)>>,
    waiting: Arc<AtomicU64>,
    max_waiting: u64,
}

impl Queue {
    /// Queues a command; `false` if the queue is full, and then the command is dropped.
    pub(crate) fn put(&self, ticket: &Arc<Ticket>, command: FileCommand) -> bool {
        let cost = command.cost();
        let waiting = self.waiting.fetch_add(cost, Ordering::Relaxed) + cost;
        let has_room = cost == 0 || waiting <= self.max_waiting;
        if has_room
            && self
                .commands
                .send(Some((Arc::clone(ticket), command)))
                .is_ok()
        {
            return true;
        }
        self.waiting.fetch_sub(cost, Ordering::Relaxed);
        false
    }
}

/// The running thread. Dropping it writes everything that is queued.
pub(crate) struct FileWriter {
    pub(crate) queue: Queue,
    thread: Option<JoinHandle<()>>,
}

impl FileWriter {
    /// Starts the thread, with at most `max_waiting` bytes in the queue.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn start(max_waiting: u64) -> Result<Self, Error> {
        let (commands, received) = mpsc::channel();
        let waiting = Arc::new(AtomicU64::new(0));
        let queue = Queue {
            commands,
            waiting: Arc::clone(&waiting),
            max_waiting,
        };
        let mut files = OpenFiles::default();
        let write = move || files.follow(&received, &waiting);
        let thread = thread::Builder::new()
            .name("cache_responses".to_owned())
            .spawn(write)
            .map_err(|error| Error::new(format!("cannot start the writing thread: {error}")))?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        // An explicit end, because the queues of exchanges would keep the thread waiting.
        let is_sent = self.queue.commands.send(None).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| is_sent) {
            drop(thread.join());
        }
    }
}

/// The incomplete files.
#[derive(Default)]
struct OpenFiles {
    open: HashMap<PathBuf, File>,
}

impl OpenFiles {
    fn follow(
        &mut self,
        commands: &Receiver<Option<(Arc<Ticket>, FileCommand)>>,
        waiting: &AtomicU64,
    ) {
        while let Ok(Some((ticket, command))) = commands.recv() {
            let cost = command.cost();
            self.take(&ticket, command);
            waiting.fetch_sub(cost, Ordering::Relaxed);
        }
        for path in self.open.keys() {
            remove(path, "the proxy is stopping");
        }
    }

    fn take(&mut self, ticket: &Ticket, command: FileCommand) {
        match command {
            FileCommand::Create(bytes) => {
                let created = create(&ticket.path);
                match created {
                    Ok(file) => {
                        self.open.insert(ticket.path.clone(), file);
                        self.append(ticket, &bytes);
                    }
                    Err(error) => {
                        ticket.lose();
                        warn!("Cannot create {}: {error}", shown(&ticket.path));
                    }
                }
            }
            FileCommand::Append(bytes) => self.append(ticket, &bytes),
            FileCommand::Finish => {
                if self.open.remove(&ticket.path).is_some() {
                    info!("Cached response at {}", shown(&ticket.path));
                }
            }
            FileCommand::Abandon(reason) => {
                if self.open.remove(&ticket.path).is_some() {
                    remove(&ticket.path, reason);
                }
            }
        }
    }

    fn append(&mut self, ticket: &Ticket, bytes: &[u8]) {
        let Some(file) = self.open.get_mut(&ticket.path) else {
            return;
        };
        if let Err(error) = file.write_all(bytes) {
            ticket.lose();
            self.open.remove(&ticket.path);
            warn!("Cannot write {}: {error}", shown(&ticket.path));
            remove(&ticket.path, "it cannot be written");
        }
    }
}

/// Creates a file that only its owner can read; fails if the path exists.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path, reason: &str) {
    match fs::remove_file(path) {
        Ok(()) => debug!("Removed {}: {reason}", shown(path)),
        Err(error) => warn!("Cannot remove {}: {error}", shown(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::{FileCommand, FileWriter, Ticket};
    use crate::scratch::Scratch;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    /// Writes one file from start to end; returns whether it exists afterwards.
    fn write(path: PathBuf, content: &str) -> bool {
        let writer = FileWriter::start(1 << 20).unwrap();
        let ticket = Ticket::new(path);
        let begin = FileCommand::Create(content.as_bytes().to_vec());
        assert!(writer.queue.put(&ticket, begin));
        assert!(writer.queue.put(&ticket, FileCommand::Finish));
        drop(writer);
        !ticket.is_lost()
    }

    #[test]
    fn a_file_is_readable_by_its_owner_only() {
        let scratch = Scratch::new();
        let path = scratch.path("a.txt");
        assert!(write(path.clone(), "content"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"content");
    }

    #[test]
    fn nothing_is_overwritten_and_no_link_followed() {
        let scratch = Scratch::new();
        let (there, link) = (scratch.path("there.txt"), scratch.path("link.txt"));
        fs::write(&there, "old").unwrap();
        symlink(&there, &link).unwrap();
        let dangling = scratch.path("dangling.txt");
        symlink(scratch.path("nowhere.txt"), &dangling).unwrap();
        for path in [there.clone(), link, dangling] {
            assert!(!write(path, "new"));
        }
        assert_eq!(fs::read(&there).unwrap(), b"old");
        assert!(!scratch.path("nowhere.txt").exists());
    }

    #[test]
    fn a_full_queue_refuses_data_but_not_ends() {
        let writer = FileWriter::start(200).unwrap();
        let scratch = Scratch::new();
        let ticket = Ticket::new(scratch.path("a.txt"));
        let queue = &writer.queue;
        assert!(!queue.put(&ticket, FileCommand::Create(vec![0; 200])));
        assert!(queue.put(&ticket, FileCommand::Abandon("full")));
        assert!(
            queue.put(&ticket, FileCommand::Create(vec![0; 20])),
            "room again"
        );
    }

    #[test]
    fn an_incomplete_file_is_removed() {
        let scratch = Scratch::new();
        for last in [None, Some(FileCommand::Abandon("broken"))] {
            let writer = FileWriter::start(1 << 20).unwrap();
            let ticket = Ticket::new(scratch.path("a.txt"));
            writer
                .queue
                .put(&ticket, FileCommand::Create(b"part".to_vec()));
            if let Some(command) = last {
                writer.queue.put(&ticket, command);
            }
            drop(writer);
            assert_eq!(scratch.names(), [""; 0]);
        }
    }
}
