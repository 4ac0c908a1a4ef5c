//! HTTP/2 (RFC 9113), hidden from the rest of the host.
//!
//! Every stream, of a client's connection or of one to an upstream, is a [`Channel`](crate::transport::Channel) that
//! speaks HTTP/1.1: [`server`] hands out channels to read a request from and to write its response to, [`client`] the
//! other way round. `message` has all the rules of conversion and no sockets, `incoming` makes text of frames,
//! `outgoing` frames of text. The `h2` crate keeps the connections: frames, HPACK, flow control, the states of
//! streams, and whether a body is as long as its Content-Length says.
//!
//! Nothing is kept beyond the windows below: a channel takes only what its peer's window allows, and gives back window
//! only for what was read from it. Who may open how many connections, which of them to use, and what a stream's
//! exchange does is left to others.

pub(crate) mod client;
pub(crate) mod server;

mod client_stream;
mod field_blocks;
mod frames;
mod hpack;
mod incoming;
mod io;
mod message;
mod outgoing;
mod resets;
mod server_stream;
pub(crate) mod websocket_key;

#[cfg(test)]
mod tests;

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use field_blocks::Remarks;
use h2::{Reason, StreamId};

use crate::transport::ChannelError;

/// What a peer may send on one stream before it is read, in bytes. Past it the peer waits. A larger one makes long
/// ways faster, and costs as much memory for each stream that nobody reads.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What waits in one stream to be written to the connection, in bytes. Past it the channel takes nothing more.
const SEND_BUFFER: usize = 64 * 1024;

/// How long a client that still sends may take to notice that it has been answered (RFC 9112 §9.6 for HTTP/1.1, and the
/// same here for a stream).
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// How much it may send meanwhile, in bytes.
const LINGER_ROOM: usize = 32 * 1024 * 1024;

/// What the rest of the host is told of a message that breaks the rules.
fn malformed(unfit: message::Unfit) -> ChannelError {
    ChannelError::Malformed(Arc::new(unfit))
}

/// What the rest of the host is told when a stream or its connection fails.
fn failure(error: h2::Error) -> ChannelError {
    if error.is_reset() {
        return ChannelError::Reset(Arc::new(error));
    }
    if error.is_io() {
        let error = error.into_io();
        return error.map_or_else(|| ErrorKind::ConnectionReset.into(), ChannelError::Io);
    }
    ChannelError::Io(Error::new(ErrorKind::ConnectionReset, error))
}

/// As [`failure`], for a message that may have been found malformed on its way to `h2`.
fn failure_of(error: h2::Error, stream: StreamId, remarks: &Remarks) -> ChannelError {
    let is_malformed = error.is_library() && error.reason() == Some(Reason::PROTOCOL_ERROR);
    match remarks.reason(stream.as_u32()) {
        Some(reason) if is_malformed => malformed(reason),
        // What else `h2` takes for malformed in one message alone.
        None if is_malformed && error.is_reset() => malformed(message::Unfit::LengthInvalid),
        _ => failure(error),
    }
}
