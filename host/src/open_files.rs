//! Raises the limit on open files to the configured value, or to the maximum.
//!
//! Every connection needs a descriptor. The limit is only raised; above the hard limit, that needs root. If a limit
//! cannot be set, a warning is logged, because the proxy still works with fewer connections.
//!
//! The soft limit is for programs that cannot use descriptors past 1023, as select(2) cannot; this one can. So by
//! default it uses the hard limit, as the runtime of Go and HAProxy do.

use std::io;

use tokio::net::TcpStream;
use tracing::{debug, info, warn};

/// The highest default limit.
const DEFAULT_MOST: u64 = 1_048_576;

/// Descriptors besides those of connections: workers, listeners, logs, libraries.
const FOR_ITSELF: u64 = 64;

/// A limit below this is one that nobody chose for a server.
const LOW: u64 = 1024;

/// Raises the soft limit on open files to `wanted`, and the hard limit if it is lower and this process may. `None`: to
/// the hard limit, but at most 1,048,576. The log says what is in force then.
#[cfg(unix)]
pub fn raise_limit(wanted: Option<u64>) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let is_default = wanted.is_none();
    let most = maximum.unwrap_or(u64::MAX);
    let wanted = wanted.unwrap_or(most.min(DEFAULT_MOST));
    let set = |current: u64, maximum: Option<u64>| {
        let current = Some(current);
        setrlimit(Resource::Nofile, Rlimit { current, maximum })
    };
    // No soft limit counts as the highest.
    let before = current.unwrap_or(u64::MAX);
    if before < wanted {
        let raised = match wanted > most {
            true => set(wanted, Some(wanted)).or_else(|error| {
                warn!(
                    wanted,
                    hard_limit = most,
                    %error,
                    "open_file_limit exceeds the hard limit, which only root may raise, up to fs.nr_open"
                );
                set(most, maximum)
            }),
            false => set(wanted, maximum),
        };
        match raised {
            Ok(()) => {}
            // Some systems allow less than they report.
            Err(error) if is_default => {
                debug!(wanted, soft_limit = before, %error, "cannot raise the open file limit");
            }
            Err(error) => {
                warn!(wanted, soft_limit = before, %error, "cannot raise the open file limit");
            }
        }
    }
    match limit() {
        Some(limit) => info!("Open file limit: {limit}"),
        None => info!("Open file limit: none"),
    }
}

/// Warns if connections will be refused for lack of descriptors before `max_connections` (0: no limit) are open.
pub fn warn_if_low(max_connections: usize) {
    if let Some(limit) = limit()
        && let Some(needed) = missing(limit, max_connections as u64)
    {
        warn!(
            "the limit of {limit} open files is low: {needed} are needed for max_connections = {max_connections}, two \
             for each connection; raise it with `ulimit -n`, or LimitNOFILE= of the service"
        );
    }
}

/// How many descriptors are needed, if that is more than there are.
fn missing(limit: u64, max_connections: u64) -> Option<u64> {
    let needed = match max_connections {
        0 => LOW,
        number => number.saturating_mul(2).saturating_add(FOR_ITSELF),
    };
    (limit < needed).then_some(needed)
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
    fn a_limit_that_the_system_does_not_allow_becomes_the_hard_one() {
        // No kernel allows as many.
        raise_limit(Some(1 << 40));
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn a_limit_is_low_if_it_holds_fewer_connections_than_are_configured() {
        assert_eq!(missing(1023, 0), Some(1024));
        assert_eq!(missing(1024, 0), None);
        assert_eq!(missing(2063, 1000), Some(2064));
        assert_eq!(missing(2064, 1000), None);
        assert_eq!(missing(u64::MAX - 1, u64::MAX), Some(u64::MAX));
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
