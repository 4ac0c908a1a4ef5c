//! The audit log: one line of JSON per decision, written by a separate thread.
//!
//! Hooks pass whole lines and never wait: if the queue is full, a line is dropped and counted, and the count is written
//! as soon as writing succeeds again. Lines are written as they arrive, without buffering; a file that was moved away
//! is reopened, so log rotation needs no signal.

use jiff::Timestamp;
use plugin_api::{Error, error, info};
use serde::Serialize;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often the file is checked when there is nothing to write.
const IDLE_CHECK: Duration = Duration::from_secs(1);
/// The maximum number of bytes in one write.
const BATCH_LEN: usize = 64 * 1024;
/// How long the end of the process waits for a blocked disk.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The values of an audit log line.
#[derive(Serialize)]
pub(crate) struct AuditEntry<'a> {
    /// In UTC, as in RFC 3339.
    pub(crate) time: String,
    pub(crate) client: Option<String>,
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Without the query, which may contain secrets; none for a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<&'a str>,
    /// The host that is connected to, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream: Option<String>,
    /// `allowed`, `denied` or `would_deny`.
    pub(crate) decision: &'static str,
    /// The rule that allowed it, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<usize>,
    /// What is not allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
}

/// The current time, for an entry.
pub(crate) fn now() -> String {
    format!("{:.3}", Timestamp::now())
}

/// The queue of the audit log. Dropping it writes everything that was queued before.
pub(crate) struct AuditLog {
    queue: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
    /// Closed by the thread when it ends. The lock only makes it `Sync`.
    ended: Mutex<Receiver<()>>,
}

impl AuditLog {
    /// Opens the file and starts the thread that appends to it; `queue_len` lines may wait.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn start(path: PathBuf, queue_len: usize) -> Result<Self, Error> {
        let unusable = |error: io::Error| {
            Error::new(format!(
                "audit_log: cannot open {}: {error}",
                path.display()
            ))
        };
        let file = open(&path).map_err(unusable)?;
        let (queue, lines) = sync_channel(queue_len);
        let (ending, ended) = channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let log = LogFile {
            path,
            file,
            batch: Vec::new(),
            lines_in_batch: 0,
            dropped: Arc::clone(&dropped),
            is_failing: false,
        };
        let thread = thread::Builder::new().name("egress-audit".to_owned());
        thread.spawn(move || log.run(&lines, ending))?;
        Ok(Self {
            queue: Some(queue),
            dropped,
            ended: Mutex::new(ended),
        })
    }

    /// Queues an entry. Never waits.
    pub(crate) fn put(&self, entry: &AuditEntry<'_>) {
        let line = serde_json::to_vec(entry).ok().map(|mut line| {
            line.push(b'\n');
            line
        });
        let is_queued = match (&self.queue, line) {
            (Some(queue), Some(line)) => queue.try_send(line).is_ok(),
            _ => false,
        };
        if !is_queued {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.queue = None;
        // An error is expected: the thread has ended. Otherwise it is blocked in a write.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(LAST_WORDS);
    }
}

/// The state of the thread.
struct LogFile {
    path: PathBuf,
    file: File,
    batch: Vec<u8>,
    lines_in_batch: u64,
    dropped: Arc<AtomicU64>,
    /// The last write failed, which has been reported.
    is_failing: bool,
}

impl LogFile {
    fn run(mut self, lines: &Receiver<Vec<u8>>, _ending: Sender<()>) {
        loop {
            match lines.recv_timeout(IDLE_CHECK) {
                Ok(line) => self.gather(&line, lines),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.reopen_if_moved();
            self.write();
        }
        self.write();
    }

    /// Combines `line` with the lines that wait after it.
    fn gather(&mut self, line: &[u8], lines: &Receiver<Vec<u8>>) {
        self.add(line);
        while self.batch.len() < BATCH_LEN {
            match lines.try_recv() {
                Ok(line) => self.add(&line),
                Err(_) => break,
            }
        }
    }

    fn add(&mut self, line: &[u8]) {
        self.batch.extend_from_slice(line);
        self.lines_in_batch += 1;
    }

    fn write(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let time = now();
            let line = format!("{{\"time\":\"{time}\",\"dropped_lines\":{dropped}}}\n");
            self.batch.extend_from_slice(line.as_bytes());
        }
        match self.file.write_all(&self.batch) {
            Ok(()) => self.is_failing = false,
            Err(error) => self.report(dropped, &error),
        }
        self.batch.clear();
        self.lines_in_batch = 0;
    }

    /// Counts the whole batch as dropped. A part that was written must not merge with the next line.
    fn report(&mut self, dropped: u64, error: &io::Error) {
        let lost = dropped + self.lines_in_batch;
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        if !self.is_failing {
            error!("cannot write to {}: {error}", self.path.display());
        }
        self.is_failing = true;
        let _ = self.file.write_all(b"\n");
    }

    fn reopen_if_moved(&mut self) {
        let is_in_place = match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => is_same_file(&ours, &there),
            _ => false,
        };
        if is_in_place {
            return;
        }
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                info!("reopened {}", self.path.display());
            }
            // The old file remains in use.
            Err(error) if !self.is_failing => {
                error!("cannot reopen {}: {error}", self.path.display());
                self.is_failing = true;
            }
            Err(_) => {}
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

#[cfg(unix)]
fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Without inodes, a moved file is not noticed.
#[cfg(not(unix))]
fn is_same_file(_one: &Metadata, _other: &Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::{AuditEntry, AuditLog};
    use std::fs;
    use std::path::PathBuf;
    use std::process;
    use std::time::{Duration, Instant};

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("egress-audit-{}-{name}", process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn entry(host: &str) -> AuditEntry<'_> {
        AuditEntry {
            time: "2026-01-02T03:04:05.678Z".to_owned(),
            client: Some("127.0.0.1:50000".to_owned()),
            method: "GET",
            host,
            port: 80,
            path: Some("/a"),
            upstream: None,
            decision: "denied",
            rule: None,
            reason: Some("host"),
        }
    }

    #[test]
    fn an_entry_is_always_one_line() {
        let path = scratch("line");
        let log = AuditLog::start(path.clone(), 8).unwrap();
        log.put(&entry("a\n\"b"));
        drop(log);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"time\":\"2026-01-02T03:04:05.678Z\",\"client\":\"127.0.0.1:50000\",\"method\":\"GET\",\
             \"host\":\"a\\n\\\"b\",\"port\":80,\"path\":\"/a\",\"decision\":\"denied\",\"reason\":\"host\"}\n"
        );
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn appends_to_the_file_and_reports_dropped_lines() {
        let path = scratch("append");
        fs::write(&path, "earlier\n").unwrap();
        let log = AuditLog::start(path.clone(), 0).unwrap();
        // The queue has no capacity: some of the lines find the thread busy.
        for _ in 0..10_000 {
            log.put(&entry("a"));
        }
        drop(log);
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.starts_with("earlier\n"));
        let written_lines = written
            .lines()
            .filter(|line| line.contains("denied"))
            .count();
        let dropped: usize = written
            .lines()
            .filter_map(|line| line.split_once("\"dropped_lines\":"))
            .map(|(_, count)| count.trim_end_matches('}').parse::<usize>().unwrap())
            .sum();
        assert_eq!(written_lines + dropped, 10_000);
        fs::remove_file(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn reopens_a_moved_file() {
        let (path, moved) = (scratch("rotated"), scratch("rotated.1"));
        let log = AuditLog::start(path.clone(), 8).unwrap();
        fs::rename(&path, &moved).unwrap();
        log.put(&entry("first"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !path.exists() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        log.put(&entry("last"));
        drop(log);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert_eq!(fs::read_to_string(&moved).unwrap(), "");
        fs::remove_file(&path).unwrap();
        fs::remove_file(&moved).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let refused = AuditLog::start(PathBuf::from("/no/such/directory/a"), 8)
            .err()
            .unwrap();
        assert!(
            refused
                .message()
                .starts_with("audit_log: cannot open /no/such/directory/a: ")
        );
    }
}
