//! A secret: where it comes from, and how it is kept from being shown.
//!
//! Errors name the place and never the value, and neither does `Debug`. A file is watched by a thread, so that a
//! hook never touches the disk; what cannot be used leaves the secret as it was.

use plugin_api::{info, warn};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime};

/// Longest secret, in bytes; what is longer is not a secret but a mistake.
const MAX_LEN: u64 = 16 * 1024;
/// How often files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Where a secret is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Env(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file: {}", path.display()),
            Self::Env(name) => write!(f, "env: {name}"),
        }
    }
}

/// A secret that may change while it is in use. Cheap to clone, and the same for all clones.
#[derive(Clone)]
pub(crate) struct Secret {
    value: Arc<RwLock<Arc<str>>>,
}

impl Secret {
    /// Reads the secret.
    ///
    /// # Errors
    /// What is wrong with it, without the value.
    pub(crate) fn read(source: &Source) -> Result<Self, String> {
        let value = read(source).map_err(|reason| format!("{source}: {reason}"))?;
        Ok(Self {
            value: Arc::new(RwLock::new(value.into())),
        })
    }

    /// The secret as it is now.
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

fn read(source: &Source) -> Result<String, String> {
    let text = match source {
        Source::File(path) => read_file(path)?,
        Source::Env(name) => match std::env::var(name) {
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
    // The error would hold the bytes.
    String::from_utf8(bytes).map_err(|_| "is not text".to_owned())
}

/// What may stand in a field value (RFC 9110 §5.5), without the line end that editors leave.
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

/// Looks after the files of secrets. Ends when dropped.
pub(crate) struct Watch {
    /// Dropped first: the thread then ends.
    _stop: Sender<()>,
}

impl Watch {
    /// Starts the thread; none if there is no file to look after.
    ///
    /// # Errors
    /// The thread cannot be made.
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
            // Unknown: a change between the first reading and now is not missed.
            seen: None,
            path,
            secret,
        }
    }

    fn refresh(&mut self) {
        let found = fs::metadata(&self.path)
            .and_then(|found| Ok((found.modified()?, found.len())))
            .ok();
        // Taken away: it may be between two versions, and what was read stays good.
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
    use super::{MAX_LEN, Secret, Source, WatchedFile, checked};
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
    fn refuses_what_cannot_be_sent_and_never_shows_it() {
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
    fn names_the_place_when_there_is_none() {
        let missing = Secret::read(&Source::File("/no/such/file".into())).unwrap_err();
        assert!(missing.starts_with("file: /no/such/file: "), "{missing}");
        let unset = Secret::read(&Source::Env("NO_SUCH_VARIABLE".to_owned())).unwrap_err();
        assert_eq!(unset, "env: NO_SUCH_VARIABLE: is not set");
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_is_not_taken() {
        let path = scratch("changed", "one\n");
        let secret = Secret::read(&Source::File(path.clone())).unwrap();
        let mut watched = WatchedFile::new((path.clone(), secret.clone()));
        // Each of another length: the clock of the file system may be coarse.
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
        let secret = Secret::read(&Source::File(path.clone())).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        fs::remove_file(&path).unwrap();
    }
}
