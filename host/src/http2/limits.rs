//! Windows, buffers and times that clients and upstreams have alike.

use std::time::Duration;

/// What a peer may send on one stream before it is read, in bytes. Past it the peer waits. A larger one makes long
/// ways faster, and costs as much memory for each stream that nobody reads.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;

/// What waits in one stream to be written to the connection, in bytes. Past it the channel takes nothing more.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// How long a client that still sends may take to notice that it has been answered (RFC 9112 §9.6 for HTTP/1.1, and the
/// same here for a stream).
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// How much it may send meanwhile, in bytes.
pub(super) const LINGER_ROOM: usize = 32 * 1024 * 1024;
