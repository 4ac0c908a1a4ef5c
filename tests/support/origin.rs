//! An origin with a script.
//!
//! Each connection runs a closure on its own thread and is recorded byte by byte; the closure parses requests strictly
//! and writes anything. Everything ends when the origin is dropped.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::wire::{Message, Role, parse};
use super::{HANG, contains, position};

/// A server that the proxy forwards to.
pub(crate) struct Origin {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_stopping: AtomicBool,
    connections: Mutex<Vec<Record>>,
    changed: Condvar,
}

struct Record {
    received: Vec<u8>,
    has_ended: bool,
    /// For the end of the test; `None` once the script has closed the connection.
    stream: Option<TcpStream>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    /// Runs `script` for each connection; the connection is closed when it returns.
    pub(crate) fn serve(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Origin {
        Origin::serve_at(Ipv4Addr::LOCALHOST.into(), script)
    }

    /// The same on another loopback address.
    pub(crate) fn serve_at(
        host: IpAddr,
        script: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Origin {
        let listener = TcpListener::bind((host, 0)).expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let acceptor = listener.try_clone().expect("a socket can be cloned");
        let for_acceptor = shared.clone();
        thread::spawn(move || accept(&acceptor, &for_acceptor, Arc::new(script)));
        Origin {
            address,
            listener,
            shared,
        }
    }

    /// Answers every request with the same bytes.
    pub(crate) fn answering(response: impl Into<Vec<u8>>) -> Origin {
        let response = response.into();
        Origin::serve(move |peer| {
            while peer.request().is_some() {
                peer.send(&response);
            }
        })
    }

    /// Answers every request with the result of `answer`.
    pub(crate) fn replying(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::serve(move |peer| {
            while let Some(request) = peer.request() {
                peer.send(answer(&request));
            }
        })
    }

    /// Reads everything and never answers.
    pub(crate) fn silent() -> Origin {
        Origin::serve(|peer| peer.park())
    }

    /// Sends back every byte.
    pub(crate) fn echoing() -> Origin {
        Origin::serve(|peer| {
            let mut sent = 0;
            while peer.read_more() {
                let received = peer.received();
                peer.send(&received[sent..]);
                sent = received.len();
            }
        })
    }

    /// Host and port, as in a target or a Host field.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The listening address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bytes of each connection, in the order of their acceptance; connections without a byte included.
    pub(crate) fn connections(&self) -> Vec<Vec<u8>> {
        self.shared
            .lock()
            .iter()
            .map(|each| each.received.clone())
            .collect()
    }

    /// All received bytes, connection after connection.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.connections().concat()
    }

    /// All messages that began, complete or not, connection after connection.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.connections()
            .iter()
            .flat_map(|bytes| messages_in(bytes))
            .collect()
    }

    /// The complete requests.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.messages()
            .into_iter()
            .filter(|message| message.complete)
            .collect()
    }

    /// The only request.
    pub(crate) fn only_request(&self) -> Message {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "requests at the origin");
        requests.remove(0)
    }

    /// Waits until `holds` is true for the bytes of the connections.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&[Vec<u8>]) -> bool) {
        let deadline = Instant::now() + HANG;
        let mut state = self.shared.lock();
        loop {
            let connections: Vec<_> = state.iter().map(|each| each.received.clone()).collect();
            if holds(&connections) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the origin never saw {what}");
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until `bytes` arrived on some connection.
    pub(crate) fn wait_for(&self, bytes: &[u8]) {
        self.wait_until(&super::shown(bytes), |connections| {
            connections.iter().any(|each| contains(each, bytes))
        });
    }

    /// Waits until the proxy has closed every connection.
    pub(crate) fn wait_for_end(&self) {
        self.wait_for_open(0);
    }

    /// Waits until the proxy holds no more than `count` connections.
    pub(crate) fn wait_for_open(&self, count: usize) {
        let deadline = Instant::now() + HANG;
        let mut state = self.shared.lock();
        loop {
            let open = state.iter().filter(|each| !each.has_ended).count();
            if open <= count {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "the proxy keeps {open} connections to the origin"
            );
            let waiting = self.shared.changed.wait_timeout(state, left);
            state = waiting.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Asserts that no request reached this origin.
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(
            super::shown(&self.received()),
            "",
            "bytes at an origin that must see none"
        );
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        drop(SockRef::from(&self.listener).shutdown(Shutdown::Both));
        for stream in self
            .shared
            .lock()
            .iter()
            .filter_map(|each| each.stream.as_ref())
        {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// Whether this machine has an IPv6 loopback.
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn messages_in(bytes: &[u8]) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut at = 0;
    while let Some(message) = parse(&bytes[at..], Role::Request, false) {
        at += message.len;
        let may_continue = message.is_sound();
        messages.push(message);
        if !may_continue {
            break;
        }
    }
    messages
}

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    script: Arc<impl Fn(&mut Peer) + Send + Sync + 'static>,
) {
    while let Ok((stream, _)) = listener.accept() {
        let Some(mut peer) = Peer::new(stream, shared) else {
            continue;
        };
        let script = script.clone();
        thread::spawn(move || {
            script(&mut peer);
            peer.close();
        });
    }
}

/// A connection of an origin, for its script.
pub(crate) struct Peer {
    stream: Option<TcpStream>,
    shared: Arc<Shared>,
    index: usize,
    taken: usize,
}

impl Peer {
    fn new(stream: TcpStream, shared: &Arc<Shared>) -> Option<Peer> {
        stream.set_nodelay(true).ok()?;
        stream.set_write_timeout(Some(HANG)).ok()?;
        let record = Record {
            received: Vec::new(),
            has_ended: false,
            stream: Some(stream.try_clone().ok()?),
        };
        let mut connections = shared.lock();
        // Under the lock, so that the end of the origin finds every recorded connection, and no other is served.
        if shared.is_stopping.load(Ordering::SeqCst) {
            return None;
        }
        connections.push(record);
        let index = connections.len() - 1;
        Some(Peer {
            stream: Some(stream),
            shared: shared.clone(),
            index,
            taken: 0,
        })
    }

    /// The number of the connection, from 0.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The address of the proxy's side.
    pub(crate) fn remote_ip(&self) -> Option<IpAddr> {
        let address = self.stream.as_ref()?.peer_addr().ok()?;
        Some(address.ip())
    }

    /// The next complete request; `None` if there are no more.
    pub(crate) fn request(&mut self) -> Option<Message> {
        loop {
            let parsed = parse(&self.received()[self.taken..], Role::Request, false);
            match parsed {
                Some(message) if message.complete => {
                    self.taken += message.len;
                    return Some(message);
                }
                Some(message) if message.fault.is_some() => return None,
                _ if !self.read_more() => return None,
                _ => {}
            }
        }
    }

    /// The head of the next request; its body is not read.
    pub(crate) fn head(&mut self) -> Option<Message> {
        loop {
            let received = self.received();
            if let Some(len) = position(&received[self.taken..], b"\r\n\r\n") {
                let head = &received[self.taken..self.taken + len + 4];
                let message = parse(head, Role::Request, false);
                self.taken += len + 4;
                return message;
            }
            if !self.read_more() {
                return None;
            }
        }
    }

    /// The next `len` bytes; `None` if the connection ended before.
    pub(crate) fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.received().len() < self.taken + len {
            if !self.read_more() {
                return None;
            }
        }
        self.taken += len;
        Some(self.received()[self.taken - len..self.taken].to_vec())
    }

    /// Waits until `bytes` arrived; `false` if the connection ended before.
    pub(crate) fn wait_for(&mut self, bytes: &[u8]) -> bool {
        while !contains(&self.received(), bytes) {
            if !self.read_more() {
                return false;
            }
        }
        true
    }

    /// Everything received so far.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.shared.lock()[self.index].received.clone()
    }

    /// Waits for more bytes; `false` at the end.
    pub(crate) fn read_more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        loop {
            let result = self.read(&mut buffer);
            let mut connections = self.shared.lock();
            let record = &mut connections[self.index];
            match result {
                Ok(len @ 1..) => record.received.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                _ => record.has_ended = true,
            }
            self.shared.changed.notify_all();
            return !record.has_ended;
        }
    }

    /// Reads until the proxy ends the connection or the test is over.
    pub(crate) fn park(&mut self) {
        while self.read_more() {}
    }

    /// Reads without recording, for bodies that are too large to keep; returns the number of bytes.
    pub(crate) fn discard(&mut self, len: usize) -> usize {
        let mut buffer = [0; 65536];
        let mut left = len;
        while left > 0 {
            let part = left.min(buffer.len());
            match self.read(&mut buffer[..part]) {
                Ok(read @ 1..) => left -= read,
                _ => break,
            }
        }
        len - left
    }

    /// Continues reading without recording, for bodies that are too large to keep; 0 at the end.
    pub(crate) fn read_unrecorded(&mut self, buffer: &mut [u8]) -> usize {
        let received = self.received();
        let rest = &received[self.taken..];
        if rest.is_empty() {
            return self.read(buffer).unwrap_or(0);
        }
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.taken += len;
        len
    }

    /// Sends bytes; `false` if the proxy closed the connection or does not accept them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream
            .as_mut()
            .is_some_and(|stream| stream.write_all(bytes.as_ref()).is_ok())
    }

    /// Waits, as part of the scenario.
    pub(crate) fn pause(&self, milliseconds: u64) {
        thread::sleep(Duration::from_millis(milliseconds));
    }

    /// Closes the sending direction.
    pub(crate) fn finish(&mut self) {
        self.stream
            .as_ref()
            .map(|stream| stream.shutdown(Shutdown::Write));
    }

    /// Closes the connection in order: unread bytes do not cause a reset.
    pub(crate) fn close(&mut self) {
        self.finish();
        self.stream
            .as_ref()
            .map(|stream| stream.set_nonblocking(true));
        while self.read_more() {}
        self.leave();
    }

    /// Resets the connection.
    pub(crate) fn reset(&mut self) {
        self.stream
            .as_ref()
            .map(|stream| SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        self.leave();
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream
            .as_mut()
            .map_or(Ok(0), |stream| stream.read(buffer))
    }

    /// Both handles must be dropped, or the kernel keeps the connection.
    fn leave(&mut self) {
        let mut connections = self.shared.lock();
        connections[self.index].stream = None;
        connections[self.index].has_ended = true;
        self.stream = None;
        self.shared.changed.notify_all();
    }
}
