//! The source of the PAC text: a file that may change while the proxy runs, or the configuration.
//!
//! When the text is requested, the file is checked at most once a second, and read only if it was replaced or modified.
//! If that fails, the last text remains in use, and the failure is logged once. Reading blocks the worker for at most 1
//! MiB, which is why it must be a regular file: a pipe could block forever.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};

/// The maximum length of a PAC file, in bytes; a longer one is refused. Browsers have the same limit.
const MAX_LEN: usize = 1024 * 1024;

/// The interval between checks of a file.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Every PAC file contains this, a path hardly ever.
const FUNCTION: &str = "FindProxyForURL";

/// Why there is no PAC file to serve; one line with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum PacError {
    /// The setting is neither a file nor the text of one.
    #[error(
        "`{shown}` cannot be read ({source}), and is not the text of a PAC file, because it does not contain \
         FindProxyForURL; specify a file with --pac-file"
    )]
    Neither {
        /// The setting, shortened.
        shown: String,
        /// Why it cannot be opened as a file.
        source: io::Error,
    },
    /// The file exists but cannot be read.
    #[error("{}: {source}; specify a readable file with --pac-file", .path.display())]
    Unreadable {
        /// As configured.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory, a pipe or a device.
    #[error("{}: is not a regular file; specify one with --pac-file", .0.display())]
    NotAFile(PathBuf),
    /// Longer than browsers accept.
    #[error("the PAC file exceeds 1 MiB, which browsers do not accept; shorten it")]
    TooLong,
}

/// A text and its tag.
#[derive(Debug)]
pub(super) struct PacText {
    pub(super) text: Vec<u8>,
    /// A strong entity tag, quoted (RFC 9110 §8.8.3).
    pub(super) etag: String,
}

impl PacText {
    fn new(text: Vec<u8>) -> Result<Arc<Self>, PacError> {
        if text.len() > MAX_LEN {
            return Err(PacError::TooLong);
        }
        let digest = digest(&SHA256, &text);
        let hex: String = digest.as_ref()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let etag = format!("\"{hex}\"");
        Ok(Arc::new(PacText { text, etag }))
    }
}

/// The source of the text.
#[derive(Debug)]
pub(super) enum Source {
    Text(Arc<PacText>),
    File(WatchedFile),
}

impl Source {
    /// If the setting is the path of something that exists, it is a file, regardless of its content.
    pub(super) fn find(file_or_text: &str) -> Result<Self, PacError> {
        match fs::metadata(file_or_text) {
            Ok(_) => {
                let file = WatchedFile::open(Path::new(file_or_text))?;
                tracing::info!(file = file_or_text, "the PAC setting is a file name");
                Ok(Source::File(file))
            }
            Err(_) if file_or_text.contains(FUNCTION) => {
                let served = PacText::new(file_or_text.as_bytes().to_vec())?;
                tracing::info!("the PAC setting is the text of a PAC file");
                Ok(Source::Text(served))
            }
            Err(source) => Err(PacError::Neither {
                shown: beginning(file_or_text),
                source,
            }),
        }
    }

    /// The text as it is `now`.
    pub(super) fn current(&self, now: Instant) -> Arc<PacText> {
        match self {
            Source::Text(served) => Arc::clone(served),
            Source::File(file) => file.current(now),
        }
    }
}

/// A file that is read again once it has changed.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    snapshot: Mutex<Snapshot>,
}

#[derive(Debug)]
struct Snapshot {
    served: Arc<PacText>,
    stamp: Stamp,
    checked_at: Instant,
    /// The last check failed, which has been logged.
    has_failed: bool,
}

impl WatchedFile {
    fn open(path: &Path) -> Result<Self, PacError> {
        let (served, stamp) = read(path)?;
        Ok(WatchedFile {
            path: path.to_owned(),
            snapshot: Mutex::new(Snapshot {
                served,
                stamp,
                checked_at: Instant::now(),
                has_failed: false,
            }),
        })
    }

    fn current(&self, now: Instant) -> Arc<PacText> {
        // The value is consistent at every moment, so a poisoned lock is harmless.
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(snapshot.checked_at) >= CHECK_INTERVAL {
            snapshot.checked_at = now;
            self.refresh(&mut snapshot);
        }
        Arc::clone(&snapshot.served)
    }

    fn refresh(&self, snapshot: &mut Snapshot) {
        match read_if_changed(&self.path, &snapshot.stamp) {
            Ok(None) => snapshot.has_failed = false,
            Ok(Some((served, stamp))) => {
                tracing::info!(file = %self.path.display(), "PAC file reloaded");
                (snapshot.served, snapshot.stamp, snapshot.has_failed) = (served, stamp, false);
            }
            Err(error) if !snapshot.has_failed => {
                snapshot.has_failed = true;
                tracing::warn!(%error, "reloading the PAC file failed: keeping the previous one");
            }
            Err(_) => {}
        }
    }
}

/// Changes when a file is modified or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified_at: Option<SystemTime>,
    len: u64,
    /// Device and inode.
    identity: (u64, u64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            modified_at: metadata.modified().ok(),
            len: metadata.len(),
            identity: identity(metadata),
        }
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

fn read_if_changed(path: &Path, last: &Stamp) -> Result<Option<(Arc<PacText>, Stamp)>, PacError> {
    let metadata = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    if Stamp::of(&metadata) == *last {
        return Ok(None);
    }
    read(path).map(Some)
}

fn read(path: &Path) -> Result<(Arc<PacText>, Stamp), PacError> {
    // Checked before opening, because opening a pipe waits for a writer.
    let metadata = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    if !metadata.is_file() {
        return Err(PacError::NotAFile(path.to_owned()));
    }
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| {
        // Taken from the open file before reading, so a later write is seen by the next check.
        let stamp = Stamp::of(&file.metadata()?);
        file.take(MAX_LEN as u64 + 1).read_to_end(&mut text)?;
        Ok(stamp)
    });
    let stamp = read.map_err(|source| unreadable(path, source))?;
    Ok((PacText::new(text)?, stamp))
}

fn unreadable(path: &Path, source: io::Error) -> PacError {
    PacError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

/// The beginning of a setting, in one line.
fn beginning(text: &str) -> String {
    const CHARS: usize = 80;
    let shown: String = text
        .chars()
        .take(CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match text.chars().nth(CHARS) {
        Some(_) => format!("{shown}…"),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::{env, process};
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let dir = env::temp_dir().join(format!("proxy-pac-{}-{number}", process::id()));
            fs::create_dir_all(&dir).unwrap();
            Scratch(dir)
        }

        fn write(&self, text: impl AsRef<[u8]>) -> String {
            let path = self.path();
            fs::write(&path, text).unwrap();
            path
        }

        fn path(&self) -> String {
            self.0.join("proxy.pac").to_str().unwrap().to_owned()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn text(source: &Source, now: Instant) -> String {
        String::from_utf8(source.current(now).text.clone()).unwrap()
    }

    fn refusal(setting: &str) -> String {
        match Source::find(setting) {
            Ok(source) => panic!("{setting} is {source:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_existing_file_is_read_and_a_text_with_the_function_is_used() {
        let scratch = Scratch::new();
        let path = scratch.write("whatever is in it");
        let now = Instant::now();
        assert_eq!(
            text(&Source::find(&path).unwrap(), now),
            "whatever is in it"
        );
        for setting in [
            "function FindProxyForURL(url, host) { return \"DIRECT\"; }",
            "// a/b\nvar FindProxyForURL = x;",
            &format!("FindProxyForURL{}", " ".repeat(100_000)),
        ] {
            assert_eq!(text(&Source::find(setting).unwrap(), now), setting);
        }
    }

    #[test]
    fn neither_file_nor_text_is_refused_in_one_line_with_both_reasons() {
        let error = refusal("/nonexistent/proxy.pac");
        assert_eq!(
            error,
            "`/nonexistent/proxy.pac` cannot be read (No such file or directory (os error 2)), and is not the text \
             of a PAC file, because it does not contain FindProxyForURL; specify a file with --pac-file"
        );
        let long = format!("function findproxy()\n{{ {} }}", "x".repeat(10_000));
        let error = refusal(&long);
        assert!(error.starts_with("`function findproxy() { xxx"), "{error}");
        assert!(error.lines().count() == 1 && error.len() < 400, "{error}");
        for setting in ["", "a\0b"] {
            assert!(refusal(setting).contains("does not contain FindProxyForURL"));
        }
    }

    #[test]
    fn other_than_regular_files_are_refused() {
        let scratch = Scratch::new();
        let dir = scratch.0.display().to_string();
        assert!(refusal(&dir).contains("is not a regular file"));
        assert!(refusal("/dev/null").contains("is not a regular file"));
    }

    #[test]
    fn a_mebibyte_is_the_limit() {
        let scratch = Scratch::new();
        let whole = "x".repeat(MAX_LEN);
        assert!(Source::find(&scratch.write(&whole)).is_ok());
        assert!(refusal(&scratch.write(whole + "x")).contains("exceeds 1 MiB"));
        let text = format!("{FUNCTION}{}", " ".repeat(MAX_LEN));
        assert!(refusal(&text).contains("exceeds 1 MiB"));
    }

    #[test]
    fn a_file_is_checked_once_a_second() {
        let scratch = Scratch::new();
        let source = Source::find(&scratch.write("first")).unwrap();
        let first = source.current(Instant::now());
        scratch.write("second");
        let start = Instant::now();
        // Loading took some time, so this is less than a second after the first check.
        assert_eq!(text(&source, start - CHECK_INTERVAL), "first");
        let later = start + CHECK_INTERVAL;
        assert_eq!(text(&source, later), "second");
        assert_ne!(source.current(later).etag, first.etag);
        scratch.write("the third");
        assert_eq!(text(&source, later + CHECK_INTERVAL / 2), "second");
        assert_eq!(text(&source, later + CHECK_INTERVAL), "the third");
    }

    #[test]
    fn a_replaced_file_is_read_even_if_it_looks_the_same() {
        let scratch = Scratch::new();
        let path = scratch.write("a");
        let source = Source::find(&path).unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let other = scratch.0.join("other");
        fs::write(&other, "b").unwrap();
        File::options()
            .write(true)
            .open(&other)
            .and_then(|file| file.set_modified(time))
            .unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(text(&source, Instant::now() + CHECK_INTERVAL), "b");
    }

    #[test]
    fn the_last_text_remains_while_there_is_no_other() {
        let scratch = Scratch::new();
        let path = scratch.write("kept");
        let source = Source::find(&path).unwrap();
        let mut now = Instant::now();
        let mut next = || {
            now += CHECK_INTERVAL;
            text(&source, now)
        };
        fs::remove_file(&path).unwrap();
        assert_eq!((next(), next()), ("kept".to_owned(), "kept".to_owned()));
        fs::create_dir(&path).unwrap();
        assert_eq!(next(), "kept");
        fs::remove_dir(&path).unwrap();
        scratch.write("x".repeat(MAX_LEN + 1));
        assert_eq!(next(), "kept");
        scratch.write("new");
        assert_eq!(next(), "new");
    }

    /// Counts warnings.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Warnings {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let is_warning = *event.metadata().level() == Level::WARN;
            self.0.fetch_add(usize::from(is_warning), Ordering::Relaxed);
        }
    }

    #[test]
    fn a_missing_file_is_logged_once_until_it_is_back() {
        let scratch = Scratch::new();
        let source = Source::find(&scratch.write("a")).unwrap();
        let warnings = Warnings::default();
        let subscriber = Registry::default().with(warnings.clone());
        tracing::subscriber::with_default(subscriber, || {
            let mut now = Instant::now();
            let mut look = || {
                now += CHECK_INTERVAL;
                source.current(now);
                warnings.0.load(Ordering::Relaxed)
            };
            fs::remove_file(scratch.path()).unwrap();
            assert_eq!((look(), look()), (1, 1));
            scratch.write("back");
            assert_eq!(look(), 1);
            fs::remove_file(scratch.path()).unwrap();
            assert_eq!((look(), look()), (2, 2));
        });
    }

    #[test]
    fn equal_texts_have_equal_tags() {
        let tag = |text: &str| PacText::new(text.into()).unwrap().etag.clone();
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
        assert_eq!(tag("").len(), 34);
    }
}
