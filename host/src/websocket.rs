//! WebSockets whose messages plugins see (RFC 6455).
//!
//! Frames are read, and messages put together, by [`plugin_api::utilities::websocket`], which refuses what breaks the
//! protocol. `frame` has the two sides, `outgoing` holds what a side has not taken yet, `relay` takes messages from one
//! connection to the other past those who see them. A WebSocket that nobody listens to never comes here: it is a tunnel
//! like any other.

mod frame;
mod outgoing;
mod relay;

pub(crate) use frame::{Kind, Side, is_sendable};
pub(crate) use relay::{Answer, Becomes, MessageLimits, MessageWatcher, Sent, relay};
