//! Channels against the `h2` crate as the other side, over loopback sockets.
