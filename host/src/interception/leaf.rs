//! One host's certificate, and the TLS configurations by which it is served.
//!
//! A configuration is made when the first connection wants it and kept as long as the certificate is: what differs
//! between hosts is small, and everything else (provider, ticketer, private key) is shared.

use std::fmt;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ResolvesServerCertUsingSni,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::tickets::HostTickets;

/// What is offered to a client by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
    /// `h2`, else `http/1.1`
    Any,
}

impl Protocols {
    const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Any];

    fn alpn(self) -> Vec<Vec<u8>> {
        let (h2, http1) = (b"h2".to_vec(), b"http/1.1".to_vec());
        match self {
            Self::Http1 => vec![http1],
            Self::Http2 => vec![h2],
            Self::Any => vec![h2, http1],
        }
    }
}

/// One host's certificate.
pub struct Leaf {
    host: Arc<str>,
    /// When it gives way to a new one.
    renew_at: Timestamp,
    resolver: Arc<dyn ResolvesServerCert>,
    tickets: Arc<dyn ProducesTickets>,
    shared: Arc<ServerTls>,
    configs: [OnceLock<Arc<ServerConfig>>; Protocols::ALL.len()],
}

impl Leaf {
    pub(super) fn new(
        host: &Arc<str>,
        key: CertifiedKey,
        renew_at: Timestamp,
        shared: &Arc<ServerTls>,
    ) -> Self {
        Self {
            host: Arc::clone(host),
            renew_at,
            resolver: Arc::new(SingleCertAndKey::from(key)),
            tickets: Arc::new(HostTickets::new(host, Arc::clone(&shared.ticketer))),
            shared: Arc::clone(shared),
            configs: Default::default(),
        }
    }

    /// The host it is for: a name in lower case and without a dot at its end, or an address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// How to take the server's part towards a client that was promised these protocols.
    pub fn server_config(&self, protocols: Protocols) -> Arc<ServerConfig> {
        let config = self.configs[protocols as usize].get_or_init(|| {
            let mut config = self.shared.templates[protocols as usize].clone();
            config.cert_resolver = Arc::clone(&self.resolver);
            config.ticketer = Arc::clone(&self.tickets);
            Arc::new(config)
        });
        Arc::clone(config)
    }

    /// Whether a new certificate should take its place.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.renew_at <= now
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("host", &self.host)
            .field("renew_at", &self.renew_at)
            .finish_non_exhaustive()
    }
}

/// What the configurations of all hosts have in common.
#[derive(Debug)]
pub(super) struct ServerTls {
    ticketer: Arc<dyn ProducesTickets>,
    /// One for each of `Protocols`, without a certificate.
    templates: [ServerConfig; Protocols::ALL.len()],
}

impl ServerTls {
    /// With `key_log`, session secrets go to the file that SSLKEYLOGFILE names.
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        key_log: bool,
    ) -> Result<Self, rustls::Error> {
        let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let mut template = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            // Knows no host; each gets its own.
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        // Sessions are kept by the clients: a cache here would grow with the hosts.
        template.session_storage = Arc::new(NoServerSessionStorage {});
        // A request that could be played back needs a server that can tell; early data stays off.
        template.max_early_data_size = 0;
        if key_log {
            template.key_log = Arc::new(rustls::KeyLogFile::new());
        }
        let templates = Protocols::ALL.map(|protocols| {
            let mut template = template.clone();
            template.alpn_protocols = protocols.alpn();
            template
        });
        Ok(Self {
            ticketer,
            templates,
        })
    }
}
