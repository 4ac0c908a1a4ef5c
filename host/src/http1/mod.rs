//! HTTP/1.1 without sockets or clocks: bytes in, values out (RFC 9112, and RFC 9110 §7 for what a proxy changes).
//!
//! In the order a message meets it: `parse` finds and reads a head, `head` and `fields` are what it says,
//! `target` where a request goes (9112 §3.2), `framing` where its body ends (9112 §6), `body` and `chunked`
//! read and write that body (9112 §7), `forward` writes the head for the next hop (9110 §7.6), `encode` has
//! the byte writers they share. Imports nothing of ours from outside.
//!
//! Promises: what breaks the grammar is refused with an error that names the fault, nothing is repaired and
//! nothing is guessed; no input panics; the steady state allocates nothing, as buffers come from and go back
//! to the caller. Left to others: limits in time, replies to a peer that broke a rule, caching, HTTP/2.

mod body;
mod chunked;
mod encode;
mod fields;
mod forward;
mod framing;
mod head;
mod parse;
mod target;

pub use body::{BodyDecoder, BodyEncoder, BodyError, Step};
pub use chunked::Trailers;
pub use encode::{
    push_decimal, push_hexadecimal, reason_phrase, write_decimal, write_field, write_status_line,
};
pub use fields::{
    ConnectionOptions, FieldId, FieldLine, FieldRefused, FieldView, Fields, FieldsMut, Span,
};
pub use forward::{
    ConnectionAnnouncement, OutFraming, RequestForward, RequestedUpgrade, ResponseForward,
    forward_request, forward_response, max_forwards, requested_upgrade, upgrade_accepted,
};
pub use framing::{BodyFraming, FramingError, request_framing, response_framing};
pub use head::{Refused, RequestHead, ResponseHead, Version};
pub use parse::{HeadBounds, HeadError, HeadKind, HeadLimits, HeadScanner};
pub use target::{Scheme, Target, TargetError, TargetForm};
