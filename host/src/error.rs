//! Errors that end an exchange: which peer, at which step, and why.
//!
//! The call site knows which socket failed, so there is no blanket conversion from `io::Error`. `reply.rs` maps errors
//! to statuses.

use std::io;

use crate::content_coding::DecodeError;
use crate::held::Full;
use crate::http1::{BodyError, FramingError, HeadError};
use crate::stream::ReadHeadError;
use crate::transport::ChannelError;
use crate::upstream::{DialError, DialFailure, PinnedClosed, TlsFault};

/// Why an exchange could not be finished.
#[derive(Debug, thiserror::Error)]
#[error("{peer}, {step}: {cause}")]
pub(crate) struct ExchangeError {
    pub(crate) peer: Peer,
    pub(crate) step: Step,
    #[source]
    pub(crate) cause: Cause,
}

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Client,
    Upstream,
    /// A plugin; the cause names it.
    Plugin,
}

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    ReadHead,
    Route,
    Hook,
    Dial,
    SendHead,
    SendBody,
    ReadBody,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    Framing(#[from] FramingError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Plugin(#[from] PluginFailure),
    /// A plugin needs content that it cannot be given.
    #[error(transparent)]
    Content(#[from] ContentRefused),
    /// A content coding could not be decoded.
    #[error(transparent)]
    Coded(#[from] DecodeError),
    /// The content could not be encoded again.
    #[error("re-encoding the content failed")]
    NotEncoded,
    /// A plugin needs the content whole, and the limit of the worker is exceeded.
    #[error(transparent)]
    Full(#[from] Full),
    /// The upstream has closed the connection that the client had authenticated.
    #[error(transparent)]
    PinnedClosed(#[from] PinnedClosed),
    /// A plugin has closed the exchange.
    #[error("plugin {0} closed the exchange")]
    ClosedByPlugin(String),
    /// A plugin has sent the exchange through a parent proxy that is this one.
    #[error("plugin {plugin} chose the parent proxy {parent}, which is this proxy itself")]
    Loop { plugin: String, parent: String },
    /// The peer closed in the middle of a message, or before it began.
    #[error("the connection closed unexpectedly")]
    Closed,
    /// The peer was idle for too long.
    #[error("timed out")]
    TimedOut,
    /// The channel that carries the connection reports why it failed.
    #[error(transparent)]
    Channel(ChannelError),
    #[error(transparent)]
    Io(io::Error),
}

/// Requests that are well-formed, and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No credentials, or wrong ones.
    #[error("this proxy requires a user name and a password")]
    Unauthorized,
    /// Origin-form, as for a web server.
    #[error(
        "this is a proxy: the request target must be an absolute URL such as http://example.com/, or a CONNECT; \
         clients send these once they are configured to use the proxy. --enable-web-server makes it serve pages"
    )]
    NotAProxyRequest,
    /// CONNECT to a proxy that forwards nothing.
    #[error(
        "this is a web server: it does not forward requests, because it was started with --disable-http-proxy"
    )]
    NotAProxy,
    /// An https target in absolute-form: forwarding it would expose what the client wanted encrypted.
    #[error(
        "https targets require CONNECT; they are never requested over an unencrypted connection"
    )]
    SecureTarget,
    /// CONNECT inside of a tunnel that leads to an origin.
    #[error("this tunnel leads to an origin, which is not a proxy")]
    NestedConnect,
    /// The request has been forwarded by this process before, and has come back (RFC 9110 §7.6.3).
    #[error("proxy loop detected: this proxy has forwarded the request before")]
    Loop,
    /// A request for another host, or CONNECT, inside of a tunnel to the proxy itself.
    #[error("this tunnel ends at the proxy itself; the proxy does not forward requests from it")]
    OwnTunnel,
    /// The request is for another origin than its tunnel (RFC 9110 §7.4).
    #[error("the request is for a different host than its tunnel")]
    Misdirected,
    /// The origin sent `101` to a client that had not asked for it, or without naming the protocol.
    #[error("the upstream switched protocols without a request to upgrade")]
    UnaskedUpgrade,
    /// The origin accepted a WebSocket extension that was removed from the request, because a plugin reads the messages.
    #[error("the upstream accepted a WebSocket extension that was not offered")]
    UnaskedExtension,
    /// The parent proxy does not accept our credentials.
    #[error("the parent proxy rejected the credentials")]
    UnauthorizedAtParent,
    /// Too many interim responses for one request.
    #[error("the upstream sent too many interim responses")]
    TooManyInterim,
}

/// A plugin that failed in a hook.
#[derive(Clone, Debug, thiserror::Error)]
#[error("plugin {plugin} failed in {hook}: {message}")]
pub(crate) struct PluginFailure {
    pub(crate) plugin: String,
    pub(crate) hook: &'static str,
    pub(crate) message: String,
    pub(crate) kind: PluginFailureKind,
}

/// How a plugin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PluginFailureKind {
    /// It returned an error or panicked.
    Broken,
    /// An asynchronous hook did not end within its time.
    Late,
}

impl Cause {
    /// An error of a socket or a channel; a timeout is a cause of its own.
    pub(crate) fn io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => ChannelError::of(error).map_or_else(Self::Io, Self::Channel),
        }
    }
}

impl ExchangeError {
    pub(crate) fn new(peer: Peer, step: Step, cause: impl Into<Cause>) -> Self {
        Self {
            peer,
            step,
            cause: cause.into(),
        }
    }

    pub(crate) fn io(peer: Peer, step: Step, error: io::Error) -> Self {
        Self::new(peer, step, Cause::io(error))
    }

    /// Content that could not be relayed; `sender` has sent it.
    pub(crate) fn content(sender: Peer, error: ContentError) -> Self {
        match error {
            ContentError::Plugin(failure) => Self::new(Peer::Plugin, Step::Hook, failure),
            ContentError::Closed(plugin) => {
                Self::new(Peer::Plugin, Step::Hook, Cause::ClosedByPlugin(plugin))
            }
            ContentError::Coded(error) => Self::new(sender, Step::ReadBody, error),
            ContentError::NotEncoded => Self::new(Peer::Plugin, Step::Hook, Cause::NotEncoded),
            ContentError::Full(full) => Self::new(sender, Step::ReadBody, full),
        }
    }

    pub(crate) fn head(peer: Peer, error: ReadHeadError) -> Self {
        let step = Step::ReadHead;
        match error {
            ReadHeadError::Head(error) => Self::new(peer, step, error),
            ReadHeadError::Io(error) => Self::io(peer, step, error),
            ReadHeadError::Closed | ReadHeadError::CutOff => Self {
                peer,
                step,
                cause: Cause::Closed,
            },
        }
    }
}

impl ExchangeError {
    /// How TLS with the upstream failed, if it did.
    pub(crate) fn tls_fault(&self) -> Option<&TlsFault> {
        match &self.cause {
            Cause::Dial(error) => match &error.failure {
                DialFailure::Tls(failure) => Some(&failure.fault),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a connection failed although the upstream speaks TLS: its certificate was rejected, or the handshake failed.
    pub(crate) fn is_after_tls(&self) -> bool {
        matches!(
            self.tls_fault(),
            Some(TlsFault::Certificate(_) | TlsFault::Alert(_) | TlsFault::Protocol(_))
        )
    }

    /// Whether the client has disconnected, which is nobody's fault.
    pub(crate) fn is_client_gone(&self) -> bool {
        self.peer == Peer::Client
            && match &self.cause {
                Cause::Closed | Cause::Io(_) => true,
                Cause::Channel(error) => !matches!(error, ChannelError::Malformed(_)),
                _ => false,
            }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Plugin => "plugin",
        })
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ReadHead => "reading a head",
            Self::Route => "routing",
            Self::Hook => "running a hook",
            Self::Dial => "connecting",
            Self::SendHead => "sending a head",
            Self::SendBody => "sending a body",
            Self::ReadBody => "reading a body",
        })
    }
}

/// Content that a plugin requires whole and cannot be given.
#[derive(Clone, Debug, thiserror::Error)]
#[error("plugin {plugin} requires the whole content, but {reason}")]
pub(crate) struct ContentRefused {
    pub(crate) plugin: String,
    pub(crate) reason: ContentRefusedReason,
}

/// Why a plugin cannot be given the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContentRefusedReason {
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
    #[error("its content coding cannot be decoded")]
    Coding,
}

/// Why content is not relayed further.
#[derive(Debug)]
pub(crate) enum ContentError {
    Plugin(PluginFailure),
    /// The plugin of this name has closed the exchange.
    Closed(String),
    /// It does not match its content coding.
    Coded(DecodeError),
    /// It could not be encoded again.
    NotEncoded,
    /// Decoded, it exceeds the limit of the worker.
    Full(Full),
}
