//! The server side of TLS, for clients of the proxy and for intercepted hosts.
//!
//! TLS 1.2 and 1.3; sessions are resumed with tickets that all workers can decrypt. The caller chooses the certificate.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ResolvesServerCertUsingSni,
};

/// The protocols offered to a client by ALPN (RFC 7301).
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
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Any];

    fn alpn(self) -> Vec<Vec<u8>> {
        let (h2, http1) = (b"h2".to_vec(), b"http/1.1".to_vec());
        match self {
            Self::Http1 => vec![http1],
            Self::Http2 => vec![h2],
            Self::Any => vec![h2, http1],
        }
    }
}

/// The common part of all server configurations, regardless of the certificate.
#[derive(Debug)]
pub struct ServerTls {
    ticketer: Arc<dyn ProducesTickets>,
    /// One for each of `Protocols`, without a certificate.
    templates: [ServerConfig; Protocols::ALL.len()],
}

impl ServerTls {
    /// With `key_log`, session secrets go to the file that SSLKEYLOGFILE names.
    ///
    /// # Errors
    /// The system provides no random numbers for the ticket keys.
    pub(crate) fn new(
        provider: &Arc<CryptoProvider>,
        key_log: bool,
    ) -> Result<Self, rustls::Error> {
        let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let mut template = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            // Without hosts; each configuration gets its own resolver.
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        // Sessions are stored in tickets: a cache here would grow with the number of hosts.
        template.session_storage = Arc::new(NoServerSessionStorage {});
        // Early data is disabled: it could be replayed, and only the origin could detect that.
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

    /// A configuration with the certificate of `resolver`.
    pub(crate) fn config(
        &self,
        protocols: Protocols,
        resolver: Arc<dyn ResolvesServerCert>,
        tickets: Arc<dyn ProducesTickets>,
    ) -> ServerConfig {
        let mut config = self.templates[protocols as usize].clone();
        config.cert_resolver = resolver;
        config.ticketer = tickets;
        config
    }

    /// The ticketer that all users of this value share.
    pub(crate) fn tickets(&self) -> Arc<dyn ProducesTickets> {
        Arc::clone(&self.ticketer)
    }
}
