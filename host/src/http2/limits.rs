//! Windows, buffers and timeouts that apply to clients and upstreams alike.

use std::time::Duration;

/// What a peer may send on one stream before it is read, in bytes; then it waits. A larger window is faster over long
/// distances, and costs as much memory for each stream that is not read.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;

/// What one stream buffers to be written to the connection, in bytes; then the channel accepts nothing more.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// How long a client may keep sending after it has received its whole response (RFC 9112 §9.6 for HTTP/1.1; here, the
/// same applies to a stream).
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// How much it may send during that time, in bytes.
pub(super) const LINGER_ROOM: usize = 32 * 1024 * 1024;
