//! The limit on open files, raised to what the operator asked for.
//!
//! Every connection is a file to the system. The soft limit is only ever raised, and never beyond the hard one;
//! a limit that cannot be had is a warning, since the proxy serves fewer connections but serves.

use tracing::{debug, warn};

/// Raises the soft limit on open files to `wanted`, as far as the system allows.
#[cfg(unix)]
pub fn raise_limit(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let allowed = wanted.min(maximum.unwrap_or(u64::MAX));
    if allowed < wanted {
        warn!(
            wanted,
            hard_limit = allowed,
            "open file limit is above the hard limit"
        );
    }
    // No soft limit at all counts as the highest.
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
        Err(error) => {
            warn!(wanted, soft_limit = before, %error, "open file limit cannot be raised")
        }
    }
}

/// There is no such limit on this system.
#[cfg(not(unix))]
pub fn raise_limit(_wanted: u64) {
    debug!("Open file descriptor soft limit does not exist on this system");
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::process::{Resource, getrlimit};

    #[test]
    fn the_limit_is_never_lowered() {
        let before = getrlimit(Resource::Nofile).current;
        raise_limit(1);
        assert_eq!(getrlimit(Resource::Nofile).current, before);
    }

    #[test]
    fn a_limit_above_the_hard_one_becomes_the_hard_one() {
        raise_limit(u64::MAX);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
