//! What plugins may know of a client connection and of an exchange, besides its messages.

use std::net::SocketAddr;

use crate::transport::TlsFacts;

/// A client connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientFacts {
    pub(crate) id: u64,
    pub(crate) client: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
}

/// The proxy's end of a client connection.
#[derive(Clone, Debug)]
pub(crate) struct ClientEnd {
    pub(crate) local: Option<SocketAddr>,
    /// None where the client speaks clear text.
    pub(crate) tls: Option<Box<TlsFacts>>,
}

/// An exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeFacts {
    pub(crate) connection_id: u64,
    pub(crate) exchange_id: u64,
    pub(crate) client: SocketAddr,
}
