//! Whether the client's connection goes on after an exchange (RFC 9112 §9.3). Decided here alone.

/// What happens to the client's connection once it has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It stays open for another request.
    KeepAlive,
    Close(CloseReason),
}

/// Why a client connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client has closed or reset it.
    Gone,
    /// The client asked for it.
    Client,
    /// HTTP/1.0 connections carry one exchange (RFC 9112 §9.3).
    Http10,
    /// SOCKS5 connections carry one request (RFC 1928 §6).
    Socks5,
    /// The answer was sent before the request had been read to its end.
    BodyUnread,
    /// The request is malformed, so the beginning of the next one is unknown.
    Malformed,
    /// The response could not be completed, and the client must be able to see that. Unless it is `framed`, only a reset
    /// shows it.
    ResponseCutOff { framed: bool },
    /// The upstream has closed the connection that the client had authenticated.
    Upstream,
    /// A plugin closed it.
    Plugin,
    /// The upstream has not processed the request, and the client may send it again.
    Unprocessed,
    /// The proxy is shutting down.
    Draining,
}

impl Persistence {
    pub(super) fn is_close(self) -> bool {
        self != Self::KeepAlive
    }

    /// The same after an answer without framing, whose end is that of the connection.
    pub(super) fn unless_unframed(self, is_unframed: bool) -> Self {
        match self {
            Self::KeepAlive if is_unframed => Self::Close(CloseReason::Http10),
            persistence => persistence,
        }
    }
}
