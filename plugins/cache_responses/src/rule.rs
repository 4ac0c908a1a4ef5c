//! The name and the head of a file, and which responses have content.

use plugin_api::{Request, Response};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The directory of the files, and the prefix of their names.
pub(crate) struct FileNames {
    pub(crate) directory: PathBuf,
    pub(crate) prefix: String,
}

impl FileNames {
    /// The path of the next file for `host`; unique in this process.
    pub(crate) fn next(&self, host: &str) -> PathBuf {
        self.directory
            .join(file_name(&self.prefix, host, next_stamp()))
    }
}

/// The time in microseconds since 1970, incremented if it has been used already.
fn next_stamp() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(0));
    let after = |last: u64| now.max(last + 1);
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        Some(after(last))
    });
    last.map_or(now, after)
}

/// File names have at most 255 bytes on common file systems; the timestamp and the prefix need up to 95 of them.
const MAX_HOST_LEN: usize = 160;

/// `<prefix><host>-<seconds>.<microseconds>.txt`; special characters in the host become underscores.
fn file_name(prefix: &str, host: &str, stamp: u64) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let plain = |c: char| if is_plain(c) { c } else { '_' };
    let host: String = host.chars().take(MAX_HOST_LEN).map(plain).collect();
    let (seconds, micros) = (stamp / 1_000_000, stamp % 1_000_000);
    format!("{prefix}{host}-{seconds}.{micros:06}.txt")
}

/// Status line, field lines and the empty line, as the plugin sees them.
///
/// Transfer-Encoding is omitted, because the content is stored without it.
pub(crate) fn head(response: Response<'_>) -> Vec<u8> {
    let version = match response.version() {
        20 => "2".to_owned(),
        version => format!("{}.{}", version / 10, version % 10),
    };
    let (status, reason) = (response.status(), response.reason());
    let mut head = format!("HTTP/{version} {status} {reason}\r\n").into_bytes();
    for (name, value) in response.fields() {
        if name.eq_ignore_ascii_case("Transfer-Encoding") {
            continue;
        }
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Whether the response has content (RFC 9112 §6.3).
pub(crate) fn has_content(request: Request<'_>, response: Response<'_>) -> bool {
    request.method() != "HEAD"
        && !matches!(response.status(), 204 | 205 | 304)
        && response.field("Content-Length") != Some(b"0")
}

/// A path as text, for the log.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{FileNames, file_name, next_stamp};
    use std::path::{Path, PathBuf};

    #[test]
    fn a_name_has_host_and_time() {
        for (prefix, host, stamp, expected) in [
            (
                "",
                "httpbin.org",
                1_569_378_301_407_512,
                "httpbin.org-1569378301.407512.txt",
            ),
            ("a-", "b", 1_000_007, "a-b-1.000007.txt"),
            ("", "::1", 0, "__1-0.000000.txt"),
        ] {
            assert_eq!(file_name(prefix, host, stamp), expected);
        }
    }

    #[test]
    fn a_host_cannot_leave_the_directory() {
        let file_names = FileNames {
            directory: PathBuf::from("/cache"),
            prefix: String::new(),
        };
        for host in ["../../etc/passwd", "/etc/passwd", "..", "a\0b", "é"] {
            let path = file_names.next(host);
            assert_eq!(path.parent(), Some(Path::new("/cache")), "{host}");
        }
    }

    #[test]
    fn a_name_fits_a_file_system() {
        let name = file_name(&"p".repeat(64), &"h".repeat(253), u64::MAX);
        assert!(name.len() <= 255, "{}", name.len());
    }

    #[test]
    fn timestamps_are_unique() {
        let stamps: Vec<u64> = (0..1000).map(|_| next_stamp()).collect();
        assert!(stamps.is_sorted_by(|a, b| a < b));
    }
}
