//! What the access log gets to know about an exchange.

use std::net::SocketAddr;
use std::time::Duration;

use plugin_api::abi::TimelineView;

use crate::http1::Fields;

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
    /// What the default format does not show; `None` if nothing needs it.
    pub details: Option<&'a AccessDetails<'a>>,
}

/// What the default format does not show of an exchange. Only what [`AccessNeeds`] asks for is known.
#[derive(Clone, Debug)]
pub struct AccessDetails<'a> {
    /// The number of the exchange in the process; 0 if it has none.
    pub exchange_id: u64,
    /// The number of the client connection in the process; 0 if it has none.
    pub connection_id: u64,
    /// `http` or `https`; empty if unknown.
    pub scheme: &'static str,
    /// The requested host; empty if unknown.
    pub host: &'a str,
    /// The requested port.
    pub port: u16,
    /// The version of the request, such as `HTTP/1.1`; empty if unknown.
    pub version: &'static str,
    /// The fields of the request.
    pub request_fields: Option<Fields<'a>>,
    /// The status that the client got; 0 if it got none.
    pub status: u16,
    /// Bytes sent to the client, also those of an answer of the proxy itself.
    pub bytes_sent: u64,
    /// Bytes received from the client.
    pub bytes_received: u64,
    /// The media type of the upstream's response; empty if there is none.
    pub content_type: &'a [u8],
    /// The other end of the upstream connection.
    pub upstream_address: Option<SocketAddr>,
    /// A connection to the upstream was made.
    pub has_upstream: bool,
    /// The moments of the exchange.
    pub timeline: TimelineView,
    /// `upstream`, `proxy` or `plugin`; empty if nobody answered.
    pub answered_by: &'static str,
    /// The plugin that decided, and what: `answered`, `closed` or `failed`.
    pub verdict: Option<(&'a str, &'static str)>,
    /// Whether it was intercepted, or why not; empty if it has nothing to do with a tunnel.
    pub intercepted: &'a str,
    /// Why it failed; empty if it did not.
    pub error: &'static str,
    /// TLS with the client.
    pub tls: Option<AccessTls<'a>>,
}

/// What a client and the proxy have agreed on by TLS.
#[derive(Clone, Copy, Debug)]
pub struct AccessTls<'a> {
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// The name of the cipher suite.
    pub cipher: &'static str,
    /// By ALPN; empty if there was none.
    pub protocol: &'a str,
    /// Empty if the client sent none.
    pub server_name: &'a str,
}

impl Default for AccessDetails<'_> {
    fn default() -> Self {
        Self {
            exchange_id: 0,
            connection_id: 0,
            scheme: "",
            host: "",
            port: 0,
            version: "",
            request_fields: None,
            status: 0,
            bytes_sent: 0,
            bytes_received: 0,
            content_type: b"",
            upstream_address: None,
            has_upstream: false,
            timeline: TimelineView::EMPTY,
            answered_by: "",
            verdict: None,
            intercepted: "",
            error: "",
            tls: None,
        }
    }
}

/// What has to be known at the end of an exchange. Nothing is recorded that no line shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessNeeds {
    /// [`AccessRecord::details`].
    pub details: bool,
    /// Numbers of exchanges.
    pub ids: bool,
    /// Moments.
    pub timeline: bool,
    /// TLS with the client.
    pub tls: bool,
    /// The address of the upstream.
    pub upstream_address: bool,
    /// The media type of the response.
    pub content_type: bool,
}

impl AccessNeeds {
    /// What either of them needs.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            details: self.details || other.details,
            ids: self.ids || other.ids,
            timeline: self.timeline || other.timeline,
            tls: self.tls || other.tls,
            upstream_address: self.upstream_address || other.upstream_address,
            content_type: self.content_type || other.content_type,
        }
    }
}

#[cfg(test)]
impl AccessRecord<'static> {
    /// An ordinary exchange.
    pub(super) fn sample() -> Self {
        Self {
            client: ([0, 0, 0, 0, 0, 0, 0, 1], 49911).into(),
            method: "GET",
            is_web: false,
            upstream: Some(("google.com", 80)),
            path: b"/path?q",
            status: Some(200),
            reason: b"OK",
            response_bytes: 556,
            elapsed: Duration::from_micros(12_345),
            note: None,
            asked: None,
            user: "",
            fields: &[],
            details: None,
        }
    }
}
