//! A directory of files for a test, with a secret beside it, and requests for them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use crate::config::{StaticFilesConfig, Symlinks};
use crate::http1::{HeadLimits, RequestHead};

/// The content of `secret`; must not appear in any response.
pub(super) const SECRET: &str = "this is not to be served";

/// Files in `public`, and `secret` beside that directory; removed on drop.
pub(super) struct Site {
    dir: PathBuf,
    root: PathBuf,
}

impl Site {
    pub(super) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = format!("proxy-files-{}-{name}-{number}", process::id());
        let dir = env::temp_dir().join(dir);
        let root = dir.join("public");
        fs::create_dir_all(&root).unwrap();
        fs::write(dir.join("secret"), SECRET).unwrap();
        Self { dir, root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn outside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file, and creates its directories.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The default settings for this directory.
    pub(super) fn config(&self) -> StaticFilesConfig {
        StaticFilesConfig {
            dir: Some(self.root.clone()),
            index: Vec::from(["index.html".to_owned()]),
            has_listing: false,
            symlinks: Symlinks::Inside,
            has_precompressed: true,
            compress_from: Some(1024),
            cache_control: String::new(),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Parses `text`, a valid head.
pub(super) fn request(text: impl AsRef<[u8]>) -> RequestHead {
    let text = text.as_ref().to_vec();
    RequestHead::parse(text, 0, Vec::new(), &HeadLimits::default()).unwrap()
}
