//! WebSockets that do not merely pass (RFC 6455): those whose messages plugins see, and those that end at the proxy.
//!
//! Frames are read, and messages put together, by [`proxy_websocket`], which refuses what breaks the
//! protocol. `frame` has the two sides, `outgoing` holds what a side has not taken yet, `relay` takes messages from one
//! connection to the other past those who see them. A WebSocket that ends at the proxy begins with a `handshake` and is
//! a `server`'s. One that nobody listens to never comes here: it is a tunnel like any other.

mod frame;
mod handshake;
mod outgoing;
mod relay;
mod server;

pub(crate) use frame::{Kind, Side, is_sendable};
pub(crate) use handshake::{Handshake, HandshakeRefused};
pub(crate) use relay::{Answer, Becomes, MessageLimits, MessageWatcher, Sent, relay};
pub(crate) use server::{NotSent, Received, ServerSocket};
