//! Notices when certificate and key files change, so that they are used without a signal.
//!
//! The files are looked at every few seconds, without reading them, on a thread of their own: a file system may not
//! respond. A change counts once nothing has changed for another interval, because a certificate and its key are
//! written one after the other, and not at once. Pipes are not watched: they can be read only once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io, thread};

use tokio::sync::mpsc;
use tokio::time::{self, Interval, MissedTickBehavior};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// What the system says about a file; `None` if it is not a regular file. It differs if the file was written or replaced.
type Stamp = Option<(u64, u64, u64, Option<SystemTime>)>;

type Stamps = BTreeMap<PathBuf, Stamp>;

/// The certificate and key files of the current generation.
pub(super) struct CertificateFiles {
    paths: Vec<PathBuf>,
    /// `None` as long as there are no files, or if the thread cannot be started.
    look: Option<Look>,
    /// Whether the thread has not answered yet.
    is_looking: bool,
    settling: Settling,
    /// Made on the runtime that waits for it.
    interval: Option<Interval>,
}

/// The thread that looks at files.
struct Look {
    paths: std::sync::mpsc::Sender<Vec<PathBuf>>,
    stamps: mpsc::UnboundedReceiver<Stamps>,
}

impl CertificateFiles {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let mut files = Self {
            paths: Vec::new(),
            look: None,
            is_looking: false,
            settling: Settling::default(),
            interval: None,
        };
        files.watch(paths);
        files
    }

    /// From now on, these files are watched.
    pub(super) fn watch(&mut self, paths: Vec<PathBuf>) {
        self.paths = paths;
        if self.look.is_none() && !self.paths.is_empty() {
            self.look = Look::start()
                .inspect_err(|error| {
                    tracing::error!(%error, "cannot watch the certificate files: reload when they change");
                })
                .ok();
        }
    }

    /// Waits until files have changed, or may have since they were read; returns them. Pends while there are none. Cancel safe.
    pub(super) async fn changed(&mut self) -> Vec<PathBuf> {
        let Some(look) = &mut self.look else {
            return std::future::pending().await;
        };
        let interval = self.interval.get_or_insert_with(|| {
            let mut interval = time::interval(INTERVAL);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        loop {
            tokio::select! {
                _ = interval.tick() => {
                    if !self.is_looking {
                        self.is_looking = look.paths.send(self.paths.clone()).is_ok();
                    }
                }
                Some(stamps) = look.stamps.recv() => {
                    self.is_looking = false;
                    let changed = self.settling.look(stamps);
                    if !changed.is_empty() {
                        return changed;
                    }
                }
            }
        }
    }
}

impl Look {
    fn start() -> io::Result<Self> {
        let (paths, asked) = std::sync::mpsc::channel::<Vec<PathBuf>>();
        let (send, stamps) = mpsc::unbounded_channel();
        let look = move || {
            for paths in asked {
                let stamps = paths.into_iter().map(|path| {
                    let stamp = stamp(&path);
                    (path, stamp)
                });
                // The server may have ended.
                let _ = send.send(stamps.collect());
            }
        };
        let thread = thread::Builder::new().name("certificates".to_owned());
        thread.spawn(look)?;
        Ok(Self { paths, stamps })
    }
}

#[cfg(unix)]
fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    let identity = (metadata.dev(), metadata.ino(), metadata.len());
    let (device, inode, len) = identity;
    metadata
        .is_file()
        .then(|| (device, inode, len, metadata.modified().ok()))
}

#[cfg(not(unix))]
fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    metadata
        .is_file()
        .then(|| (0, 0, metadata.len(), metadata.modified().ok()))
}

/// Tells changes that are complete from those that may go on.
#[derive(Debug, Default)]
struct Settling {
    /// What has been reported.
    known: Stamps,
    /// What differed from that at the last look.
    last: Option<Stamps>,
}

impl Settling {
    /// The files that differ from what was reported, and were the same at the last look. Those that are new are among
    /// them: they may have changed since they were read.
    fn look(&mut self, stamps: Stamps) -> Vec<PathBuf> {
        self.known.retain(|path, _| stamps.contains_key(path));
        if self.known == stamps {
            self.last = None;
            return Vec::new();
        }
        if self.last.as_ref() != Some(&stamps) {
            self.last = Some(stamps);
            return Vec::new();
        }
        self.last = None;
        let changed = stamps
            .iter()
            .filter(|(path, stamp)| self.known.get(*path) != Some(stamp));
        let changed = changed.map(|(path, _)| path.clone()).collect();
        self.known = stamps;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(files: &[(&str, u64)]) -> Stamps {
        let stamp = |len: u64| (len > 0).then_some((1, 1, len, None));
        files
            .iter()
            .map(|(path, len)| (path.into(), stamp(*len)))
            .collect()
    }

    fn look(settling: &mut Settling, files: &[(&str, u64)]) -> Vec<String> {
        let changed = settling.look(stamps(files)).into_iter();
        changed.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn a_change_counts_once_it_has_settled() {
        let mut settling = Settling::default();
        let none: [&str; 0] = [];
        assert_eq!(look(&mut settling, &[("cert", 1), ("key", 1)]), none);
        assert_eq!(
            look(&mut settling, &[("cert", 1), ("key", 1)]),
            ["cert", "key"]
        );
        assert_eq!(look(&mut settling, &[("cert", 1), ("key", 1)]), none);
        assert_eq!(look(&mut settling, &[("cert", 2), ("key", 1)]), none);
        // The key follows.
        assert_eq!(look(&mut settling, &[("cert", 2), ("key", 2)]), none);
        assert_eq!(
            look(&mut settling, &[("cert", 2), ("key", 2)]),
            ["cert", "key"]
        );
        assert_eq!(look(&mut settling, &[("cert", 2), ("key", 2)]), none);
        // Gone, and back before it counts.
        assert_eq!(look(&mut settling, &[("cert", 0), ("key", 2)]), none);
        assert_eq!(look(&mut settling, &[("cert", 2), ("key", 2)]), none);
        assert_eq!(look(&mut settling, &[("cert", 2), ("key", 2)]), none);
    }

    #[test]
    fn files_that_are_new_after_a_reload_count_once() {
        let mut settling = Settling::default();
        let none: [&str; 0] = [];
        look(&mut settling, &[("a", 1)]);
        assert_eq!(look(&mut settling, &[("a", 1)]), ["a"]);
        assert_eq!(look(&mut settling, &[("b", 1)]), none);
        assert_eq!(look(&mut settling, &[("b", 1)]), ["b"]);
        assert_eq!(look(&mut settling, &[("b", 1)]), none);
    }

    #[test]
    fn a_file_differs_when_it_is_written_replaced_or_removed() {
        let dir = crate::interception::fixtures::Dir::new("stamps");
        let file = dir.file("cert", "one");
        let first = stamp(&file);
        assert!(first.is_some());
        dir.file("cert", "three");
        let second = stamp(&file);
        assert_ne!(first, second);
        fs::rename(dir.file("new", "three"), &file).unwrap();
        assert_ne!(second, stamp(&file));
        fs::remove_file(&file).unwrap();
        assert_eq!(stamp(&file), None);
        assert_eq!(stamp(dir.path()), None);
    }
}
