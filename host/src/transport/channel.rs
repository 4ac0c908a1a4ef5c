//! Connections without a socket of their own, such as streams of HTTP/2, and their errors.
//!
//! The implementation of a channel decides what a failure means, instead of the caller by the kind of an `io::Error`.
//! Where a channel is used like a socket (below TLS, in a tunnel), its error is wrapped in an `io::Error`, and
//! unwrapped by [`ChannelError::of`].

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

/// A connection without a socket of its own. Both directions are used from one task.
pub(crate) trait Channel: fmt::Debug {
    /// As [`AsyncRead::poll_read`](tokio::io::AsyncRead::poll_read). If nothing is read, the peer has closed its
    /// direction properly.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), ChannelError>>;

    /// As [`AsyncWrite::poll_write`](tokio::io::AsyncWrite::poll_write). Needs no flush.
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, ChannelError>>;

    /// Closes our direction. The other one stays open.
    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>>;

    /// Ready once the peer has reset the channel, or the connection that carries it is gone.
    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Makes the end of the channel a reset, so that the peer does not take a truncated message for a complete one.
    fn reset_on_close(&self);

    /// Makes the end of a channel without a response report that its request was not processed.
    fn refuse_on_close(&self) {
        self.reset_on_close();
    }

    /// Whether neither bytes nor a close have arrived.
    fn is_quiet(&self) -> bool;
}

/// Why a channel failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The peer has sent a malformed message (RFC 9113 §8.1.1).
    #[error("{0}")]
    Malformed(Arc<dyn Error + Send + Sync>),
    /// The upstream reports that it has not processed the request: any request may be sent again (RFC 9113 §8.7).
    #[error("the upstream did not process the request: {1}")]
    Unprocessed(Unprocessed, Arc<dyn Error + Send + Sync>),
    /// The peer has reset the channel, for another reason than not processing the request. The connection that carries
    /// it continues.
    #[error("{0}")]
    Reset(Arc<dyn Error + Send + Sync>),
    /// An error like that of a socket, or the host wrote something that the channel cannot represent.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why an upstream has not processed a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unprocessed {
    /// It refuses this request.
    Refused,
    /// It is closing the connection, or has closed it.
    LeftOut,
    /// It requires HTTP/1.1 (RFC 9113 §7).
    Http1Required,
}

impl ChannelError {
    /// The error of a channel, if `error` contains one.
    ///
    /// # Errors
    /// It does not; returns it.
    pub(crate) fn of(error: io::Error) -> Result<Self, io::Error> {
        error.downcast()
    }

    /// The same error once more, for a further call.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Malformed(error) => Self::Malformed(Arc::clone(error)),
            Self::Unprocessed(why, error) => Self::Unprocessed(*why, Arc::clone(error)),
            Self::Reset(error) => Self::Reset(Arc::clone(error)),
            Self::Io(error) => Self::Io(error.kind().into()),
        }
    }
}

impl From<io::ErrorKind> for ChannelError {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Io(kind.into())
    }
}

impl From<ChannelError> for io::Error {
    fn from(error: ChannelError) -> Self {
        let kind = match error {
            ChannelError::Io(error) => return error,
            ChannelError::Malformed(_) => io::ErrorKind::InvalidData,
            ChannelError::Unprocessed(..) => io::ErrorKind::ConnectionRefused,
            ChannelError::Reset(_) => io::ErrorKind::ConnectionReset,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause() -> Arc<dyn Error + Send + Sync> {
        Arc::new(fmt::Error)
    }

    #[test]
    fn an_error_survives_being_wrapped_in_an_io_error() {
        for error in [
            ChannelError::Malformed(cause()),
            ChannelError::Unprocessed(Unprocessed::LeftOut, cause()),
            ChannelError::Reset(cause()),
        ] {
            let text = error.to_string();
            let shown = format!("{:?}", error.again());
            let error = io::Error::from(error);
            assert_eq!(error.to_string(), text);
            let error = ChannelError::of(error).unwrap();
            assert_eq!(format!("{error:?}"), shown);
        }
    }

    #[test]
    fn an_error_of_a_socket_is_not_that_of_a_channel() {
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::Unsupported,
            io::ErrorKind::ConnectionReset,
        ] {
            let error = io::Error::from(ChannelError::from(kind));
            assert_eq!(ChannelError::of(error).unwrap_err().kind(), kind);
        }
    }
}
