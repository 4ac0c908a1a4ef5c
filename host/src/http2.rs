//! HTTP/2 (RFC 9113), hidden from the rest of the host.
//!
//! Every stream, of a client's connection or of one to an upstream, is a [`Channel`](crate::transport::Channel) that
//! carries HTTP/1.1 text. On a channel of [`server`], the proxy reads a request and writes the response; on one of
//! [`client`], it is the reverse. `message` has all the rules of conversion and no sockets, `incoming` turns frames
//! into text, `outgoing` turns text into frames. The `h2` crate maintains the connections: frames, HPACK, flow control,
//! stream states, and whether a body is as long as its Content-Length.
//!
//! Nothing is buffered beyond the windows in `limits`: a channel accepts only what its peer's window allows, and
//! releases window only for what was read from it. How many connections there are, which of them to use, and what an
//! exchange does, is decided elsewhere.
//!
//! Its files use one way down, see ARCHITECTURE.md.

pub(crate) mod client;
pub(crate) mod server;

mod client_state;
mod client_stream;
mod failure;
mod field_blocks;
mod frame;
mod frame_meter;
mod hpack;
mod incoming;
mod io;
mod limits;
mod message;
mod outgoing;
mod resets;
mod server_stream;
pub(crate) mod websocket_key;

#[cfg(test)]
mod tests;

pub(crate) use limits::LINGER;
