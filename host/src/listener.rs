//! A listening socket, whatever its kind, and how connections are accepted on it.
//!
//! A worker accepts on its runtime. For a worker that is stuck in a plugin, the watchdog accepts what the kernel has
//! queued, through another descriptor of the same socket. [`Sockets`] has the listeners of all workers. Binding is left
//! to `server/listen.rs`.

mod sockets;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    unix::net::UnixListener,
};
use std::task::{Context, Poll};

pub(crate) use sockets::Sockets;

/// The address that stands for a client without an IP address, which is one on a Unix socket: such a client is on this
/// machine. No TCP client has port 0. The log shows it; plugins see that there is none.
pub(crate) const LOCAL_CLIENT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Identifies a listener of the configuration in this process. A reload keeps the ids of listeners whose endpoint stays
/// the same; an id is never used again for another endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListenerId(pub(crate) u64);

/// A nonblocking socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The listener of the configuration to which it belongs.
    pub(crate) id: ListenerId,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// An accepted connection that no worker has yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// A nonblocking stream socket; of a Unix socket as well, which has no addresses.
    pub(crate) socket: TcpStream,
    pub(crate) client: SocketAddr,
    pub(crate) listener: ListenerId,
}

impl Listener {
    /// # Errors
    /// The socket cannot be made nonblocking.
    pub(crate) fn tcp(id: ListenerId, socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = Socket::Tcp(socket);
        Ok(Self { id, socket })
    }

    /// # Errors
    /// The socket cannot be made nonblocking.
    #[cfg(unix)]
    pub(crate) fn unix(id: ListenerId, socket: UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = Socket::Unix(socket);
        Ok(Self { id, socket })
    }

    /// The IP address at which clients reach it; `None` for a Unix socket.
    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match &self.socket {
            Socket::Tcp(socket) => socket.local_addr().map(Some),
            #[cfg(unix)]
            Socket::Unix(_) => Ok(None),
        }
    }

    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(socket) => socket.try_clone().map(Socket::Tcp),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.try_clone().map(Socket::Unix),
        };
        Ok(Self {
            id: self.id,
            socket: socket?,
        })
    }

    /// The socket itself: device and number, the same for all of its descriptors.
    ///
    /// # Errors
    /// As fstat(2).
    #[cfg(unix)]
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(self)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// The same on the runtime of the calling worker.
    pub(crate) fn into_async(self) -> io::Result<AsyncListener> {
        match self.socket {
            Socket::Tcp(socket) => {
                tokio::net::TcpListener::from_std(socket).map(AsyncListener::Tcp)
            }
            #[cfg(unix)]
            Socket::Unix(socket) => {
                tokio::net::UnixListener::from_std(socket).map(AsyncListener::Unix)
            }
        }
    }

    /// A connection that is queued.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; otherwise as accept(2).
    pub(crate) fn accept_queued(&self) -> io::Result<Accepted> {
        let (socket, client) = match &self.socket {
            Socket::Tcp(socket) => socket.accept()?,
            #[cfg(unix)]
            Socket::Unix(socket) => (stream(socket.accept()?.0), LOCAL_CLIENT),
        };
        socket.set_nonblocking(true)?;
        Ok(Accepted {
            socket,
            client,
            listener: self.id,
        })
    }
}

#[cfg(unix)]
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

/// A listener on the runtime of a worker.
#[derive(Debug)]
pub(crate) enum AsyncListener {
    Tcp(tokio::net::TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

impl AsyncListener {
    /// The next connection, and the address of its client.
    ///
    /// # Errors
    /// As accept(2).
    pub(crate) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
        match self {
            Self::Tcp(socket) => socket.poll_accept(cx),
            #[cfg(unix)]
            Self::Unix(socket) => socket.poll_accept(cx).map(|accepted| {
                let socket = stream(accepted?.0.into_std()?);
                Ok((tokio::net::TcpStream::from_std(socket)?, LOCAL_CLIENT))
            }),
        }
    }
}

/// The same socket as the type that connections have. The type is about system calls that both kinds of stream sockets
/// have; those that only TCP has, such as asking for an IP address, fail.
#[cfg(unix)]
fn stream(socket: std::os::unix::net::UnixStream) -> TcpStream {
    TcpStream::from(OwnedFd::from(socket))
}
