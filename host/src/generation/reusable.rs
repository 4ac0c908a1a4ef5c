//! Parts of a generation that the next one takes over, unless what they are made from has changed.
//!
//! A part that stays keeps what it has learned: sessions, certificates, answers of name servers.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::plain_file;

/// A part, and what it was made from.
#[derive(Debug)]
pub(super) struct Made<S, T> {
    source: Source<S>,
    pub(super) part: Arc<T>,
}

/// Settings, and the content of the files that they name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source<S> {
    settings: S,
    /// SHA-256 of each; `None` for one that cannot be read, or only once, as a pipe.
    files: Vec<Option<Vec<u8>>>,
}

impl<S> Source<S> {
    /// What the files hold now. Read before the part is made: a file that changes in between is seen at the next reload.
    pub(super) fn new<'a>(settings: S, files: impl IntoIterator<Item = &'a Path>) -> Self {
        let content = |path: &Path| {
            let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
            let content = is_file.then(|| plain_file::read_named(path).ok())??;
            Some(digest(&SHA256, &content).as_ref().to_vec())
        };
        Self {
            settings,
            files: files.into_iter().map(content).collect(),
        }
    }
}

impl<S: PartialEq, T> Made<S, T> {
    /// The part of `before` if it was made from the same, else a new one.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn take_over_or<E>(
        before: Option<&Self>,
        source: Source<S>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Self, E> {
        let part = match before {
            Some(before) if before.source == source => Arc::clone(&before.part),
            _ => Arc::new(make()?),
        };
        Ok(Self { source, part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(before: Option<&Made<u8, String>>, settings: u8, file: &Path) -> Made<u8, String> {
        let source = Source::new(settings, [file]);
        Made::take_over_or(before, source, || Ok::<_, ()>("part".to_owned())).unwrap()
    }

    #[test]
    fn a_part_stays_until_its_settings_or_its_files_change() {
        let path = std::env::temp_dir().join(format!("proxy-made-{}", std::process::id()));
        fs::write(&path, "one").unwrap();
        let first = made(None, 1, &path);
        let same = made(Some(&first), 1, &path);
        assert!(Arc::ptr_eq(&first.part, &same.part));
        let other_settings = made(Some(&first), 2, &path);
        assert!(!Arc::ptr_eq(&first.part, &other_settings.part));
        fs::write(&path, "two").unwrap();
        let other_file = made(Some(&first), 1, &path);
        assert!(!Arc::ptr_eq(&first.part, &other_file.part));
        fs::remove_file(&path).unwrap();
        let no_file = made(Some(&other_file), 1, &path);
        assert!(!Arc::ptr_eq(&other_file.part, &no_file.part));
    }
}
