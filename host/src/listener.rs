//! A listening socket, whatever its kind, and how connections are accepted on it.
//!
//! A worker accepts on its runtime. For a worker that is stuck in a plugin, the watchdog accepts what the kernel has
//! queued, through another descriptor of the same socket. Binding is left to `server/listen.rs`.

use std::io;
use std::net::SocketAddr;

/// A nonblocking socket that listens.
#[derive(Debug)]
pub(crate) struct Listener(std::net::TcpListener);

impl Listener {
    /// # Errors
    /// The socket cannot be made nonblocking.
    pub(crate) fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// The address at which clients reach it.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The same on the runtime of the calling worker.
    pub(crate) fn into_async(self) -> io::Result<AsyncListener> {
        tokio::net::TcpListener::from_std(self.0).map(AsyncListener)
    }

    /// A connection that is queued, nonblocking, and the address of its client.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; otherwise as accept(2).
    pub(crate) fn accept_queued(&self) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        let (socket, client) = self.0.accept()?;
        socket.set_nonblocking(true)?;
        Ok((socket, client))
    }
}

/// A listener on the runtime of a worker.
#[derive(Debug)]
pub(crate) struct AsyncListener(tokio::net::TcpListener);

impl AsyncListener {
    /// The next connection, and the address of its client. Cancel safe.
    ///
    /// # Errors
    /// As accept(2).
    pub(crate) async fn accept(&self) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}
