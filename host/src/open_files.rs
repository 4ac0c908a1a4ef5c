//! Raises the limit on open files to the configured value, or to the maximum.
//!
//! Every connection needs a descriptor. The soft limit is only raised, never above the hard limit; if a limit cannot be
//! set, a warning is logged, because the proxy still works with fewer connections.
//!
//! The soft limit is for programs that cannot use descriptors past 1023, as select(2) cannot; this one can. So by
//! default it uses the hard limit, as the runtime of Go and HAProxy do.

use std::io;

use tokio::net::TcpStream;
use tracing::{debug, warn};

/// The highest default limit.
const DEFAULT_MOST: u64 = 1_048_576;

/// Raises the soft limit on open files to `wanted`, as far as the system allows. `None`: to the hard limit, but at most
/// 1,048,576.
#[cfg(unix)]
pub fn raise_limit(wanted: Option<u64>) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let is_default = wanted.is_none();
    let most = maximum.unwrap_or(u64::MAX);
    let wanted = wanted.unwrap_or(most.min(DEFAULT_MOST));
    let allowed = wanted.min(most);
    if allowed < wanted {
        warn!(
            wanted,
            hard_limit = allowed,
            "the configured open file limit exceeds the hard limit"
        );
    }
    // No soft limit counts as the highest.
    let before = current.unwrap_or(u64::MAX);
    if before >= allowed {
        debug!("Open file descriptor soft limit set to {before}");
        return;
    }
    match setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(allowed),
            maximum,
        },
    ) {
        Ok(()) => debug!("Open file descriptor soft limit set to {allowed}"),
        // Some systems allow less than they report.
        Err(error) if is_default => {
            debug!(wanted, soft_limit = before, %error, "cannot raise the open file limit");
        }
        Err(error) => {
            warn!(wanted, soft_limit = before, %error, "cannot raise the open file limit")
        }
    }
}

/// This system has no such limit.
#[cfg(not(unix))]
pub fn raise_limit(_wanted: Option<u64>) {
    debug!("this system has no soft limit on open files");
}

/// The number of descriptors that may be open at once. `None`: unlimited.
pub(crate) fn limit() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        getrlimit(Resource::Nofile).current
    }
    #[cfg(not(unix))]
    None
}

/// The descriptor number of a socket, on systems that number them from 0.
pub(crate) fn number_of(socket: &TcpStream) -> u64 {
    #[cfg(unix)]
    {
        use std::os::fd::AsRawFd;
        u64::try_from(socket.as_raw_fd()).unwrap_or(0)
    }
    #[cfg(not(unix))]
    {
        let _ = socket;
        0
    }
}

/// Whether this process or the system has run out of descriptors.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let code = error.raw_os_error();
        [Errno::MFILE, Errno::NFILE]
            .iter()
            .any(|errno| code == Some(errno.raw_os_error()))
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::process::{Resource, getrlimit};

    #[test]
    fn the_limit_is_never_lowered() {
        let before = getrlimit(Resource::Nofile).current;
        raise_limit(Some(1));
        assert_eq!(getrlimit(Resource::Nofile).current, before);
    }

    #[test]
    fn a_limit_above_the_hard_one_becomes_the_hard_one() {
        raise_limit(Some(u64::MAX));
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn running_out_of_descriptors_is_recognised() {
        use rustix::io::Errno;
        let is_out = |errno: Errno| is_out_of_descriptors(&errno.into());
        assert!(is_out(Errno::MFILE) && is_out(Errno::NFILE));
        assert!(!is_out(Errno::CONNREFUSED));
        assert!(!is_out_of_descriptors(&io::ErrorKind::TimedOut.into()));
    }
}
