//! Parses the ClientHello of an intercepted client before the server part answers (RFC 8446 §4.1.2).

use plugin_api::canonical_host;
use rustls::pki_types::DnsName;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};

use crate::plugins::ShownHello;

/// Parses a ClientHello that arrives in any number of pieces.
pub(crate) struct HelloReader {
    acceptor: Acceptor,
    /// The number of received bytes that have been parsed.
    fed: usize,
}

/// Why a ClientHello cannot be answered.
pub(crate) struct HelloRefused {
    pub(crate) reason: rustls::Error,
    /// The TLS alert for the client.
    pub(crate) alert: Vec<u8>,
}

/// The contents of a ClientHello.
#[derive(Debug)]
pub(crate) struct Hello {
    /// In lower case, without a final dot.
    pub(crate) server_name: Option<String>,
    pub(crate) protocols: OfferedProtocols,
    /// Whether the client offers any protocol (ALPN).
    pub(crate) names_protocols: bool,
    /// The ClientHello for plugins; taken once.
    shown: Option<Box<ShownHello>>,
}

/// The application protocols that a client offers (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfferedProtocols {
    pub(crate) http1: bool,
    pub(crate) http2: bool,
}

impl HelloReader {
    pub(crate) fn new() -> Self {
        Self {
            acceptor: Acceptor::default(),
            fed: 0,
        }
    }

    /// Parses what is new in `received`, which holds everything from the first byte on. `None`: it is incomplete.
    pub(crate) fn read(&mut self, received: &[u8]) -> Result<Option<Accepted>, HelloRefused> {
        loop {
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => return Ok(Some(accepted)),
                Err((reason, alert)) => return Err(HelloRefused::new(reason, alert)),
            }
            let mut new = &received[self.fed..];
            if new.is_empty() {
                return Ok(None);
            }
            match self.acceptor.read_tls(&mut new) {
                Ok(0) | Err(_) => {
                    let reason = rustls::Error::General("the ClientHello is too long".to_owned());
                    return Err(HelloRefused {
                        reason,
                        alert: Vec::new(),
                    });
                }
                Ok(len) => self.fed += len,
            }
        }
    }

    /// The number of received bytes that belong to the ClientHello.
    pub(crate) fn taken(&self) -> usize {
        self.fed
    }
}

impl HelloRefused {
    fn new(reason: rustls::Error, mut alert: AcceptedAlert) -> Self {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        let _ = alert.write_all(&mut bytes);
        Self {
            reason,
            alert: bytes,
        }
    }
}

impl Hello {
    pub(crate) fn of(accepted: &Accepted) -> Self {
        let hello = accepted.client_hello();
        let offered = || hello.alpn().into_iter().flatten();
        let has_none = hello.alpn().is_none();
        Self {
            server_name: hello
                .server_name()
                .map(|name| name.trim_end_matches('.').to_ascii_lowercase()),
            protocols: OfferedProtocols {
                http1: has_none || offered().any(|name| name == b"http/1.1"),
                http2: offered().any(|name| name == b"h2"),
            },
            names_protocols: !has_none,
            shown: Some(ShownHello::new(hello.server_name(), offered())),
        }
    }

    /// The contents of a ClientHello that rustls refuses because of its server name, such as one with a hyphen at the
    /// end of a label, for which there can be no certificate. `None`: the name is not the reason.
    pub(crate) fn from_unusable_name(received: &[u8]) -> Option<Self> {
        let is_odd = |name: &str| DnsName::try_from(name).is_err() && canonical_host(name).is_ok();
        Self::scanned(received).filter(|hello| hello.server_name.as_deref().is_some_and(is_odd))
    }

    /// The contents of a ClientHello that rustls may refuse, such as one of TLS 1.0 or 1.1 without signature
    /// algorithms. `None`: it is malformed.
    pub(crate) fn scanned(received: &[u8]) -> Option<Self> {
        let message = message(received)?;
        let Scanned {
            server_name,
            protocols,
        } = Scanned::of(&message)?;
        let server_name = server_name.map(std::str::from_utf8).transpose().ok()?;
        Some(Self {
            server_name: server_name.map(|name| name.trim_end_matches('.').to_ascii_lowercase()),
            protocols: OfferedProtocols {
                http1: protocols.is_empty() || protocols.contains(&&b"http/1.1"[..]),
                http2: protocols.contains(&&b"h2"[..]),
            },
            names_protocols: !protocols.is_empty(),
            shown: Some(ShownHello::new(server_name, protocols.into_iter())),
        })
    }

    pub(crate) fn take_shown(&mut self) -> Option<Box<ShownHello>> {
        self.shown.take()
    }
}

/// The first handshake message in these records (RFC 8446 §5.1), without its header; `None`: it is incomplete.
fn message(mut records: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        if let Some((header, content)) = message.split_at_checked(4) {
            let len =
                usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
            if let Some(content) = content.get(..len) {
                return Some(content.to_vec());
            }
        }
        let (header, rest) = records.split_at_checked(5)?;
        let len = usize::from(header[3]) << 8 | usize::from(header[4]);
        let (content, rest) = rest.split_at_checked(len)?;
        message.extend_from_slice(content);
        records = rest;
    }
}

/// The parts of a ClientHello that matter if rustls refuses it.
#[derive(Default)]
struct Scanned<'a> {
    server_name: Option<&'a [u8]>,
    protocols: Vec<&'a [u8]>,
}

impl<'a> Scanned<'a> {
    /// Server name and protocols (RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301 §3.1).
    fn of(hello: &'a [u8]) -> Option<Self> {
        // Version and random.
        let mut rest = hello.get(34..)?;
        let _session = vector::<1>(&mut rest)?;
        let _cipher_suites = vector::<2>(&mut rest)?;
        let _compression = vector::<1>(&mut rest)?;
        if rest.is_empty() {
            return Some(Self::default());
        }
        let mut extensions = vector::<2>(&mut rest)?;
        let mut scanned = Self::default();
        while let Some((kind, behind)) = extensions.split_at_checked(2) {
            extensions = behind;
            let mut content = vector::<2>(&mut extensions)?;
            match kind {
                [0, 0] => {
                    let mut names = vector::<2>(&mut content)?;
                    // No other kind of name is defined.
                    if let Some((0, behind)) = names.split_first() {
                        names = behind;
                        scanned.server_name = Some(vector::<2>(&mut names)?);
                    }
                }
                [0, 16] => {
                    let mut names = vector::<2>(&mut content)?;
                    while !names.is_empty() {
                        scanned.protocols.push(vector::<1>(&mut names)?);
                    }
                }
                _ => {}
            }
        }
        Some(scanned)
    }
}

/// Reads bytes that follow their length, which is encoded in `LEN` bytes.
fn vector<'a, const LEN: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, behind) = rest.split_first_chunk::<LEN>()?;
    let len = len
        .iter()
        .fold(0, |len, byte| len << 8 | usize::from(*byte));
    let (content, behind) = behind.split_at_checked(len)?;
    *rest = behind;
    Some(content)
}

impl OfferedProtocols {
    /// Whether the client offers any version of HTTP.
    pub(crate) fn is_http(self) -> bool {
        self.http1 || self.http2
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(name: &str, protocols: &[&str]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_hello_is_parsed_in_any_split() {
        let bytes = hello("Example.com", &["h2", "http/1.1"]);
        for piece in [1, 7, bytes.len()] {
            let mut reader = HelloReader::new();
            let mut read = None;
            for end in (0..bytes.len()).step_by(piece).skip(1).chain([bytes.len()]) {
                assert!(read.is_none());
                read = reader.read(&bytes[..end]).ok().unwrap();
            }
            let hello = Hello::of(&read.unwrap());
            assert_eq!(hello.server_name.as_deref(), Some("example.com"));
            assert_eq!(
                hello.protocols,
                OfferedProtocols {
                    http1: true,
                    http2: true
                }
            );
            assert_eq!(reader.taken(), bytes.len());
        }
    }

    #[test]
    fn a_client_without_alpn_speaks_http1() {
        let read = |bytes: &[u8]| HelloReader::new().read(bytes).ok().unwrap().unwrap();
        let of = |name: &str, protocols: &[&str]| Hello::of(&read(&hello(name, protocols)));
        let plain = of("127.0.0.1", &[]);
        assert_eq!((plain.server_name, plain.protocols.http1), (None, true));
        assert!(!of("a", &["imap"]).protocols.is_http());
        assert!(!of("a", &["h2"]).protocols.http1);
    }

    #[test]
    fn a_hello_without_extensions_is_parsed() {
        let mut message = vec![3, 1];
        message.extend([7; 32]);
        // No session, one cipher suite, no compression.
        message.extend([0, 0, 2, 0, 0x2f, 1, 0]);
        let len = message.len() as u8;
        let mut record = vec![0x16, 3, 1, 0, len + 4, 1, 0, 0, len];
        record.extend(&message);
        assert!(HelloReader::new().read(&record).is_err());
        let read = Hello::scanned(&record).unwrap();
        assert_eq!(read.server_name, None);
        assert!(read.protocols.http1 && !read.names_protocols);
        assert!(Hello::scanned(&record[..record.len() - 1]).is_none());
    }

    #[test]
    fn a_name_unfit_for_certificates_is_parsed() {
        let good = hello("meX.a.test", &["h2", "http/1.1"]);
        assert!(Hello::from_unusable_name(&good).is_none());
        let place = good.windows(3).position(|bytes| bytes == b"meX").unwrap();
        let mut odd = good.clone();
        odd[place + 2] = b'-';
        assert!(HelloReader::new().read(&odd).is_err());
        let read = Hello::from_unusable_name(&odd).unwrap();
        assert_eq!(read.server_name.as_deref(), Some("me-.a.test"));
        assert!(read.protocols.http1 && read.protocols.http2);
        // In records of ten bytes.
        let mut records = Vec::new();
        for piece in odd[5..].chunks(10) {
            records.extend([0x16, 3, 1, 0, piece.len() as u8]);
            records.extend(piece);
        }
        let read = Hello::from_unusable_name(&records).unwrap();
        assert_eq!(read.server_name.as_deref(), Some("me-.a.test"));
        for len in 0..odd.len() {
            assert!(Hello::from_unusable_name(&odd[..len]).is_none(), "{len}");
        }
        for byte in [b'/', 0, b'@', 0xff] {
            odd[place + 2] = byte;
            assert!(Hello::from_unusable_name(&odd).is_none());
        }
        assert!(Hello::from_unusable_name(&hello("127.0.0.1", &[])).is_none());
    }

    #[test]
    fn an_invalid_hello_is_refused() {
        for bytes in [
            &b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"[..],
            b"\x16\x03\x01\xff\xff\x01",
            b"\x16\x03\x01\x00\x00",
        ] {
            assert!(HelloReader::new().read(bytes).is_err(), "{bytes:?}");
        }
        let mut endless = b"\x16\x03\x01\x40\x00\x01\x10\x00\x00".to_vec();
        endless.extend(vec![0; 0x4000 - 4]);
        for _ in 0..80 {
            endless.extend(b"\x16\x03\x01\x40\x00");
            endless.extend(vec![0; 0x4000]);
        }
        assert!(HelloReader::new().read(&endless).is_err());
    }
}
