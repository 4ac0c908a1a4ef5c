//! The thread that writes the log, and a second one that writes the access log if that has its own file.
//!
//! Other threads pass it whole lines through a bounded queue and never wait. If the queue is full or writing fails,
//! lines are dropped and counted; the count is logged as soon as writing succeeds again. A line that was cut by a full
//! disk is ended before the next one. `telemetry` opens the destination.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::direct::{self, QUEUED, WRITTEN};
use super::line::{Entry, LineLevel, SharedLayout};
use super::output::Output;
use super::repeats::{INTERVAL, Repeats};

/// The maximum number of queued batches; with batches of 32 KiB, 32 MiB.
const QUEUE_LEN: usize = 1024;

/// How long the end of the process waits for a blocked destination.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a destination that cannot take more at the moment, such as a pipe that does not block, is left alone.
const PAUSE: Duration = Duration::from_millis(5);

enum WriterMessage {
    Lines(Vec<u8>),
    /// From now on, lines go here.
    Output(Output),
    Stop,
}

/// Which lines a thread writes.
pub(super) enum Written {
    /// Diagnostics, and the access log if it has no file of its own.
    Log {
        layout: SharedLayout,
        repeats: Repeats,
    },
    /// The access log alone. What there is to report goes to the log.
    AccessLog,
}

/// The lines that all logs of this process have dropped.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines the log and the access log have dropped since the start.
pub(crate) fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Counts lines that are dropped, in `lost` until the log reports them.
fn drop_lines(lost: &AtomicU64, lines: &[u8]) {
    let count = count_lines(lines);
    lost.fetch_add(count, Ordering::Relaxed);
    DROPPED.fetch_add(count, Ordering::Relaxed);
}

/// The queue of a log, cheap to clone.
#[derive(Clone)]
pub(super) struct LineQueue {
    queue: Option<SyncSender<WriterMessage>>,
    lost: Arc<AtomicU64>,
    is_log: bool,
}

impl LineQueue {
    /// A queue that drops everything.
    pub(super) fn discard() -> Self {
        LineQueue {
            queue: None,
            lost: Arc::default(),
            is_log: false,
        }
    }

    /// Whether lines are written at all.
    pub(super) fn is_connected(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues whole lines, each with its line end. Never waits: if the queue is full, they are dropped and counted.
    pub(super) fn send(&self, lines: Vec<u8>) {
        let Some(queue) = &self.queue else {
            return;
        };
        match queue.try_send(WriterMessage::Lines(lines)) {
            Ok(()) if self.is_log => {
                QUEUED.fetch_add(1, Ordering::Release);
            }
            Err(TrySendError::Full(WriterMessage::Lines(lines))) => {
                drop_lines(&self.lost, &lines);
            }
            _ => {}
        }
    }

    /// Lines that are queued from now on go to another destination. Waits for a place in the queue, for up to
    /// [`LAST_WORDS`]; `false`: there was none.
    pub(super) fn redirect(&self, output: Output) -> bool {
        let Some(queue) = &self.queue else {
            return true;
        };
        let give_up_at = Instant::now() + LAST_WORDS;
        send_until(queue, WriterMessage::Output(output), give_up_at)
    }
}

/// Queues a message, if there is a place in time.
fn send_until(
    queue: &SyncSender<WriterMessage>,
    mut message: WriterMessage,
    give_up_at: Instant,
) -> bool {
    loop {
        match queue.try_send(message) {
            Ok(()) => return true,
            Err(TrySendError::Full(unsent)) if Instant::now() < give_up_at => message = unsent,
            Err(_) => return false,
        }
        thread::sleep(PAUSE);
    }
}

impl fmt::Debug for LineQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineQueue").finish_non_exhaustive()
    }
}

/// The running thread. Dropping it waits until everything queued before is written.
#[derive(Debug)]
pub(super) struct LogWriter {
    queue: LineQueue,
    /// Closed by the thread when it ends. Locked for `Sync` alone.
    ended: std::sync::Mutex<Receiver<()>>,
}

impl LogWriter {
    pub(super) fn start(output: Output, written: Written) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_LEN);
        let (ending, ended) = channel();
        let lost = Arc::new(AtomicU64::new(0));
        let is_log = matches!(written, Written::Log { .. });
        let mut log = Log {
            output,
            written,
            lost: Arc::clone(&lost),
            report_at: None,
            is_failing: false,
            is_torn: false,
        };
        let thread = thread::Builder::new().name(log.name().replace(' ', "-"));
        thread.spawn(move || log.write_all(&messages, ending))?;
        Ok(LogWriter {
            queue: LineQueue {
                queue: Some(queue),
                lost,
                is_log,
            },
            ended: ended.into(),
        })
    }

    pub(super) fn queue(&self) -> LineQueue {
        self.queue.clone()
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let give_up_at = Instant::now() + LAST_WORDS;
        let Some(queue) = &self.queue.queue else {
            return;
        };
        if !send_until(queue, WriterMessage::Stop, give_up_at) {
            return;
        }
        // The thread has ended, or is blocked in a write that cannot be interrupted.
        if let Ok(ended) = self.ended.get_mut() {
            let _ = ended.recv_timeout(give_up_at.saturating_duration_since(Instant::now()));
        }
    }
}

/// The state of the thread: the destination, and its failures.
struct Log {
    output: Output,
    written: Written,
    lost: Arc<AtomicU64>,
    /// When dropped lines are reported next; `None` if there are none.
    report_at: Option<Instant>,
    /// The last write failed, which has been reported on standard error.
    is_failing: bool,
    /// The last line was written in part.
    is_torn: bool,
}

impl Log {
    fn name(&self) -> &'static str {
        match self.written {
            Written::Log { .. } => "log",
            Written::AccessLog => "access log",
        }
    }

    fn write_all(&mut self, messages: &Receiver<WriterMessage>, _ending: Sender<()>) {
        while let Some(lines) = self.next_lines(messages) {
            self.write(&lines);
            if let Written::Log { .. } = self.written {
                WRITTEN.fetch_add(1, Ordering::Release);
            }
            self.report_loss();
        }
        self.report_repeats();
    }

    /// The next lines to write; `None` at the end.
    fn next_lines(&mut self, messages: &Receiver<WriterMessage>) -> Option<Vec<u8>> {
        loop {
            if self.report_at.is_none() && self.is_counting_repeats() {
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
                Ok(WriterMessage::Output(output)) => self.redirect(output),
                Ok(WriterMessage::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn redirect(&mut self, output: Output) {
        if let Written::Log { .. } = self.written {
            direct::set_output(&output);
        }
        self.output = output;
        self.is_torn = false;
    }

    fn is_counting_repeats(&self) -> bool {
        match &self.written {
            Written::Log { repeats, .. } => repeats.is_counting(),
            Written::AccessLog => false,
        }
    }

    fn report_repeats(&mut self) {
        let Written::Log { repeats, layout } = &self.written else {
            return;
        };
        let lines = repeats.take_report(&layout.get());
        if !lines.is_empty() {
            self.write(lines.as_bytes());
        }
    }

    fn write(&mut self, lines: &[u8]) {
        let mut written = 0;
        match self.try_write(lines, &mut written) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                drop_lines(&self.lost, &lines[written..]);
                self.complain(&error);
            }
        }
    }

    /// Writes the lines; `written` is how many bytes of them were.
    fn try_write(&mut self, lines: &[u8], written: &mut usize) -> io::Result<()> {
        if self.is_torn {
            write_some(&mut self.output, b"\n")?;
            self.is_torn = false;
        }
        while *written < lines.len() {
            *written += write_some(&mut self.output, &lines[*written..])?;
            self.is_torn = lines[*written - 1] != b'\n';
        }
        self.output.flush()
    }

    /// Reports a failure on standard error, once until writing succeeds again.
    fn complain(&mut self, error: &io::Error) {
        if !self.is_failing {
            self.is_failing = true;
            let name = self.name();
            let _ = writeln!(
                io::stderr(),
                "proxy: {name}: {error}; lines are dropped until writing succeeds"
            );
        }
    }

    fn report_loss(&mut self) {
        if self.is_failing || self.lost.load(Ordering::Relaxed) == 0 {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let name = self.name();
        let message = format!("the {name} could not be written, lines dropped");
        let Written::Log { layout, .. } = &self.written else {
            tracing::warn!(count = lost, "{message}");
            return;
        };
        let mut line = String::new();
        let message = format!("{message} count={lost}");
        let entry = Entry::own(line!(), LineLevel::WARNING, &message);
        // Writing to a String cannot fail.
        let _ = entry.write(&layout.get(), &mut line);
        self.write(line.as_bytes());
    }
}

/// Writes the beginning of `bytes`, at least one; how many.
fn write_some(output: &mut Output, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => return Ok(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
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

    fn started(destination: impl Write + Send + 'static) -> LogWriter {
        let written = Written::Log {
            layout: SharedLayout::default(),
            repeats: Repeats::default(),
        };
        LogWriter::start(Output::Other(Box::new(destination)), written).unwrap()
    }

    fn gated() -> (LogWriter, Sender<()>, Arc<Mutex<String>>) {
        let (permit, permissions) = channel();
        let taken = Arc::<Mutex<String>>::default();
        let gate = Gate {
            permissions,
            taken: Arc::clone(&taken),
        };
        (started(gate), permit, taken)
    }

    #[test]
    fn writes_what_is_queued_before_it_ends() {
        let (writer, permit, taken) = gated();
        for number in 0..500 {
            writer.queue().send(format!("{number}\n").into_bytes());
        }
        drop(permit);
        drop(writer);
        assert_eq!(taken.lock().unwrap().lines().count(), 500);
    }

    #[test]
    fn drops_and_counts_lines_while_the_queue_is_full() {
        let (writer, permit, taken) = gated();
        let sink = writer.queue();
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
        let writer = started(Broken);
        let sink = writer.queue();
        sink.send(b"a\n".to_vec());
        sink.send(b"b\n".to_vec());
        drop(writer);
        assert_eq!(sink.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_sink_outlives_its_log() {
        let (writer, permit, _) = gated();
        let sink = writer.queue();
        drop(permit);
        drop(writer);
        sink.send(b"late\n".to_vec());
        LineQueue::discard().send(b"nowhere\n".to_vec());
    }

    /// A disk with room for some bytes.
    struct Disk {
        room: Arc<Mutex<usize>>,
        taken: Arc<Mutex<String>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut room = self.room.lock().unwrap();
            let len = bytes.len().min(*room);
            if len == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= len;
            let text = std::str::from_utf8(&bytes[..len]).unwrap();
            self.taken.lock().unwrap().push_str(text);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_has_cut_is_ended_and_counted() {
        let (room, taken) = (Arc::new(Mutex::new(7)), Arc::<Mutex<String>>::default());
        let writer = started(Disk {
            room: Arc::clone(&room),
            taken: Arc::clone(&taken),
        });
        writer.queue().send(b"one\ntwo words\nthree\n".to_vec());
        while writer.queue().lost.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        *room.lock().unwrap() = 10_000;
        writer.queue().send(b"four\n".to_vec());
        drop(writer);
        let taken = taken.lock().unwrap();
        let lines: Vec<&str> = taken.lines().collect();
        assert_eq!(lines[..3], ["one", "two", "four"]);
        assert!(
            lines[3].ends_with(" - the log could not be written, lines dropped count=2"),
            "{}",
            lines[3]
        );
    }

    #[test]
    fn a_destination_that_is_busy_gets_the_lines_later() {
        struct Busy(u32, Arc<Mutex<String>>);
        impl Write for Busy {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                if !self.0.is_multiple_of(3) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.1
                    .lock()
                    .unwrap()
                    .push_str(std::str::from_utf8(&bytes[..1]).unwrap());
                Ok(1)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let taken = Arc::<Mutex<String>>::default();
        let writer = started(Busy(0, Arc::clone(&taken)));
        writer.queue().send(b"abc\n".to_vec());
        drop(writer);
        assert_eq!(*taken.lock().unwrap(), "abc\n");
    }
}
