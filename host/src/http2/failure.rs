//! Errors of messages, streams and connections, as the rest of the host sees them.

use std::io::{Error, ErrorKind};
use std::sync::Arc;

use h2::{Reason, StreamId};

use super::field_blocks::StreamFacts;
use super::message::MessageError;
use crate::transport::ChannelError;

/// The error of a malformed message.
pub(super) fn malformed(error: MessageError) -> ChannelError {
    ChannelError::Malformed(Arc::new(error))
}

/// The error of a failed stream or connection.
pub(super) fn failure(error: h2::Error) -> ChannelError {
    if error.is_reset() {
        return ChannelError::Reset(Arc::new(error));
    }
    if error.is_io() {
        let error = error.into_io();
        return error.map_or_else(|| ErrorKind::ConnectionReset.into(), ChannelError::Io);
    }
    ChannelError::Io(Error::new(ErrorKind::ConnectionReset, error))
}

/// As [`failure`], for a message that may have been found malformed before `h2` saw it.
pub(super) fn failure_of(error: h2::Error, stream: StreamId, facts: &StreamFacts) -> ChannelError {
    let is_malformed = error.is_library() && error.reason() == Some(Reason::PROTOCOL_ERROR);
    match facts.reason(stream.as_u32()) {
        Some(reason) if is_malformed => malformed(reason),
        // The only other reason for which `h2` resets a single stream as malformed.
        None if is_malformed && error.is_reset() => malformed(MessageError::LengthInvalid),
        _ => failure(error),
    }
}
