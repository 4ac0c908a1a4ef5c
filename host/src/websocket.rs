//! WebSockets whose messages plugins see, and WebSockets that plugins serve (RFC 6455).
//!
//! Frames are read, and messages put together, by [`proxy_websocket`], which refuses what breaks the protocol. `frame`
//! has the two sides, `outgoing` holds what a side has not taken yet, `relay` takes messages from one connection to the
//! other past those who see them. A WebSocket that a plugin serves begins with a `handshake` and is handled by
//! `server`. A WebSocket that no plugin observes is an ordinary tunnel.

mod frame;
mod handshake;
mod outgoing;
mod relay;
mod server;

pub(crate) use frame::{Kind, is_sendable};
pub(crate) use handshake::{Handshake, HandshakeRefused};
pub(crate) use relay::{Answer, Becomes, MessageLimits, MessageWatcher, Sent, relay};
pub(crate) use server::{NotSent, Received, ServerSocket};
