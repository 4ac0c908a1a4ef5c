//! WebSockets without sockets: frames as bytes, messages out of frames (RFC 6455).
//!
//! [`FrameHead`] is what stands before a payload, [`HeadReader`] reads it however its bytes come, and [`apply_mask`] is for
//! the payload. [`Assembly`] makes messages of what comes from one side, piece by piece, and refuses what breaks the
//! protocol; [`check_message`] says what may be sent. The proxy reads and writes WebSockets with these, and plugins that
//! speak WebSocket themselves find them in `plugin_api::utilities::websocket`.
//!
//! Promises: bytes in, values out; no input panics; what is allocated grows with what has arrived, never with what a head
//! announces. Whatever the RFC forbids is a [`FrameError`], which names the code to close with. Left to others: the opening
//! handshake, sockets, limits in time, extensions.

mod assembly;
mod error;
mod head;
mod message;

pub use assembly::{Assembly, Message};
pub use error::FrameError;
pub use head::{FrameHead, HeadReader, Opcode, Sender, apply_mask};
pub use message::{MessageKind, check_close, check_message, close_data};
