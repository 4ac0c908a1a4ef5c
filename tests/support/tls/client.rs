//! A client of the proxy: over plain HTTP, TLS or HTTP/2 streams, and through it to origins.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::{Ask, Form, Offer, Pipe, Pki, Received, Session, Trust, Version};
use crate::support::background::within;

/// How the client connects to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// HTTP/1.1 without TLS.
    Clear,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS.
    Http2,
    /// SOCKS5 without TLS, for tunnels alone.
    Socks5,
}

/// Creates connections to a proxy.
#[derive(Clone, Copy)]
pub(crate) struct ProxyClient<'a> {
    pki: &'a Pki,
    proxy: SocketAddr,
    way: Way,
    trust: Trust,
    offer: Offer,
    /// What is sent before anything else.
    preface: &'static [u8],
}

impl<'a> ProxyClient<'a> {
    pub(super) fn new(pki: &'a Pki, proxy: SocketAddr) -> ProxyClient<'a> {
        ProxyClient {
            pki,
            proxy,
            way: Way::Clear,
            trust: Trust::Proxy,
            offer: Offer::Both,
            preface: b"",
        }
    }

    /// Connects to another listener of the proxy.
    pub(crate) fn at(mut self, listener: SocketAddr) -> Self {
        self.proxy = listener;
        self
    }

    /// Sends these bytes first on each connection.
    pub(crate) fn after(mut self, preface: &'static [u8]) -> Self {
        self.preface = preface;
        self
    }

    /// Connects to the proxy in another way.
    pub(crate) fn over(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// Trusts another CA inside tunnels.
    pub(crate) fn trusting(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Offers other protocols inside tunnels.
    pub(crate) fn offering(mut self, offer: Offer) -> Self {
        self.offer = offer;
        self
    }

    /// A connection to the proxy.
    pub(crate) fn pipe(&self) -> Pipe {
        let offer = match self.way {
            Way::Clear | Way::Socks5 => return self.clear(),
            Way::Tls => Offer::Http1,
            Way::Http2 => Offer::Http2,
        };
        let pipe = self
            .try_pipe(offer)
            .expect("the proxy's certificate is good");
        let expected = match self.way {
            Way::Http2 => Version::Http2,
            _ => Version::Http1,
        };
        assert_eq!(pipe.version(), expected, "what ALPN came to");
        pipe
    }

    /// A connection to the proxy over TLS with another offer; the error if the handshake failed.
    pub(crate) fn try_pipe(&self, offer: Offer) -> Result<Pipe, String> {
        self.clear()
            .secure(self.pki, "127.0.0.1", offer, Trust::Proxy)
    }

    fn clear(&self) -> Pipe {
        let mut pipe = clear(self.proxy);
        pipe.send(self.preface);
        pipe
    }

    /// Requests to the proxy itself.
    pub(crate) fn session(&self) -> Session {
        self.pipe().session(Form::Proxy)
    }

    /// A tunnel to `authority`; the response if it was refused.
    pub(crate) fn connect(&self, authority: &str) -> Result<Pipe, Box<Received>> {
        match self.way {
            Way::Socks5 => Ok(self.socks_tunnel(authority)),
            _ => self.session().connect(authority),
        }
    }

    fn socks_tunnel(&self, authority: &str) -> Pipe {
        let (host, port) = authority.rsplit_once(':').expect("an authority has a port");
        let port: u16 = port.parse().expect("a port");
        let mut pipe = self.pipe();
        pipe.send([5, 1, 0, 5, 1, 0, 3, host.len() as u8]);
        pipe.send([host.as_bytes(), &port.to_be_bytes()].concat());
        assert_eq!(pipe.read_exact(12), [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        pipe
    }

    /// A tunnel to `authority`.
    #[track_caller]
    pub(crate) fn tunnel(&self, authority: &str) -> Pipe {
        let tunnel = self.connect(authority);
        tunnel.unwrap_or_else(|answer| panic!("no tunnel: {answer:?}"))
    }

    /// TLS inside a tunnel to `authority`; the error if the handshake failed.
    #[track_caller]
    pub(crate) fn try_secure(&self, authority: &str) -> Result<Pipe, String> {
        let (host, _) = authority.rsplit_once(':').expect("an authority has a port");
        let tunnel = self.tunnel(authority);
        tunnel.secure(self.pki, host, self.offer, self.trust)
    }

    /// HTTP over TLS inside a tunnel to `authority`.
    #[track_caller]
    pub(crate) fn https(&self, authority: &str) -> Session {
        let pipe = self.try_secure(authority);
        let pipe = pipe.unwrap_or_else(|fault| panic!("no TLS with {authority}: {fault}"));
        pipe.session(Form::Origin("https"))
    }

    /// A GET on its own connection.
    #[track_caller]
    pub(crate) fn get(&self, authority: &str, path: &str) -> Received {
        self.https(authority).ask(Ask::get(authority, path))
    }
}

/// A connection without TLS.
fn clear(address: SocketAddr) -> Pipe {
    let stream = within("a connection", TcpStream::connect(address));
    let stream = stream.expect("the proxy accepts");
    stream
        .set_nodelay(true)
        .expect("a TCP socket has this option");
    let local = stream
        .local_addr()
        .expect("a connected socket has an address");
    Pipe::new(Box::new(stream), local)
}
