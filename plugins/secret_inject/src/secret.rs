//! A secret: its source, and how it is kept from being shown.
//!
//! Errors and `Debug` show the source and never the value. A thread watches the file, so that a hook never accesses the
//! disk; if the file cannot be used, the previous secret remains.

use plugin_api::{info, warn};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime};

/// The maximum length of a secret, in bytes; longer content is a mistake.
const MAX_LEN: u64 = 16 * 1024;
/// How often files are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The source of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    File(PathBuf),
    Env(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file: {}", path.display()),
            Self::Env(name) => write!(f, "env: {name}"),
        }
    }
}

/// A secret that may change while it is in use. Cheap to clone; all clones share the value.
#[derive(Clone)]
pub(crate) struct Secret {
    value: Arc<RwLock<Arc<str>>>,
}

impl Secret {
    /// Reads the secret.
    ///
    /// # Errors
    /// What is wrong with it, without the value.
    pub(crate) fn read(source: &SecretSource) -> Result<Self, String> {
        let value = read(source).map_err(|reason| format!("{source}: {reason}"))?;
        Ok(Self {
            value: Arc::new(RwLock::new(value.into())),
        })
    }

    /// The current value.
    pub(crate) fn value(&self) -> Arc<str> {
        Arc::clone(&self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, value: String) {
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = value.into();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn read(source: &SecretSource) -> Result<String, String> {
    let text = match source {
        SecretSource::File(path) => read_file(path)?,
        SecretSource::Env(name) => match std::env::var(name) {
            Ok(text) => text,
            Err(std::env::VarError::NotPresent) => return Err("is not set".to_owned()),
            Err(std::env::VarError::NotUnicode(_)) => return Err("is not text".to_owned()),
        },
    };
    checked(text)
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_LEN + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    // The error would contain the bytes.
    String::from_utf8(bytes).map_err(|_| "is not text".to_owned())
}

/// The text, if it is a valid field value (RFC 9110 §5.5), without a final line end, which editors add.
fn checked(mut text: String) -> Result<String, String> {
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() as u64 > MAX_LEN {
        return Err(format!("is longer than {MAX_LEN} bytes"));
    }
    if text.contains(char::is_control) {
        return Err("contains a line break or another control character".to_owned());
    }
    if text.trim() != text {
        return Err("begins or ends with white space".to_owned());
    }
    Ok(text)
}

/// Watches the files of secrets. Ends when dropped.
pub(crate) struct SecretWatcher {
    /// Dropped first: the thread then ends.
    _stop: Sender<()>,
}

impl SecretWatcher {
    /// Starts the thread; none if there is no file to watch.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(secrets: Vec<(PathBuf, Secret)>) -> Result<Option<Self>, std::io::Error> {
        if secrets.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        let mut files: Vec<_> = secrets.into_iter().map(WatchedFile::new).collect();
        thread::Builder::new()
            .name("secrets".to_owned())
            .spawn(move || watch(&mut files, &stopped))?;
        Ok(Some(Self { _stop: stop }))
    }
}

fn watch(files: &mut [WatchedFile], stopped: &Receiver<()>) {
    while stopped.recv_timeout(CHECK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        files.iter_mut().for_each(WatchedFile::refresh);
    }
}

struct WatchedFile {
    path: PathBuf,
    secret: Secret,
    seen: Option<(SystemTime, u64)>,
}

impl WatchedFile {
    fn new((path, secret): (PathBuf, Secret)) -> Self {
        Self {
            // Unknown, so that a change since the first reading is not missed.
            seen: None,
            path,
            secret,
        }
    }

    fn refresh(&mut self) {
        let found = fs::metadata(&self.path)
            .and_then(|found| Ok((found.modified()?, found.len())))
            .ok();
        // The file is missing, perhaps between two versions; the previous secret remains.
        if found.is_none() || found == self.seen {
            return;
        }
        self.seen = found;
        let path = self.path.display();
        match read_file(&self.path).and_then(checked) {
            Ok(value) if *value == *self.secret.value() => {}
            Ok(value) => {
                self.secret.replace(value);
                info!("{path} reloaded");
            }
            Err(reason) => warn!("{path} {reason}; keeping its previous content"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_LEN, Secret, SecretSource, WatchedFile, checked};
    use std::fs;
    use std::path::PathBuf;

    fn scratch(name: &str, content: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("secret-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn trims_the_line_end_only() {
        assert_eq!(checked("a b\r\n".to_owned()), Ok("a b".to_owned()));
        assert_eq!(checked("ä\n\n".to_owned()), Ok("ä".to_owned()));
    }

    #[test]
    fn refuses_invalid_secrets_without_showing_them() {
        let long = "x".repeat(MAX_LEN as usize + 1);
        for text in [
            "",
            "\n",
            "hush\r\nX: y",
            "hush\0",
            "hush ",
            " hush",
            "\thush",
            &long,
        ] {
            let reason = checked(text.to_owned()).unwrap_err();
            assert!(!reason.contains("hush"), "{reason}");
        }
    }

    #[test]
    fn names_the_source_of_a_missing_secret() {
        let missing = Secret::read(&SecretSource::File("/no/such/file".into())).unwrap_err();
        assert!(missing.starts_with("file: /no/such/file: "), "{missing}");
        let unset = Secret::read(&SecretSource::Env("NO_SUCH_VARIABLE".to_owned())).unwrap_err();
        assert_eq!(unset, "env: NO_SUCH_VARIABLE: is not set");
    }

    #[test]
    fn a_changed_file_is_reloaded_unless_it_is_invalid() {
        let path = scratch("changed", "one\n");
        let secret = Secret::read(&SecretSource::File(path.clone())).unwrap();
        let mut watched = WatchedFile::new((path.clone(), secret.clone()));
        // Each of another length, because the clock of the file system may be coarse.
        for (content, expected) in [
            ("second", "second"),
            ("", "second"),
            ("thi\nrd", "second"),
            ("fourth!", "fourth!"),
        ] {
            fs::write(&path, content).unwrap();
            watched.refresh();
            assert_eq!(&*secret.value(), expected, "{content:?}");
        }
        fs::remove_file(&path).unwrap();
        watched.refresh();
        assert_eq!(&*secret.value(), "fourth!");
    }

    #[test]
    fn debug_does_not_show_the_value() {
        let path = scratch("debug", "hush");
        let secret = Secret::read(&SecretSource::File(path.clone())).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        fs::remove_file(&path).unwrap();
    }
}
