//! Speaks to a running proxy through its control socket. Blocks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::message::{Answer, Command};

/// The maximum length of a line of an answer, in bytes.
const MAX_ANSWER_LEN: u64 = 16 << 20;

/// How long a running proxy may send nothing. While it works, it sends progress every second.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);

/// A connection to the control socket of a running proxy.
#[derive(Debug)]
pub(crate) struct ControlClient {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl ControlClient {
    /// Connects to this socket.
    ///
    /// # Errors
    /// The system's error: `NotFound` and `ConnectionRefused` mean that no proxy uses this socket.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(SILENCE_LIMIT))?;
        stream.set_write_timeout(Some(SILENCE_LIMIT))?;
        Ok(Self {
            stream: BufReader::new(stream),
            path: path.to_owned(),
        })
    }

    /// Where it is connected.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The proxy is gone, or does not respond.
    pub(crate) fn send(&mut self, command: Command) -> io::Result<()> {
        match self.stream.get_mut().write_all(&command.to_line()) {
            // A proxy that serves too many clients closes at once; its reason can be received.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent,
        }
    }

    /// The next line of the answer. `None`: the proxy has closed the connection.
    ///
    /// # Errors
    /// The proxy does not respond, or speaks something else.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Answer>> {
        let mut line = Vec::new();
        let mut limited = Read::by_ref(&mut self.stream).take(MAX_ANSWER_LEN);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let reason = format!("it has not responded for {} s", SILENCE_LIMIT.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        match Answer::parse(&line) {
            Some(answer) => Ok(Some(answer)),
            None => Err(io::Error::other("its answer is not understood")),
        }
    }

    /// Waits until the process at the other end has ended, which it may do a moment after it has closed the connection.
    pub(crate) fn wait_for_end(&self) {
        wait_for_end(self.stream.get_ref());
    }
}

/// How long a process may take to end after it has closed its connections.
#[cfg(target_os = "linux")]
const END_LIMIT: Duration = Duration::from_secs(10);

#[cfg(target_os = "linux")]
fn wait_for_end(stream: &UnixStream) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};

    let peer = rustix::net::sockopt::socket_peercred(stream);
    // An error means that it has ended.
    let Ok(process) = peer.and_then(|peer| pidfd_open(peer.pid, PidfdFlags::empty())) else {
        return;
    };
    let limit = Timespec {
        tv_sec: END_LIMIT.as_secs() as i64,
        tv_nsec: 0,
    };
    let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
}

#[cfg(not(target_os = "linux"))]
fn wait_for_end(_: &UnixStream) {}
