//! WebSocket frames and messages without sockets (RFC 6455).
//!
//! [`FrameHead`] is the head of a frame, [`HeadReader`] parses it in any number of pieces, and [`apply_mask`] masks
//! payloads. [`Assembly`] assembles the messages of one side and refuses violations of the protocol; [`check_message`]
//! checks what may be sent. The proxy uses these for WebSockets, and plugins that implement WebSocket themselves find
//! them in `plugin_api::utilities::websocket`.
//!
//! Guarantees: bytes in, values out; no input panics; memory grows with the bytes that have arrived, never with an
//! announced length. Everything that the RFC forbids is a [`FrameError`], which has the close code. Out of scope: the
//! opening handshake, sockets, timeouts, extensions.

mod assembly;
mod error;
mod head;
mod message;

pub use assembly::{Assembly, Message};
pub use error::FrameError;
pub use head::{FrameHead, HeadReader, Opcode, Sender, apply_mask};
pub use message::{MessageKind, check_close, check_message, close_data};
