//! WebSockets whose messages plugins see (RFC 6455).
//!
//! `frame` reads and writes the heads of frames, `assembly` puts messages together and refuses what breaks the protocol,
//! `outgoing` holds what a side has not taken yet, `relay` takes messages from one connection to the other past those
//! who see them. A WebSocket that nobody listens to never comes here: it is a tunnel like any other. One that ends at the
//! proxy begins with a `handshake` and is a `server`'s.

mod assembly;
mod frame;
#[cfg_attr(not(test), expect(dead_code, reason = "no route asks for it yet"))]
mod handshake;
mod outgoing;
mod relay;
#[cfg_attr(not(test), expect(dead_code, reason = "no route asks for it yet"))]
mod server;

pub(crate) use frame::{Kind, Side, is_sendable};
#[expect(unused_imports, reason = "no route asks for it yet")]
pub(crate) use handshake::{Handshake, HandshakeRefused};
pub(crate) use relay::{Answer, Becomes, MessageLimits, MessageWatcher, Sent, relay};
#[expect(unused_imports, reason = "no route asks for it yet")]
pub(crate) use server::{NotSent, Received, ServerSocket};
