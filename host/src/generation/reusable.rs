//! Parts of a generation that the next one reuses, unless their inputs have changed.
//!
//! A reused part keeps its state: TLS sessions, certificates, DNS answers.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::plain_file;

/// A part, and what it was built from.
#[derive(Debug)]
pub(super) struct Reusable<S, T> {
    inputs: Inputs<S>,
    pub(super) part: Arc<T>,
}

/// Settings, and the content of the files that they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inputs<S> {
    settings: S,
    /// SHA-256 of each; `None` if it cannot be read, or only once, like a pipe.
    files: Vec<Option<Vec<u8>>>,
}

impl<S: Clone, T> Clone for Reusable<S, T> {
    fn clone(&self) -> Self {
        Self {
            inputs: self.inputs.clone(),
            part: Arc::clone(&self.part),
        }
    }
}

impl<S> Inputs<S> {
    /// Reads the files. Called before the part is built, so that a later change is seen by the next reload.
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

impl<S: PartialEq, T> Reusable<S, T> {
    /// Reuses the part of `before` if the inputs are the same; otherwise makes a new one.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn reuse_or<E>(
        before: Option<&Self>,
        inputs: Inputs<S>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Self, E> {
        let part = match before {
            Some(before) if before.inputs == inputs => Arc::clone(&before.part),
            _ => Arc::new(make()?),
        };
        Ok(Self { inputs, part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reusable(
        before: Option<&Reusable<u8, String>>,
        settings: u8,
        file: &Path,
    ) -> Reusable<u8, String> {
        let inputs = Inputs::new(settings, [file]);
        Reusable::reuse_or(before, inputs, || Ok::<_, ()>("part".to_owned())).unwrap()
    }

    #[test]
    fn a_part_is_reused_until_its_settings_or_files_change() {
        let path = std::env::temp_dir().join(format!("proxy-reusable-{}", std::process::id()));
        fs::write(&path, "one").unwrap();
        let first = reusable(None, 1, &path);
        let same = reusable(Some(&first), 1, &path);
        assert!(Arc::ptr_eq(&first.part, &same.part));
        let other_settings = reusable(Some(&first), 2, &path);
        assert!(!Arc::ptr_eq(&first.part, &other_settings.part));
        fs::write(&path, "two").unwrap();
        let other_file = reusable(Some(&first), 1, &path);
        assert!(!Arc::ptr_eq(&first.part, &other_file.part));
        fs::remove_file(&path).unwrap();
        let no_file = reusable(Some(&other_file), 1, &path);
        assert!(!Arc::ptr_eq(&other_file.part, &no_file.part));
    }
}
