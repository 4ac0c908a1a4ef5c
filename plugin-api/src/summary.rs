//! The summary of an exchange, and the TLS session of its client.

use crate::abi::{ClientTlsView, SummaryView, TimelineView, answered};
use std::time::Duration;

/// The summary of an exchange: complete in `on_access_log` and `on_upstream_connection_close`, and in the event of its
/// end.
#[derive(Clone, Copy)]
pub struct Summary<'x> {
    view: &'x SummaryView,
}

/// Who answered the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnsweredBy<'x> {
    /// Nobody: the client disconnected before, or the connection was closed without a response.
    Nobody,
    /// The upstream, possibly edited by plugins.
    Upstream,
    /// The plugin of this name.
    Plugin(&'x str),
    /// The proxy itself, for this reason: the error type that `Proxy-Status` names (RFC 9209 §2.3), such as
    /// `connection_refused` or `http_request_denied`; `connected` for a tunnel; empty for requests addressed to the
    /// proxy itself, such as for a static file.
    Proxy(&'x str),
}

impl<'x> Summary<'x> {
    pub(crate) fn new(view: &'x SummaryView) -> Self {
        Self { view }
    }

    /// The status that was sent to the client; none if there was no response.
    pub fn status(&self) -> Option<u16> {
        u16::try_from(self.view.status)
            .ok()
            .filter(|&status| status > 0)
    }

    /// Who answered.
    pub fn answered_by(&self) -> AnsweredBy<'x> {
        let name = self.view.answerer.as_str();
        match self.view.answered_by {
            answered::UPSTREAM => AnsweredBy::Upstream,
            answered::PLUGIN => AnsweredBy::Plugin(name),
            answered::PROXY => AnsweredBy::Proxy(name),
            _ => AnsweredBy::Nobody,
        }
    }

    /// The note in the access log line, such as `answered 403 by EgressAllowlist` or `cut off, the client
    /// disconnected`; possibly empty.
    pub fn note(&self) -> &'x str {
        self.view.note.as_str()
    }

    /// Bytes read from the request: its head, and its content with framing. For a tunnel or a WebSocket, also the bytes
    /// that the client sent through it. Unread parts of a refused request are not counted. HTTP/2 counts as the
    /// equivalent HTTP/1.1 message.
    pub fn bytes_from_client(&self) -> u64 {
        self.view.from_client
    }

    /// Bytes sent to the client: the head of the final response, and its content with framing. For a tunnel or a
    /// WebSocket, the bytes that were sent to the client through it. Interim responses are not counted.
    pub fn bytes_to_client(&self) -> u64 {
        self.view.to_client
    }

    /// From the first byte of the request to the end of the exchange or tunnel.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.view.elapsed)
    }

    /// The times of the steps. None if the proxy does not provide them, as in tests.
    pub fn timeline(&self) -> Option<Timeline<'x>> {
        self.view.timeline().map(|view| Timeline { view })
    }
}

/// The times of an exchange's steps, relative to the first byte of the request, in microseconds. Empty lines before a
/// request do not count. A pipelined request begins when its turn comes; a request over HTTP/2, when its head is
/// complete. None for steps that did not happen: there is no connecting if a connection was reused, and possibly no
/// upstream at all if the proxy or a plugin answered. If connecting was retried, the times are those of the last
/// attempt.
#[derive(Clone, Copy)]
pub struct Timeline<'x> {
    view: &'x TimelineView,
}

impl Timeline<'_> {
    /// The head of the request was complete.
    pub fn head_read(&self) -> Option<Duration> {
        since(self.view.head_read)
    }

    /// Plugins had accepted the request, with its content if one of them requested it.
    pub fn decided(&self) -> Option<Duration> {
        since(self.view.decided)
    }

    /// A new connection to the upstream, or its parent proxy, was started.
    pub fn dial_begun(&self) -> Option<Duration> {
        since(self.view.dial_begun)
    }

    /// The name was resolved: by a plugin, before [`dial_begun`](Self::dial_begun), or for the new connection. With a
    /// parent proxy, it is the parent's name.
    pub fn resolved(&self) -> Option<Duration> {
        since(self.view.resolved)
    }

    /// The new connection was established; with a parent proxy, when the parent confirmed it.
    pub fn connected(&self) -> Option<Duration> {
        since(self.view.connected)
    }

    /// The TLS handshake with the upstream was complete, on the new connection.
    pub fn secured(&self) -> Option<Duration> {
        since(self.view.secured)
    }

    /// The request was sent completely. A response may arrive before.
    pub fn sent(&self) -> Option<Duration> {
        since(self.view.sent)
    }

    /// The first byte of the final response arrived.
    pub fn answer_begun(&self) -> Option<Duration> {
        since(self.view.answer_begun)
    }

    /// Whether the upstream connection was reused.
    pub fn is_reused(&self) -> bool {
        self.view.is_reused == 1
    }
}

fn since(micros: u64) -> Option<Duration> {
    (micros != TimelineView::NEVER).then(|| Duration::from_micros(micros))
}

/// The TLS session of a client with the proxy: of the listener, or of the intercepted tunnel.
#[derive(Clone, Copy)]
pub struct ClientTls<'x> {
    view: &'x ClientTlsView,
}

impl<'x> ClientTls<'x> {
    pub(crate) fn new(view: &'x ClientTlsView) -> Self {
        Self { view }
    }

    /// `TLSv1.2` or `TLSv1.3`.
    pub fn version(&self) -> &'x str {
        self.view.version.as_str()
    }

    /// The cipher suite, such as `TLS13_AES_128_GCM_SHA256`.
    pub fn cipher(&self) -> &'x str {
        self.view.cipher.as_str()
    }

    /// The requested server name (SNI); none if there was none.
    pub fn server_name(&self) -> Option<&'x str> {
        Some(self.view.server_name.as_str()).filter(|name| !name.is_empty())
    }

    /// The negotiated protocol (ALPN), such as `h2`; none if there was none.
    pub fn protocol(&self) -> Option<&'x str> {
        Some(self.view.protocol.as_str()).filter(|protocol| !protocol.is_empty())
    }

    /// The client certificate, as DER; none if there was none. This version of the proxy does not request one.
    pub fn certificate(&self) -> Option<&'x [u8]> {
        Some(self.view.certificate.as_slice()).filter(|certificate| !certificate.is_empty())
    }
}
