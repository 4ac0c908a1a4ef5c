//! Connections from a load balancer: who its client is.
//!
//! They begin with a header of the PROXY protocol, before TLS. It is read to its last byte and no further. A connection
//! without a valid header is closed, and logged, because the client would be unknown: filters decide by its address.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::generation::WorkerGeneration;
use crate::proxy_protocol::{Decoder, ProxyHeader, ProxyHeaderError};

/// How many bytes are looked at once; headers are seldom longer.
const PIECE: usize = 256;

/// Why the client is unknown.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Header(#[from] ProxyHeaderError),
    #[error("it did not arrive within {0:?}")]
    TimedOut(Duration),
    #[error("the connection ended within it")]
    CutOff,
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No byte has arrived: a port probe, or the proxy drains.
    #[error("none was sent")]
    Unused,
}

/// The client of a connection from the load balancer `sender`, which may be itself; `None`: it is to be closed. The header
/// has to arrive within `limit`.
pub(super) async fn client_of(
    socket: &mut TcpStream,
    sender: SocketAddr,
    generation: &WorkerGeneration,
    limit: Duration,
) -> Option<SocketAddr> {
    let deadline = generation.worker.deadlines.slot();
    deadline.arm(limit);
    let mut reading = pin!(read_header(socket));
    let read = poll_fn(|cx| match reading.as_mut().poll(cx) {
        Poll::Ready(read) => Poll::Ready(read),
        Poll::Pending if generation.closes_idle() => Poll::Ready(Err(Unknown::Unused)),
        Poll::Pending => deadline
            .poll_passed(cx)
            .map(|()| Err(Unknown::TimedOut(limit))),
    });
    match read.await {
        Ok(ProxyHeader::Client(client)) => Some(client),
        Ok(ProxyHeader::Sender) => Some(sender),
        Err(Unknown::Unused) => None,
        Err(reason) => {
            tracing::warn!(
                sender.address = %sender,
                "closing a connection without a valid PROXY protocol header: {reason}; enable the PROXY protocol at the \
                 sender, or remove its network from proxy_protocol_from"
            );
            None
        }
    }
}

async fn read_header(socket: &mut TcpStream) -> Result<ProxyHeader, Unknown> {
    let mut decoder = Decoder::default();
    let mut has_begun = false;
    let mut piece = [0; PIECE];
    loop {
        let len = socket.peek(&mut piece).await?;
        if len == 0 {
            return Err(match has_begun {
                true => Unknown::CutOff,
                false => Unknown::Unused,
            });
        }
        has_begun = true;
        let decoded = decoder.decode(&piece[..len])?;
        // They are there.
        socket.read_exact(&mut piece[..decoded.consumed]).await?;
        if let Some(header) = decoded.header {
            return Ok(header);
        }
    }
}
