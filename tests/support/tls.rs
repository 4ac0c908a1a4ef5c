//! TLS and HTTP/2 on both sides of the proxy.
//!
//! [`Pki`] creates the certificates of a test, [`TlsOrigin`] is the server behind the proxy, [`ProxyClient`] the client
//! in front of it. The `h2` crate implements HTTP/2; [`RawHttp2`] writes frames by hand, for a peer that misbehaves.
//! Everything is on loopback: origins are `localhost` and 127.0.0.1.

mod answer;
mod certificate;
mod client;
mod echo_origin;
mod http1;
mod http2;
mod origin;
mod pipe;
mod pki;
mod raw_http2;
mod session;
mod stream_io;
mod trust;
mod web_socket;

pub(crate) use answer::{Answer, Gate, ReceivedRequest};
pub(crate) use certificate::Shown;
pub(crate) use client::{ProxyClient, Way};
pub(crate) use echo_origin::EchoOrigin;
pub(crate) use origin::TlsOrigin;
pub(crate) use pipe::Pipe;
pub(crate) use pki::{Identity, Pki};
pub(crate) use raw_http2::{Frame, RawHttp2, literal};
pub(crate) use session::{Ask, Form, Received, Session};
pub(crate) use trust::{Trust, client_hello};
pub(crate) use web_socket::{Opcode, WebSocket};

/// Names and values of fields, in order.
pub(crate) type Fields = Vec<(String, String)>;

/// The protocols that a client offers by ALPN, or among which a server chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Http1,
    Http2,
    /// HTTP/2 is preferred.
    Both,
    /// No ALPN.
    Nothing,
    /// These names.
    Names(&'static [&'static str]),
}

impl Offer {
    /// The names of the protocols.
    pub(crate) fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Offer::Http1 => &[b"http/1.1"],
            Offer::Http2 => &[b"h2"],
            Offer::Both => &[b"h2", b"http/1.1"],
            Offer::Nothing => &[],
            Offer::Names(names) => {
                return names.iter().map(|name| name.as_bytes().to_vec()).collect();
            }
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// The values of all fields called `name`.
pub(crate) fn values(fields: &Fields, name: &str) -> Vec<String> {
    let named = fields
        .iter()
        .filter(|(each, _)| each.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.clone()).collect()
}
