//! A name server that answers 127.0.0.1 for every name, or fails as a test wants.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How a name server answers all queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// 127.0.0.1, and no IPv6 address.
    Knows,
    /// The same, but no response for IPv6.
    KnowsOnlyV4,
    /// This response code, such as 2 for SERVFAIL and 3 for NXDOMAIN (RFC 1035 §4.1.1).
    Code(u8),
    Silent,
}

/// A running name server; ends with the test.
pub(crate) struct NameServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    manner: Manner,
    asked: Vec<String>,
}

impl NameServer {
    /// On a free port of 127.0.0.1.
    pub(crate) fn start(manner: Manner) -> NameServer {
        NameServer::at("127.0.0.1:0", manner)
    }

    /// At this address.
    pub(crate) fn at(address: &str, manner: Manner) -> NameServer {
        let socket = UdpSocket::bind(address).expect("the name server's address is free");
        let asked = Vec::new();
        let server = NameServer {
            address: socket.local_addr().expect("a bound socket has an address"),
            state: Arc::new(Mutex::new(State { manner, asked })),
        };
        let state = Arc::clone(&server.state);
        thread::spawn(move || serve(&socket, &state));
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The lines of `proxy.toml` that make a proxy use it.
    pub(crate) fn config(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]", self.address)
    }

    pub(crate) fn treat(&self, manner: Manner) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .manner = manner;
    }

    /// Whether it was queried for `name`, answered or not.
    pub(crate) fn was_asked(&self, name: &str) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.iter().any(|asked| asked == name)
    }
}

fn serve(socket: &UdpSocket, state: &Mutex<State>) {
    let mut buffer = [0; 512];
    while let Ok((len, client)) = socket.recv_from(&mut buffer) {
        let Some((name, end)) = question(&buffer[..len]) else {
            continue;
        };
        let manner = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.asked.push(name);
            state.manner
        };
        let is_v4 = buffer[end - 4..end - 2] == [0, 1];
        let (code, count) = match manner {
            Manner::Silent => continue,
            Manner::KnowsOnlyV4 if !is_v4 => continue,
            Manner::Code(code) => (code, 0),
            Manner::Knows | Manner::KnowsOnlyV4 => (0, u8::from(is_v4)),
        };
        let mut message = buffer[..end].to_vec();
        message[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        if count == 1 {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        // A client that has gone needs no response.
        drop(socket.send_to(&message, client));
    }
}

/// The queried name, without a final dot, and the end of the question.
fn question(message: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let len = usize::from(*message.get(at)?);
        if len == 0 {
            break;
        }
        let label = message.get(at + 1..at + 1 + len)?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += 1 + len;
    }
    (at + 5 <= message.len()).then(|| (labels.join("."), at + 5))
}
