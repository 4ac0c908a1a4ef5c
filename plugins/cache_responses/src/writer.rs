//! The thread that writes the files.
//!
//! Workers must not wait for a disk, so what they want written waits in a queue, bounded by the memory it takes. The
//! thread creates a file for its owner alone and only where nothing is, not even a link; a file that cannot be
//! written, or is given up, is removed. Files are whole when the log says so.

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

/// What a step costs in the queue beside its bytes, so that many small ones are bounded, too.
const STEP_COST: u64 = 128;

/// One file, as both sides know it.
pub(crate) struct Ticket {
    pub(crate) path: PathBuf,
    is_lost: AtomicBool,
}

impl Ticket {
    pub(crate) fn new(path: PathBuf) -> Arc<Self> {
        let is_lost = AtomicBool::new(false);
        Arc::new(Self { path, is_lost })
    }

    /// Whether there is no such file, or will be none.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }
}

/// What happens to a file.
pub(crate) enum Step {
    /// It begins with these bytes.
    Begin(Vec<u8>),
    /// These bytes follow.
    Append(Vec<u8>),
    /// It is whole.
    Finish,
    /// It will never be whole: for this reason.
    GiveUp(&'static str),
}

impl Step {
    fn cost(&self) -> u64 {
        match self {
            Self::Begin(bytes) | Self::Append(bytes) => bytes.len() as u64 + STEP_COST,
            // Once per file, and never refused.
            Self::Finish | Self::GiveUp(_) => 0,
        }
    }
}

/// The workers' end of the queue.
#[derive(Clone)]
pub(crate) struct Queue {
    steps: Sender<Option<(Arc<Ticket>, Step)>>,
    waiting: Arc<AtomicU64>,
    max_waiting: u64,
}

impl Queue {
    /// Puts a step in the queue; `false` if it is full, and then the step is gone.
    pub(crate) fn put(&self, ticket: &Arc<Ticket>, step: Step) -> bool {
        let cost = step.cost();
        let waiting = self.waiting.fetch_add(cost, Ordering::Relaxed) + cost;
        let has_room = cost == 0 || waiting <= self.max_waiting;
        if has_room && self.steps.send(Some((Arc::clone(ticket), step))).is_ok() {
            return true;
        }
        self.waiting.fetch_sub(cost, Ordering::Relaxed);
        false
    }
}

/// The running thread. When dropped it writes what is in the queue, then ends.
pub(crate) struct Writer {
    pub(crate) queue: Queue,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, for at most `max_waiting` bytes in the queue.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(max_waiting: u64) -> Result<Self, Error> {
        let (steps, received) = mpsc::channel();
        let waiting = Arc::new(AtomicU64::new(0));
        let queue = Queue {
            steps,
            waiting: Arc::clone(&waiting),
            max_waiting,
        };
        let mut files = Files::default();
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

impl Drop for Writer {
    fn drop(&mut self) {
        // Without a word, since queues that exchanges hold would keep the thread waiting.
        let is_told = self.queue.steps.send(None).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| is_told) {
            drop(thread.join());
        }
    }
}

/// The files that have begun and not ended.
#[derive(Default)]
struct Files {
    open: HashMap<PathBuf, File>,
}

impl Files {
    fn follow(&mut self, steps: &Receiver<Option<(Arc<Ticket>, Step)>>, waiting: &AtomicU64) {
        while let Ok(Some((ticket, step))) = steps.recv() {
            let cost = step.cost();
            self.take(&ticket, step);
            waiting.fetch_sub(cost, Ordering::Relaxed);
        }
        for path in self.open.keys() {
            remove(path, "the proxy is stopping");
        }
    }

    fn take(&mut self, ticket: &Ticket, step: Step) {
        match step {
            Step::Begin(bytes) => {
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
            Step::Append(bytes) => self.append(ticket, &bytes),
            Step::Finish => {
                if self.open.remove(&ticket.path).is_some() {
                    info!("Cached response at {}", shown(&ticket.path));
                }
            }
            Step::GiveUp(reason) => {
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

/// A new file that nobody but its owner may read; where something is already, an error.
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
    use super::{Step, Ticket, Writer};
    use crate::scratch::Scratch;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    /// Writes one file, start to end; gives whether it came to be.
    fn write(path: PathBuf, content: &str) -> bool {
        let writer = Writer::start(1 << 20).unwrap();
        let ticket = Ticket::new(path);
        let begin = Step::Begin(content.as_bytes().to_vec());
        assert!(writer.queue.put(&ticket, begin));
        assert!(writer.queue.put(&ticket, Step::Finish));
        drop(writer);
        !ticket.is_lost()
    }

    #[test]
    fn a_file_is_for_its_owner_alone() {
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
    fn a_full_queue_refuses_and_an_end_has_always_room() {
        let writer = Writer::start(200).unwrap();
        let scratch = Scratch::new();
        let ticket = Ticket::new(scratch.path("a.txt"));
        let queue = &writer.queue;
        assert!(!queue.put(&ticket, Step::Begin(vec![0; 200])));
        assert!(queue.put(&ticket, Step::GiveUp("full")));
        assert!(queue.put(&ticket, Step::Begin(vec![0; 20])), "room again");
    }

    #[test]
    fn a_file_that_is_not_finished_does_not_stay() {
        let scratch = Scratch::new();
        for last in [None, Some(Step::GiveUp("broken"))] {
            let writer = Writer::start(1 << 20).unwrap();
            let ticket = Ticket::new(scratch.path("a.txt"));
            writer.queue.put(&ticket, Step::Begin(b"part".to_vec()));
            if let Some(step) = last {
                writer.queue.put(&ticket, step);
            }
            drop(writer);
            assert_eq!(scratch.names(), [""; 0]);
        }
    }
}
