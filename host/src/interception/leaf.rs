//! The certificate of a host, and the TLS configurations that use it.
//!
//! A configuration is created for the first connection that needs it and kept as long as the certificate: the
//! differences between hosts are small, and everything else (provider, ticketer, private key) is shared.

use std::fmt;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::server::{ProducesTickets, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::tickets::HostTickets;
use crate::server_tls::{Protocols, ServerTls};

/// The certificate of a host.
pub struct Leaf {
    host: Arc<str>,
    /// When it is replaced.
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
            tickets: Arc::new(HostTickets::new(host, shared.tickets())),
            shared: Arc::clone(shared),
            configs: Default::default(),
        }
    }

    /// The host: a name in lower case and without a final dot, or an address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The server configuration for a client that is offered these protocols.
    pub fn server_config(&self, protocols: Protocols) -> Arc<ServerConfig> {
        let config = self.configs[protocols as usize].get_or_init(|| {
            let (resolver, tickets) = (Arc::clone(&self.resolver), Arc::clone(&self.tickets));
            Arc::new(self.shared.config(protocols, resolver, tickets))
        });
        Arc::clone(config)
    }

    /// Whether it is time to replace it.
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
