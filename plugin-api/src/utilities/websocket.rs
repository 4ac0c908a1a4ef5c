//! Parts of WebSockets: frames as bytes, assembly of messages, the handshake key, a client (RFC 6455).
//!
//! [`WebsocketFrame`] is a frame with its payload. [`FrameHead`] and [`HeadReader`] read the head without holding the
//! payload, and [`apply_mask`] masks the payload. [`Assembly`] assembles the messages of one side and refuses
//! violations of the protocol; the proxy uses it, too. [`WebsocketClient`] combines all of these on a socket. Nothing
//! else in here does input or output.

mod client;
mod frame;
mod handshake;

pub use client::WebsocketClient;
pub use frame::{DEFAULT_MAX_PAYLOAD, WebsocketFrame};
pub use proxy_websocket::{
    Assembly, FrameError, FrameHead, HeadReader, Message, Opcode, Sender, apply_mask, check_close,
    check_message,
};
