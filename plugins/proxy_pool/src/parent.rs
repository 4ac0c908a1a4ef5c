//! A parent proxy: its address, its load, and whether it is up.
//!
//! All changing values are atomic: exchanges on several threads read and write them concurrently without waiting. Two
//! concurrent failures may count as one, which the next failure makes up for. Times are in milliseconds since the pool
//! was created.

use plugin_api::{Authority, Error};
use std::borrow::Cow;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::{fmt, io, vec};

/// A parent proxy.
pub(crate) struct Parent {
    url: String,
    host: String,
    port: u16,
    /// Distinguishes the parent from others for the policy `host`.
    pub(crate) seed: u64,
    /// The number of exchanges in progress.
    pub(crate) load: AtomicUsize,
    /// The number of consecutive failures.
    fails: AtomicU32,
    failed_at: AtomicU64,
    /// 0 if it is up.
    down_until: AtomicU64,
}

/// When a parent is down.
#[derive(Clone, Copy)]
pub(crate) struct HealthLimits {
    /// The number of failures after which it is down; 0 for never.
    pub(crate) max_fails: u32,
    /// How long it is down, and how long a failure counts, in milliseconds.
    pub(crate) fail_timeout: u64,
}

impl Parent {
    /// Parses `url`.
    ///
    /// # Errors
    /// It is not the URL of a proxy. The text does not repeat the URL, which may contain a password.
    pub(crate) fn new(url: &str) -> Result<Self, Error> {
        let (host, port) = parse(url).map_err(Error::new)?;
        Ok(Self {
            url: url.to_owned(),
            host,
            port,
            seed: hash(url),
            load: AtomicUsize::new(0),
            fails: AtomicU32::new(0),
            failed_at: AtomicU64::new(0),
            down_until: AtomicU64::new(0),
        })
    }

    /// The URL as written, with credentials.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is at this host and port.
    pub(crate) fn is_at(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host == host
    }

    /// Resolves its addresses; may block.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub(crate) fn addresses(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        (self.host.as_str(), self.port).to_socket_addrs()
    }

    /// Whether exchanges may use it.
    pub(crate) fn is_up(&self, now: u64) -> bool {
        now >= self.down_until.load(Relaxed)
    }

    /// Records a failure to connect; returns whether the parent is down because of it.
    pub(crate) fn note_failure(&self, now: u64, limits: HealthLimits) -> bool {
        let is_old = now.saturating_sub(self.failed_at.swap(now, Relaxed)) > limits.fail_timeout;
        // Once it was down, one more failure is enough: only a success resets the count.
        if is_old && self.fails.load(Relaxed) < limits.max_fails {
            self.fails.store(0, Relaxed);
        }
        let fails = self.fails.fetch_add(1, Relaxed).saturating_add(1);
        if limits.max_fails == 0 || fails < limits.max_fails {
            return false;
        }
        let was_up = self.is_up(now);
        let until = now.saturating_add(limits.fail_timeout).max(1);
        self.down_until.store(until, Relaxed);
        was_up
    }

    /// Records a successful connection; returns whether the parent was down before.
    pub(crate) fn note_success(&self) -> bool {
        // The usual case, in which the cache line stays shared between the threads.
        if self.fails.load(Relaxed) == 0 {
            return false;
        }
        self.fails.store(0, Relaxed);
        self.down_until.swap(0, Relaxed) != 0
    }
}

/// Host and port, without credentials.
impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = Authority {
            host: Cow::Borrowed(&self.host),
            port: Some(self.port),
        };
        authority.fmt(f)
    }
}

/// Host and port of a proxy's URL.
fn parse(url: &str) -> Result<(String, u16), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        "socks5" | "socks5h" => 1080,
        _ => {
            return Err(
                "does not begin with http://, https://, socks5:// or socks5h://".to_owned(),
            );
        }
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(
            "has a path, a query or a fragment; write special characters as %XX".to_owned(),
        );
    }
    let authority = match rest.rsplit_once('@') {
        Some((credentials, authority)) if are_credentials(credentials) => authority,
        Some(_) => {
            return Err(
                "has credentials that are not user:password; write special characters as %XX"
                    .to_owned(),
            );
        }
        None => rest,
    };
    let Authority { host, port } =
        Authority::parse(authority).map_err(|error| format!("has {error}"))?;
    Ok((host.into_owned(), port.unwrap_or(default_port)))
}

fn are_credentials(text: &str) -> bool {
    let is_escaped = |escape: &str| {
        let digits = escape.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    !text.is_empty()
        && !text.starts_with(':')
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && text.split('%').skip(1).all(is_escaped)
}

/// FNV-1a: the same in every process, so that a host keeps its parent over restarts.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::{HealthLimits, Parent};

    const LIMITS: HealthLimits = HealthLimits {
        max_fails: 2,
        fail_timeout: 1000,
    };

    fn parent() -> Parent {
        Parent::new("http://a.example:3128").unwrap()
    }

    #[test]
    fn shows_host_and_port_and_never_credentials() {
        for (url, shown) in [
            ("http://Proxy.Example", "proxy.example:80"),
            ("https://user:p%40ss@proxy.example/", "proxy.example:443"),
            ("socks5://[2001:db8::1]", "[2001:db8::1]:1080"),
            ("SOCKS5H://127.0.0.1:9050", "127.0.0.1:9050"),
        ] {
            assert_eq!(Parent::new(url).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refuses_invalid_parent_urls_without_repeating_them() {
        for url in [
            "",
            "secret.example:80",
            "ftp://secret.example",
            "http://",
            "http://secret.example:0",
            "http://secret.example:65536",
            "http://secret.example:+1",
            "http://secret.example/path",
            "http://:secret@a.example",
            "http://a:secret%zz@a.example",
            "http://2001:db8::1:80",
            "http://se cret",
            "http://127.1/secret",
            "http://127.1",
        ] {
            let error = Parent::new(url).err().unwrap();
            assert!(!error.message().contains("secret"), "{url}");
        }
    }

    #[test]
    fn is_down_for_a_time_after_repeated_failures() {
        let parent = parent();
        assert!(!parent.note_failure(0, LIMITS));
        assert!(parent.is_up(1));
        assert!(parent.note_failure(5, LIMITS), "goes down now");
        assert!(!parent.note_failure(6, LIMITS), "is down already");
        assert!(!parent.is_up(1005));
        assert!(parent.is_up(1006));
        assert!(parent.note_failure(1007, LIMITS), "once more is enough");
        assert!(!parent.is_up(2006));
    }

    #[test]
    fn a_success_marks_it_up_and_resets_the_count() {
        let parent = parent();
        assert!(!parent.note_success());
        parent.note_failure(0, LIMITS);
        parent.note_failure(0, LIMITS);
        assert!(!parent.is_up(1));
        assert!(parent.note_success());
        assert!(parent.is_up(1));
        assert!(!parent.note_failure(2, LIMITS));
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let parent = parent();
        assert!(!parent.note_failure(0, LIMITS));
        assert!(!parent.note_failure(1001, LIMITS));
        assert!(parent.is_up(1002));
    }

    #[test]
    fn zero_max_fails_never_takes_it_down() {
        let parent = parent();
        let limits = HealthLimits {
            max_fails: 0,
            ..LIMITS
        };
        assert!((0..9).all(|now| !parent.note_failure(now, limits) && parent.is_up(now)));
    }
}
