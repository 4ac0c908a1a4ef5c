//! A server that speaks TLS without HTTP inside: it sends a greeting, if it has one, and echoes everything.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::HANG;

/// A running server on 127.0.0.1.
pub(crate) struct EchoOrigin {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Connection>>>,
}

/// A connection after its handshake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    /// The negotiated protocol.
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) received: Vec<u8>,
}

impl EchoOrigin {
    pub(super) fn start(config: Arc<ServerConfig>, greeting: &'static str) -> EchoOrigin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let connections = Arc::<Mutex<Vec<Connection>>>::default();
        let shared = connections.clone();
        thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let (config, shared) = (config.clone(), shared.clone());
                thread::spawn(move || serve(socket, config, greeting, &shared));
            }
        });
        EchoOrigin {
            address,
            connections,
        }
    }

    /// `localhost` and the port.
    pub(crate) fn authority(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// The same with the IP address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All connections with a completed handshake, in order.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        lock(&self.connections).clone()
    }

    /// Everything received, on all connections.
    pub(crate) fn received(&self) -> Vec<u8> {
        let connections = self.connections();
        connections
            .into_iter()
            .flat_map(|each| each.received)
            .collect()
    }
}

fn serve(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    greeting: &str,
    connections: &Mutex<Vec<Connection>>,
) {
    let session = ServerConnection::new(config).expect("a sound configuration");
    drop(socket.set_read_timeout(Some(HANG)));
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        if stream.conn.complete_io(&mut stream.sock).is_err() {
            return;
        }
    }
    let index = {
        let mut connections = lock(connections);
        connections.push(Connection {
            protocol: stream.conn.alpn_protocol().map(<[u8]>::to_vec),
            received: Vec::new(),
        });
        connections.len() - 1
    };
    let mut bytes = [0; 4096];
    let mut sent = stream.write_all(greeting.as_bytes());
    while sent.is_ok() {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(len) => {
                lock(connections)[index]
                    .received
                    .extend_from_slice(&bytes[..len]);
                sent = stream.write_all(&bytes[..len]);
            }
        }
    }
    stream.conn.send_close_notify();
    drop(stream.flush());
    drop(stream.sock.shutdown(Shutdown::Write));
}

fn lock(connections: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}
