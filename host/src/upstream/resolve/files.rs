//! The hosts file and resolv.conf of the machine, reloaded when they change; one copy for all workers.
//!
//! Before each look-up, the files are checked with stat, at most once in [`INTERVAL`]. glibc and Go detect network
//! changes in the same way; it needs no thread, and works for replaced files, changed links, and files that are mounted
//! into a container.
//!
//! If a file cannot be used (missing, not text, too long, without a name server, constantly changing while it is read),
//! its last valid content remains in use, and this is logged once. A file that was written just before it was read is
//! read again, because the writer may not have finished.

use std::fs::{File, Metadata, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::hosts::Hosts;
use super::settings::Settings;
use crate::config::{DnsConfig, Resolver};

/// The shortest time between two checks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest resolv.conf, in bytes.
const MAX_SETTINGS_LEN: u64 = 1024 * 1024;
/// The longest hosts file, in bytes; block lists have some 10 MB.
const MAX_HOSTS_LEN: u64 = 32 * 1024 * 1024;
/// Files up to this length, in bytes, are read on the thread of the worker that detects the change.
const SHORT: u64 = 64 * 1024;
/// How long a look-up waits while a long file is read; then it uses the previous content.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// A file that was changed less than this before it was read is read again.
const SETTLES_IN: Duration = Duration::from_secs(2);
/// How often a file is read if it changes while it is read.
const MAX_READS: usize = 3;

/// The two files.
#[derive(Debug)]
pub(crate) struct NameFiles {
    started: Instant,
    interval: Duration,
    /// When the next check is due, in milliseconds since `started`.
    due: AtomicU64,
    /// Locked while the files are checked; concurrent look-ups wait for the result.
    files: Arc<Mutex<Files>>,
    known: StdMutex<Known>,
    /// The generation of `known`.
    generation: AtomicU64,
}

/// The content of the files.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) hosts: Arc<Hosts>,
    /// None until there is a usable file, or if it is not needed.
    pub(super) settings: Option<Arc<Settings>>,
    /// Incremented by each change of either file.
    pub(super) generation: u64,
}

#[derive(Debug)]
struct Files {
    hosts: WatchedFile<Hosts>,
    settings: Option<WatchedFile<Settings>>,
}

type Parse<T> = fn(&[u8]) -> Result<T, &'static str>;

/// One file.
#[derive(Debug)]
struct WatchedFile<T> {
    path: PathBuf,
    /// In bytes.
    max_len: u64,
    parse: Parse<T>,
    /// Identifies what was read last, whether it could be used or not.
    stamp: Option<Stamp>,
    /// It was read so soon after a change that a further change might not be visible in its metadata.
    is_fresh: bool,
    /// The digest of the last usable content.
    digest: Option<u64>,
    hasher: RandomState,
    /// What was wrong with it at the last check.
    last_error: Option<String>,
}

/// Metadata that identifies one state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    /// Device, inode, and the time when the inode was changed (seconds and nanoseconds).
    inode: (u64, u64, i64, i64),
}

impl NameFiles {
    /// The files of this machine, with their current content.
    pub(crate) fn of_system(config: &DnsConfig) -> Self {
        Self::at(config, hosts_path(), settings_path(), INTERVAL)
    }

    pub(in crate::upstream) fn at(
        config: &DnsConfig,
        hosts: PathBuf,
        settings: PathBuf,
        interval: Duration,
    ) -> Self {
        // The system resolver reads them itself; only their changes matter here.
        let (parse_hosts, parse_settings): (Parse<Hosts>, Parse<Settings>) = match config.resolver {
            Resolver::Dns => (|text| Ok(Hosts::parse(text)), Settings::parse),
            Resolver::System => (|_| Ok(Hosts::default()), |_| Ok(Settings::of_servers(&[]))),
        };
        let needs_settings = config.servers.is_empty() || config.resolver == Resolver::System;
        let mut hosts = WatchedFile::new(hosts, MAX_HOSTS_LEN, parse_hosts);
        let settings = WatchedFile::new(settings, MAX_SETTINGS_LEN, parse_settings);
        let mut settings = Some(settings).filter(|_| needs_settings);
        let known = Known {
            hosts: Arc::new(hosts.check().unwrap_or_default()),
            settings: settings.as_mut().and_then(WatchedFile::check).map(Arc::new),
            generation: 0,
        };
        if let Some(reason) = hosts.last_error.as_ref().filter(|_| hosts.path.exists()) {
            let file = hosts.path.display();
            tracing::warn!(%file, reason, "cannot use the hosts file");
        }
        let is_needed = config.resolver == Resolver::Dns && known.settings.is_none();
        if let Some(settings) = settings.as_ref().filter(|_| is_needed) {
            let file = settings.path.display();
            let reason = settings.last_error.as_deref().unwrap_or_default();
            tracing::warn!(%file, reason, "no usable name servers in the file: using the system resolver");
        }
        Self {
            started: Instant::now(),
            interval,
            due: AtomicU64::new(millis(interval)),
            files: Arc::new(Mutex::new(Files { hosts, settings })),
            known: StdMutex::new(known),
            generation: AtomicU64::new(0),
        }
    }

    /// Incremented by each change.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The content of the files at the last check.
    pub(super) fn known(&self) -> Known {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Checks the files if that is due. Cancel safe: the next caller checks them instead.
    pub(super) async fn refresh(self: &Arc<Self>) {
        if self.is_due() && timeout(READ_LIMIT, self.check()).await.is_err() {
            self.postpone();
        }
    }

    async fn check(self: &Arc<Self>) {
        let mut files = Arc::clone(&self.files).lock_owned().await;
        if !self.is_due() {
            return;
        }
        if files.has_long_change() {
            let this = Arc::clone(self);
            // Continues after the time limit; then the next look-up gets the result.
            let reading = tokio::task::spawn_blocking(move || this.take(&mut files));
            if let Err(error) = reading.await {
                tracing::error!(%error, "reading the hosts file or resolv.conf failed unexpectedly");
            }
        } else {
            self.take(&mut files);
        }
        self.postpone();
    }

    fn is_due(&self) -> bool {
        millis(self.started.elapsed()) >= self.due.load(Ordering::Relaxed)
    }

    fn postpone(&self) {
        let due = millis(self.started.elapsed() + self.interval);
        self.due.store(due, Ordering::Relaxed);
    }

    fn take(&self, files: &mut Files) {
        let hosts = files.hosts.check();
        let settings = files.settings.as_mut().and_then(WatchedFile::check);
        if hosts.is_none() && settings.is_none() {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hosts) = hosts {
            let file = files.hosts.path.display();
            tracing::info!(%file, "hosts file reloaded");
            known.hosts = Arc::new(hosts);
        }
        if let Some(settings) = settings {
            let servers = &settings.servers;
            tracing::info!(?servers, "name server configuration reloaded");
            known.settings = Some(Arc::new(settings));
        }
        known.generation += 1;
        self.generation.store(known.generation, Ordering::Release);
    }
}

impl Files {
    /// Whether a long file has changed.
    fn has_long_change(&self) -> bool {
        let settings = self.settings.as_ref();
        self.hosts.has_long_change() || settings.is_some_and(WatchedFile::has_long_change)
    }
}

impl<T> WatchedFile<T> {
    fn new(path: PathBuf, max_len: u64, parse: Parse<T>) -> Self {
        Self {
            path,
            max_len,
            parse,
            stamp: None,
            is_fresh: false,
            digest: None,
            hasher: RandomState::new(),
            last_error: None,
        }
    }

    /// The new content, if it has changed.
    fn check(&mut self) -> Option<T> {
        match self.read_change() {
            Ok(value) => value,
            Err(reason) => {
                let is_known = self.last_error.as_ref() == Some(&reason);
                // At startup there is no previous content.
                if !is_known && self.digest.is_some() {
                    let file = self.path.display();
                    tracing::warn!(%file, reason, "cannot use the file: keeping its previous content");
                }
                self.last_error = Some(reason);
                None
            }
        }
    }

    fn has_long_change(&self) -> bool {
        let metadata = std::fs::metadata(&self.path);
        metadata.is_ok_and(|found| found.len() > SHORT && self.has_changed(&found))
    }

    fn has_changed(&self, found: &Metadata) -> bool {
        self.is_fresh || self.stamp != Some(Stamp::of(found))
    }

    fn read_change(&mut self) -> Result<Option<T>, String> {
        match std::fs::metadata(&self.path) {
            Ok(found) if !self.has_changed(&found) => return Ok(None),
            Ok(_) => {}
            Err(error) => {
                self.stamp = None;
                return Err(error.to_string());
            }
        }
        let text = self.read().map_err(|error| error.to_string())?;
        if text.contains(&0) {
            return Err("it is not a text file".to_owned());
        }
        let digest = Some(self.hasher.hash_one(&text));
        if digest == self.digest {
            self.last_error = None;
            return Ok(None);
        }
        let value = (self.parse)(&text).map_err(str::to_owned)?;
        self.digest = digest;
        self.last_error = None;
        Ok(Some(value))
    }

    /// The content, if it does not change while it is read.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        for _ in 0..MAX_READS {
            self.stamp = None;
            let file = open(&self.path)?;
            let found = file.metadata()?;
            let stamp = Stamp::of(&found);
            self.stamp = Some(stamp);
            self.is_fresh = stamp.is_recent();
            if !found.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            let mut text = Vec::new();
            if found.len() <= self.max_len {
                (&file).take(self.max_len + 1).read_to_end(&mut text)?;
            }
            if found.len().max(text.len() as u64) > self.max_len {
                let max_len = self.max_len;
                return Err(io::Error::other(format!(
                    "it is longer than {max_len} bytes"
                )));
            }
            if Stamp::of(&file.metadata()?) == stamp {
                return Ok(text);
            }
        }
        self.stamp = None;
        Err(io::Error::other("it keeps changing while it is read"))
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt;
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            (metadata.dev(), metadata.ino(), changed.0, changed.1)
        };
        #[cfg(not(unix))]
        let inode = (0, 0, 0, 0);
        Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            inode,
        }
    }

    fn is_recent(&self) -> bool {
        let since = |time: SystemTime| {
            let now = SystemTime::now();
            now.duration_since(time)
                .or_else(|_| time.duration_since(now))
                .unwrap_or_default()
        };
        let changed = Duration::from_secs(self.inode.2.unsigned_abs());
        let changed = SystemTime::UNIX_EPOCH.checked_add(changed);
        [self.modified, changed]
            .into_iter()
            .flatten()
            .any(|time| since(time) < SETTLES_IN)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Does not block if the file is a FIFO without a writer.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    options.open(path)
}

#[cfg(not(windows))]
fn hosts_path() -> PathBuf {
    "/etc/hosts".into()
}

#[cfg(not(windows))]
fn settings_path() -> PathBuf {
    "/etc/resolv.conf".into()
}

#[cfg(windows)]
fn hosts_path() -> PathBuf {
    let root = std::env::var_os("SystemRoot").unwrap_or_else(|| r"C:\Windows".into());
    Path::new(&root).join(r"System32\drivers\etc\hosts")
}

/// The settings are in the registry, where changes cannot be detected with stat: they are read at startup, and when the
/// hosts file changes.
#[cfg(windows)]
fn settings_path() -> PathBuf {
    hosts_path()
}
