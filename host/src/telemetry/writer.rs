//! The thread that writes the log.
//!
//! Other threads pass it whole lines through a bounded queue and never wait. If the queue is full or writing fails,
//! lines are dropped and counted; the count is logged as soon as writing succeeds again. `telemetry` opens the
//! destination.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::direct::{self, QUEUED, WRITTEN};
use super::line::write_prefix;
use super::repeats::{INTERVAL, Repeats};
use crate::config::LogLevel;

/// The maximum number of queued batches; with batches of 32 KiB, 32 MiB.
const QUEUE_LEN: usize = 1024;

/// How long the end of the process waits for a blocked destination.
const LAST_WORDS: Duration = Duration::from_secs(2);

enum WriterMessage {
    Lines(Vec<u8>),
    /// From now on, lines go here.
    Destination(File),
    Stop,
}

/// The queue of the log, cheap to clone.
#[derive(Clone)]
pub struct LogSink {
    queue: Option<SyncSender<WriterMessage>>,
    lost: Arc<AtomicU64>,
    level: LogLevel,
    /// The log file, if the log goes to one.
    file: Option<Arc<Path>>,
}

impl LogSink {
    /// A sink that drops everything, for embedding the proxy without a log.
    pub fn discard() -> Self {
        LogSink {
            queue: None,
            lost: Arc::default(),
            level: LogLevel::Critical,
            file: None,
        }
    }

    /// Opens the log file again, because the one that is open may have been renamed. Returns at once. If the file
    /// cannot be opened, the log reports it and stays in the file that is open. Has no effect if the log goes to
    /// standard output.
    pub(crate) fn reopen(&self) {
        let (Some(queue), Some(path)) = (self.queue.clone(), self.file.clone()) else {
            tracing::info!("the log is not reopened: it does not go to a file");
            return;
        };
        // Opening and queueing may wait: for a disk, for the reader of a FIFO, for the lines before.
        let reopen = move || match super::open(&path) {
            Ok(file) => {
                if queue.send(WriterMessage::Destination(file)).is_ok() {
                    tracing::info!("the log file has been reopened");
                }
            }
            Err(error) => tracing::error!("{error}; the log stays in the file that is open"),
        };
        let thread = thread::Builder::new().name("reopen log".to_owned());
        if let Err(error) = thread.spawn(reopen) {
            tracing::error!(%error, "the log file cannot be reopened");
        }
    }

    /// Queues whole lines, each with its line end. Never waits: if the queue is full, they are dropped and counted.
    pub fn send(&self, lines: Vec<u8>) {
        let Some(queue) = &self.queue else {
            return;
        };
        match queue.try_send(WriterMessage::Lines(lines)) {
            Ok(()) => {
                QUEUED.fetch_add(1, Ordering::Release);
            }
            Err(TrySendError::Full(WriterMessage::Lines(lines))) => {
                self.lost.fetch_add(count_lines(&lines), Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }

    /// Whether lines of level INFO, and so access lines, are enabled.
    pub fn enabled_info(&self) -> bool {
        self.level <= LogLevel::Info
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// The running thread. Dropping it waits until everything queued before is written.
#[derive(Debug)]
pub(super) struct LogWriter {
    sink: LogSink,
    /// Closed by the thread when it ends.
    ended: Receiver<()>,
}

impl LogWriter {
    pub(super) fn start(
        destination: Box<dyn Write + Send>,
        file: Option<&Path>,
        level: LogLevel,
        repeats: Repeats,
    ) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_LEN);
        let (ending, ended) = channel();
        let lost = Arc::new(AtomicU64::new(0));
        let mut log = Log {
            destination,
            lost: Arc::clone(&lost),
            repeats,
            report_at: None,
            failing: false,
        };
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || log.write_all(&messages, ending))?;
        Ok(LogWriter {
            sink: LogSink {
                queue: Some(queue),
                lost,
                level,
                file: file.map(Arc::from),
            },
            ended,
        })
    }

    pub(super) fn sink(&self) -> LogSink {
        self.sink.clone()
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let give_up_at = Instant::now() + LAST_WORDS;
        let Some(queue) = &self.sink.queue else {
            return;
        };
        while let Err(TrySendError::Full(_)) = queue.try_send(WriterMessage::Stop) {
            if Instant::now() >= give_up_at {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        // The thread has ended, or is blocked in a write that cannot be interrupted.
        let _ = self
            .ended
            .recv_timeout(give_up_at.saturating_duration_since(Instant::now()));
    }
}

/// The state of the thread: the destination, and its failures.
struct Log {
    destination: Box<dyn Write + Send>,
    lost: Arc<AtomicU64>,
    repeats: Repeats,
    /// When dropped lines are reported next; `None` if there are none.
    report_at: Option<Instant>,
    /// The last write failed, which has been reported on standard error.
    failing: bool,
}

impl Log {
    fn write_all(&mut self, messages: &Receiver<WriterMessage>, _ending: Sender<()>) {
        while let Some(lines) = self.next_lines(messages) {
            self.write(&lines);
            WRITTEN.fetch_add(1, Ordering::Release);
            self.report_loss();
        }
        self.report_repeats();
    }

    /// The next lines to write; `None` at the end.
    fn next_lines(&mut self, messages: &Receiver<WriterMessage>) -> Option<Vec<u8>> {
        loop {
            if self.report_at.is_none() && self.repeats.is_counting() {
                self.report_at = Some(Instant::now() + INTERVAL);
            }
            let message = match self.report_at {
                None => messages.recv().map_err(RecvTimeoutError::from),
                Some(at) => messages.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            if self.report_at.is_some_and(|at| at <= Instant::now()) {
                self.report_at = None;
                self.report_repeats();
            }
            match message {
                Ok(WriterMessage::Lines(lines)) => return Some(lines),
                Ok(WriterMessage::Destination(file)) => {
                    direct::set_destination(&file);
                    self.destination = Box::new(file);
                }
                Ok(WriterMessage::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn report_repeats(&mut self) {
        let lines = self.repeats.take_report();
        if !lines.is_empty() {
            self.write(lines.as_bytes());
        }
    }

    fn write(&mut self, lines: &[u8]) {
        let written = self
            .destination
            .write_all(lines)
            .and_then(|()| self.destination.flush());
        match written {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.lost.fetch_add(count_lines(lines), Ordering::Relaxed);
                self.complain(&error);
            }
        }
    }

    /// Reports a failure on standard error, once until writing succeeds again.
    fn complain(&mut self, error: &io::Error) {
        if !self.failing {
            self.failing = true;
            let _ = writeln!(
                io::stderr(),
                "proxy: log: {error}; lines are dropped until writing succeeds"
            );
        }
    }

    fn report_loss(&mut self) {
        if self.failing || self.lost.load(Ordering::Relaxed) == 0 {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let mut line = String::new();
        // Writing to a String cannot fail.
        let _ = write_prefix(&mut line, "WARNING");
        line.push_str(&format!(
            "log:{} - the log could not be written fast enough, lines dropped count={lost}\n",
            line!()
        ));
        self.write(line.as_bytes());
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A destination that accepts one write per permission.
    struct Gate {
        permissions: Receiver<()>,
        taken: Arc<Mutex<String>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // After the test has dropped its end, all writes are accepted.
            let _ = self.permissions.recv();
            self.taken
                .lock()
                .unwrap()
                .push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LogWriter, Sender<()>, Arc<Mutex<String>>) {
        let (permit, permissions) = channel();
        let taken = Arc::<Mutex<String>>::default();
        let gate = Gate {
            permissions,
            taken: Arc::clone(&taken),
        };
        (
            LogWriter::start(Box::new(gate), None, LogLevel::Info, Repeats::default()).unwrap(),
            permit,
            taken,
        )
    }

    #[test]
    fn writes_what_is_queued_before_it_ends() {
        let (writer, permit, taken) = gated();
        for number in 0..500 {
            writer.sink().send(format!("{number}\n").into_bytes());
        }
        drop(permit);
        drop(writer);
        assert_eq!(taken.lock().unwrap().lines().count(), 500);
    }

    #[test]
    fn drops_and_counts_lines_while_the_queue_is_full() {
        let (writer, permit, taken) = gated();
        let sink = writer.sink();
        // At most one batch is in the blocked write; the queue holds the rest.
        for _ in 0..QUEUE_LEN + 10 {
            sink.send(b"a\nb\n".to_vec());
        }
        let lost = sink.lost.load(Ordering::Relaxed);
        assert!((18..=20).contains(&lost), "{lost}");
        drop(permit);
        drop(writer);
        let taken = taken.lock().unwrap();
        assert!(
            taken.contains(&format!("lines dropped count={lost}\n")),
            "not reported"
        );
        assert_eq!(
            taken.lines().filter(|line| *line == "a").count() as u64,
            1034 - lost / 2
        );
    }

    #[test]
    fn a_failing_destination_blocks_nobody() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let writer =
            LogWriter::start(Box::new(Broken), None, LogLevel::Info, Repeats::default()).unwrap();
        let sink = writer.sink();
        sink.send(b"a\n".to_vec());
        sink.send(b"b\n".to_vec());
        drop(writer);
        assert_eq!(sink.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_sink_outlives_its_log() {
        let (writer, permit, _) = gated();
        let sink = writer.sink();
        drop(permit);
        drop(writer);
        sink.send(b"late\n".to_vec());
        LogSink::discard().send(b"nowhere\n".to_vec());
    }
}
