//! Takes over the sockets of a running proxy, through its control socket. Blocks.
//!
//! The running proxy answers `take_over` with its listening sockets, which both processes accept on from then on. After
//! `taken_over` it accepts nothing more and drains; if this process leaves before, it goes on as if nothing had happened.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::message::{Answer, Command, OfferedSocket};
use crate::descriptors;

/// How long the running proxy may send nothing.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);

/// The maximum length of an answer in bytes.
const MAX_ANSWER_LEN: usize = 1 << 20;

/// Why a running proxy is not replaced. It goes on.
#[derive(Debug, thiserror::Error)]
#[error("--takeover: {reason} (control socket {}); the running proxy goes on", .path.display())]
pub struct TakeoverError {
    path: PathBuf,
    reason: String,
}

/// The running proxy that this process replaces.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
    path: PathBuf,
    /// What has been received of the next lines.
    received: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Predecessor {
    /// Connects to the proxy that uses this control socket. `None`: none does.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn connect(path: &Path) -> Result<Option<Self>, TakeoverError> {
        let connected = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(SILENCE_LIMIT))?;
            stream.set_write_timeout(Some(SILENCE_LIMIT))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Some(Self {
                stream,
                path: path.to_owned(),
                received: Vec::new(),
                descriptors: VecDeque::new(),
            })),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(TakeoverError {
                path: path.to_owned(),
                reason: format!("cannot connect: {error}"),
            }),
        }
    }

    /// The path of its control socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its listening sockets. From then on, a connection may be accepted by either process.
    ///
    /// # Errors
    /// It refuses, is gone, or does not respond.
    pub(crate) fn sockets(&mut self) -> Result<Vec<(OfferedSocket, OwnedFd)>, TakeoverError> {
        self.send(Command::TakeOver)?;
        let mut sockets = Vec::new();
        loop {
            let Answer::Sockets(offer) = self.answer()? else {
                return Err(self.failed("it answers something else"));
            };
            for socket in offer.sockets {
                match self.descriptors.pop_front() {
                    Some(descriptor) => sockets.push((socket, descriptor)),
                    None => return Err(self.failed("it sends fewer sockets than it names")),
                }
            }
            if offer.is_last {
                return Ok(sockets);
            }
        }
    }

    /// Reports that this process serves. Returns once the other one accepts nothing more and has given up its control
    /// socket and its pid file.
    ///
    /// # Errors
    /// It refuses, is gone, or does not respond.
    pub(crate) fn retire(&mut self) -> Result<(), TakeoverError> {
        self.send(Command::TakenOver)?;
        loop {
            match self.answer()? {
                Answer::Done(_) => return Ok(()),
                Answer::Progress(_) => {}
                _ => return Err(self.failed("it answers something else")),
            }
        }
    }

    fn send(&mut self, command: Command) -> Result<(), TakeoverError> {
        let sent = self.stream.write_all(&command.to_line());
        sent.map_err(|error| self.failed(&format!("the running proxy is gone: {error}")))
    }

    /// The next line of an answer, unless it is a refusal.
    fn answer(&mut self) -> Result<Answer, TakeoverError> {
        let line = self.line().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                let limit = SILENCE_LIMIT.as_secs();
                self.failed(&format!(
                    "the running proxy has not responded for {limit} s"
                ))
            }
            _ => self.failed(&format!("the running proxy does not answer: {error}")),
        })?;
        match Answer::parse(&line) {
            Some(Answer::Failed(refusal)) => {
                let problems = refusal.problems.join("; ");
                Err(self.failed(&format!("the running proxy refuses: {problems}")))
            }
            Some(answer) => Ok(answer),
            None => Err(self.failed("the answer of the running proxy is not understood")),
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            let fresh = &self.received[searched..];
            if let Some(end) = memchr::memchr(b'\n', fresh) {
                let rest = self.received.split_off(searched + end + 1);
                return Ok(std::mem::replace(&mut self.received, rest));
            }
            searched = self.received.len();
            if searched > MAX_ANSWER_LEN {
                return Err(io::Error::other("it is too long"));
            }
            let (mut buffer, mut descriptors) = ([0; 4096], Vec::new());
            let len = descriptors::receive(&self.stream, &mut buffer, &mut descriptors)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&buffer[..len]);
            self.descriptors.extend(descriptors);
        }
    }

    /// The running proxy cannot be replaced, for this reason.
    pub(crate) fn failed(&self, reason: &str) -> TakeoverError {
        TakeoverError {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }
}
