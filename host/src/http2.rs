//! HTTP/2 (RFC 9113), hidden from the rest of the host.
//!
//! Every stream, of a client's connection or of one to an upstream, is a [`Channel`](crate::transport::Channel) that
//! speaks HTTP/1.1: [`server`] hands out channels to read a request from and to write its response to, [`client`] the
//! other way round. `message` has all the rules of conversion and no sockets, `incoming` makes text of frames,
//! `outgoing` frames of text. The `h2` crate keeps the connections: frames, HPACK, flow control, the states of
//! streams, and whether a body is as long as its Content-Length says.
//!
//! Nothing is kept beyond the windows in `limits`: a channel takes only what its peer's window allows, and gives back window
//! only for what was read from it. Who may open how many connections, which of them to use, and what a stream's
//! exchange does is left to others.
//!
//! A file uses only files on lower lines:
//!
//! ```text
//! client   server
//! client_stream   server_stream
//! client_state   incoming   outgoing   resets   io
//! failure
//! field_blocks
//! message   frame_meter   hpack
//! websocket_key   limits   frame
//! ```

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
