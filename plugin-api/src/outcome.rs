//! What a hook answers, in words.
//!
//! A hook returns what shall happen; it never makes it happen by a call, so the proxy is not re-entered while
//! a hook runs. [`adapter`](crate::adapter) turns these into codes.

use crate::Error;
use std::borrow::Cow;

/// What a hook answers: how to go on, or why it failed. A failed hook costs its exchange a 500.
pub type Outcome = Result<Flow, Error>;

/// What the hooks answer that see data pass.
pub type ChunkOutcome = Result<Chunk, Error>;

/// How the exchange goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// As if this plugin were not there.
    Proceed,
    /// This is the answer; later plugins are not asked and no upstream is.
    Reply(Reply),
    /// Close the client's connection without an answer.
    Close,
    /// Not sure yet: run the async twin of this hook. Only where there is one.
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

/// A 407 that asks for credentials: `challenge("Basic realm=\"proxy\"")`.
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

/// A reply with this status and reason phrase, which says the same again as a line of plain text.
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

/// A response that a plugin writes itself.
///
/// The proxy adds Date, Content-Length and what else belongs to the connection.
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
    /// Reason phrase; when empty, the usual one for the status.
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

/// What becomes of a piece of content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chunk {
    /// It goes on as it is, without a copy.
    Pass,
    /// This goes on in its place.
    Replace(Cow<'static, [u8]>),
    /// Nothing goes on in its place.
    Drop,
    /// The exchange ends here, visibly incomplete; a WebSocket is closed on both sides.
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

/// Whether the proxy ends a tunnel's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interception {
    /// As it is configured.
    Default,
    /// It does, and plugins see what is in the tunnel.
    Intercept,
    /// It does not: the tunnel is relayed unseen.
    Tunnel,
}

/// What becomes of an exchange's line in the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLine {
    /// It is written.
    Write,
    /// It is not.
    Suppress,
}
