//! WebSockets whose messages plugins see, and WebSockets that plugins serve (RFC 6455).
//!
//! [`proxy_websocket`] parses frames, assembles messages and refuses violations of the protocol. `frame` defines the
//! two sides, `outgoing` queues what is to be sent to a side, and `relay` passes messages from one connection to the
//! other and shows them to plugins. A WebSocket that a plugin serves begins with a `handshake` and is handled by
//! `server`. A WebSocket that no plugin observes is an ordinary tunnel.

mod frame;
mod handshake;
mod outgoing;
mod relay;
mod server;

pub(crate) use frame::{Kind, is_sendable};
pub(crate) use handshake::{Handshake, HandshakeRefused};
pub(crate) use relay::{
    MessageAction, MessageLimits, MessageVerdict, MessageWatcher, PluginMessage, relay,
};
pub(crate) use server::{ReceivedMessage, SendError, ServerSocket};
