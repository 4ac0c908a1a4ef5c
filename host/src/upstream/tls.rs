//! TLS to upstreams: trusted certificates, offered protocols, client certificates, and the handshake.
//!
//! The system's trust store is read when the first connection needs it, outside of the workers' threads; the files of
//! the configuration are read at startup, so that errors in them are reported then. All workers share one client. It
//! has a rustls configuration, with its own session store, for each client certificate, separately for verified and
//! unverified hosts: a session is never resumed with another identity or another verification. Only TLS 1.2 and 1.3 are
//! supported.

mod fault;
mod lenient;
mod roots;
mod sessions;
mod verifier;

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, KeyLog, KeyLogFile, NoKeyLog, RootCertStore};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::config::{ClientCertificate, HostPattern, TlsConfig};
use crate::key_pair::{self, KeyPairError};
use crate::transport::Transport;

pub(crate) use fault::{TlsFailure, TlsFault, alert_in};
pub(crate) use roots::CaFileError;
use roots::ExtraRoots;
use sessions::Sessions;
use verifier::{Trust, Verifier};

/// The number of unverified hosts about which a warning is logged; there is none for further ones.
const MAX_WARNED_HOSTS: usize = 1024;

/// The TLS client that all workers share.
#[derive(Debug)]
pub(crate) struct TlsClient {
    number: TlsNumber,
    provider: Arc<CryptoProvider>,
    extra_roots: ExtraRoots,
    /// Those and the system's, once a connection has needed them.
    roots: OnceLock<Arc<RootCertStore>>,
    insecure: InsecureHosts,
    /// The first one that matches a host is used; the last one matches all hosts.
    identities: Vec<Identity>,
    key_log: Arc<dyn KeyLog>,
}

/// Identifies a TLS client of the process: a connection that was made by one is not reused by another, which may trust
/// other certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsNumber(u32);

impl TlsNumber {
    /// For connections without TLS.
    pub(super) const NONE: Self = Self(0);

    fn next() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
    }
}

/// The HTTP versions that are offered in TLS; without TLS it is always HTTP/1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HttpVersions {
    #[default]
    Http1,
    /// HTTP/2 or HTTP/1.1; the destination chooses, see [`MessageStream::speaks_http2`].
    ///
    /// [`MessageStream::speaks_http2`]: crate::stream::MessageStream::speaks_http2
    Any,
    /// None: no protocol is offered (ALPN), because it may be another one than HTTP.
    Unnamed,
}

/// A file that TLS to upstreams needs cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsClientError {
    /// A file of extra trust roots.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// A client certificate or its key.
    #[error(transparent)]
    ClientCertificate(#[from] KeyPairError),
}

/// The client certificate for certain hosts.
#[derive(Debug)]
struct Identity {
    hosts: Vec<HostPattern>,
    /// Sent to hosts that request one; `None`: no certificate.
    certificate: Option<Arc<dyn ResolvesClientCert>>,
    verified: OnceLock<Offers>,
    unverified: OnceLock<Offers>,
}

/// Configurations that offer different HTTP versions, and share everything else, including sessions.
#[derive(Debug)]
struct Offers {
    http1: Arc<ClientConfig>,
    any: Arc<ClientConfig>,
    unnamed: Arc<ClientConfig>,
}

/// The hosts whose certificates are not verified.
#[derive(Debug)]
struct InsecureHosts {
    patterns: Vec<HostPattern>,
    warned: Mutex<HashSet<String>>,
}

impl TlsClient {
    /// The certificates of `insecure_hosts` are not verified.
    ///
    /// # Errors
    /// A file cannot be read, or has the wrong content.
    pub(crate) fn new(
        config: &TlsConfig,
        insecure_hosts: &[HostPattern],
    ) -> Result<Self, TlsClientError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let upstream = &config.upstream;
        let mut identities = Vec::new();
        for certificate in &upstream.client_certificates {
            identities.push(Identity::known(certificate)?);
        }
        identities.push(Identity::anonymous());
        Ok(Self {
            number: TlsNumber::next(),
            extra_roots: roots::read(&upstream.extra_ca_files)?,
            roots: OnceLock::new(),
            insecure: InsecureHosts::new(insecure_hosts),
            identities,
            key_log: key_log(config.key_log),
            provider,
        })
    }

    pub(crate) fn number(&self) -> TlsNumber {
        self.number
    }

    /// Performs a handshake, as its client, with `name`, a host name or an IP literal in canonical form. `is_claimed`:
    /// only a client claims that the peer is this host.
    pub(crate) async fn handshake(
        self: &Arc<Self>,
        name: &str,
        is_claimed: bool,
        versions: HttpVersions,
        transport: Transport,
    ) -> Result<Transport, TlsFailure> {
        let server_name = server_name(name)?;
        let config = self.config(name, is_claimed, versions).await;
        let (layer, carrier) = transport.into_layer();
        let session = TlsConnector::from(config)
            .connect(server_name, layer)
            .await
            .map_err(|error| TlsFailure::new(name, TlsFault::of(error)))?;
        Ok(Transport::tls(TlsStream::Client(session), carrier))
    }

    /// A client that trusts this CA and nobody else.
    #[cfg(test)]
    pub(super) fn trusting(
        ca: rustls::pki_types::CertificateDer<'static>,
        config: &TlsConfig,
        insecure_hosts: &[HostPattern],
    ) -> Arc<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(ca).expect("a certificate");
        let client = Self::new(config, insecure_hosts).expect("good files");
        client.roots.set(Arc::new(roots)).expect("the first roots");
        Arc::new(client)
    }

    async fn config(
        self: &Arc<Self>,
        name: &str,
        is_claimed: bool,
        versions: HttpVersions,
    ) -> Arc<ClientConfig> {
        let skips_verification = self.insecure.include(name);
        let identity = match is_claimed && skips_verification {
            // The peer may be another host, so it gets no client certificate.
            true => self.anonymous(),
            false => self.identity(name),
        };
        let offers = if skips_verification {
            if self.insecure.is_first(name) {
                tracing::warn!(
                    host = name,
                    "not verifying the certificate of this host: it is listed in interception.insecure_hosts"
                );
            }
            let offers = || self.offers(identity, Trust::Anyone);
            identity.unverified.get_or_init(offers)
        } else {
            let roots = self.roots().await;
            let offers = || self.offers(identity, Trust::Roots(roots));
            identity.verified.get_or_init(offers)
        };
        Arc::clone(match versions {
            HttpVersions::Http1 => &offers.http1,
            HttpVersions::Any => &offers.any,
            HttpVersions::Unnamed => &offers.unnamed,
        })
    }

    fn anonymous(&self) -> &Identity {
        self.identities
            .last()
            .expect("the last identity is for all hosts")
    }

    fn identity(&self, name: &str) -> &Identity {
        let mut identities = self.identities.iter();
        identities
            .find(|identity| is_among(&identity.hosts, name))
            .expect("the last identity is for all hosts")
    }

    async fn roots(self: &Arc<Self>) -> Arc<RootCertStore> {
        if let Some(roots) = self.roots.get() {
            return Arc::clone(roots);
        }
        let client = Arc::clone(self);
        let loaded = tokio::task::spawn_blocking(move || client.load_roots()).await;
        // Fails only if the runtime is shutting down.
        loaded.unwrap_or_else(|_| self.load_roots())
    }

    fn load_roots(&self) -> Arc<RootCertStore> {
        let roots = self.roots.get_or_init(|| {
            let mut roots = self.extra_roots.store.clone();
            roots::add_system_roots(&mut roots);
            Arc::new(roots)
        });
        Arc::clone(roots)
    }

    fn offers(&self, identity: &Identity, trust: Trust) -> Offers {
        let algorithms = self.provider.signature_verification_algorithms;
        let known = Arc::clone(&self.extra_roots.certificates);
        let verifier = Arc::new(Verifier::new(trust, known, algorithms));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for the default versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut http1 = match &identity.certificate {
            Some(certificate) => builder.with_client_cert_resolver(Arc::clone(certificate)),
            None => builder.with_no_client_auth(),
        };
        http1.resumption = Resumption::store(Arc::new(Sessions::default()));
        http1.key_log = Arc::clone(&self.key_log);
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut any = http1.clone();
        any.alpn_protocols.insert(0, b"h2".to_vec());
        let mut unnamed = http1.clone();
        unnamed.alpn_protocols.clear();
        Offers {
            unnamed: Arc::new(unnamed),
            http1: Arc::new(http1),
            any: Arc::new(any),
        }
    }
}

impl Identity {
    fn known(certificate: &ClientCertificate) -> Result<Self, KeyPairError> {
        let key = key_pair::read(&certificate.files)?;
        key_pair::warn_of_dates(&certificate.files.cert_file, &key.cert);
        Ok(Self {
            hosts: certificate.hosts.clone(),
            certificate: Some(Arc::new(SingleCertAndKey::from(key))),
            verified: OnceLock::new(),
            unverified: OnceLock::new(),
        })
    }

    fn anonymous() -> Self {
        Self {
            hosts: vec![HostPattern::all()],
            certificate: None,
            verified: OnceLock::new(),
            unverified: OnceLock::new(),
        }
    }
}

impl InsecureHosts {
    fn new(patterns: &[HostPattern]) -> Self {
        Self {
            patterns: patterns.to_vec(),
            warned: Mutex::default(),
        }
    }

    fn include(&self, name: &str) -> bool {
        is_among(&self.patterns, name)
    }

    /// Whether a warning about this host is due; true once for each host.
    fn is_first(&self, name: &str) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = warned.len() < MAX_WARNED_HOSTS && !warned.contains(name);
        if is_first {
            warned.insert(name.to_owned());
        }
        is_first
    }
}

fn is_among(patterns: &[HostPattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

/// Secrets are written only if both the configuration and the environment request it.
fn key_log(is_wanted: bool) -> Arc<dyn KeyLog> {
    if !is_wanted {
        return Arc::new(NoKeyLog {});
    }
    let log = Arc::new(KeyLogFile::new());
    let Some(path) = std::env::var_os("SSLKEYLOGFILE") else {
        tracing::warn!("tls.key_log is on, but SSLKEYLOGFILE is not set: no secrets are written");
        return log;
    };
    // rustls has created the file, and does not report errors.
    let opened = OpenOptions::new().append(true).open(&path);
    let path = path.display();
    match opened {
        Ok(_) => tracing::warn!(%path, "writing TLS session secrets to a file (tls.key_log)"),
        Err(error) => tracing::warn!(%path, %error, "cannot write TLS session secrets"),
    }
    log
}

/// The name to verify. Certificates contain no names with a final dot.
fn server_name(name: &str) -> Result<ServerName<'static>, TlsFailure> {
    let relative = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(relative.to_owned())
        .map_err(|_| TlsFailure::new(name, TlsFault::NameInvalid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insecure_host_is_warned_of_once_and_not_without_end() {
        let hosts = InsecureHosts::new(&[HostPattern::all()]);
        for number in 0..MAX_WARNED_HOSTS {
            assert!(hosts.is_first(&format!("host-{number}.test")));
        }
        assert!(!hosts.is_first("host-0.test") && !hosts.is_first("further.test"));
    }
}
