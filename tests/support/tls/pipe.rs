//! A client connection, plain, over TLS or on HTTP/2: bytes in, bytes out, and the results of its handshake.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsConnector;

use super::stream_io::Io;
use super::{Form, Offer, Pki, RawHttp2, Session, Shown, Trust, Version, trust};
use crate::support::background::within;
use crate::support::{End, contains, shown};

/// A connection, read and written step by step.
pub(crate) struct Pipe {
    pub(super) io: Io,
    /// The client's own address, which appears in the proxy's log.
    pub(crate) local: SocketAddr,
    /// Received bytes that have not been taken yet.
    received: Vec<u8>,
    end: Option<End>,
    /// The protocol negotiated in the innermost TLS.
    pub(crate) protocol: Option<Vec<u8>>,
    /// The certificates received in the innermost TLS, the end certificate first.
    pub(crate) chain: Vec<Vec<u8>>,
}

impl Pipe {
    pub(super) fn new(io: Io, local: SocketAddr) -> Pipe {
        Pipe {
            io,
            local,
            received: Vec::new(),
            end: None,
            protocol: None,
            chain: Vec::new(),
        }
    }

    /// Sends bytes; `false` if the peer accepts no more.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        within("room to send", async {
            self.io.write_all(bytes).await.is_ok() && self.io.flush().await.is_ok()
        })
    }

    /// Closes the sending direction.
    pub(crate) fn finish(&mut self) {
        drop(within("the end to be sent", self.io.shutdown()));
    }

    /// Waits for `len` bytes and takes them.
    pub(crate) fn read_exact(&mut self, len: usize) -> Vec<u8> {
        while self.received.len() < len {
            assert!(
                self.fill(),
                "{:?} after {} of {len} bytes",
                self.end,
                self.received.len()
            );
        }
        self.received.drain(..len).collect()
    }

    /// Waits until `wanted` arrived, and takes everything up to its end.
    pub(crate) fn read_until(&mut self, wanted: &[u8]) -> Vec<u8> {
        while !contains(&self.received, wanted) {
            assert!(
                self.fill(),
                "{:?} without {}: {}",
                self.end,
                shown(wanted),
                shown(&self.received)
            );
        }
        let at = crate::support::position(&self.received, wanted).expect("it was just found");
        self.received.drain(..at + wanted.len()).collect()
    }

    /// Everything up to the end of the connection, and how it ended.
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, End) {
        while self.fill() {}
        let end = self.end.expect("nothing more comes");
        (std::mem::take(&mut self.received), end)
    }

    /// Adds TLS, as a client of `host` that trusts `trust`; the error if the handshake failed.
    pub(crate) fn secure(
        self,
        pki: &Pki,
        host: &str,
        offer: Offer,
        trust: Trust,
    ) -> Result<Pipe, String> {
        self.secure_with(trust.config(pki, offer), host)
    }

    /// The same, trusting the CA in `file`.
    pub(crate) fn secure_by(self, file: &Path, host: &str, offer: Offer) -> Result<Pipe, String> {
        self.secure_with(trust::config_by(file, offer), host)
    }

    fn secure_with(self, config: Arc<ClientConfig>, host: &str) -> Result<Pipe, String> {
        assert!(self.received.is_empty(), "bytes before the handshake");
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(host).expect("a host of a test");
        let connector = TlsConnector::from(config);
        let connected = within("the end of a handshake", connector.connect(name, self.io));
        let stream = connected.map_err(|error| error.to_string())?;
        let (_, session) = stream.get_ref();
        let chain = session.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|each| each.to_vec()).collect();
        let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
        Ok(Pipe {
            protocol,
            chain,
            ..Pipe::new(Box::new(stream), self.local)
        })
    }

    /// The same connection, sending every byte separately.
    pub(crate) fn dribbling(self) -> Pipe {
        Pipe::new(Box::new(Dribble(self.io)), self.local)
    }

    /// The received end certificate.
    pub(crate) fn certificate(&self) -> Shown {
        Shown::of(&self.chain[0])
    }

    /// The negotiated version.
    pub(crate) fn version(&self) -> Version {
        match self.protocol.as_deref() {
            Some(b"h2") => Version::Http2,
            _ => Version::Http1,
        }
    }

    /// Adds HTTP, in the negotiated version.
    pub(crate) fn session(self, form: Form) -> Session {
        Session::on(self, form)
    }

    /// Adds HTTP/2 frames by hand.
    pub(crate) fn raw_http2(self) -> RawHttp2 {
        RawHttp2::on(self)
    }

    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    pub(super) fn take(&mut self, len: usize) -> Vec<u8> {
        self.received.drain(..len).collect()
    }

    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Waits for more; `false` at the end.
    pub(super) fn fill(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        let mut buffer = [0; 65536];
        match within("further bytes or the end", self.io.read(&mut buffer)) {
            Ok(0) => self.end = Some(End::Closed),
            Ok(len) => self.received.extend_from_slice(&buffer[..len]),
            Err(_) => self.end = Some(End::Reset),
        }
        self.end.is_none()
    }
}

/// Sends every byte separately.
struct Dribble(Io);

impl AsyncRead for Dribble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = bytes.get(..1) else {
            return Poll::Ready(Err(ErrorKind::InvalidInput.into()));
        };
        Pin::new(&mut self.0).poll_write(cx, first)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
