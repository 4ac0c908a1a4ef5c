//! The results of hooks.
//!
//! A hook returns the next action instead of performing it by a call, so the proxy is not re-entered while a hook runs.
//! [`adapter`](crate::adapter) turns these into codes.

use crate::Error;
use std::borrow::Cow;

/// The result of a hook: how to continue, or why it failed. If a hook fails, its exchange is answered with 500.
pub type Outcome = Result<Flow, Error>;

/// The result of the chunk, tunnel and message hooks.
pub type ChunkOutcome = Result<Chunk, Error>;

/// How the exchange continues.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// Continue with the next plugin.
    Proceed,
    /// Send this reply; later plugins are not called, and no upstream is contacted.
    Reply(Reply),
    /// Close the client connection without a response.
    Close,
    /// Run the async version of this hook. Only if there is one.
    Async,
    /// Try to connect again, to the upstream as it is set now. Only from `on_upstream_failed`.
    Retry,
}

/// [`Flow::Proceed`].
pub fn proceed() -> Outcome {
    Ok(Flow::Proceed)
}

/// [`Flow::Close`].
pub fn close() -> Outcome {
    Ok(Flow::Close)
}

/// [`Flow::Retry`].
pub fn retry() -> Outcome {
    Ok(Flow::Retry)
}

/// A 407 reply that requests credentials: `challenge("Basic realm=\"proxy\"")`.
pub fn challenge(scheme: &str) -> Outcome {
    let reason = "Proxy Authentication Required";
    reply(
        Reply::new(407)
            .reason(reason)
            .field("Proxy-Authenticate", scheme)
            .field("Content-Type", "text/plain; charset=utf-8")
            .body(reason),
    )
}

/// [`Flow::Reply`].
pub fn reply(reply: Reply) -> Outcome {
    Ok(Flow::Reply(reply))
}

/// A reply with this status and reason phrase, and the reason phrase as plain-text content.
pub fn reject(status: u16, reason: impl Into<Cow<'static, str>>) -> Outcome {
    let reason = reason.into();
    let body = format!("{reason}\n");
    reply(
        Reply::new(status)
            .reason(reason)
            .field("Content-Type", "text/plain; charset=utf-8")
            .body(body),
    )
}

/// A response created by a plugin.
///
/// The proxy adds Date, Content-Length and connection-specific fields.
///
/// ```
/// use plugin_api::Reply;
/// let reply = Reply::new(303).reason("See Other").field("Location", "http://example.com/");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Reason phrase; if empty, the standard one for the status.
    pub reason: Cow<'static, str>,
    /// Field lines, in order.
    pub fields: Vec<(Cow<'static, str>, Vec<u8>)>,
    /// Content.
    pub body: Cow<'static, [u8]>,
}

impl Reply {
    /// A reply without fields and content.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            reason: Cow::Borrowed(""),
            fields: Vec::new(),
            body: Cow::Borrowed(b""),
        }
    }

    /// With this reason phrase.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// With one more field line.
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// With this content.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Cow::Owned(body.into());
        self
    }
}

/// What happens to a piece of content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chunk {
    /// Forward it unchanged, without a copy.
    Pass,
    /// Forward this instead.
    Replace(Cow<'static, [u8]>),
    /// Drop it.
    Drop,
    /// Cut off the exchange, visibly incomplete; a WebSocket is closed on both sides.
    Close,
}

impl Chunk {
    /// [`Chunk::Replace`] with owned content.
    pub fn replace(content: impl Into<Vec<u8>>) -> Self {
        Self::Replace(Cow::Owned(content.into()))
    }
}

/// A side of the exchange: where data comes from, or where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client.
    Client,
    /// The upstream.
    Upstream,
}

/// Whether the proxy intercepts the TLS of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interception {
    /// As configured.
    Default,
    /// Intercept: plugins see the requests inside the tunnel.
    Intercept,
    /// Relay the tunnel without decryption.
    Tunnel,
}

/// What happens to the access log line of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLine {
    /// Write it.
    Write,
    /// Do not write it.
    Suppress,
}
