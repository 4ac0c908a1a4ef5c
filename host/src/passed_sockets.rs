//! Listening sockets that another process has opened and passed to this one: a service manager, or the proxy that this one
//! replaces.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketType, sockopt};

/// A listening socket.
#[derive(Debug)]
pub(crate) enum PassedSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Where a passed socket listens. Displayed as the log shows addresses: `::1:8899`, `unix:/run/proxy.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PassedAddress {
    Tcp(SocketAddr),
    /// `None`: it has no path, but an abstract name.
    Unix(Option<PathBuf>),
}

impl PassedSocket {
    /// # Errors
    /// It is not a listening stream socket of one of these kinds.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let other = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        if sockopt::socket_type(&descriptor)? != SocketType::STREAM {
            return Err(other("it is not a stream socket"));
        }
        if !sockopt::socket_acceptconn(&descriptor)? {
            return Err(other("it does not listen"));
        }
        match rustix::net::getsockname(&descriptor)?.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => Ok(Self::Tcp(descriptor.into())),
            AddressFamily::UNIX => Ok(Self::Unix(descriptor.into())),
            _ => Err(other("it is neither a TCP nor a Unix socket")),
        }
    }

    pub(crate) fn address(&self) -> io::Result<PassedAddress> {
        Ok(match self {
            Self::Tcp(socket) => PassedAddress::Tcp(socket.local_addr()?),
            Self::Unix(socket) => {
                PassedAddress::Unix(socket.local_addr()?.as_pathname().map(PathBuf::from))
            }
        })
    }

    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }
}

impl AsFd for PassedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl fmt::Display for PassedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{}:{}", address.ip(), address.port()),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix"),
        }
    }
}

/// The worker that accepts on each of `sockets` sockets of one address, and which socket each of the other workers
/// shares: pairs of a worker and a socket. Every socket has a worker, and every worker has a socket.
pub(crate) fn spread(sockets: usize, workers: usize) -> impl Iterator<Item = (usize, usize)> {
    let pairs = match sockets {
        0 => 0,
        _ => sockets.max(workers),
    };
    (0..pairs).map(move |pair| (pair % workers.max(1), pair % sockets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn only_listening_stream_sockets_are_taken() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let passed = PassedSocket::new(listener.into()).unwrap();
        assert_eq!(passed.address().unwrap(), PassedAddress::Tcp(address));
        assert_eq!(
            passed.address().unwrap().to_string(),
            format!("127.0.0.1:{}", address.port())
        );
        for (descriptor, reason) in [
            (OwnedFd::from(client), "does not listen"),
            (
                UdpSocket::bind(("127.0.0.1", 0)).unwrap().into(),
                "not a stream socket",
            ),
            (std::fs::File::open("/dev/null").unwrap().into(), "socket"),
        ] {
            let error = PassedSocket::new(descriptor).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        let spread = |sockets, workers| spread(sockets, workers).collect::<Vec<_>>();
        assert_eq!(spread(2, 2), [(0, 0), (1, 1)]);
        assert_eq!(spread(1, 3), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(spread(2, 3), [(0, 0), (1, 1), (2, 0)]);
        assert_eq!(spread(3, 2), [(0, 0), (1, 1), (0, 2)]);
        assert_eq!(spread(0, 2), []);
    }
}
