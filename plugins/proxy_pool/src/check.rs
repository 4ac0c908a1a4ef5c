//! Health checks: a separate thread connects to each parent at intervals.

use crate::parent::Parent;
use crate::pool::Pool;
use plugin_api::Error;
use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// The time limit for connecting to an address of a parent.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// The running checks, which end when this is dropped.
pub(crate) struct Checks {
    _running: Sender<Infallible>,
}

impl Checks {
    /// Checks all parents of the pool now and then every `interval`.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn start(pool: Arc<Pool>, interval: Duration) -> Result<Self, Error> {
        let (running, stopped) = mpsc::channel();
        let check = move || {
            loop {
                pool.parents()
                    .iter()
                    .for_each(|parent| check(&pool, parent));
                if stopped.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("proxy_pool".to_owned());
        thread.spawn(check)?;
        Ok(Self { _running: running })
    }
}

fn check(pool: &Pool, parent: &Parent) {
    match connect(parent) {
        Ok(()) => pool.note_success(parent),
        Err(error) => pool.note_failure(parent, &error.to_string()),
    }
}

fn connect(parent: &Parent) -> io::Result<()> {
    let mut failure = io::Error::other("the host name has no address");
    for address in parent.addresses()? {
        match TcpStream::connect_timeout(&address, DIAL_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::config::{OnAllDown, Policy};
    use crate::parent::HealthLimits;
    use crate::pool::Pool;
    use std::net::TcpListener;

    #[test]
    fn a_parent_without_listener_is_down() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let limits = HealthLimits {
            max_fails: 1,
            fail_timeout: 3_600_000,
        };
        let mut pool = Pool::new(Policy::Random, OnAllDown::Fail, limits);
        pool.add("parents", &[format!("http://{address}")]).unwrap();
        let parent = &pool.parents()[0];
        check(&pool, parent);
        assert!(parent.is_up(0));
        drop(listener);
        check(&pool, parent);
        assert!(!parent.is_up(0));
        let _listener = TcpListener::bind(address).unwrap();
        check(&pool, parent);
        assert!(parent.is_up(0));
    }
}
