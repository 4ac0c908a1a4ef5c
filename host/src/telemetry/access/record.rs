//! What the access log gets to know about an exchange.

use std::net::SocketAddr;
use std::time::Duration;

/// The values of an access log line.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// The client's address.
    pub client: SocketAddr,
    /// The request's method.
    pub method: &'a str,
    /// Whether the web server handled it, so that there is no upstream.
    pub is_web: bool,
    /// Host and port of the upstream or the tunnel; `None` if no upstream was reached.
    pub upstream: Option<(&'a str, u16)>,
    /// Path and query; not shown for CONNECT.
    pub path: &'a [u8],
    /// The status of the final response; `None` if the client got none. For CONNECT, shown only if it was refused.
    pub status: Option<u16>,
    /// The final response's reason phrase.
    pub reason: &'a [u8],
    /// Bytes of the response: head and body as sent, or the bytes that the tunnel relayed to the client.
    pub response_bytes: u64,
    /// From the first byte of the request to the end of the exchange.
    pub elapsed: Duration,
    /// A note for the operator, such as `answered 418 by FilterByUpstreamHost`. Contains no text from peers.
    pub note: Option<&'a str>,
    /// The requested host and port, if the client named a host that differs from `upstream`.
    pub asked: Option<(&'a str, u16)>,
    /// The authenticated user; empty without authentication.
    pub user: &'a str,
    /// Fields from plugins.
    pub fields: &'a [(String, String)],
}
