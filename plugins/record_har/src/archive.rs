//! The archive file: valid JSON after every write, whatever its length.
//!
//! New entries overwrite the closing brackets, which follow them in the same write, so nothing is ever read back and a
//! reader between two writes finds a complete archive. A separate thread does all of this; hooks pass exchanges to it
//! and never wait. If the queue is full, an exchange is not recorded, and the archive contains the number of missing
//! ones.

use crate::har::{Finished, to_json};
use plugin_api::{Error, error};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The beginning of an archive of this plugin.
const BEGINNING: &str = r#"{"log":{"version":"1.2","creator":{"name":"record_har","version":""#;
const BEGINNING_END: &str = r#""},"entries":["#;
/// Longer than any ending.
const ENDING_MAX_LEN: u64 = 256;
/// The maximum number of bytes in one write, plus one entry.
const BATCH_LEN: usize = 1024 * 1024;
/// How long the end of the process waits for a blocked disk.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The queue of the archive. Dropping it writes everything that was queued before.
pub(crate) struct Archive {
    queue: Option<SyncSender<Finished>>,
    lost: Arc<AtomicU64>,
    /// Closed by the thread when it ends. The lock only makes it `Sync`.
    ended: Mutex<Receiver<()>>,
}

impl Archive {
    /// Opens or continues the file and starts the thread that writes to it; `queue_len` exchanges may wait.
    ///
    /// # Errors
    /// The file cannot be opened, or has other content.
    pub(crate) fn start(path: PathBuf, queue_len: usize) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let unusable = |error: io::Error| Error::new(format!("file: cannot use {shown}: {error}"));
        let lost = Arc::new(AtomicU64::new(0));
        let mut file = HarFile::open(path, Arc::clone(&lost)).map_err(unusable)?;
        let (queue, exchanges) = sync_channel(queue_len);
        let (ending, ended) = channel();
        let thread = thread::Builder::new().name("har".to_owned());
        thread.spawn(move || file.run(&exchanges, ending))?;
        Ok(Self {
            queue: Some(queue),
            lost,
            ended: Mutex::new(ended),
        })
    }

    /// Queues an exchange. Never waits.
    pub(crate) fn put(&self, exchange: Finished) {
        let Some(queue) = &self.queue else {
            return;
        };
        if queue.try_send(exchange).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.queue = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        // An error is expected: the thread has ended. Otherwise it is blocked in a write.
        let _ = ended.recv_timeout(LAST_WORDS);
    }
}

/// The state of the thread.
struct HarFile {
    path: PathBuf,
    file: File,
    /// The position of the next entry: the end of the last one.
    end: u64,
    content: Entries,
    /// The number of exchanges missing in the archive.
    lost: Arc<AtomicU64>,
    /// The last write failed, which has been reported.
    is_failing: bool,
}

/// Whether the next entry needs a comma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entries {
    None,
    Some,
}

impl HarFile {
    fn open(path: PathBuf, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let mut file = open(&path)?;
        let (end, content) = match file.metadata()?.len() {
            0 => {
                let version = env!("CARGO_PKG_VERSION");
                let beginning = format!("{BEGINNING}{version}{BEGINNING_END}");
                file.write_all(format!("{beginning}{}", ending(0)).as_bytes())?;
                (beginning.len() as u64, Entries::None)
            }
            len => end_of_entries(&mut file, len)?,
        };
        Ok(Self {
            path,
            file,
            end,
            content,
            lost,
            is_failing: false,
        })
    }

    fn run(&mut self, exchanges: &Receiver<Finished>, _ending: Sender<()>) {
        while let Ok(first) = exchanges.recv() {
            let mut batch = Vec::new();
            let mut count = self.add(&first, &mut batch);
            while batch.len() < BATCH_LEN {
                match exchanges.try_recv() {
                    Ok(next) => count += self.add(&next, &mut batch),
                    Err(_) => break,
                }
            }
            self.write(&batch, count);
        }
        // Writes the number of exchanges lost since the last entry.
        self.write(&[], 0);
    }

    /// Adds an entry to the batch; returns the number of added entries.
    fn add(&mut self, exchange: &Finished, batch: &mut Vec<u8>) -> u64 {
        let Some(entry) = to_json(exchange) else {
            return 0;
        };
        let is_first = self.content == Entries::None && batch.is_empty();
        batch.extend_from_slice(if is_first { b"\n" } else { b",\n" });
        batch.extend_from_slice(&entry);
        1
    }

    fn write(&mut self, batch: &[u8], count: u64) {
        match self.append(batch) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.lost.fetch_add(count, Ordering::Relaxed);
                if !self.is_failing {
                    error!("cannot write to {}: {error}", self.path.display());
                }
                self.is_failing = true;
                // There was room for an ending before.
                let _ = self.file.set_len(self.end).and_then(|()| self.append(&[]));
            }
        }
    }

    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        let ending = ending(self.lost.load(Ordering::Relaxed));
        let written = [batch, ending.as_bytes()].concat();
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&written)?;
        // The ending of an earlier run may have been longer.
        self.file.set_len(self.end + written.len() as u64)?;
        self.end += batch.len() as u64;
        if !batch.is_empty() {
            self.content = Entries::Some;
        }
        Ok(())
    }
}

/// The closing brackets, with a comment if something is missing. Entries are single lines, so none looks like it.
fn ending(lost: u64) -> String {
    match lost {
        0 => "\n]}}\n".to_owned(),
        _ => format!("\n],\"comment\":\"{lost} exchanges could not be recorded\"}}}}\n"),
    }
}

/// The end of the entries in an existing archive.
fn end_of_entries(file: &mut File, len: u64) -> io::Result<(u64, Entries)> {
    let foreign = || {
        io::Error::other("it is neither empty nor a complete archive of this plugin; move it away")
    };
    let mut beginning = vec![0; BEGINNING.len()];
    file.read_exact(&mut beginning).map_err(|_| foreign())?;
    let start = len.saturating_sub(ENDING_MAX_LEN);
    let mut last = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut last)?;
    let ending = last.windows(2).rposition(|bytes| bytes == b"\n]");
    let is_whole = beginning == BEGINNING.as_bytes() && last.ends_with(b"}}\n");
    match ending {
        Some(at) if is_whole && at > 0 => Ok((
            start + at as u64,
            match last[at - 1] {
                b'[' => Entries::None,
                _ => Entries::Some,
            },
        )),
        _ => Err(foreign()),
    }
}

/// Readable by its owner only: an archive shows what people do.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::{Archive, HarFile};
    use crate::har::Finished;
    use crate::recording::{Recording, RequestRecord};
    use crate::spans::Spans;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("har-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn exchange(url: &str) -> Finished {
        let request = RequestRecord {
            method: "GET".to_owned(),
            url: url.to_owned(),
            version: 11,
            fields: vec![("X".to_owned(), "\n]}}\n".to_owned())],
            content_len: Some(0),
        };
        let recording = Recording {
            request: Some(request),
            ..Recording::default()
        };
        Finished {
            spans: Spans::default(),
            recording,
            connection_id: 1,
            upstream_host: "a".to_owned(),
            server_ip: None,
        }
    }

    /// The URLs of the entries, and the comment.
    fn read(path: &PathBuf) -> (Vec<String>, Option<String>) {
        let log: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let log = &log["log"];
        assert_eq!(log["version"], "1.2");
        let url = |entry: &serde_json::Value| entry["request"]["url"].as_str().unwrap().to_owned();
        let urls = log["entries"].as_array().unwrap().iter().map(url);
        (urls.collect(), log["comment"].as_str().map(str::to_owned))
    }

    #[test]
    fn an_archive_is_whole_from_the_start_and_continued_later() {
        let path = scratch("continued");
        drop(Archive::start(path.clone(), 8).unwrap());
        assert_eq!(read(&path), (vec![], None));
        let archive = Archive::start(path.clone(), 8).unwrap();
        archive.put(exchange("http://a/1"));
        archive.put(exchange("http://a/2"));
        drop(archive);
        let archive = Archive::start(path.clone(), 8).unwrap();
        archive.put(exchange("http://a/3"));
        drop(archive);
        let urls = ["http://a/1", "http://a/2", "http://a/3"].map(str::to_owned);
        assert_eq!(read(&path), (urls.to_vec(), None));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn is_whole_between_two_writes() {
        let path = scratch("between");
        let mut file = HarFile::open(path.clone(), Arc::default()).unwrap();
        for count in 1..4 {
            let mut batch = Vec::new();
            file.add(&exchange("http://a/"), &mut batch);
            file.write(&batch, 1);
            assert_eq!(read(&path).0.len(), count);
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn reports_the_number_of_missing_exchanges() {
        let path = scratch("lost");
        let archive = Archive::start(path.clone(), 0).unwrap();
        let put = 2000;
        for _ in 0..put {
            archive.put(exchange("http://a/"));
        }
        drop(archive);
        let (urls, comment) = read(&path);
        let lost = put - urls.len();
        assert_eq!(
            comment,
            (lost > 0).then(|| format!("{lost} exchanges could not be recorded"))
        );
        // The next run starts counting at 0, with a shorter ending.
        drop(Archive::start(path.clone(), 8).unwrap());
        assert_eq!(read(&path), (urls, None));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn refuses_other_files() {
        let path = scratch("foreign");
        for content in [
            "x",
            "{\"log\":{\"version\":\"1.2\",\"entries\":[\n]}}\n",
            super::BEGINNING,
        ] {
            fs::write(&path, content).unwrap();
            let refused = Archive::start(path.clone(), 8).err().unwrap();
            assert!(
                refused.message().contains("move it away"),
                "{}",
                refused.message()
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
    }
}
