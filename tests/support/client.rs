//! A client that sends bytes unchanged and parses responses strictly.
//!
//! It keeps everything received, so that a test can inspect the wire as well as the parsed response. Waiting for
//! something that does not arrive within [`HANG`] fails the test.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::wire::{Message, Role, parse};
use super::{HANG, contains, shown};

/// How the peer ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order: everything sent before was received.
    Closed,
    /// By a reset: received data may be incomplete.
    Reset,
}

/// One connection to the proxy.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    taken: usize,
    end: Option<End>,
    /// The 1xx responses before the final one.
    pub(crate) interim: Vec<Message>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, HANG).expect("the proxy accepts");
        stream
            .set_nodelay(true)
            .expect("a TCP socket has this option");
        Client::over(stream)
    }

    /// Connects to a Unix socket.
    pub(crate) fn connect_unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("the proxy accepts");
        Client::over(TcpStream::from(OwnedFd::from(stream)))
    }

    fn over(stream: TcpStream) -> Client {
        stream
            .set_write_timeout(Some(HANG))
            .expect("a socket has this option");
        Client {
            stream,
            received: Vec::new(),
            taken: 0,
            end: None,
            interim: Vec::new(),
        }
    }

    /// Sends bytes; the connection must accept them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the proxy takes what is sent");
    }

    /// Sends as much as the connection accepts; `false` if the proxy closed it.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends the bytes one by one, each in its own segment.
    pub(crate) fn dribble(&mut self, bytes: impl AsRef<[u8]>) {
        for &byte in bytes.as_ref() {
            if !self.try_send([byte]) {
                return;
            }
        }
    }

    /// Closes the sending direction.
    pub(crate) fn finish(&mut self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
    }

    /// Limits unread data in the kernel; less than two segments of the loopback would stall it.
    pub(crate) fn receive_little(&self) {
        SockRef::from(&self.stream)
            .set_recv_buffer_size(128 * 1024)
            .expect("a TCP socket has this option");
    }

    /// Reads to the end, a little at a time with pauses in between.
    pub(crate) fn read_slowly_to_end(&mut self) -> End {
        let deadline = Instant::now() + 2 * HANG;
        loop {
            match self.end {
                Some(end) => return end,
                None => self.fill_before(deadline, "the end of the connection"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The socket, for options.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a request and reads its final response.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        let method: Vec<u8> = request
            .as_ref()
            .iter()
            .copied()
            .take_while(u8::is_ascii_alphabetic)
            .collect();
        self.send(request);
        self.response_to(&String::from_utf8_lossy(&method))
    }

    /// The next final response, to a GET.
    pub(crate) fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// The next final response to a request with `method`, possibly incomplete if the connection ended.
    pub(crate) fn response_to(&mut self, method: &str) -> Message {
        loop {
            let message = self.message(method);
            if !message.is_interim() {
                return message;
            }
            self.interim.push(message);
        }
    }

    /// The next response, interim or final.
    pub(crate) fn message(&mut self, method: &str) -> Message {
        let deadline = Instant::now() + HANG;
        loop {
            let ended = self.end == Some(End::Closed);
            let parsed = parse(&self.received[self.taken..], Role::Response(method), ended);
            match parsed {
                Some(message)
                    if message.complete || message.fault.is_some() || self.end.is_some() =>
                {
                    self.taken += message.len;
                    return message;
                }
                None if self.end.is_some() => {
                    panic!("{:?} before a response: {}", self.end, shown(self.rest()))
                }
                _ => self.fill_before(deadline, "a response"),
            }
        }
    }

    /// Waits until `wanted` is among the bytes that belong to no response yet.
    pub(crate) fn read_until(&mut self, wanted: &[u8]) {
        let deadline = Instant::now() + HANG;
        while !contains(self.rest(), wanted) {
            assert!(
                self.end.is_none(),
                "{:?} without {}: {}",
                self.end,
                shown(wanted),
                shown(self.rest())
            );
            self.fill_before(deadline, &shown(wanted));
        }
    }

    /// Waits for `len` bytes that belong to no response, and takes them.
    pub(crate) fn read_exact(&mut self, len: usize) -> Vec<u8> {
        let deadline = Instant::now() + HANG;
        while self.rest().len() < len {
            assert!(
                self.end.is_none(),
                "{:?} after {} of {len} bytes",
                self.end,
                self.rest().len()
            );
            self.fill_before(deadline, &format!("{len} bytes"));
        }
        self.taken += len;
        self.received[self.taken - len..self.taken].to_vec()
    }

    /// Waits for the end of the connection.
    pub(crate) fn read_to_end(&mut self) -> End {
        let deadline = Instant::now() + HANG;
        loop {
            match self.end {
                Some(end) => return end,
                None => self.fill_before(deadline, "the end of the connection"),
            }
        }
    }

    /// Reads for `time`; `true` if neither a byte nor the end arrived.
    pub(crate) fn stays_quiet(&mut self, time: Duration) -> bool {
        self.end.is_none() && !self.fill(Instant::now() + time)
    }

    /// Reads until `deadline`; `true` if bytes or the end arrived.
    pub(crate) fn fill(&mut self, deadline: Instant) -> bool {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        self.stream
            .set_read_timeout(Some(left))
            .expect("a TCP socket has this option");
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.end = Some(End::Closed),
            Ok(len) => self.received.extend_from_slice(&buffer[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.end = Some(End::Reset),
        }
        true
    }

    fn fill_before(&mut self, deadline: Instant, wanted: &str) {
        let came = self.fill(deadline);
        assert!(
            came || Instant::now() < deadline,
            "hang: no {wanted}; came: {}",
            shown(self.rest())
        );
    }

    /// Everything received.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// The received bytes that belong to no parsed response.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.received[self.taken..]
    }

    /// How the connection ended, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }
}
