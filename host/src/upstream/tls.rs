//! TLS towards upstreams: whom we trust, and the handshake.
//!
//! The machine's trust store is read when the first connection needs it, away from the workers' threads; the extra
//! files of the configuration are read at the start, so that a wrong one is known then. One configuration, with its
//! cache of sessions to resume, serves all workers. Verification is webpki's on every platform: it computes, and never
//! asks the network while a worker waits.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::transport::Transport;

/// The TLS client that all workers share.
#[derive(Debug)]
pub(crate) struct TlsClient {
    extra_roots: RootCertStore,
    config: OnceLock<Arc<ClientConfig>>,
}

/// A file of extra trust roots cannot be used.
#[derive(Debug)]
pub(crate) struct CaFileError {
    pub(crate) path: PathBuf,
    pub(crate) reason: io::Error,
}

/// There is a connection to `name`, but no TLS on it.
#[derive(Debug, thiserror::Error)]
#[error("TLS with {name} failed: {fault}")]
pub(crate) struct TlsFailure {
    name: String,
    #[source]
    pub(crate) fault: TlsFault,
}

/// What went wrong with TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFault {
    /// The certificate is not accepted.
    #[error("{}", why(.0))]
    Certificate(CertificateError),
    /// The peer ended the handshake with an alert.
    #[error("it answered with the alert {0:?}")]
    Alert(AlertDescription),
    /// The peer speaks something else, or we have nothing in common.
    #[error(transparent)]
    Protocol(rustls::Error),
    /// The connection ended in the middle of the handshake.
    #[error("the connection ended: {0}")]
    Ended(io::Error),
    /// There were bytes before TLS could begin.
    #[error("the peer sent something before TLS began")]
    SpokeFirst,
    /// No certificate can be for such a name.
    #[error("no certificate can be for this name")]
    NameInvalid,
}

impl TlsClient {
    /// # Errors
    /// A file cannot be read, or has no certificate that can be a trust root.
    pub(crate) fn new(extra_ca_files: &[PathBuf]) -> Result<Self, CaFileError> {
        let mut extra_roots = RootCertStore::empty();
        for path in extra_ca_files {
            add_file(&mut extra_roots, path).map_err(|reason| CaFileError {
                path: path.clone(),
                reason,
            })?;
        }
        Ok(Self {
            extra_roots,
            config: OnceLock::new(),
        })
    }

    /// Takes the client's part in a handshake with `name`, a host name or an IP literal.
    pub(crate) async fn handshake(
        self: &Arc<Self>,
        name: &str,
        transport: Transport,
    ) -> Result<Transport, TlsFailure> {
        let server_name = server_name(name)?;
        let (layer, carrier) = transport.into_layer();
        let session = TlsConnector::from(self.config().await)
            .connect(server_name, layer)
            .await
            .map_err(|error| TlsFailure::new(name, TlsFault::of(error)))?;
        Ok(Transport::tls(TlsStream::Client(session), carrier))
    }

    /// A client that trusts this authority and nobody else.
    #[cfg(test)]
    pub(super) fn trusting(authority: CertificateDer<'static>) -> Arc<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(authority).expect("a certificate");
        Arc::new(Self {
            extra_roots: RootCertStore::empty(),
            config: OnceLock::from(Arc::new(client_config(roots))),
        })
    }

    async fn config(self: &Arc<Self>) -> Arc<ClientConfig> {
        if let Some(config) = self.config.get() {
            return Arc::clone(config);
        }
        let client = Arc::clone(self);
        let loaded = tokio::task::spawn_blocking(move || client.load()).await;
        // Only a runtime that is shutting down runs no such task.
        loaded.unwrap_or_else(|_| self.load())
    }

    fn load(&self) -> Arc<ClientConfig> {
        let config = self.config.get_or_init(|| {
            let mut roots = self.extra_roots.clone();
            add_platform_roots(&mut roots);
            Arc::new(client_config(roots))
        });
        Arc::clone(config)
    }
}

fn client_config(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn add_platform_roots(roots: &mut RootCertStore) {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read some of the system's trusted certificates");
    }
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "read the system's trusted certificates");
    if roots.is_empty() {
        tracing::warn!("the system trusts no certificate: no https upstream will be accepted");
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> io::Result<()> {
    let pem = std::fs::read(path)?;
    let len = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(pem_error)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    if roots.len() == len {
        return Err(io::Error::other("has no certificate in PEM format"));
    }
    Ok(())
}

fn pem_error(error: pem::Error) -> io::Error {
    match error {
        pem::Error::Io(error) => error,
        error => io::Error::other(error.to_string()),
    }
}

/// The name to verify; the dot that ends an absolute name is in no certificate.
fn server_name(name: &str) -> Result<ServerName<'static>, TlsFailure> {
    let relative = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(relative.to_owned())
        .map_err(|_| TlsFailure::new(name, TlsFault::NameInvalid))
}

impl TlsFailure {
    pub(super) fn new(name: &str, fault: TlsFault) -> Self {
        Self {
            name: name.to_owned(),
            fault,
        }
    }
}

impl TlsFault {
    /// rustls hands its errors over inside of those of the socket.
    fn of(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(rustls::Error::InvalidCertificate(reason)) => Self::Certificate(reason),
            Ok(rustls::Error::AlertReceived(alert)) => Self::Alert(alert),
            Ok(error) => Self::Protocol(error),
            Err(error) => Self::Ended(error),
        }
    }
}

/// The common reasons in words that tell an operator what to do.
fn why(error: &CertificateError) -> String {
    use CertificateError as Reason;
    match error {
        Reason::UnknownIssuer => "its certificate is from an unknown authority".to_owned(),
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
            "its certificate is for another name".to_owned()
        }
        Reason::Expired | Reason::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        Reason::Revoked => "its certificate has been revoked".to_owned(),
        reason => format!("its certificate is not accepted: {reason}"),
    }
}
