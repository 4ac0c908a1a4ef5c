//! What a file is called, what stands at its top, and for which responses that is all.

use plugin_api::{Request, Response};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Where files go and what their names begin with.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) prefix: String,
}

impl Place {
    /// The path of the next file for `host`; no other file of this process has it.
    pub(crate) fn next(&self, host: &str) -> PathBuf {
        self.directory
            .join(file_name(&self.prefix, host, next_stamp()))
    }
}

/// The time in microseconds since 1970, moved on if it has been given already.
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

/// File names have at most 255 bytes on common file systems; the stamp and a prefix need up to 95 of them.
const MAX_HOST_LEN: usize = 160;

/// `<prefix><host>-<seconds>.<microseconds>.txt`; what is not plain in the host becomes an underscore.
fn file_name(prefix: &str, host: &str, stamp: u64) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let plain = |c: char| if is_plain(c) { c } else { '_' };
    let host: String = host.chars().take(MAX_HOST_LEN).map(plain).collect();
    let (seconds, micros) = (stamp / 1_000_000, stamp % 1_000_000);
    format!("{prefix}{host}-{seconds}.{micros:06}.txt")
}

/// Status line, field lines and the empty line, as the response has them when the plugin sees it.
///
/// Transfer-Encoding is left out, since the content is stored without it.
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

/// Whether content follows the head (RFC 9112 §6.3).
pub(crate) fn has_content(request: Request<'_>, response: Response<'_>) -> bool {
    request.method() != "HEAD"
        && !matches!(response.status(), 204 | 205 | 304)
        && response.field("Content-Length") != Some(b"0")
}

/// A path as text for the log.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Place, file_name, next_stamp};
    use std::path::{Path, PathBuf};

    #[test]
    fn a_name_tells_host_and_time() {
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
    fn a_host_cannot_lead_out_of_the_directory() {
        let place = Place {
            directory: PathBuf::from("/cache"),
            prefix: String::new(),
        };
        for host in ["../../etc/passwd", "/etc/passwd", "..", "a\0b", "é"] {
            let path = place.next(host);
            assert_eq!(path.parent(), Some(Path::new("/cache")), "{host}");
        }
    }

    #[test]
    fn a_name_fits_a_file_system() {
        let name = file_name(&"p".repeat(64), &"h".repeat(253), u64::MAX);
        assert!(name.len() <= 255, "{}", name.len());
    }

    #[test]
    fn no_stamp_is_given_twice() {
        let stamps: Vec<u64> = (0..1000).map(|_| next_stamp()).collect();
        assert!(stamps.is_sorted_by(|a, b| a < b));
    }
}
