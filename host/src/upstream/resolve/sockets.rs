//! Sockets to name servers.
//!
//! A UDP socket is connected to its server, so that the kernel reports an unreachable server (ICMP) at once and
//! discards datagrams from others. It also has the zone of a link-local server, which hickory-resolver does not
//! support. The last error of a socket is stored here, because hickory-resolver reports only *no connections*.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
#[cfg(unix)]
use rustix::net::RecvFlags;
#[cfg(unix)]
use tokio::io::Interest;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// Opens sockets to one name server.
#[derive(Clone)]
pub(super) struct Sockets {
    server: SocketAddr,
    tokio: TokioRuntimeProvider,
    last_error: LastError,
}

/// The text of the last error of a socket.
#[derive(Clone, Default)]
struct LastError(Arc<Mutex<Option<String>>>);

/// A UDP socket that is connected to its server.
pub(super) struct ConnectedSocket {
    socket: UdpSocket,
    /// The server, as hickory-resolver knows it.
    server: SocketAddr,
    last_error: LastError,
}

impl Sockets {
    pub(super) fn to(server: SocketAddr) -> Self {
        Self {
            server,
            tokio: TokioRuntimeProvider::default(),
            last_error: LastError::default(),
        }
    }

    /// Why the server could not be reached most recently.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl LastError {
    /// Returns `result`, and stores its error.
    fn of<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(error.to_string());
        }
        result
    }
}

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = ConnectedSocket;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> TokioHandle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        _server: SocketAddr,
        local: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        let connecting = self.tokio.connect_tcp(self.server, local, limit);
        let last_error = self.last_error.clone();
        Box::pin(async move { last_error.of(connecting.await) })
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<ConnectedSocket>>>> {
        let (to, last_error) = (self.server, self.last_error.clone());
        Box::pin(async move {
            let socket = last_error.of(UdpSocket::bind(local).await)?;
            last_error.of(socket.connect(to).await)?;
            Ok(ConnectedSocket {
                socket,
                server,
                last_error,
            })
        })
    }
}

impl DnsUdpSocket for ConnectedSocket {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut read = ReadBuf::new(buffer);
        ready!(self.socket.poll_recv(cx, &mut read))?;
        Poll::Ready(Ok((read.filled().len(), self.server)))
    }

    /// The expansion of an `async fn` in this trait. Waiting only for readability would miss errors of the socket.
    #[cfg(unix)]
    fn recv_from<'s, 'b, 'f>(
        &'s self,
        buffer: &'b mut [u8],
    ) -> Pin<Box<dyn Future<Output = io::Result<(usize, SocketAddr)>> + Send + 'f>>
    where
        's: 'f,
        'b: 'f,
        Self: 'f,
    {
        let interest = Interest::READABLE | Interest::ERROR;
        Box::pin(async move {
            let receive = || {
                let (len, _) = rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty())?;
                Ok(len)
            };
            let received = self.socket.async_io(interest, receive).await;
            let len = self.last_error.of(received)?;
            Ok((len, self.server))
        })
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        message: &[u8],
        _server: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(self.socket.poll_send(cx, message));
        Poll::Ready(self.last_error.of(sent))
    }
}
