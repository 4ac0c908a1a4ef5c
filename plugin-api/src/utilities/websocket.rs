//! WebSockets in parts: frames as bytes, messages out of frames, the key of the handshake, a client (RFC 6455).
//!
//! [`WebsocketFrame`] is one frame with its payload; [`FrameHead`] and [`HeadReader`] are for those who do not want to hold
//! a payload to read what comes before it, and [`apply_mask`] for the payload. [`Assembly`] makes messages of what comes
//! from one side, piece by piece, and refuses what breaks the protocol; the proxy reads WebSockets with it, too.
//! [`WebsocketClient`] puts all of that on a socket. Nothing else in here does input or output.

mod client;
mod frame;
mod handshake;

pub use client::WebsocketClient;
pub use frame::{DEFAULT_MAX_PAYLOAD, WebsocketFrame};
pub use proxy_websocket::{
    Assembly, FrameError, FrameHead, HeadReader, Message, Opcode, Sender, apply_mask, check_close,
    check_message,
};
